"""ServiceNow's table API against a stand-in with the data policies of the base system."""

import pytest

from bot.incidents.tracker import Gone, Heard, Move
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
