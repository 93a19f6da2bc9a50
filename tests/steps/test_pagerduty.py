"""The pagerduty step: what it asks of the pager, and how patient it is."""

import asyncio
import time

import pytest

from bot.incidents.pager import ActResult
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.runbook import LintError, load
from bot.runs.step import Cancelled
from bot.steps import pagerduty as step

DONE = ActResult("done", "PagerDuty's incident 7 is acknowledged", "acknowledged", "PINC7", "PINC7")


class Pages:
    """Answers with what it is given, then that it is done; keeps what it was asked."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.asked: list[dict] = []
        self.given_up: list[dict] = []

    async def missed(self, **about) -> None:
        self.given_up.append(about)

    async def act(self, kind: str, **more) -> ActResult:
        self.asked.append({"kind": kind, **more})
        answer = self.answers.pop(0) if self.answers else DONE
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return DONE
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_it_is_asked_under_the_key_of_the_step_and_says_what_came_of_it(run):
    pages = Pages()
    raw = {"action": "note", "service": "{{ params.s }}", "message": "Rolled back {{ alert.title }}"}

    values = {"params": {"s": "search"}, "alert": {"title": "<x>"}}
    result = await run(step, raw, run_id="run1", pager=pages, values=values)

    assert pages.asked == [
        {"kind": "note", "key": "run:run1:step", "service": "search", "message": "Rolled back <x>", "user": None}
    ]
    assert result.ok
    assert result.summary == DONE.detail
    assert result.values == {"incident_id": "PINC7", "status": "acknowledged"}


async def test_nobody_woken_is_no_success(run):
    result = await run(step, {"action": "page"}, pager=Pages(ActResult("nobody", "Nobody was paged")))

    assert not result.ok
    assert result.values == {"incident_id": None, "status": "nobody"}


async def test_a_pager_that_is_away_is_asked_again_while_there_is_time(run, bench):
    pages = Pages(TemporaryError("PagerDuty asks us to wait", after=0.1), TemporaryError("away", after=0.1))
    began = time.monotonic()

    assert (await run(step, {"action": "page"}, pager=pages)).ok

    assert len(pages.asked) == 3
    assert len({asked["key"] for asked in pages.asked}) == 1
    assert time.monotonic() - began >= 2 * step.SHORTEST_WAIT
    assert bench.said == ["PagerDuty asks us to wait; trying again in 1 s", "away; trying again in 1 s"]


async def test_a_wait_that_is_too_long_for_the_step_is_not_begun(run):
    with pytest.raises(TemporaryError, match="away") as caught:
        await run(step, {"action": "page"}, pager=Pages(TemporaryError("away", after=60)), timeout=5.0)
    assert caught.value.after == 60


async def test_a_change_event_is_not_sent_twice_by_itself(run):
    pages = Pages(TemporaryError("lost", after=0.1))
    with pytest.raises(TemporaryError):
        await run(step, {"action": "change_event", "message": "x"}, pager=pages)
    assert len(pages.asked) == 1


async def test_a_refusal_is_final(run):
    pages = Pages(PermanentError("nothing was acknowledged"))
    with pytest.raises(PermanentError, match="nothing was"):
        await run(step, {"action": "ack"}, pager=pages)
    assert len(pages.asked) == 1


async def test_no_answer_ends_with_the_time_of_the_step(run):
    with pytest.raises(TemporaryError, match=r"within 0\.1 s"):
        await run(step, {"action": "page"}, pager=Pages(30.0), timeout=0.1)


@pytest.mark.parametrize("answer", [30.0, TemporaryError("away", after=5)])
async def test_cancelling_ends_it_at_once(run, answer):
    cancelled = asyncio.Event()
    task = spawn(run(step, {"action": "page"}, pager=Pages(answer), cancelled=cancelled, timeout=60.0), name="test")
    await asyncio.sleep(0.05)
    began = time.monotonic()
    cancelled.set()

    with pytest.raises(Cancelled):
        await task
    assert time.monotonic() - began < 1


async def test_secrets_do_not_reach_the_pager(run):
    pages = Pages()
    await run(step, {"action": "note", "message": "it was hunter22"}, pager=pages, secrets={"T": "hunter22"})

    assert pages.asked[0]["message"] == f"it was {MASK}"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"action": "call"}, "action: must be"),
        ({"action": "note"}, "a note needs a message"),
        ({"action": "change_event"}, "a change_event needs a message"),
        ({"action": "resolve", "message": "x"}, "resolve takes no message"),
        ({"action": "add_responder"}, "user goes with add_responder"),
        ({"action": "page", "user": "bob@example.com"}, "user goes with add_responder"),
        ({"action": "page", "service": ""}, "service"),
        ({"action": "page", "message": ""}, "message"),
    ],
)
async def test_what_does_not_fit_is_refused(run, raw, told):
    pages = Pages()
    with pytest.raises(PermanentError, match=told):
        await run(step, raw, pager=pages)
    assert pages.asked == []


async def test_where_there_is_no_pager_it_says_so(run):
    with pytest.raises(PermanentError, match="no pager here"):
        await run(step, {"action": "page"})


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"action": "page"}, "would page the service of the incident"),
        ({"action": "ack", "service": "search"}, "would acknowledge the page of search"),
        (
            {"action": "add_responder", "user": "bob@example.com", "message": "help"},
            "would ask a responder to join the service of the incident (bob@example.com): help",
        ),
    ],
)
def test_the_preview_says_who_would_be_asked_what(raw, told):
    assert step.preview(step.Params.model_validate(raw)) == told


def test_the_message_may_quote_the_alert_and_the_service_may_not():
    shelf = Shelf("bot.steps", must_have=("Params", "run")).load()
    head = "version: 1\nid: demo\nname: x\nowner: x\nsteps:\n"

    assert load(head + "  - pagerduty: {action: note, message: '{{ alert.title }}'}\n", "demo.yaml", shelf)
    with pytest.raises(LintError, match="not allowed here"):
        load(head + "  - pagerduty: {action: page, service: '{{ alert.labels.x }}'}\n", "demo.yaml", shelf)


@pytest.mark.parametrize(("answer", "told"), [(30.0, "within 0.1 s"), (TemporaryError("away", after=60), "away")])
async def test_a_page_that_does_not_go_through_in_time_is_not_passed_over(run, answer, told):
    pages = Pages(answer)

    with pytest.raises(TemporaryError, match=told):
        await run(step, {"action": "page", "service": "search"}, run_id="run1", pager=pages, timeout=0.1)

    (missed,) = pages.given_up
    assert (missed["key"], missed["service"]) == ("run:run1:step", "search")
    assert told in missed["why"]


async def test_what_wakes_nobody_may_fail_quietly(run):
    pages = Pages(TemporaryError("away", after=60))

    with pytest.raises(TemporaryError):
        await run(step, {"action": "note", "message": "x"}, pager=pages, timeout=0.1)

    assert pages.given_up == []
