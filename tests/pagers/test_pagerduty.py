"""PagerDuty against a strict local one: what is sent, what counts as proof, and how it fails."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from bot.catalog.config import Config, PagerDutyAccess
from bot.incidents.pager import Action, Acts, PageRequest, dedup_key
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.tasks import spawn
from bot.pagers import pagerduty
from bot.pagers.pagerduty import PagerDuty
from tests.fakes.pagerduty import PagerDutyServer

KEY, OTHER = SecretStr("r" * 32), SecretStr("s" * 32)
PAGE = PageRequest(
    "INC-42", "Payments are down", "SEV1", "checkout", dedup_key("i" * 32), url="https://tocsin.example.com"
)
OTHER_PAGE = replace(PAGE, service="search", dedup_key=dedup_key("i" * 32, "search"))


@pytest.fixture
async def server() -> AsyncIterator[PagerDutyServer]:
    made = await PagerDutyServer().start()
    yield made
    await made.stop()


def access(server: PagerDutyServer, **more) -> PagerDutyAccess:
    made = PagerDutyAccess(
        KEY, {"search": OTHER}, SecretStr(server.token), "bot@example.com", events_url=server.url, api_url=server.url
    )
    return replace(made, **more)


@pytest.fixture
async def pager(server: PagerDutyServer) -> AsyncIterator[PagerDuty]:
    made = PagerDuty(access(server), seconds=2.0, look=0.01)
    yield made
    await made.close()


@pytest.fixture
async def blind(server: PagerDutyServer) -> AsyncIterator[PagerDuty]:
    """A pager without a token for the REST API."""
    made = PagerDuty(access(server, api_token=None, from_email=None), seconds=0.5, look=0.01)
    yield made
    await made.close()


def act(kind: str, page: PageRequest = PAGE, **more) -> Action:
    return Action(kind, page, **{"key": "run:1:step", **more})


# Pages ------------------------------------------------------------------------------------------------------------


async def test_a_page_is_sent_once_pagerduty_confirms_its_key_and_its_incident_is_told(server, pager):
    server.lag = 2
    result = await pager.page(PAGE)

    (incident,) = server.incidents
    assert (result.outcome, result.proof) == ("sent", PAGE.dedup_key)
    assert result.detail == "PagerDuty's incident 1 is triggered, with alice@example.com"
    assert (incident.dedup_key, incident.title) == (PAGE.dedup_key, "INC-42 Payments are down")
    assert server.refused == []


async def test_asked_again_it_wakes_nobody_again(server, pager):
    await pager.page(PAGE)
    await pager.page(PAGE)

    assert [incident.triggers for incident in server.incidents] == [2]


async def test_without_the_rest_api_the_confirmed_key_is_the_proof(server, blind):
    result = await blind.page(PAGE)

    assert (result.outcome, result.proof, result.detail) == ("sent", PAGE.dedup_key, "PagerDuty has taken the page")
    assert server.paths("GET") == []


async def test_a_page_that_wakes_nobody_although_it_was_taken_is_said(server, pager):
    server.oncall = {}
    result = await pager.page(PAGE)
    assert result.detail == "PagerDuty's incident 1 is triggered, with nobody; is anybody on call?"

    server.lag = 99
    result = await pager.page(OTHER_PAGE)
    assert result.detail.startswith("PagerDuty has taken the page, but no incident of it is to be seen")
    assert result.outcome == "sent"


async def test_what_cannot_be_looked_at_is_still_sent(server, pager):
    server.fault("/incidents", status=503)

    assert (await pager.page(PAGE)).outcome == "sent"


async def test_a_service_with_a_key_of_its_own_is_paged_with_it(server, pager):
    await pager.page(OTHER_PAGE)

    assert server.services[server.incidents[0].routing_key] == "search"


@pytest.mark.parametrize(("severity", "word"), [("SEV1", "critical"), ("SEV2", "error"), ("SEV3", "warning")])
async def test_severities_are_told_in_pagerdutys_words(server, blind, severity, word):
    assert (await blind.page(replace(PAGE, severity=severity))).outcome == "sent"
    assert pagerduty.SEVERITY[severity] == word


async def test_a_title_without_end_is_cut_and_lines_are_joined(server, blind):
    await blind.page(replace(PAGE, title="a\nb " + "x" * 5000))

    assert server.incidents[0].title.startswith("INC-42 a b xxx")
    assert len(server.incidents[0].title) <= 1024


@pytest.mark.parametrize(
    "answer",
    [
        b'{"status": "success", "message": "Event processed", "dedup_key": "another"}',
        b'{"status": "success"}',
        b'{"status": "throttled", "dedup_key": "tocsin-iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"}',
    ],
)
async def test_any_other_answer_is_no_proof(server, pager, answer):
    server.fault("/v2/enqueue", status=202, body=answer)

    with pytest.raises(PermanentError, match="something else than its key"):
        await pager.page(PAGE)


# Faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
async def test_a_failure_of_theirs_is_tried_again_later_and_not_by_the_client(server, pager, status):
    server.fault("/v2/enqueue", status=status)

    with pytest.raises(TemporaryError, match=f"HTTP {status}"):
        await pager.page(PAGE)

    assert server.paths() == ["/v2/enqueue"]
    assert (await pager.page(PAGE)).outcome == "sent"


@pytest.mark.parametrize(
    ("headers", "after"),
    [({}, 60), ({"ratelimit-reset": "7"}, 7), ({"Retry-After": "9999"}, 300), ({"Retry-After": "soon"}, 60)],
)
async def test_a_429_says_when_to_come_back_and_nobody_sleeps_on_it(server, pager, headers, after):
    server.fault("/v2/enqueue", status=429, headers=headers)
    began = time.monotonic()

    with pytest.raises(TemporaryError, match="asks us to wait") as caught:
        await pager.page(PAGE)

    assert caught.value.after == after
    assert time.monotonic() - began < 1.0
    assert server.paths() == ["/v2/enqueue"]


async def test_a_lost_answer_is_for_now_and_the_next_try_finds_the_same_alert(server, pager):
    server.fault("/v2/enqueue", lost=True)

    with pytest.raises(TemporaryError, match="cannot be reached"):
        await pager.page(PAGE)
    await pager.page(PAGE)

    assert [incident.triggers for incident in server.incidents] == [2]


async def test_a_silent_pagerduty_is_given_up_on_in_time(server, blind):
    server.fault("/v2/enqueue", seconds=3)
    began = time.monotonic()

    with pytest.raises(TemporaryError, match=r"within 0\.5 s"):
        await blind.page(PAGE)
    assert time.monotonic() - began < 2.0


async def test_an_answer_without_end_neither_fills_the_memory_nor_lasts(server, pager):
    server.fault("/v2/enqueue", endless=True)

    with pytest.raises(TemporaryError, match="has no end"):
        await pager.page(PAGE)


async def test_nobody_there_is_for_now(server):
    away = PagerDuty(access(server, events_url="http://127.0.0.1:9"), seconds=2.0)
    with pytest.raises(TemporaryError, match="cannot be reached"):
        await away.page(PAGE)
    await away.close()


async def test_a_page_of_a_proxy_in_between_is_no_proof(server, pager):
    server.fault("/v2/enqueue", status=200, body=b"<html>please log in</html>")

    with pytest.raises(TemporaryError, match="something stand in between"):
        await pager.page(PAGE)


async def test_an_unknown_routing_key_is_refused_for_good_and_stays_secret(server):
    wrong = PagerDuty(access(server, routing_key=SecretStr("w" * 32)), seconds=2.0)
    with pytest.raises(PermanentError, match="Invalid routing key") as caught:
        await wrong.page(PAGE)
    await wrong.close()

    assert "www" not in str(caught.value)


async def test_a_401_for_an_event_is_not_blamed_on_the_token(server, pager):
    server.fault("/v2/enqueue", status=401, body=b'{"message": "go away"}')

    with pytest.raises(PermanentError, match=r"HTTP 401\): go away"):
        await pager.page(PAGE)


async def test_redirects_are_refused(server, pager):
    server.fault("/v2/enqueue", status=302, headers={"Location": "http://169.254.169.254/"})

    with pytest.raises(PermanentError, match="HTTP 302"):
        await pager.page(PAGE)


async def test_the_event_loop_goes_on_while_pagerduty_is_slow(server, pager):
    server.fault("/v2/enqueue", seconds=0.3)
    page = spawn(pager.page(PAGE), name="test")
    ticks = 0
    while not page.done():
        await asyncio.sleep(0.01)
        ticks += 1

    assert ticks > 10


async def test_calls_take_few_threads_and_wait_for_their_turn_no_longer_than_allowed(server):
    pager = PagerDuty(access(server, api_token=None, from_email=None), seconds=1.0)
    for _ in range(pagerduty.LINES):
        server.fault("/v2/enqueue", seconds=2)
    pages = [spawn(pager.page(replace(PAGE, dedup_key=f"k{n}")), name="test") for n in range(12)]
    results = await asyncio.gather(*pages, return_exceptions=True)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("pagerduty")]
    await pager.close()

    assert all(isinstance(result, TemporaryError) for result in results)
    assert len(server.paths()) <= 2 * pagerduty.LINES
    assert len(threads) <= 2 * pagerduty.LINES  # those of the test before may still be ending


# Acts -------------------------------------------------------------------------------------------------------------


async def test_a_page_of_a_run_carries_its_message(server, pager):
    assert isinstance(pager, Acts)

    result = await pager.act(act("page", OTHER_PAGE, message="Search needs you", named=True))

    assert (result.outcome, result.status, result.incident_id) == ("done", "triggered", "PINC1")
    assert result.proof == OTHER_PAGE.dedup_key
    assert server.incidents[0].title == "INC-42 Search needs you"


async def test_a_service_that_was_named_and_has_no_key_pages_nobody_else(server, pager):
    with pytest.raises(PermanentError, match=r"no routing key for 'billing'.*there is: search"):
        await pager.act(act("page", replace(PAGE, service="billing"), named=True))
    with pytest.raises(PermanentError, match="no routing key for 'billing'"):
        await pager.act(act("note", replace(PAGE, service="billing"), named=True, message="x"))
    assert server.incidents == []


@pytest.mark.parametrize(("kind", "status"), [("ack", "acknowledged"), ("resolve", "resolved")])
async def test_acknowledging_and_resolving_are_seen_to_have_happened(server, pager, kind, status):
    await pager.page(PAGE)
    server.lag = 1

    result = await pager.act(act(kind))

    assert (result.outcome, result.status, result.incident_id) == ("done", status, "PINC1")
    assert result.detail == f"PagerDuty's incident 1 is {status}"
    assert server.incidents[0].status == status


@pytest.mark.parametrize("kind", ["ack", "resolve"])
async def test_what_was_done_already_is_not_done_again(server, pager, kind):
    await pager.page(PAGE)
    await pager.act(act(kind))
    sent = len(server.paths())

    assert (await pager.act(act(kind))).detail.endswith("already")
    assert len(server.paths()) == sent


@pytest.mark.parametrize("kind", ["ack", "resolve"])
async def test_without_an_incident_there_is_nothing_to_move(server, pager, kind):
    with pytest.raises(PermanentError, match="no open incident for INC-42: nothing was"):
        await pager.act(act(kind))
    assert server.paths() == []


async def test_a_resolved_incident_is_not_acknowledged(server, pager):
    await pager.page(PAGE)
    await pager.act(act("resolve"))

    with pytest.raises(PermanentError, match="no open incident"):
        await pager.act(act("ack"))


async def test_without_the_rest_api_an_act_is_a_wish_that_was_taken(server, blind):
    await blind.page(PAGE)
    result = await blind.act(act("ack"))

    assert (result.outcome, result.status, result.incident_id) == ("done", "accepted", None)
    assert "took the wish" in result.detail
    assert server.incidents[0].status == "acknowledged"


@pytest.mark.parametrize("kind", ["escalate", "note", "add_responder"])
async def test_what_needs_the_rest_api_says_so(server, blind, kind):
    with pytest.raises(PermanentError, match=r"set pagerduty\.api_token"):
        await blind.act(act(kind, message="x", user="bob@example.com"))


async def test_a_note_is_written_once_under_its_key(server, pager):
    await pager.page(PAGE)
    first = await pager.act(act("note", message="Rolled back"))
    again = await pager.act(act("note", message="Rolled back"))
    other = await pager.act(act("note", message="Rolled back", key="run:2:step"))

    notes = [note["content"] for note in server.incidents[0].notes]
    assert notes == ["Rolled back\n\n[run:1:step]", "Rolled back\n\n[run:2:step]"]
    assert (first.proof, again.proof, other.proof) == ("PNOTE1", "PNOTE1", "PNOTE2")


async def test_escalating_wakes_the_next_level(server, pager):
    await pager.page(PAGE)

    result = await pager.act(act("escalate", message="No answer for ten minutes"))

    assert server.incidents[0].level == 2
    assert result.detail == "PagerDuty's incident 1 is escalated to level 2, with bob@example.com"
    assert server.incidents[0].notes[0]["content"].startswith("Escalating to level 2. No answer for ten minutes")


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_escalating_again_after_a_lost_answer_goes_no_further(server, pager, method):
    await pager.page(PAGE)
    server.fault("/incidents/PINC1", method=method, lost=True)

    with pytest.raises(TemporaryError):
        await pager.act(act("escalate"))
    again = await pager.act(act("escalate"))
    once_more = await pager.act(act("escalate"))
    further = await pager.act(act("escalate", key="run:1:later"))

    assert "level 2" in again.detail
    assert "level 2" in once_more.detail
    assert "level 3" in further.detail
    assert len(server.incidents[0].notes) == 2


async def test_nobody_is_above_the_last_level(server, pager):
    await pager.page(PAGE)
    server.incidents[0].level = 3

    with pytest.raises(PermanentError, match=r"last level .* with carol@example\.com; nobody is above it"):
        await pager.act(act("escalate"))
    assert server.incidents[0].notes == []


@pytest.mark.parametrize("user", ["BOB@example.com", "PBOB"])
async def test_a_responder_is_asked_once(server, pager, user):
    await pager.page(PAGE)
    first = await pager.act(act("add_responder", user=user, message="Please look at the replica"))
    again = await pager.act(act("add_responder", user=user))

    (responder,) = server.incidents[0].responders
    assert (responder["user"]["id"], responder["message"]) == ("PBOB", "Please look at the replica")
    assert (first.outcome, first.incident_id) == ("done", "PINC1")
    assert again.detail.endswith("already")


@pytest.mark.parametrize(
    ("user", "message"),
    [("nobody@example.com", "no user with the address"), ("U012ABC", "is no user of"), ("P/../x", "is no user of")],
)
async def test_a_stranger_cannot_be_asked(server, pager, user, message):
    await pager.page(PAGE)

    with pytest.raises(PermanentError, match=message):
        await pager.act(act("add_responder", user=user))
    assert server.incidents[0].responders == []


async def test_a_change_event_is_sent_and_wakes_nobody(server, pager):
    result = await pager.act(act("change_event", message="Rolled back checkout to 1.2"))

    (change,) = server.changes
    assert change["payload"]["summary"] == "Rolled back checkout to 1.2"
    assert (result.outcome, result.status, result.proof) == ("done", "accepted", "Change event processed")
    assert server.incidents == []


async def test_a_token_that_was_revoked_says_what_to_do(server, pager):
    await pager.page(PAGE)
    server.token = "another"

    with pytest.raises(PermanentError, match="api_token is not valid") as caught:
        await pager.act(act("note", message="x"))
    assert "tttt" not in str(caught.value)


async def test_a_token_that_may_only_read_says_so(server, pager):
    await pager.page(PAGE)
    server.read_only = True

    with pytest.raises(PermanentError, match=r"Access Denied; the token may only read"):
        await pager.act(act("note", message="x"))


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"notes": null}', b'{"incidents": [null, 3, {"id": "P1"}]}', b"\xff"])
async def test_odd_answers_of_the_rest_api_end_in_a_word(server, pager, body):
    await pager.page(PAGE)
    server.fault("/incidents", status=200, body=body)

    with pytest.raises((TemporaryError, PermanentError)):
        await pager.act(act("note", message="x"))


async def test_a_service_with_a_name_without_end_is_refused(server, pager):
    with pytest.raises(PermanentError, match="too long"):
        await pager.act(act("page", replace(PAGE, dedup_key="x" * 300)))


def test_without_its_section_it_says_what_is_missing():
    with pytest.raises(UserError, match=r"tocsin\.yaml: the pager 'pagerduty' needs a section pagerduty"):
        pagerduty.make(Config())


# How the incident goes on -----------------------------------------------------------------------------------------


async def test_a_severity_is_a_note_and_the_priority_that_is_called_alike_once(server, pager):
    await pager.page(PAGE)
    for _ in range(2):
        result = await pager.act(act("severity", message="Severity SEV2 → SEV1"))

    (incident,) = server.incidents
    assert server.priorities[incident.priority] == "P1"
    assert [note["content"] for note in incident.notes] == ["Severity SEV2 → SEV1\n\n[run:1:step]"]
    assert server.paths("PUT") == ["/incidents/PINC1"]
    assert result.detail == "PagerDuty's incident 1 was told of the severity"
    assert server.refused == []


async def test_without_a_priority_called_alike_the_note_is_all(server, pager):
    server.priorities = {"PX": "Urgent"}
    await pager.page(PAGE)
    await pager.act(act("severity", message="worse"))

    assert (server.incidents[0].priority, len(server.incidents[0].notes)) == (None, 1)


async def test_without_the_rest_api_the_open_alert_takes_note_of_the_severity_and_wakes_nobody(server, blind):
    await blind.page(PAGE)
    await blind.act(act("severity", message="worse"))

    assert [(one.triggers, one.status) for one in server.incidents] == [(2, "triggered")]
    assert blind.follows == {"severity"}


async def test_a_status_update_is_told_to_those_who_follow(server, pager):
    await pager.page(PAGE)
    result = await pager.act(act("status_update", message="Status monitoring"))

    assert server.incidents[0].updates == ["Status monitoring"]
    assert result.proof == "PUPDATE1"
    assert "status_update" in pager.follows


@pytest.mark.parametrize("name", ["Database", "database", "PDATABASE"])
async def test_a_policy_is_asked_to_join_by_name_or_id_once(server, pager, name):
    await pager.page(PAGE)
    for _ in range(2):
        await pager.act(act("add_responder", user=f"policy:{name}"))

    (asked,) = server.incidents[0].responders
    assert asked["escalation_policy"]["id"] == "PDATABASE"


async def test_a_policy_that_does_not_exist_is_said(server, pager):
    await pager.page(PAGE)
    with pytest.raises(PermanentError, match="no escalation policy called 'Data'"):
        await pager.act(act("add_responder", user="policy:Data"))


def costs() -> dict[str, tuple[str, str]]:
    """How many requests each act makes, as the page about paging says: with the REST API, and without."""
    text = (Path(__file__).parents[2] / "docs/paging.md").read_text()
    table = text.split("## What it costs")[1].split("## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and "api_token" not in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: (row[1], row[2]) for row in rows}


@pytest.mark.parametrize("kind", list(costs()))
async def test_an_act_costs_as_many_requests_as_the_page_says(server, pager, blind, kind):
    user = {"user": "bob@example.com"} if kind == "add_responder" else {}
    for used, many in zip((pager, blind), costs()[kind], strict=True):
        if kind != "page":
            await used.page(PAGE)
        server.seen.clear()
        if many:
            await used.act(act(kind, message="" if kind in ("ack", "resolve", "page") else "x", **user))
            assert len(server.seen) == int(many), server.seen
        server.incidents.clear()


# How a page stands, and what is told of it ------------------------------------------------------------------------


async def test_a_page_can_be_looked_at_until_its_end(server, pager):
    assert await pager.look(PAGE) is None
    result = await pager.page(PAGE)
    assert (result.seen.external_id, result.seen.assigned) == ("PINC1", "alice@example.com")
    assert result.seen.url == "https://example.pagerduty.com/incidents/PINC1"
    server.acknowledge(server.incidents[0], "PBOB")

    seen = await pager.look(replace(PAGE, external_id="PINC1"))
    assert (seen.status, seen.by) == ("acknowledged", "bob@example.com")
    assert server.paths("GET")[-1] == "/incidents/PINC1"


async def test_what_is_seen_depends_on_what_is_set(server, pager, blind):
    told = PagerDuty(access(server, api_token=None, from_email=None, webhook_secrets=(SecretStr("w" * 20),)))
    assert (pager.sees, blind.sees, told.sees) == (True, False, True)
    assert await blind.look(PAGE) is None
    await told.close()


async def heard(server, pager, do) -> list:
    """The words of everything that is told while *do* is done."""
    before = len(server.sent)
    found = do()
    if asyncio.iscoroutine(found):
        await found
    return [await pager.word({"event": event}) for event in server.sent[before:]]


async def test_what_people_do_there_is_a_word_with_who_and_whose_address(server, pager):
    await pager.page(PAGE)
    (incident,) = server.incidents
    (word,) = await heard(server, pager, lambda: server.acknowledge(incident, "PALICE"))

    assert (word.said, word.by, word.address, word.ours) == ("acknowledged", "Alice", "alice@example.com", False)
    assert (word.dedup_key, word.external_id, word.assigned) == (PAGE.dedup_key, "PINC1", "Alice")
    await heard(server, pager, lambda: server.resolve(incident, "PALICE"))
    assert server.paths("GET").count("/users/PALICE") == 1


async def test_without_the_rest_api_a_name_is_all_that_is_known(server, blind):
    await blind.page(PAGE)
    (word,) = await heard(server, blind, lambda: server.acknowledge(server.incidents[0], "PALICE"))

    assert (word.by, word.address) == ("Alice", None)


async def test_an_address_that_cannot_be_had_now_is_no_reason_to_miss_the_word(server, pager):
    await pager.page(PAGE)
    server.fault("/users/", status=503)
    (word,) = await heard(server, pager, lambda: server.acknowledge(server.incidents[0], "PALICE"))

    assert (word.said, word.address) == ("acknowledged", None)


@pytest.mark.parametrize(
    "do",
    [act("page"), act("ack"), act("resolve"), act("escalate"), act("note", message="x"), act("severity", message="x")],
    ids=lambda action: action.kind,
)
async def test_everything_that_comes_back_of_our_own_doing_is_known_as_ours(server, pager, do):
    await pager.page(PAGE) if do.kind != "page" else None
    words = await heard(server, pager, lambda: pager.act(do))

    assert words
    assert all(word.ours for word in words), words


async def test_what_others_raise_is_not_ours(server, pager):
    (word,) = await heard(server, pager, lambda: server.raised("Disk") and None)

    assert (word.said, word.dedup_key, word.ours) == ("triggered", "foreign-1", False)


@pytest.mark.parametrize(
    "event",
    [
        {"id": "1", "event_type": "pagey.ping", "data": {"message": "Hello", "type": "ping"}},
        {"id": "1", "event_type": "service.updated", "data": {"id": "P1", "type": "service"}},
        {"id": "1", "event_type": "incident.role.assigned", "data": {"type": "incident_role_assignment"}},
    ],
    ids=["ping", "service", "role"],
)
async def test_what_is_about_no_incident_of_ours_is_no_word(blind, event):
    assert await blind.word({"event": event}) is None


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["id", "type", "summary", "incident", "incident_key", "html_url", "assignees", "user", "content", "state"]
    ), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from([*pagerduty.SAID, "incident.other", "x"]),
    at=st.sampled_from(["2026-01-01T00:00:00Z", "soon", "", None]),
    agent=JSONS, client=JSONS, data=JSONS,
)  # fmt: skip
def test_no_event_makes_it_fail_in_any_other_way(kind, at, agent, client, data):
    made = PagerDuty(PagerDutyAccess(KEY, {}, None, None, "http://127.0.0.1:9", "http://127.0.0.1:9"))
    event = {"id": "E", "event_type": kind, "occurred_at": at, "agent": agent, "client": client, "data": data}
    try:
        word = asyncio.run(made.word({"event": event}))
    except PermanentError:
        return
    assert word is None or (len(word.text) <= 2000 and word.external_id)
