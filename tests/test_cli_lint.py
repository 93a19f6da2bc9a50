"""What `tocsin postmortem lint` prints, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from bot.cli import cli

HARSH = "# Notes\n\nThe operator should have checked the graph.\n"
FINE = "# Notes\n\nThe pod failed to start at 10:02 UTC.\n"


def put(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_findings_as_json_are_all_there_is_on_stdout_and_an_error_is_exit_code_1(tocsin, tmp_path):
    code, out, err = tocsin("postmortem", "lint", put(tmp_path / "a.md", HARSH), "--format", "json")

    (one,) = json.loads(out)
    assert (code, err) == (1, "")
    assert list(one) == ["rule", "family", "level", "line", "column", "text", "why", "hint"]
    assert (one["rule"], one["level"], one["line"], one["column"]) == ("CF01", "error", 3, 14)
    assert one["text"] == "should have checked"


def test_nothing_to_say_is_an_empty_list_and_exit_code_0(tocsin, tmp_path):
    code, out, _ = tocsin("postmortem", "lint", put(tmp_path / "a.md", FINE), "--format", "json")

    assert (code, json.loads(out)) == (0, [])


def test_a_warning_alone_is_exit_code_0(tocsin, tmp_path):
    code, out, _ = tocsin("postmortem", "lint", put(tmp_path / "a.md", "In hindsight it grew."), "--format", "json")

    assert (code, [one["level"] for one in json.loads(out)]) == (0, ["warn"])


def test_text_is_a_line_for_each_finding_with_its_place(tocsin, tmp_path):
    file = put(tmp_path / "a.md", HARSH)
    code, out, err = tocsin("postmortem", "lint", file)

    assert code == 1
    assert out.startswith(f"{file}:3:14: error CF01: “should have checked” ")
    assert err.strip() == "1 error, 0 warn, 0 info"


def test_participants_are_names(tocsin, tmp_path):
    file = put(tmp_path / "a.md", "Zbigniew restarted the broker.\n")
    people = put(tmp_path / "people.txt", "Zbigniew Example\r\n\r\n")

    assert tocsin("postmortem", "lint", file, "--format", "json")[1].strip() == "[]"
    out = tocsin("postmortem", "lint", file, "--participants", people, "--format", "json")[1]
    assert [one["rule"] for one in json.loads(out)] == ["ID06"]


def test_a_dash_is_standard_input():
    ended = CliRunner().invoke(cli, ["postmortem", "lint", "-", "--format", "json"], input=HARSH)

    assert ended.exit_code == 1
    assert [one["rule"] for one in json.loads(ended.stdout)] == ["CF01"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00bad", b"a" * 4_000_001], ids=["absent", "not-utf-8", "huge"])
def test_a_file_that_cannot_be_read_is_exit_code_2_and_one_line(tocsin, tmp_path, content):
    file = tmp_path / "a.md"
    if content is not None:
        file.write_bytes(content)
    code, out, err = tocsin("postmortem", "lint", str(file), "--format", "json")

    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1


def test_an_unknown_format_and_an_unknown_language_name_those_there_are(tocsin, tmp_path):
    file = put(tmp_path / "a.md", FINE)

    assert "text, json, sarif" in tocsin("postmortem", "lint", file, "--format", "xml")[2]
    assert "there are: en" in tocsin("postmortem", "lint", file, "--language", "tlh")[2]


def test_sarif_names_each_rule_once_and_each_place(tocsin, tmp_path):
    file = put(tmp_path / "a b.md", HARSH + "\nHuman error. In hindsight: human error.\n\n<@U024BE7LH> and 2 more.\n")
    code, out, _ = tocsin("postmortem", "lint", file, "--format", "sarif")

    log = json.loads(out)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert code == 1
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in rules] == sorted({result["ruleId"] for result in run["results"]})
    for result in run["results"]:
        region = result["locations"][0]["physicalLocation"]["region"]
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        assert region["startLine"] >= 1
        assert region["startColumn"] >= 1
    assert "%20" in run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def test_a_secret_is_found_and_not_repeated(tocsin, tmp_path):
    secret = "xoxb-" + "1234567890-abcdefghij"
    code, out, err = tocsin("postmortem", "lint", put(tmp_path / "a.md", f"```\n{secret}\n```\n"), "--format", "json")

    assert (code, [one["rule"] for one in json.loads(out)]) == (1, ["SE01"])
    assert secret not in out + err
