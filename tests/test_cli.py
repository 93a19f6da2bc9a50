"""What an operator types, and what they get to see."""

import asyncio
import json
import re
import subprocess
from pathlib import Path

import pytest
import sqlmodel

from bot.engine import Engine
from bot.incidents import lifecycle, logbook
from bot.incidents.model import Incident, Sev
from bot.incidents.outgoing import Outgoing
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.reactions import react
from bot.runs.automation import switch

ALERT = {
    "version": "4",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "DiskFull", "severity": "critical"},
            "annotations": {"summary": "Disk of db-1.example.com is full"},
            "startsAt": "2026-11-20T03:10:00.123456789Z",
            "fingerprint": "00aabbccddeeff11",
        }
    ],
}


def put(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_the_manifest_is_json_alone(tocsin):
    code, out, _ = tocsin("manifest")

    assert code == 0
    assert json.loads(out)["settings"]["socket_mode_enabled"] is True


def test_what_is_understood_of_an_alert_is_json_alone(tocsin, tmp_path):
    code, out, err = tocsin("alerts", "read", "alertmanager", put(tmp_path / "a.json", ALERT))

    (alert,) = json.loads(out)["alerts"]
    assert (code, err) == (0, "")
    assert alert["status"] == "firing"
    assert alert["severity"] == "critical"
    assert alert["title"] == "Disk of db-1.example.com is full"
    assert alert["fingerprint"] == "00aabbccddeeff11"
    assert alert["starts_at"] == "2026-11-20T03:10:00.123456+00:00"


@pytest.mark.parametrize(
    ("source", "content"),
    [("alertmanager", "{"), ("alertmanager", "[]"), ("alertmanager", "{}"), ("nothing", "{}"), ("generic", "[" * 500)],
)
def test_garbage_is_refused_with_one_clear_line(tocsin, tmp_path, source, content):
    code, out, err = tocsin("alerts", "read", source, put(tmp_path / "g.json", content))

    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_a_file_that_is_not_there_and_a_header_that_is_none_are_said(tocsin, tmp_path):
    assert "cannot be read" in tocsin("alerts", "read", "generic", "missing.json")[2]
    assert "is not a header" in tocsin("alerts", "read", "generic", put(tmp_path / "a", "{}"), "-H", "nonsense")[2]


def test_good_runbooks_pass_and_bad_ones_are_named_by_line(tocsin, tmp_path):
    good = tocsin("runbooks", "lint", str(Path(__file__).parent.parent / "runbooks"))
    bad = tocsin(
        "runbooks", "lint", put(tmp_path / "bad.yaml", "version: 1\nid: bad\nname: Bad\nowner: me\nstepz: []\n")
    )

    assert good[0] == 0
    assert bad[0] == 1
    assert "bad.yaml:5:" in bad[1]


def test_migrate_makes_a_database_that_check_accepts(tocsin, tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    put(
        tmp_path / "config" / "connections.yaml",
        "version: 1\nconnections:\n  a: {source: generic, token: {env: ALERTS_TOKEN}}\n",
    )
    monkeypatch.setenv("ALERTS_TOKEN", "0123456789abcdef")
    before = tocsin("check")
    made = tocsin("migrate")
    after = tocsin("check")

    assert before[0] == 2
    assert "tocsin migrate" in before[2]
    assert (made[0], after[0]) == (0, 0)


def test_check_names_every_mistake_in_the_configuration(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    put(tmp_path / "config" / "tocsin.yaml", "version: 1\npagr: log\n")
    code, _, err = tocsin("check")

    assert code == 2
    assert "tocsin.yaml:2" in err
    assert "pager" in err


def test_check_says_what_is_most_likely_a_mistake(tocsin, tmp_path):
    tocsin("migrate")
    missing = tocsin("check")
    (tmp_path / "config").mkdir()
    put(tmp_path / "config" / "routes.yaml", "version: 1\nroutes:\n  - {name: a, match: [], runbooks: [nonsuch]}\n")
    dangling = tocsin("check")

    assert (missing[0], dangling[0]) == (1, 1)
    assert "TOCSIN_CONFIG" in missing[2]
    assert "no runbook 'nonsuch'" in dangling[2]


def test_check_says_what_will_keep_a_tracker_from_working(tocsin, tmp_path):
    tocsin("migrate")
    (tmp_path / "config").mkdir()
    hub = (
        "version: 1\ntrackers:\n  hub:\n    kind: github\n    url: https://api.github.com\n    token: {env: NOT_SET}\n"
    )
    put(tmp_path / "config" / "trackers.yaml", hub)
    wrong = tocsin("check")
    rules = "findings: [{tracker: hub, runbook: [nonsuch]}]\nchanges: [{tracker: hub}]\n"
    put(tmp_path / "config" / "trackers.yaml", f"{hub}    options: {{repository: example/ops}}\n{rules}")
    odd = tocsin("check")

    assert (wrong[0], odd[0]) == (2, 1)
    assert "trackers.yaml:3: 'repository' is missing" in wrong[2]
    assert "tracker 'hub': the environment variable NOT_SET is not set" in odd[2]
    assert "findings of hub: there is no runbook 'nonsuch'" in odd[2]
    assert "changes: hub has no change requests" in odd[2]


def test_check_says_what_runbooks_name_and_nobody_has(tocsin, tmp_path):
    tocsin("migrate")
    (tmp_path / "config" / "runbooks").mkdir(parents=True)
    put(tmp_path / "config" / "targets.yaml", "version: 1\nsecrets:\n  KEY: {env: NOT_SET}\n")
    put(
        tmp_path / "config" / "runbooks" / "look.yaml",
        "version: 1\nid: look\nname: Look\nowner: me\nsteps:\n  - exec: {argv: [df], host: web-1}\n",
    )
    code, _, err = tocsin("check")

    assert code == 1
    assert "targets.yaml has no host 'web-1', for look" in err
    assert "targets.yaml: secret 'KEY': the environment variable NOT_SET is not set" in err


def test_check_and_lint_say_which_names_of_the_environment_a_runbook_may_not_use(tocsin, tmp_path, monkeypatch):
    monkeypatch.setenv("LB_TOKEN", "a-secret-of-the-environment")
    tocsin("migrate")
    (tmp_path / "config" / "runbooks").mkdir(parents=True)
    put(tmp_path / "config" / "tocsin.yaml", "version: 1\nrunbook_environment: [REGION]\n")
    put(
        tmp_path / "config" / "runbooks" / "look.yaml",
        "version: 1\nid: look\nname: Look\nowner: me\nenv: [REGION]\nsecrets: [LB_TOKEN]\nsteps:\n  - note: x\n",
    )
    checked = tocsin("check")
    linted = tocsin("runbooks", "lint", str(tmp_path / "config" / "runbooks"))
    put(tmp_path / "config" / "tocsin.yaml", "version: 1\nrunbook_environment: [REGION]\nrunbook_secrets: [LB_*]\n")
    fine = tocsin("runbooks", "lint", str(tmp_path / "config" / "runbooks" / "look.yaml"))

    told = "look.yaml:6: LB_TOKEN is nothing that runbooks may use here: say in targets.yaml, under secrets"
    assert (checked[0], linted[0], fine[0]) == (1, 1, 0)
    assert told in checked[2]
    assert told in linted[1]


def test_check_names_the_mistakes_of_all_files_at_once(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    put(tmp_path / "config" / "tocsin.yaml", "version: 1\npager: nonsuch\n")
    put(tmp_path / "config" / "routes.yaml", "version: 1\nroutez: []\n")
    put(tmp_path / "config" / "targets.yaml", "version: 1\nhost: {}\n")
    code, _, err = tocsin("check")

    assert code == 2
    assert "nonsuch" in err
    assert "routes.yaml:2" in err
    assert "targets.yaml:2" in err


def test_check_says_what_a_pager_lacks(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    put(tmp_path / "config" / "tocsin.yaml", "version: 1\npager: pagerduty\n")
    code, _, err = tocsin("check")

    assert code == 2
    assert "needs a section pagerduty: with routing_key" in err


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("fallback_pagers: [pigeon]\n", 2, "fallback_pagers: there is no 'pigeon'; there is:"),
        ("fallback_pagers: [log]\n", 2, "fallback_pagers: 'log' cannot stand in"),
        ("fallback_pagers: [email]\n", 2, "the pager 'email' needs a section email:"),
        ("page_ack_minutes: {SEV1: 5}\n", 1, "page_ack_minutes: nothing is seen of what people do in log"),
        ("page_updates: true\n", 1, "page_updates does nothing: log takes no status updates"),
        (
            "fallback_pagers: [email]\nemail: {host: localhost, tls: none, from: a@example.com, to: [b@example.com]}\n",
            1,
            "fallback_pagers does nothing: the pager is 'log', which never fails",
        ),
    ],
    ids=["no such pager", "log", "no section", "nothing is seen", "no updates", "nothing to stand in for"],
)
def test_check_says_what_is_asked_of_paging_that_it_cannot_do(tocsin, tmp_path, text, code, told):
    (tmp_path / "config").mkdir()
    put(tmp_path / "config" / "tocsin.yaml", f"version: 1\n{text}")
    tocsin("migrate")
    found = tocsin("check")

    assert found[0] == code
    assert told in found[2]


def test_run_without_tokens_says_where_they_come_from(tocsin):
    tocsin("migrate")
    code, _, err = tocsin("run")

    assert code == 2
    assert "tocsin manifest" in err
    assert "tocsin demo" in err


def test_a_bad_setting_is_named_and_not_repeated(tocsin, monkeypatch):
    monkeypatch.setenv("TOCSIN_PORT", "eighty")
    code, _, err = tocsin("migrate")

    assert code == 2
    assert "TOCSIN_PORT" in err


def test_a_password_never_reaches_an_error_text(tocsin, monkeypatch):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", "postgresql://someone:hunter2hunter2@127.0.0.1:1/none")
    code, out, err = tocsin("check")

    assert code == 2
    assert err.strip()
    assert "hunter2" not in out + err


def test_another_kind_of_database_is_refused_with_what_works(tocsin, monkeypatch):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", "mysql://root@127.0.0.1/x")
    code, _, err = tocsin("migrate")

    assert code == 2
    assert "sqlite:///" in err
    assert "postgresql://" in err


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


def test_what_a_command_writes_down_is_told_to_sinks_as_well(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    (tmp_path / "config").mkdir()
    put(tmp_path / "config" / "secret", "s" * 40)
    hook = "{kind: webhook, url: 'https://hooks.example.com', secret: {file: secret}, events: ['postmortem.*']}"
    put(tmp_path / "config" / "sinks.yaml", f"version: 1\nsinks:\n  archive: {hook}\n")
    done = tocsin("postmortem", "export", "INC-1", "--format", "md", "--out", str(tmp_path / "a.md"))
    engine = Database(incident).sync_engine()
    table = "dbos.workflow_status" if incident.startswith("postgres") else "workflow_status"
    with engine.connect() as connection:
        promised = connection.exec_driver_sql(f"select count(*) from {table} where name = 'dispatch'").scalar_one()
    engine.dispose()

    assert done[0] == 0, done
    assert promised >= 2  # drafted, and exported


def test_the_same_incident_gives_the_same_bytes(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    first = tocsin("postmortem", "export", "INC-1", "--format", "md", "--out", str(tmp_path / "a.md"))
    second = tocsin("postmortem", "export", "inc-1", "--out", str(tmp_path / "b.md"))

    assert (first[0], second[0]) == (0, 0)
    assert (tmp_path / "a.md").read_bytes() == (tmp_path / "b.md").read_bytes()
    assert "Checkout fails" in (tmp_path / "a.md").read_text()


def test_the_timeline_is_a_list_of_events_with_kind_and_time(tocsin, monkeypatch, incident):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    code, out, _ = tocsin("timeline", "export", "INC-1")

    events = json.loads(out)
    assert code == 0
    assert [event["kind"] for event in events][:2] == ["incident.opened", "incident.resolved"]
    assert all(event["at"].startswith("20") for event in events)


def test_the_ending_of_the_file_says_the_format(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)

    code, _, err = tocsin("postmortem", "export", "INC-1", "--out", str(tmp_path / "inc.html"))

    assert (code, err) == (0, f"written: {tmp_path / 'inc.html'}\n")
    assert (tmp_path / "inc.html").read_text().startswith("<!doctype html>")


def test_without_a_name_the_file_has_that_of_incident_and_revision(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)

    assert tocsin("postmortem", "export", "INC-1", "--format", "json")[0] == 0

    told = json.loads((tmp_path / "inc-1-postmortem-1.json").read_text())
    assert (told["incident"], told["revision"]) == ("INC-1", 1)


def test_a_file_is_written_over_only_by_force(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    there = tmp_path / "a.md"
    there.write_text("mine")

    code, _, err = tocsin("postmortem", "export", "INC-1", "--out", str(there))
    assert (code, there.read_text()) == (2, "mine")
    assert f"{there} exists; --force writes over it" in err

    assert tocsin("postmortem", "export", "INC-1", "--out", str(there), "--force")[0] == 0
    assert there.read_text().startswith("---\n")


def test_a_stored_revision_can_be_asked_for(tocsin, monkeypatch, incident):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    assert tocsin("postmortem", "export", "INC-1", "--out", "first.md")[0] == 0

    assert tocsin("postmortem", "export", "INC-1", "--revision", "1", "--out", "second.md")[0] == 0
    assert Path("first.md").read_bytes() == Path("second.md").read_bytes()

    code, _, err = tocsin("postmortem", "export", "INC-1", "--revision", "7")
    assert code == 2
    assert "INC-1 has no revision 7 of its post-mortem; the newest is 1." in err


def test_a_post_mortem_is_kept_in_a_repository_once(tocsin, monkeypatch, incident, tmp_path):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "archive.git")], check=True)

    code, _, err = tocsin("postmortem", "publish", "INC-1")
    assert code == 2
    assert "archive: {repository: …}" in err

    (tmp_path / "config").mkdir()
    (tmp_path / "config/tocsin.yaml").write_text(f"version: 1\narchive: {{repository: {tmp_path / 'archive.git'}}}\n")
    first, second = tocsin("postmortem", "publish", "INC-1"), tocsin("postmortem", "publish", "INC-1")

    assert (first[0], second[0]) == (0, 0)
    assert first[1] == second[1]
    assert re.fullmatch(r"[0-9a-f]{40} 20\d\d/INC-1\.md\n", first[1])
    assert (first[2], second[2]) == ("committed and pushed\n", "it was there already, as it is now\n")
    events = json.loads(tocsin("timeline", "export", "INC-1")[1])
    assert [event["data"]["place"] for event in events if event["kind"] == "postmortem.exported"] == ["git"]


def test_the_schema_of_a_document_is_printed(tocsin):
    code, out, _ = tocsin("postmortem", "schema")

    assert code == 0
    assert "facts" in json.loads(out)["properties"]


@pytest.mark.parametrize("wrong", ["INC-99", "nonsense", "INC-"])
def test_an_incident_that_is_not_there_is_said(tocsin, monkeypatch, incident, wrong):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    code, out, err = tocsin("postmortem", "export", wrong)

    assert (code, out) == (2, "")
    assert err.strip()


def test_an_unknown_format_names_those_there_are(tocsin, monkeypatch, incident):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)

    assert "md" in tocsin("postmortem", "export", "INC-1", "--format", "rtf")[2]


NIGHTLY = """version: 1
id: nightly
name: Nightly work
owner: team
schedule: {cron: 'CRON', timezone: Europe/Berlin}
steps: [{note: done}]
"""


def test_the_next_times_of_runbooks_by_the_clock_are_listed(tocsin, tmp_path):
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "nightly.yaml").write_text(NIGHTLY.replace("CRON", "30 2 * * mon"))
    (folder / "quiet.yaml").write_text(NIGHTLY.replace("nightly", "quiet").replace("schedule:", "vars:"))

    code, out, err = tocsin("runbooks", "schedule", str(folder), "--count", "2")
    alone = tocsin("runbooks", "schedule", str(folder / "nightly.yaml"), "--count", "2")
    used = tocsin("runbooks", "schedule", "--count", "2")

    lines = out.splitlines()
    assert (code, err, lines[0], len(lines)) == (0, "", "nightly  30 2 * * mon Europe/Berlin", 3)
    assert all(line.startswith("  Mon ") and " 02:30 CE" in line and " UTC, in " in line for line in lines[1:])
    assert alone[1].splitlines()[0] == used[1].splitlines()[0] == lines[0]


def test_a_schedule_that_is_wrong_is_named_and_the_others_are_listed(tocsin, tmp_path):
    (tmp_path / "nightly.yaml").write_text(NIGHTLY.replace("CRON", "30 2 * * *"))
    (tmp_path / "broken.yaml").write_text(NIGHTLY.replace("nightly", "broken").replace("CRON", "30 2 * * 1"))

    code, out, err = tocsin("runbooks", "schedule", str(tmp_path))

    assert (code, out.splitlines()[0]) == (1, "nightly  30 2 * * * Europe/Berlin")
    assert "broken.yaml:5: names weekdays by number (1)" in err
    assert tocsin("runbooks", "schedule", str(tmp_path / "none"))[2] == f"{tmp_path}/none does not exist\n"


def test_the_operations_log_can_be_read_and_is_no_incident(tocsin, tmp_path):
    assert tocsin("migrate")[0] == 0
    assert "'OPS-0' is not an incident" in tocsin("timeline", "export", "OPS-0")[2]
    db = Database(f"sqlite:///{tmp_path}/tocsin.db")

    async def written() -> None:
        engine = Engine(db)
        async with engine.transaction() as tx:
            log = await logbook.opened(tx, now=utc_now())
            await switch(tx, react, [log], "*", off=True, by="UBOB", now=utc_now())
        await engine.close()
        await db.close()

    asyncio.run(written())
    code, out, _ = tocsin("timeline", "export", "ops-0")

    assert code == 0
    assert [(event["incident"], event["kind"]) for event in json.loads(out)] == [("OPS-0", "automation.stopped")]
    assert "There is no INC-0" in tocsin("postmortem", "export", "INC-0")[2]
    assert "is not an incident" in tocsin("postmortem", "export", "OPS-0")[2]


def test_check_names_what_is_meant_to_happen_by_itself_and_cannot(tocsin, tmp_path, monkeypatch):
    config = tmp_path / "config"
    (config / "runbooks").mkdir(parents=True)
    (config / "runbooks/nightly.yaml").write_text(NIGHTLY.replace("CRON", "30 2 * * *"))
    (config / "tocsin.yaml").write_text("version: 1\nauto_runbooks: true\nschedules: true\n")
    (config / "connections.yaml").write_text(
        "version: 1\nconnections:\n  am: {source: alertmanager, token: {env: SHORT}}\n"
    )
    monkeypatch.setenv("SHORT", "x" * 20)
    tocsin("migrate")

    code, _, err = tocsin("check")

    assert code == 1
    assert "auto_runbooks is on, but nothing that comes in may start a runbook: a token of am is shorter than 32" in err
    assert "nightly.yaml runs by the clock, but nobody sees it: set operations_channel in tocsin.yaml" in err


def test_names_in_the_catalog_that_lead_nowhere_are_printed_with_their_lines(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    catalog = tmp_path / "config/catalog.yaml"
    catalog.write_text("version: 1\nservices:\n  a: {dependencies: [b]}\n")

    code, out, err = tocsin("catalog", "check")
    assert (code, out) == (1, "catalog.yaml:3: service 'a': it needs 'b'\n")

    catalog.write_text("version: 1\nservices:\n  a: {dependencies: [b]}\n  b:\n")
    code, out, err = tocsin("catalog", "check")
    assert (code, out, err) == (0, "", "no problems: 2 services, 0 teams, 0 assets\n")

    catalog.write_text("version: 1\nservices:\n  a: {dependncies: [b]}\n")
    code, out, err = tocsin("catalog", "check")
    assert code == 2
    assert "catalog.yaml:3: unknown key 'dependncies'; did you mean 'dependencies'?" in err


def test_a_route_to_a_service_that_the_catalog_does_not_have_is_told(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/catalog.yaml").write_text("version: 1\nservices: {checkout: }\n")
    (tmp_path / "config/routes.yaml").write_text("version: 1\nroutes:\n  - {name: pay, service: chekout}\n")

    code, out, _ = tocsin("catalog", "check")

    assert (code, out) == (1, "routes.yaml: route 'pay': catalog.yaml has no service 'chekout'\n")


def test_deliveries_are_listed_and_tried_anew(tocsin, tmp_path):
    assert tocsin("migrate")[0] == 0
    empty = tocsin("deliveries")
    engine, now = Database(f"sqlite:///{tmp_path}/tocsin.db").sync_engine(), utc_now()
    values = {"severity": "SEV1", "status": "closed", "detected_at": now, "opened_at": now, "is_open": False}
    rows = [
        Outgoing(
            id=letter * 32,
            sink="archive",
            incident_id="i1",
            event_id=letter,
            kind="note.added",
            state=state,
            detail=detail,
            attempts=1,
            recorded_at=now,
            created_at=now,
            next_at=now,
        )
        for letter, state, detail in (("a", "delivered", "HTTP 200"), ("b", "given_up", "refused it (HTTP 401)"))
    ]
    with sqlmodel.Session(engine) as session:
        session.add(Incident(id="i1", number=7, title="x", **values))
        session.commit()
        session.add_all(rows)
        session.commit()
    engine.dispose()

    listed, failed = tocsin("deliveries"), tocsin("deliveries", "--failed")
    missing, short = tocsin("deliveries", "--again", "cccccc"), tocsin("deliveries", "--again", "b")
    again, rest = tocsin("deliveries", "--again", "all"), tocsin("deliveries", "--failed")

    assert "no deliveries" in empty[2]
    assert ["HTTP 200" in listed[1], "INC-7" in listed[1], "given up" in listed[1]] == [True] * 3
    assert ("HTTP 200" in failed[1], "refused it (HTTP 401)" in failed[1]) == (False, True)
    assert (missing[0], short[0]) == (2, 2)
    assert "six characters" in short[2]
    assert (again[0], again[1].split()[0]) == (0, "b" * 12)
    assert "no deliveries" in rest[2]


def test_check_says_that_an_archive_has_a_format_that_does_not_exist(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/tocsin.yaml").write_text("version: 1\narchive: {repository: /srv/a.git, format: rtf}\n")

    code, out, err = tocsin("check")

    assert code != 0
    assert "tocsin.yaml: archive: no format 'rtf'; there is: confluence, docx" in out + err


def test_check_names_pagers_and_sinks_that_lead_nowhere(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    tocsin("migrate")
    put(
        tmp_path / "config" / "tocsin.yaml",
        "version: 1\nemail: {host: localhost, tls: none, from: a@example.com, to: [b@example.com]}\n",
    )
    put(
        tmp_path / "config" / "sinks.yaml",
        "version: 1\nsinks:\n  shop:\n    kind: webhook\n    url: https://hooks.example.com\n"
        "    secret: {file: secret}\n    services: [nonsuch]\n    events: [incidnt.opened]\n",
    )
    put(tmp_path / "config" / "secret", "s" * 40)
    code, _, err = tocsin("check")

    assert code == 1
    assert "tocsin.yaml: email: is described, but neither pager nor fallback_pagers names it" in err
    assert "sinks.yaml:3: sink 'shop': there is no service 'nonsuch' in catalog.yaml" in err
    assert "sinks.yaml:3: sink 'shop': no kind of event fits 'incidnt.opened'" in err


def test_a_catalog_is_made_of_backstages_files_and_passes_the_check(tocsin, tmp_path):
    (tmp_path / "config").mkdir()
    catalog = tmp_path / "config/catalog.yaml"
    file = str(Path(__file__).parent / "payloads/backstage/catalog-info.yaml")

    code, out, err = tocsin("catalog", "import", "backstage", file, "--out", str(catalog))
    assert (code, out) == (0, "")
    assert "Location more: is not followed" in err
    assert "4 services, 2 teams, 1 assets; " in err
    assert tocsin("catalog", "check")[0] == 0

    code, out, err = tocsin("catalog", "import", "backstage", file, "--into", str(catalog))
    assert (code, out) == (0, catalog.read_text())
    code, out, err = tocsin("catalog", "import", "backstage", file, "--into", str(tmp_path / "none.yaml"))
    assert (code, out) == (2, "")
    assert "none.yaml does not exist" in err
