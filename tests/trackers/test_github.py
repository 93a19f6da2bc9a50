"""GitHub's issues against a stand-in that drops labels and refuses what GitHub does."""

import pytest

from bot.incidents.tracker import Gone, Heard, Move
from bot.kit.errors import PermanentError, TemporaryError
from bot.trackers import github
from bot.trackers.github import GitHub
from tests.fakes.github_issues import GitHubServer
from tests.trackers.conftest import SECRET, access, wish


@pytest.fixture
async def server():
    made = GitHubServer()
    await made.start()
    yield made
    await made.stop()


def client(server, **options) -> GitHub:
    return GitHub(access("github", server.url, server.token, **{"repository": "example/ops", **options}))


@pytest.mark.parametrize("may_label", [True, False], ids=["with labels", "labels are dropped"])
async def test_an_issue_is_opened_once_and_its_answer_may_be_lost(server, may_label):
    server.may_label = may_label
    made = client(server, labels=("incident",), severities={"SEV2": "sev2"})
    server.fault("/issues", method="POST", lost=True)

    with pytest.raises(TemporaryError):
        await made.create(wish(url="https://chat.example.com/x"))
    issue = await made.create(wish())

    (there,) = server.issues
    assert (issue.id, issue.reference, issue.status, issue.done) == ("example/ops#1", "ops#1", "open", False)
    assert [one["name"] for one in there["labels"]] == (["incident", "tocsin-INC-1", "sev2"] if may_label else [])
    assert server.refused == []


async def test_an_issue_is_closed_and_opened_with_its_reason(server):
    made = client(server)
    issue = await made.create(wish())
    reasons = []
    for move in (Move(done=True), Move(done=True), Move(done=False), Move(done=True, dropped=True, status="Closed")):
        await made.move(issue.id, move)
        reasons.append(server.issues[0]["state_reason"])

    assert reasons == ["completed", "completed", "reopened", "not_planned"]
    assert len(server.made("PATCH")) == 3
    with pytest.raises(PermanentError, match="open or closed, and never 'In Progress'"):
        await made.move(issue.id, Move(done=False, status="In Progress"))


async def test_a_comment_is_made_once_also_below_many_others(server):
    made = client(server)
    issue = await made.create(wish())
    server.comments[1] = ["x"] * 150
    server.fault("/comments", method="POST", lost=True)
    with pytest.raises(TemporaryError):
        await made.comment(issue.id, "Severity SEV2 → SEV1", "k1")
    await made.comment(issue.id, "Severity SEV2 → SEV1", "k1")

    assert len(server.comments[1]) == 151


async def test_the_severity_is_one_label_and_the_others_stay(server):
    made = client(server, labels=("incident",), severities={"SEV1": "sev1", "SEV2": "sev2"})
    issue = await made.create(wish())
    await made.rank(issue.id, "SEV1")
    await made.rank(issue.id, "SEV1")

    assert [one["name"] for one in server.issues[0]["labels"]] == ["incident", "tocsin-INC-1", "sev1"]
    assert len(server.made("PATCH")) == 1


async def test_hostile_text_mentions_nobody_and_links_to_nothing(server):
    made = client(server)
    text = "@example/everyone @kim fixes #1 <img src=x> [x](https://evil.example) ![](https://evil.example/x.png)"
    issue = await made.create(wish(title="a\nb" + "y" * 400, body=text))
    await made.comment(issue.id, text, "k1")

    for said in (server.issues[0]["body"], server.comments[1][0]):
        assert "@example" not in said
        assert "#1" not in said
        assert "<img" not in said
        assert "](" not in said.replace(r"\](", "")


async def test_an_issue_is_found_by_number_or_address_and_only_in_its_repository(server):
    made = client(server)
    issue = await made.create(wish())

    for text in ("#1", "1", "Example/Ops#1", issue.url, f"{issue.url}#issuecomment-7"):
        assert await made.find(text) == issue
    for text in ("other/ops#1", "https://github.example.com/other/ops/issues/1", "hello"):
        with pytest.raises(PermanentError, match="names no issue"):
            await made.find(text)
    with pytest.raises(Gone):
        await made.read("example/ops#9")
    with pytest.raises(Gone):
        await made.read("other/ops#1")


async def test_a_revoked_token_is_said_and_never_shown_and_files_are_not_taken(server):
    made = client(server)
    with pytest.raises(PermanentError, match="takes no files"):
        await made.attach("example/ops#1", "x", b"x")
    server.revoked = True
    with pytest.raises(PermanentError, match="check the token of ops") as told:
        await made.create(wish())
    assert server.token not in str(told.value)


async def test_a_rate_limit_is_a_wait_although_it_looks_like_a_refusal(server):
    server.limited = True

    with pytest.raises(TemporaryError) as told:
        await client(server).create(wish())

    assert told.value.after == 60


def test_a_webhook_is_genuine_by_its_signature_and_of_its_repository():
    server = GitHubServer()
    body, headers = server.word(7, SECRET)

    assert github.genuine(SECRET, headers, body)
    assert not github.genuine("another-secret", headers, body)
    assert not github.genuine(SECRET, {**headers, "X-Hub-Signature-256": ""}, body)
    payload = {
        "action": "closed",
        "issue": {"number": 7},
        "repository": {"full_name": "Example/Ops"},
        "sender": {"login": "kim"},
    }
    assert github.heard(headers, payload) == Heard("example/ops#7", "d1", "issues.closed", "kim")
    assert github.heard({"X-GitHub-Event": "push"}, payload) is None
    assert github.heard({"X-GitHub-Event": "ping"}, {"zen": "Keep it logically awesome."}) is None
