"""Jira, in both editions, against a stand-in that is as strict as its documentation."""

import pytest

from bot.incidents.tracker import Gone, Heard, Move
from bot.kit.errors import PermanentError, TemporaryError
from bot.trackers import jira
from bot.trackers.jira import Jira
from tests.fakes.jira import Issue, JiraServer
from tests.trackers.conftest import SECRET, access, wish


@pytest.fixture(params=["cloud", "datacenter"])
async def server(request):
    made = JiraServer(request.param)
    await made.start()
    yield made
    await made.stop()
    assert made.refused == []


@pytest.fixture
async def strict():
    """One whose refusals are meant."""
    made = JiraServer()
    await made.start()
    yield made
    await made.stop()


def client(server, *, settles=0.0, **options) -> Jira:
    edition, username = ("cloud", "bot@example.com") if server.cloud else ("datacenter", None)
    given = {"project": "OPS", "edition": edition, **options}
    return Jira(access("jira", server.url, server.token, username=username, **given), settles=settles)


async def test_an_issue_is_opened_with_its_label_and_found_again(server):
    made = client(server, priorities={"SEV2": "High"}, due=True)

    first = await made.create(wish(url="https://chat.example.com/x", due="2026-12-24"))
    again = await made.create(wish())

    (issue,) = server.issues
    assert (first, again) == (again, first)
    assert (first.reference, first.status, first.done, first.url) == (
        "OPS-1",
        "To Do",
        False,
        f"{server.url}/browse/OPS-1",
    )
    assert (issue.fields["labels"], issue.fields["priority"], issue.fields["duedate"]) == (
        ["tocsin-INC-1"], {"name": "High"}, "2026-12-24",
    )  # fmt: skip
    assert "Severity: SEV2" in server.text(issue.fields["description"])
    assert "https://chat.example.com/x" in str(issue.fields["description"])


async def test_an_answer_that_was_lost_after_it_was_done_doubles_nothing(server):
    made = client(server)
    server.fault("/issue", method="POST", lost=True)
    with pytest.raises(TemporaryError):
        await made.create(wish())
    issue = await made.create(wish())
    server.fault("/comment", method="POST", lost=True)
    with pytest.raises(TemporaryError):
        await made.comment(issue.id, "Severity SEV2 → SEV1", "k1")
    await made.comment(issue.id, "Severity SEV2 → SEV1", "k1")
    server.fault("/transitions", method="POST", lost=True)
    with pytest.raises(TemporaryError):
        await made.move(issue.id, Move(done=True))
    moved = await made.move(issue.id, Move(done=True))
    server.fault("/attachments", lost=True)
    with pytest.raises(TemporaryError):
        await made.attach(issue.id, "inc-1.md", b"# INC-1")
    await made.attach(issue.id, "inc-1.md", b"# INC-1")

    (there,) = server.issues
    assert (len(there.comments), there.files, moved.done) == (1, [("inc-1.md", b"# INC-1")], True)
    assert len(server.made("POST", "/transitions")) == 1


async def test_after_a_lost_answer_the_search_is_given_time_to_catch_up(strict):
    strict.fault("/issue", method="POST", lost=True)

    with pytest.raises(TemporaryError) as told:
        await client(strict, settles=20.0).create(wish())

    assert told.value.after == 20.0


async def test_an_issue_is_moved_by_status_or_by_whether_it_is_done(server):
    made = client(server)
    issue = await made.create(wish())

    named = await made.move(issue.id, Move(done=False, status="in review"))
    done = await made.move(issue.id, Move(done=True))
    still = await made.move(issue.id, Move(done=True))
    back = await made.move(issue.id, Move(done=False))

    assert [one.status for one in (named, done, still, back)] == ["In Review", "Done", "Done", "To Do"]
    assert len(server.made("POST", "/transitions")) == 3


async def test_a_transition_that_asks_for_a_resolution_gets_one_that_is_allowed(server):
    server.wants_resolution = True
    made = client(server)
    issue = await made.create(wish())

    await made.move(issue.id, Move(done=True))
    first = server.issues[0].resolution
    await made.move(issue.id, Move(done=False))
    await made.move(issue.id, Move(done=True, dropped=True))

    assert (first, server.issues[0].resolution) == ("Fixed", "Won't Do")


async def test_a_status_that_cannot_be_reached_is_told_with_those_that_can(strict):
    strict.strict = True
    made = client(strict)
    issue = await made.create(wish())

    with pytest.raises(PermanentError, match="leads to 'Done'; from 'To Do' it goes to: In Progress"):
        await made.move(issue.id, Move(done=True, status="Done"))


async def test_an_issue_is_found_by_its_key_or_its_address(server):
    made = client(server)
    issue = await made.create(wish())

    for text in ("OPS-1", issue.url, f"{server.url}/jira/software/projects/OPS/boards/1?selectedIssue=OPS-1"):
        assert await made.find(text) == issue
    with pytest.raises(PermanentError, match="names no issue"):
        await made.find("https://example.com/OPS")


async def test_what_was_deleted_is_gone(strict):
    made = client(strict)
    issue = await made.create(wish())
    strict.issues.clear()

    with pytest.raises(Gone, match="has no issue"):
        await made.read(issue.id)


async def test_a_revoked_token_is_said_with_where_to_look_and_never_shown(strict):
    strict.revoked = True

    with pytest.raises(PermanentError, match=r"401.*check the token of ops in trackers\.yaml") as told:
        await client(strict).create(wish())

    assert strict.token not in str(told.value)


async def test_too_many_requests_are_a_wait_as_long_as_it_says(strict):
    strict.fault("/search", status=429, headers={"Retry-After": "17"})

    with pytest.raises(TemporaryError) as told:
        await client(strict).create(wish())

    assert told.value.after == 17


async def test_hostile_text_stays_text(server):
    made = client(server)
    text = "[~admin] {html}<b>x</b>{html} !http://evil.example/x.png! \x00\u202e\n\n\n\n" + "x" * 40_000
    issue = await made.create(wish(title="a\nb" + "y" * 300, body=text))
    await made.comment(issue.id, text, "k1")
    await made.comment(issue.id, text, "k1")

    (there,) = server.issues
    assert len(there.comments) == 1
    if not server.cloud:
        assert r"\[~admin\] \{html\}" in there.fields["description"]


@pytest.mark.parametrize(
    ("signature", "good"),
    [(None, True), ("sha256=" + "0" * 64, False), ("", False), ("sha256=é", False)],
    ids=["right", "wrong", "none", "odd"],
)
def test_a_webhook_is_genuine_by_its_signature_over_the_raw_body(signature, good):
    server = JiraServer()
    issue = Issue("1", "OPS-1", {"labels": []})
    body, headers = server.word(issue, SECRET)
    if signature is not None:
        headers["X-Hub-Signature"] = signature

    assert jira.genuine(SECRET, headers, body) is good
    assert not jira.genuine(SECRET, headers, body + b" ")


def test_a_webhook_says_which_issue_by_its_id_and_who_did_it():
    payload = {"webhookEvent": "jira:issue_updated", "issue": {"id": "10001"}, "user": {"displayName": "Kim"}}

    told = jira.heard({"X-Atlassian-Webhook-Identifier": "w1"}, payload)

    assert told == Heard("10001", "w1", "jira:issue_updated", "Kim")
    assert jira.heard({}, {"webhookEvent": "sprint_created"}) is None
    with pytest.raises(PermanentError):
        jira.heard({}, [])
