"""Post-mortems on the command line: what people edit comes back, and templates are tried before they are needed."""

from pathlib import Path

import pytest

from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.model import Sev
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.reactions import react


@pytest.fixture
async def incident(database_url, monkeypatch):
    """INC-1, resolved, made beside any bot."""
    monkeypatch.setenv("TOCSIN_DATABASE_URL", database_url)
    engine = Engine(Database(database_url))
    now = utc_now()
    async with engine.transaction() as tx:
        made = await lifecycle.declare(tx, react, title="Checkout fails", severity=Sev.SEV2, by="U1", now=now)
        await lifecycle.resolve(tx, react, made, by="U1", now=now, note="rolled back")
    await engine.close()
    await engine.db.close()
    return database_url


def own(folder: Path, text: str) -> Path:
    """A folder of templates with one of its own."""
    (folder / "postmortems").mkdir(parents=True)
    (folder / "postmortems" / "mine.md.j2").write_text(text)
    return folder


GOOD = "---\n{{ front | yaml }}\n---\n\n<!-- section: summary -->\n## Summary\n\n{{ facts.title }}\n"


def test_what_people_edited_comes_back_and_is_what_is_exported(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    tocsin("postmortem", "export", "INC-1", "--out", str(tmp_path))
    file = tmp_path / "inc-1-postmortem-1.md"
    file.write_text(file.read_text().replace("_What limited the harm?_", "The canary was small."))

    code, out, _ = tocsin("postmortem", "import", "INC-1", str(file))

    assert code == 0
    assert "Revision 2" in out
    assert "The canary was small." in tocsin("postmortem", "export", "INC-1", "--out", "-")[1]
    listed = tocsin("postmortem", "revisions", "INC-1")[1]
    assert [line.split()[0] for line in listed.splitlines()[-2:]] == ["1", "2"]


def test_an_import_that_conflicts_says_so_and_loses_nothing(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    tocsin("postmortem", "export", "INC-1", "--out", str(tmp_path))
    file = tmp_path / "inc-1-postmortem-1.md"
    first = file.read_text()
    file.write_text(first.replace("_What limited the harm?_", "The canary was small."))
    tocsin("postmortem", "import", "INC-1", str(file))
    file.write_text(first.replace("_What limited the harm?_", "A feature flag."))

    code, _, err = tocsin("postmortem", "import", "INC-1", str(file))

    assert code == 1
    assert "1 conflict " in err
    text = tocsin("postmortem", "export", "INC-1", "--out", "-")[1]
    assert "The canary was small." in text
    assert "A feature flag." in text


def test_an_import_that_is_no_text_or_has_no_draft_is_refused(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    (tmp_path / "a.md").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.md").write_text("# x")

    assert "not UTF-8" in tocsin("postmortem", "import", "INC-1", str(tmp_path / "a.md"))[2]
    code, _, err = tocsin("postmortem", "import", "INC-1", str(tmp_path / "b.md"))
    assert code == 2
    assert "no post-mortem yet" in err
    assert "no post-mortem yet" in tocsin("postmortem", "revisions", "INC-1")[2]


def test_our_own_templates_have_no_problems(tocsin):
    code, out, err = tocsin("templates", "lint")

    assert (code, out) == (0, "")
    assert "full, lightweight, public" in err


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("# {{ facts.title }}", "no section is marked"),
        ("{{ facts.nothing }}", "does not work"),
        ("{% if %}", "broken in line 1"),
        ("{% set a = 'x' * 9999999999 %}", "more memory"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "does not work"),
    ],
    ids=["no_section", "unknown_name", "broken", "memory", "recursion"],
)
def test_a_template_that_fails_is_named_with_its_file(tocsin, tmp_path, text, word):
    folder = own(tmp_path / "t", text)

    code, out, _ = tocsin("templates", "lint", str(folder))

    assert code == 1
    assert f"{folder}/postmortems/mine.md.j2: " in out
    assert word in out


def test_a_template_of_the_configuration_is_previewed_with_an_example_and_with_an_incident(
    tocsin, monkeypatch, incident, tmp_path
):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    own(tmp_path / "config" / "templates", GOOD)

    assert "Checkout error rate above 5 %" in tocsin("templates", "preview", "mine")[1]
    assert "Checkout fails" in tocsin("templates", "preview", "mine", "--incident", "INC-1")[1]


def test_check_says_which_template_is_named_and_not_there(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    text = "version: 1\npostmortems: {template: mine, template_by_severity: {SEV4: lightweight}}\n"
    (tmp_path / "config" / "tocsin.yaml").write_text(text)
    tocsin("migrate")

    code, _, err = tocsin("check")

    assert code == 1
    assert "postmortems: there is no template 'mine'; there is: full, lightweight, public" in err
    own(tmp_path / "config" / "templates", GOOD)
    assert "no template" not in tocsin("check")[2]
