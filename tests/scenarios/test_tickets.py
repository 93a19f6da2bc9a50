"""An incident and its tickets in Jira and ServiceNow, from the alert to the post-mortem, without a loop."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.jira import JiraServer
from tests.fakes.servicenow import ServiceNowServer
from tests.scenarios.conftest import Stage, alertmanager, staged, write_config

HOOK = "a-secret-of-the-webhooks"


@pytest.fixture
async def jira() -> AsyncIterator[JiraServer]:
    made = JiraServer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def desk() -> AsyncIterator[ServiceNowServer]:
    made = ServiceNowServer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def config_folder(tmp_path: Path, jira: JiraServer, desk: ServiceNowServer) -> Path:
    folder = write_config(
        tmp_path / "config",
        trackers=f"""version: 1
trackers:
  ops:
    kind: jira
    url: {jira.url}
    username: bot@example.com
    token: {{file: jira.token}}
    webhook: {{file: hook}}
    options: {{project: OPS, issue_type: Incident}}
  desk:
    kind: servicenow
    url: {desk.url}
    username: {desk.username}
    token: {{file: desk.token}}
    webhook: {{file: hook}}
tickets:
  - {{tracker: ops, severity: [SEV1, SEV2]}}
  - {{tracker: desk, service: [checkout]}}
followups: {{tracker: ops}}
changes:
  - {{tracker: desk, runbook: [touch]}}
""",
    )
    (folder / "runbooks").mkdir()
    (folder / "runbooks" / "touch.yaml").write_text(
        "version: 1\nid: touch\nname: Touch it\nowner: team\noffer: [{match: {services: [search]}}]\n"
        "steps:\n  - exec: {argv: [touch, changed]}\n"
    )
    for name, text in {"jira.token": jira.token, "desk.token": desk.token, "hook": HOOK}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
async def stage(database_url, config_folder, app_manifest) -> AsyncIterator[Stage]:
    async with staged(database_url, config_folder, app_manifest) as made:
        yield made


async def word(stage: Stage, tracker: str, told: tuple[bytes, dict[str, str]]) -> dict[str, str]:
    body, headers = told
    answer = await stage.http.post(f"{stage.url}/trackers/{tracker}", data=body, headers=headers)
    assert answer.status == 202
    return await answer.json()


async def test_an_incident_its_tickets_and_a_follow_up_live_together_to_the_end(
    stage: Stage, jira: JiraServer, desk: ServiceNowServer
):
    sandbox = stage.sandbox
    alice = sandbox.actor("alice")
    await stage.alert(alertmanager())
    channel = await sandbox.expect_channel("inc-1-*")
    await alice.join(channel)
    told = await sandbox.expect_message(channel.id, "Ticket OPS-1 opened in ops")
    assert f"{jira.url}/browse/OPS-1" in told.text
    await sandbox.expect_message(channel.id, "Ticket INC0000001 opened in desk", within=20)
    await stage.quiet()
    card = await sandbox.expect_message(channel.id, "INC-1 · 5xx")
    assert "OPS-1 To Do" in card.rendered
    assert jira.issues[0].fields["summary"] == "INC-1: 5xx of checkout above 5 %"

    await alice.slash("/inc severity 2 one region", channel)
    await alice.slash("/inc followup detect: Alert before users see it @alice due 2099-12-24", channel)
    todo = await sandbox.expect_message(channel.id, "Follow-up T1")
    await alice.click(todo, "Export to ops")
    await sandbox.expect_message(channel.id, "Ticket OPS-2 opened in ops for T1")
    await stage.quiet()
    assert "Severity" in jira.text(jira.issues[0].comments[0])
    assert (desk.rows[0].values["impact"], desk.rows[0].values["urgency"]) == ("1", "2")

    issue = jira.set("OPS-1", "Done")
    assert await word(stage, "ops", jira.word(issue, HOOK)) == {"outcome": "stored"}
    assert await word(stage, "ops", jira.word(issue, HOOK)) == {"outcome": "repeat"}
    await sandbox.expect_message(channel.id, "INC-1 is resolved after")
    await stage.quiet()
    row = desk.rows[0].values
    assert (row["state"], row["close_notes"]) == ("6", "OPS-1 is Done in ops by A person")

    # What we did comes back, and so does what they did: nothing moves any more.
    moved = len(jira.made("POST", "/transitions")) + len(desk.made("PATCH"))
    await word(stage, "desk", desk.word(desk.rows[0], HOOK))
    await word(stage, "ops", jira.word(issue, HOOK, delivery="echo"))
    await stage.quiet()
    assert len(jira.made("POST", "/transitions")) + len(desk.made("PATCH")) == moved == 4
    kinds = await stage.kinds()
    assert (kinds.count("incident.resolved"), kinds.count("ticket.opened")) == (1, 3)
    assert len(jira.issues) == 2

    await word(stage, "ops", jira.word(jira.set("OPS-2", "Done"), HOOK, delivery="d3"))
    await sandbox.expect_message(channel.id, "Follow-up T1 is done, as OPS-2 is Done in ops")
    await alice.slash("/inc postmortem", channel)
    await stage.quiet()
    draft = list(sandbox.workspace.files.values())[-1]
    assert b"[OPS-2](<" in (draft.data or b"")
    assert (jira.refused, desk.refused) == ([], [])


async def test_a_tracker_whose_token_is_revoked_is_told_and_tried_again_by_a_word(
    stage: Stage, jira: JiraServer, desk: ServiceNowServer
):
    sandbox = stage.sandbox
    alice = sandbox.actor("alice")
    jira.revoked = True
    await stage.alert(alertmanager(service="search"))
    channel = await sandbox.expect_channel("inc-1-*")
    told = await sandbox.expect_message(channel.id, "A ticket in ops could not be opened")
    assert "check the token of ops in trackers.yaml" in told.rendered
    assert jira.token not in told.text
    jira.revoked = False
    await alice.join(channel)
    await alice.slash("/inc ticket ops", channel)
    await sandbox.expect_message(channel.id, "Ticket OPS-1 opened in ops")
    reply = await alice.slash("/inc ticket link INC0000404 desk", channel)
    assert reply.ok
    await sandbox.expect_message(channel.id, "desk has no INC0000404")
    await alice.slash("/inc ticket ops", channel)
    assert (await alice.expect("has OPS-1 in ops already", channel)).rendered
    await alice.slash("/inc ticket list", channel)
    assert (await alice.expect("OPS-1 in ops: To Do", channel)).rendered


async def test_a_run_that_writes_waits_for_its_change_and_closes_it(
    stage: Stage, jira: JiraServer, desk: ServiceNowServer
):
    sandbox = stage.sandbox
    alice = sandbox.actor("alice")
    await stage.alert(alertmanager(service="search"))
    channel = await sandbox.expect_channel("inc-1-*")
    await alice.join(channel)
    assert (await alice.slash("/inc join", channel)).ok
    await stage.quiet()
    said = await alice.slash("/inc runbook run touch", channel)
    assert said.ok, said
    told = await sandbox.expect_message(
        channel.id, "change CHG0000001 opened in desk; nothing is changed before", within=20
    )
    assert "change_request.do" in told.text
    assert [event.kind for event in await stage.timeline()].count("run.step_started") == 0
    desk.set("CHG0000001", approval="approved", state="-2")
    await sandbox.expect_message(channel.id, "CHG0000001 was approved in desk", within=20)
    await stage.quiet()

    row = desk.rows[0].values
    assert (row["state"], row["close_code"]) == ("3", "successful")
    assert row["close_notes"].endswith("ended: succeeded")
    assert desk.refused == []
