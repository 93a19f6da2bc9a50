"""Somebody is woken with proof, and what a runbook does with the pager and the channel is seen there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.kestra import Flow, KestraServer
from tests.fakes.pagerduty import PagerDutyServer
from tests.scenarios.conftest import Stage, alertmanager, staged, write_config

CALL = """version: 1
id: call
name: Call for help
owner: team
offer: [{match: {services: [checkout]}}]
params: {host: {source: alert.labels.instance}}
steps:
  - id: said
    slack: {text: '*Help is called* for {{ alert.title }}', broadcast: true}
  - pagerduty: {action: note, message: 'Started by a runbook for {{ incident.reference }}'}
  - pagerduty: {action: page, service: search, message: 'Checkout waits for search'}
  - id: asked
    wait:
      until: stdout != ""
      every: 100ms
      check: {exec: {argv: [python3, -c, 'print("up")']}, effect: read}
  - id: flow
    kestra: {namespace: ops, flow: restart, inputs: {host: '{{ params.host }}'}}
  - slack: {text: 'Restarted {{ steps.flow.outputs.count }}. Help is on its way, see {{ steps.said.permalink }}'}
  - pagerduty: {action: resolve}
"""
SECRET = "Somebody reads the payroll"


@pytest.fixture
async def pagerduty() -> AsyncIterator[PagerDutyServer]:
    made = await PagerDutyServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def kestra() -> AsyncIterator[KestraServer]:
    made = await KestraServer().start()
    made.flows["ops/restart"] = Flow(inputs={"host": "STRING"}, outputs={"count": 3}, logs=["INFO restarting"] * 2)
    yield made
    await made.stop()


@pytest.fixture
def config_folder(tmp_path: Path, pagerduty: PagerDutyServer, kestra: KestraServer) -> Path:
    folder = write_config(
        tmp_path / "config",
        tocsin=(
            "version: 1\nannouncement_channel: incidents\npager: pagerduty\npagerduty:\n"
            "  routing_key: {file: checkout.key}\n  services: {search: {file: search.key}}\n"
            f"  api_token: {{file: token}}\n  from_email: bot@example.com\n"
            f"  events_url: {pagerduty.url}\n  api_url: {pagerduty.url}\n"
        ),
        targets=(
            "version: 1\nconnections:\n  kestra:\n    kind: kestra\n    private: true\n"
            f"    url: {kestra.url}\n    username: bot@example.com\n    password: {{file: kestra.password}}\n"
        ),
    )
    keys = {"checkout.key": "r" * 32, "search.key": "s" * 32, "token": pagerduty.token}
    for name, text in {**keys, "kestra.password": "kestra-password"}.items():
        (folder / name).write_text(text)
    (folder / "runbooks").mkdir()
    (folder / "runbooks" / "call.yaml").write_text(CALL)
    return folder


@pytest.fixture
async def stage(database_url, config_folder, app_manifest) -> AsyncIterator[Stage]:
    async with staged(database_url, config_folder, app_manifest) as made:
        yield made


async def test_an_incident_wakes_somebody_once_and_the_channel_is_told_who(stage: Stage, pagerduty: PagerDutyServer):
    pagerduty.fault("/v2/enqueue", status=503)
    pagerduty.fault("/v2/enqueue", lost=True)
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    told = await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 1 is triggered", within=40)

    assert "with alice@example.com" in told.rendered
    (incident,) = pagerduty.incidents
    assert incident.title == "INC-1 5xx of checkout above 5 %"
    assert incident.triggers == 2
    await stage.quiet()
    assert (await stage.kinds()).count("page.sent") == 1
    assert "page.failed" not in await stage.kinds()
    card = await stage.sandbox.expect_message(channel.id, "INC-1 · 5xx")
    assert "sent (by pagerduty)" in card.rendered


async def test_a_page_that_pagerduty_refuses_is_told_and_not_called_sent(stage: Stage, pagerduty: PagerDutyServer):
    pagerduty.services.clear()
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")

    told = await stage.sandbox.expect_message(channel.id, "PagerDuty refused the page")
    assert "Invalid routing key" in told.rendered
    assert "rrr" not in told.rendered
    await stage.quiet()
    assert "page.sent" not in await stage.kinds()


async def test_a_private_title_is_not_paged(stage: Stage, pagerduty: PagerDutyServer):
    alice = stage.sandbox.actor("alice")
    form = (await alice.slash("/inc new")).modal
    await alice.fill(form, title=SECRET, private=["private"], severity="SEV1")
    await stage.quiet()

    assert [incident.title for incident in pagerduty.incidents] == [
        "INC-1 a private incident; its channel in Slack says more"
    ]


async def test_a_runbook_speaks_pages_waits_and_starts_a_flow(
    stage: Stage, pagerduty: PagerDutyServer, kestra: KestraServer
):
    sandbox = stage.sandbox
    alice = sandbox.actor("alice")
    await stage.alert(alertmanager(summary="5xx <!channel> *now*"))
    channel = await sandbox.expect_channel("inc-1-*")
    card = await sandbox.expect_message(channel.id, "INC-1 · 5xx")
    await alice.join(channel)
    await alice.click(card, "Take command")
    await sandbox.expect_message(channel.id, "is commander")
    await alice.click(card, "Call for help")
    form = await alice.modal(contains="Call for help", until=lambda view: view.body.get("submit"))
    assert (await alice.fill(form)).errors is None

    await sandbox.expect_message(channel.id, "succeeded", within=20)
    await stage.quiet()

    run = next(
        message for message in channel.messages if "Call for help" in message.rendered and "Run 1" in message.text
    )
    said = next(message for message in channel.messages if "Help is called" in message.text)
    later = next(message for message in channel.messages if "on its way" in message.text)
    assert said.text == "*Help is called* for 5xx &lt;!channel&gt; *\u200bnow*"
    assert (said.thread_ts, said.extra.get("broadcast")) == (run.ts, True)
    assert said.ts in later.text
    assert later.text.startswith("Restarted 3.")
    assert [execution.inputs for execution in kestra.executions] == [{"host": "web-1.example.com"}]
    assert kestra.refused == []
    own, other = pagerduty.incidents
    assert (own.status, other.status) == ("resolved", "triggered")
    assert own.notes[0]["content"].startswith("Started by a runbook for INC-1\n")
    assert other.title == "INC-1 Checkout waits for search"
    assert pagerduty.services[other.routing_key] == "search"
    assert (await stage.kinds()).count("page.sent") == 2
    assert pagerduty.refused == []
