"""ServiceNow's table API against a stand-in with the data policies of the base system."""

import pytest

from bot.incidents.tracker import Changes, Gone, Heard, Move, Wish
from bot.kit.errors import PermanentError, TemporaryError
from bot.trackers import servicenow
from bot.trackers.servicenow import ServiceNow
from tests.fakes.servicenow import ServiceNowServer
from tests.trackers.conftest import SECRET, access, wish


@pytest.fixture
async def server():
    made = ServiceNowServer()
    await made.start()
    yield made
    await made.stop()


def client(server, **options) -> ServiceNow:
    return ServiceNow(access("servicenow", server.url, server.token, username=server.username, **options))


async def test_an_incident_is_opened_once_under_its_correlation_id(server):
    made = client(server, fields={"category": "software"})
    server.fault("/table/incident", method="POST", lost=True)

    with pytest.raises(TemporaryError):
        await made.create(wish(url="https://chat.example.com/x"))
    issue = await made.create(wish())

    (row,) = server.rows
    assert (issue.reference, issue.status, issue.done) == ("INC0000001", "New", False)
    assert issue.url.startswith(f"{server.url}/nav_to.do?uri=incident.do%3Fsys_id%3D")
    assert {name: row.values[name] for name in ("correlation_id", "impact", "urgency", "category")} == {
        "correlation_id": "tocsin-INC-1", "impact": "1", "urgency": "2", "category": "software",
    }  # fmt: skip
    assert row.values["description"].endswith("https://chat.example.com/x")
    assert server.refused == []


async def test_what_is_resolved_has_a_code_and_a_note(server):
    made = client(server)
    issue = await made.create(wish())

    resolved = await made.move(issue.id, Move(done=True, note="Rolled back"))
    back = await made.move(issue.id, Move(done=False))
    held = await made.move(issue.id, Move(done=False, status="on hold"))
    dropped = await made.move(issue.id, Move(done=True, dropped=True))

    row = server.rows[0].values
    assert [one.status for one in (resolved, back, held, dropped)] == ["Resolved", "In Progress", "On Hold", "Canceled"]
    assert (row["close_code"], row["close_notes"]) == ("Resolved by caller", "Rolled back")
    assert server.refused == []


async def test_a_close_code_that_the_instance_does_not_have_is_told(server):
    made = client(server, close_code="Banana")
    issue = await made.create(wish())

    with pytest.raises(PermanentError, match="Resolution code"):
        await made.move(issue.id, Move(done=True))
    with pytest.raises(PermanentError, match="no state 'Bananas'; there is: New, In Progress"):
        await made.move(issue.id, Move(done=False, status="Bananas"))


async def test_notes_severity_and_files_are_sent_once(server):
    made = client(server)
    issue = await made.create(wish())
    server.fault("/table/incident", method="PATCH", lost=True)
    with pytest.raises(TemporaryError):
        await made.comment(issue.id, "Severity SEV2 → SEV1", "k1")
    await made.comment(issue.id, "Severity SEV2 → SEV1", "k1")
    server.fault("/attachment/file", lost=True)
    with pytest.raises(TemporaryError):
        await made.attach(issue.id, "inc-1.md", b"# INC-1")
    await made.attach(issue.id, "inc-1.md", b"# INC-1")
    await made.rank(issue.id, "SEV1")

    row = server.rows[0]
    assert row.notes == ["Severity SEV2 → SEV1\n\n[k1]"]
    assert row.files == [("inc-1.md", b"# INC-1")]
    assert (row.values["impact"], row.values["urgency"]) == ("1", "1")


async def test_a_ticket_is_found_by_number_sys_id_or_address(server):
    made = client(server)
    issue = await made.create(wish())

    for text in ("INC0000001", issue.id, issue.url, f"{server.url}/now/nav/ui/incident.do?sys_id={issue.id}"):
        assert await made.find(text) == issue
    with pytest.raises(Gone):
        await made.find("INC0000007")
    with pytest.raises(PermanentError, match="names no ticket"):
        await made.find("hello")


async def test_a_revoked_password_is_said_and_never_shown(server):
    server.revoked = True

    with pytest.raises(PermanentError, match=r"check the token of ops in trackers\.yaml") as told:
        await client(server).create(wish())

    assert server.token not in str(told.value)


async def test_an_instance_that_is_away_is_a_matter_of_time(server):
    server.down = True

    with pytest.raises(TemporaryError, match="503"):
        await client(server).read("0" * 32)


def test_it_has_change_requests():
    assert issubclass(ServiceNow, Changes)


def change(key: str = "tocsin-INC-1-R7"):
    return Wish(key, "Restart for INC-1", "Run 7 of the runbook Restart", "", purpose="change")


async def test_a_change_is_opened_once_waited_for_begun_and_closed_with_its_outcome(server):
    made = client(server, change_fields={"risk": "3"})
    server.fault("/change_request", method="POST", lost=True)
    with pytest.raises(TemporaryError):
        await made.propose(change(), "normal")
    issue = await made.propose(change(), "normal")
    (row,) = server.rows
    asked = (issue.reference, issue.status, row.values["type"], await made.verdict(issue.id))
    server.set("CHG0000001", approval="approved", state="-2")
    approved = await made.verdict(issue.id)
    await made.begin(issue.id)
    await made.begin(issue.id)
    begun = row.values["state"]
    closed = await made.conclude(issue.id, "k", ok=True, note="Run 7 ended: succeeded")
    again = await made.conclude(issue.id, "k", ok=True, note="Run 7 ended: succeeded")

    assert asked == ("CHG0000001", "Assess", "normal", None)
    assert (approved, begun) == (True, "-1")
    assert (closed.status, closed.done, again.status) == ("Closed", True, "Closed")
    assert (row.values["close_code"], row.values["close_notes"]) == ("successful", "Run 7 ended: succeeded")
    assert "change_request.do" in issue.url
    assert server.refused == []


async def test_a_change_that_is_rejected_or_canceled_is_a_no(server):
    made = client(server)
    issue = await made.propose(change(), "emergency")
    server.set("CHG0000001", approval="rejected", state="-5")
    rejected = await made.verdict(issue.id)
    server.set("CHG0000001", approval="not requested", state="4")

    assert (rejected, await made.verdict(issue.id)) == (False, False)


async def test_a_standard_change_needs_no_approval_and_one_never_approved_is_left_with_a_note(server):
    made = client(server)
    standard = await made.propose(change(), "standard")
    normal = await made.propose(change("tocsin-INC-1-R8"), "normal")
    for _ in range(2):
        await made.conclude(normal.id, "tocsin-INC-1-R8-end", ok=False, note="Run 8 ended: failed")

    assert await made.verdict(standard.id) is True
    assert server.rows[1].values["state"] == "-4"
    assert server.rows[1].notes == ["Run 8 ended: failed\n\n[tocsin-INC-1-R8-end]"]
    assert server.refused == []


def test_a_webhook_brings_the_token_that_its_business_rule_was_given():
    assert servicenow.genuine(SECRET, {"Authorization": f"Bearer {SECRET}"}, b"{}")
    for given in ("", "Bearer", f"Bearer {SECRET} ", f"Basic {SECRET}", "Bearer é"):
        assert not servicenow.genuine(SECRET, {"Authorization": given}, b"{}")


def test_a_webhook_names_its_ticket_by_sys_id():
    sys_id = "0123456789abcdef" * 2

    told = servicenow.heard({}, {"sys_id": sys_id, "event": "update", "by": "Kim", "delivery": "7"})

    assert told == Heard(sys_id, "7", "update", "Kim")
    for wrong in ([], {}, {"sys_id": 7}, {"sys_id": "INC0000001"}):
        with pytest.raises(PermanentError):
            servicenow.heard({}, wrong)
