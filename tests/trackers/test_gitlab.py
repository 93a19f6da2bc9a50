"""GitLab's issues against a stand-in that obeys what stands after a slash."""

import pytest

from bot.incidents.tracker import Gone, Heard, Move
from bot.kit.errors import PermanentError, TemporaryError
from bot.trackers import gitlab
from bot.trackers.gitlab import GitLab
from tests.fakes.gitlab_issues import GitLabServer
from tests.trackers.conftest import SECRET, access, wish


@pytest.fixture
async def server():
    made = GitLabServer()
    await made.start()
    yield made
    await made.stop()


def client(server, **options) -> GitLab:
    return GitLab(access("gitlab", server.url, server.token, **{"project": "group/ops", **options}))


async def test_an_issue_is_opened_once_and_its_answer_may_be_lost(server):
    made = client(server, labels=("incident",), severities={"SEV2": "sev2"}, confidential=True)
    server.fault("/issues", method="POST", lost=True)

    with pytest.raises(TemporaryError):
        await made.create(wish(due="2026-12-24"))
    issue = await made.create(wish())

    (there,) = server.issues
    assert (issue.id, issue.reference, issue.status, issue.done) == ("77#1", "ops#1", "opened", False)
    assert (there["labels"], there["confidential"], there["due_date"]) == (
        ["incident", "tocsin-INC-1", "sev2"], True, "2026-12-24",
    )  # fmt: skip
    assert server.refused == []


async def test_an_issue_is_closed_opened_ranked_noted_and_given_a_file_once(server):
    made = client(server, severities={"SEV1": "sev1", "SEV2": "sev2"})
    issue = await made.create(wish())
    states = [
        (await made.move(issue.id, move)).status
        for move in (Move(done=True), Move(done=True), Move(done=False), Move(done=True, status="Closed"))
    ]
    await made.rank(issue.id, "SEV1")
    for _ in range(2):
        await made.comment(issue.id, "Severity SEV2 → SEV1", "k1")
        await made.attach(issue.id, "inc 1.md", b"# INC-1")

    assert states == ["closed", "closed", "opened", "closed"]
    assert server.issues[0]["labels"] == ["tocsin-INC-1", "sev1"]
    assert len(server.notes[1]) == 2
    assert server.files == [("inc_1.md", b"# INC-1")]
    assert server.refused == []
    with pytest.raises(PermanentError, match="opened or closed"):
        await made.move(issue.id, Move(done=False, status="Doing"))


async def test_hostile_text_commands_nothing_and_mentions_nobody(server):
    made = client(server)
    text = "/close\n  /assign @kim\nhello\n/label ~x @all ![](https://evil.example/x.png) <b>"
    issue = await made.create(wish(body=text))
    await made.comment(issue.id, text, "k1")

    assert server.obeyed == []
    for said in (server.issues[0]["description"], server.notes[1][0]):
        assert "@all" not in said
        assert "@kim" not in said
        assert "![" not in said


async def test_an_issue_is_found_by_number_or_address_and_only_in_its_project(server):
    made = client(server)
    issue = await made.create(wish())

    for text in ("#1", "1", issue.url):
        assert await made.find(text) == issue
    with pytest.raises(PermanentError, match="not an issue of group/ops"):
        await made.find("https://gitlab.example.com/group/other/-/issues/1")
    with pytest.raises(PermanentError, match="names no issue"):
        await made.find("hello")
    for gone in ("77#9", "78#1", "nonsense"):
        with pytest.raises(Gone):
            await made.read(gone)


async def test_a_revoked_token_is_said_and_never_shown(server):
    server.revoked = True
    with pytest.raises(PermanentError, match="check the token of ops") as told:
        await client(server).create(wish())
    assert server.token not in str(told.value)


def test_a_webhook_brings_its_token_and_names_its_issue_by_project():
    body, headers = GitLabServer().word(7)

    assert gitlab.genuine(SECRET, {"X-Gitlab-Token": SECRET}, body)
    assert not gitlab.genuine(SECRET, headers, body)
    assert not gitlab.genuine(SECRET, {"X-Gitlab-Token": "é"}, body)
    issue = {"object_kind": "issue", "user": {"name": "Kim"}, "project": {"id": 77}}
    assert gitlab.heard(headers, {**issue, "object_attributes": {"iid": 7, "action": "close"}}) == Heard(
        "77#7", "d1", "issue.close", "Kim"
    )
    assert gitlab.heard(headers, {"object_kind": "note", "project": {"id": 77}, "issue": {"iid": 7}}).id == "77#7"
    assert gitlab.heard(headers, {"object_kind": "push", "project": {"id": 77}}) is None
