"""What /metrics says after a story is what happened in it, and it goes on saying what it can without a database."""

from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families

from tests.conftest import KINDS
from tests.scenarios.conftest import TOKEN, Stage, alertmanager

LOOK = """version: 1
id: look
name: Look around
owner: team
offer: [{match: {services: [checkout]}}]
steps:
  - name: Write it down
    note: {text: Looked around}
  - name: Wait a moment
    wait: {for: 10ms}
  - name: Not today
    when: 'false'
    note: {text: Never}
"""
SECRET = "Payroll leaked"


@pytest.fixture
def config_folder(config_folder: Path) -> Path:
    (config_folder / "runbooks").mkdir()
    (config_folder / "runbooks/look.yaml").write_text(LOOK)
    return config_folder


class Page:
    """One scrape, read by Prometheus's own parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for family in families(text) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        found = [sample.value for sample in self.samples if (sample.name, sample.labels) == (name, labels)]
        assert len(found) <= 1, f"{name}{labels} is there {len(found)} times"
        return found[0] if found else None

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """Every series of *name* that is not zero, by its label values in the order of the label names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for sample in self.samples
            if sample.name == name and sample.value
        }


async def scrape(stage: Stage) -> Page:
    answer = await stage.http.get(f"{stage.url}/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return Page(await answer.text())


async def test_after_a_story_the_numbers_are_those_of_the_story(stage: Stage):
    sandbox = stage.sandbox
    sandbox.faults.add("conversations.setTopic", "error", error="user_is_restricted")
    sandbox.faults.add("pins.add", "429", retry_after=1)
    await stage.alert(alertmanager())
    await stage.alert(alertmanager())
    await stage.alert({"alerts": "nonsense"})
    await stage.alert(alertmanager(), headers={"Authorization": "Bearer wrong"})
    await stage.alert(alertmanager(), connection="nobody")
    channel = await sandbox.expect_channel("inc-1-*")
    card = await sandbox.expect_message(channel.id, "INC-1 · 5xx")
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")
    for person in (alice, bob):
        await person.join(channel)
    await alice.click(card, "Take command")
    await sandbox.expect_message(channel.id, "is commander")
    await bob.click(card, "Look around")  # bob may not, and is told before there is anything to fill in
    await bob.modal(contains="may be run by responders of this incident only")
    await alice.click(card, "Look around")
    form = await alice.modal(contains="Look around", until=lambda view: view.body.get("submit"))
    await alice.fill(form)
    ended = await sandbox.expect_message(channel.id, "Run 1: Look around", within=10)
    await sandbox.wait(lambda: "succeeded" in ended.rendered, 10, "the end of the run")
    await alice.slash("/inc new")
    form = await alice.modal()
    await alice.fill(form, title=SECRET, private=["private"], severity="SEV1")
    await stage.quiet()

    page = await scrape(stage)

    # What people did: each acknowledged, over the way this story takes, in as many as Slack delivered.
    way = stage.settings.slack_mode
    acks = {key[0]: count for key, count in page.all("tocsin_slack_ack_seconds_count").items() if key[1] == way}
    assert {kind: acks[kind] for kind in ("command", "button", "form")} == {"command": 1, "button": 3, "form": 2}
    if way == "socket":
        assert page.value("tocsin_slack_sockets") == 2
        assert page.value("tocsin_slack_socket_silence_seconds") < 60

    # Alerts.
    deliveries = page.all("tocsin_alert_deliveries_total")
    assert deliveries == {
        ("prometheus", "stored"): 2,
        ("prometheus", "400"): 1,
        ("prometheus", "401"): 1,
        ("(unknown)", "404"): 1,
    }
    assert page.value("tocsin_alert_deliveries_total", connection="anything", outcome="503") == 0
    assert page.all("tocsin_alerts_total") == {("opened",): 1, ("repeat",): 1}
    assert page.value("tocsin_alert_accept_seconds_count") == 2
    assert page.value("tocsin_intake_batch_deliveries_sum") == 2
    assert page.value("tocsin_intake_waiting_deliveries") == page.value("tocsin_intake_waiting_bytes") == 0
    # Incidents, runs, requests, pages.
    assert page.all("tocsin_incidents_open") == {("SEV1", "investigating"): 2}
    assert page.value("tocsin_incidents_open", severity="SEV3", status="triage") == 0
    assert page.all("tocsin_incidents") == {("SEV1",): 2}
    assert page.all("tocsin_runs_total") == {("succeeded", "look"): 1}
    assert page.value("tocsin_runs_open", state="asking") == 0
    steps = {("succeeded", "note"): 1, ("succeeded", "wait"): 1, ("skipped", "note"): 1}
    assert page.all("tocsin_run_steps_total") == steps
    assert page.all("tocsin_requests_total") == {("button", "done"): 1, ("form", "done"): 2}
    assert page.all("tocsin_pages_total") == {("nobody",): 2}
    assert page.value("tocsin_postmortem_drafts_total") == 0
    # Work.
    async with stage.bot.db.read() as session:
        table = "workflow_status" if stage.bot.db.sqlite else "dbos.workflow_status"
        names = await session.execute(sa.text(f"select name, count(*) from {table} group by name"))
        promised = {(workflow,): count for workflow, count in names}
    done = {(w,): n for (outcome, w), n in page.all("tocsin_work_total").items() if outcome == "done"}
    assert done == promised
    assert page.value("tocsin_work_total", workflow="page", outcome="parked") == 0
    assert page.all("tocsin_work_waiting") == page.all("tocsin_work_running") == {}
    assert page.value("tocsin_lease_age_seconds") >= 0
    # Slack.
    calls = page.all("tocsin_slack_calls_total")
    assert calls["conversations.setTopic", "refused"] == 1
    assert calls["pins.add", "limited"] == 1
    assert calls["pins.add", "ok"] == 2
    made = {}
    for call in sandbox.workspace.calls:
        made[call.method] = made.get(call.method, 0) + 1
    counted = {}
    for (method, _), count in calls.items():
        counted[method] = counted.get(method, 0) + count
    assert counted == {method: made[method] for method in counted}
    assert {"chat.postMessage", "views.open", "users.list", "auth.test"} <= set(counted)
    assert page.value("tocsin_slack_limit_wait_seconds_total", method="pins.add") > 0
    assert page.value("tocsin_slack_call_seconds_count", method="conversations.create") == 2
    # The database and the process.
    assert page.value("tocsin_scrape_ok", part="database") == 1
    kinds = {"read", "write", "commit", *(["begin"] if stage.bot.db.sqlite else [])}
    assert {kind for (kind,) in page.all("tocsin_database_statement_seconds_count")} == kinds
    assert page.value("tocsin_database_connections_in_use") >= 0  # the lease may be renewed just now
    assert page.value("tocsin_database_errors_total", reason="unavailable") == 0
    assert page.value("tocsin_loop_lag_seconds_count") > 0
    assert page.value("process_resident_memory_bytes") > 0
    version = {"database": "sqlite" if stage.bot.db.sqlite else "postgres", "version": "0.1.0"}
    assert page.value("tocsin_build_info", **version) == 1
    # Nothing else: no title, person, channel, address or token.
    secrets = [
        TOKEN,
        sandbox.bot_token,
        sandbox.app_token,
        SECRET,
        "5xx of",
        alice.id,
        channel.id,
        channel.name,
        "INC-",
    ]
    assert [secret for secret in secrets if secret.lower() in page.text.lower()] == []


async def test_who_asks_for_openmetrics_is_given_it(stage: Stage):
    headers = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"}

    answer = await stage.http.get(f"{stage.url}/metrics", headers=headers)
    text = await answer.text()

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert "tocsin_work" in {family.name for family in open_families(text)}


@pytest.mark.parametrize("database_url", [kind for kind in KINDS if kind == "postgres"], indirect=True)
async def test_while_the_database_is_away_the_rest_is_told_and_afterwards_everything(stage: Stage, postgres_server):
    name = stage.bot.db.url.database
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as admin:
        admin.execute(f'alter database "{name}" allow_connections false')
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        away = await scrape(stage)
        admin.execute(f'alter database "{name}" allow_connections true')
    back = await scrape(stage)

    assert away.value("tocsin_scrape_ok", part="database") == 0
    assert away.value("tocsin_incidents", severity="SEV1") is None
    assert away.value("tocsin_slack_calls_total", method="auth.test", outcome="ok") >= 1
    assert away.value("tocsin_database_errors_total", reason="unavailable") >= 1
    assert back.value("tocsin_scrape_ok", part="database") == 1
    assert back.value("tocsin_incidents", severity="SEV1") == 0
