"""The kestra step against a strict local one: what it starts and how often, what it follows, and what it kills."""

import asyncio
import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalog.targets import Connection, Reach, Targets
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.step import Cancelled, prepare
from bot.steps import kestra as step
from tests.fakes.kestra import Flow, KestraServer

PASSWORD = "kestra-password"
RAW = {"namespace": "ops", "flow": "restart"}


@pytest.fixture
async def server():
    made = await KestraServer().start()
    yield made
    await made.stop()


def reach(server: KestraServer, path: str = "", **more) -> Reach:
    connection = Connection.model_validate(
        {
            "kind": "kestra",
            "url": server.url + path,
            "private": True,
            "username": "bot@example.com",
            "password": {"env": "KESTRA_PASSWORD"},
            **more,
        }
    )
    return Reach(
        Targets(connections={"kestra": connection}),
        environment={"KESTRA_PASSWORD": PASSWORD, "KESTRA_TOKEN": "kestra-token-123"},
    )


@pytest.fixture
def go(run, server):
    async def carry_out(raw=None, **more):
        return await run(step, {**RAW, **(raw or {})}, **{"reach": reach(server), "timeout": 6.0, **more})

    return carry_out


def labels(execution) -> dict[str, str]:
    return {label["key"]: label["value"] for label in execution.labels}


# Starting ---------------------------------------------------------------------------------------------------------


async def test_a_flow_is_started_with_its_inputs_and_followed_to_its_end(server, go, bench):
    server.flows["ops/restart"] = Flow(
        inputs={"host": "STRING", "n": "INT", "force": "BOOLEAN", "tags": "ARRAY", "about": "JSON"},
        outputs={"restarted": 3, "token": "abc"},
        logs=["INFO stopping", "INFO starting", "WARN slow", "INFO done"],
    )
    raw = {
        "inputs": {
            "host": "{{ params.host }}",
            "n": 3,
            "force": True,
            "tags": ["a", "ü"],
            "about": {"a": 1},
            "absent": None,
        },
        "labels": {"team": "{{ params.team }}"},
    }

    values = {"params": {"host": 'web-1"\r\n--x\r\n', "team": "platform team"}}
    result = await go(raw, run_id="run1", values=values)

    (execution,) = server.executions
    assert server.refused == []
    assert execution.inputs == {
        "host": 'web-1"\r\n--x\r\n',
        "n": "3",
        "force": "true",
        "tags": '["a", "ü"]',
        "about": '{"a": 1}',
    }
    assert labels(execution)["team"] == "platform team"
    assert {"tocsin_run": "run1", "tocsin_attempt": "1"}.items() <= labels(execution).items()
    assert result.ok
    assert result.summary == f"SUCCESS {server.url}/ui/main/executions/ops/restart/exec1"
    assert result.values == {
        "state": "SUCCESS",
        "execution_id": "exec1",
        "outputs": {"restarted": 3, "token": MASK},
        "link": f"{server.url}/ui/main/executions/ops/restart/exec1",
    }
    assert bench.said[0].startswith("CREATED http")
    assert "task: stopping" in bench.said
    assert "task: WARN slow" in bench.said
    assert bench.said.count("task: starting") == 1
    assert result.output.splitlines()[-1] == "task: done"


async def test_without_inputs_nothing_is_sent(server, go):
    assert (await go()).ok
    assert server.executions[0].inputs == {}


async def test_without_waiting_it_only_begins(server, go):
    result = await go({"wait": False})

    assert result.ok
    assert result.values["state"] == "CREATED"
    assert server.made("GET") == ["/executions/search"]


async def test_a_new_execution_that_does_not_show_yet_is_waited_for(server, go):
    server.lag = 3
    assert (await go()).ok


async def test_an_execution_that_never_shows_is_lost(server, go):
    server.lag = 10_000
    with pytest.raises(PermanentError, match="has lost the execution exec1"):
        await go()


async def test_the_link_is_the_one_that_kestra_tells(server, go):
    server.url_of_answers = "https://kestra.example.com/ui/main/executions/ops/restart/exec1"

    begun, ended = await go({"wait": False}), await go({"labels": {"a": "b"}}, run_id="run2")

    assert begun.values["link"] == ended.values["link"] == server.url_of_answers


@pytest.mark.parametrize("told", ["javascript:alert(1)", "https://x.example/<!channel>", "/ui/main"])
async def test_a_link_that_is_none_is_made_here(server, go, told):
    server.url_of_answers = told

    assert (await go({"wait": False})).values["link"] == f"{server.url}/ui/main/executions/ops/restart/exec1"


@pytest.mark.parametrize(
    ("api", "path", "link"),
    [
        ("/api/v1/main", "", "/ui/main/executions"),
        ("/api/v1/acme", "/api/v1/acme/", "/ui/acme/executions"),
        ("/api/v1", "/api/v1", "/ui/executions"),
        ("/kestra/api/v1/main", "/kestra", "/kestra/ui/main/executions"),
    ],
)
async def test_the_url_says_where_the_api_is_and_whose(run, api, path, link):
    server = await KestraServer(api).start()
    url = server.url
    result = await run(step, RAW, reach=reach(server, path), timeout=6.0)
    await server.stop()

    assert result.ok
    assert result.values["link"] == f"{url}{link}/ops/restart/exec1"


async def test_a_token_is_sent_as_one(server, run):
    server.authorization = "Bearer kestra-token-123"
    known = reach(server, username=None, password=None, token={"env": "KESTRA_TOKEN"})

    assert (await run(step, RAW, reach=known, timeout=6.0)).ok


# Ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "ok"),
    [
        ("SUCCESS", True),
        ("WARNING", True),
        ("FAILED", False),
        ("KILLED", False),
        ("CANCELLED", False),
        ("RETRIED", False),
    ],
)
async def test_how_it_ended_decides(server, go, state, ok):
    server.flows["ops/restart"] = Flow(states=("CREATED", "RUNNING", state), logs=["INFO a", "ERROR it broke"])

    result = await go()

    assert result.ok is ok
    assert result.summary.startswith(state)
    assert result.output.endswith("task: ERROR it broke")


async def test_which_ends_are_good_can_be_said(server, go):
    server.flows["ops/restart"] = Flow(states=("CREATED", "WARNING"))

    assert not (await go({"ok_states": ["SUCCESS"]})).ok


async def test_a_pause_is_told_and_waited_through(server, go, bench):
    server.flows["ops/restart"] = Flow(states=("CREATED", "PAUSED", "RUNNING", "SUCCESS"))
    task = spawn(go(), name="test")
    while not any(line.startswith("PAUSED: it waits for somebody in Kestra http") for line in bench.said):
        await asyncio.sleep(0.02)
    server.executions[0].states.pop(0)

    assert (await task).ok


async def test_outputs_without_end_are_left_out(server, go):
    server.flows["ops/restart"] = Flow(outputs={"x": "y" * 100_000})

    result = await go()

    assert result.values["outputs"] == {}
    assert "larger than 64 kB" in result.summary


async def test_a_log_without_end_is_not_shown_and_stops_nothing(server, go, bench):
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 4 + ["SUCCESS"], logs=["INFO " + "x" * 300_000] * 8)

    assert (await go()).ok
    assert bench.said.count("its log is too long to be shown here") == 1


async def test_kestra_being_away_for_a_while_does_not_lose_the_execution(server, go, bench):
    server.flows["ops/restart"] = Flow(states=["CREATED", "RUNNING", "RUNNING", "SUCCESS"])
    for _ in range(2):
        server.fault("GET", r"/executions/exec1$", status=503)
    server.fault("GET", r"/executions/exec1$", lost=True)
    server.fault("GET", r"/logs/", status=500)

    assert (await go()).ok
    assert len(server.executions) == 1
    assert len([line for line in bench.said if "answered 503" in line]) == 1


# Cancelled, or out of time ----------------------------------------------------------------------------------------


async def test_cancelling_kills_it(server, go):
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 1000)
    cancelled = asyncio.Event()
    task = spawn(go(cancelled=cancelled), name="test")
    await server.started.wait()
    await asyncio.sleep(0.2)
    cancelled.set()

    with pytest.raises(Cancelled, match="killed in Kestra"):
        await task
    assert server.executions[0].state == "KILLED"


async def test_cancelling_while_it_is_being_started_kills_it_as_well(server, go):
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 1000)
    server.fault("POST", "/executions/ops/restart", lost=True)
    cancelled = asyncio.Event()

    async def cancel() -> None:
        await server.started.wait()
        cancelled.set()

    spawn(cancel(), name="test")
    with pytest.raises(Cancelled):
        await go(cancelled=cancelled)
    assert server.executions[0].state in ("KILLING", "KILLED")


async def test_when_the_time_is_over_it_is_killed(server, go):
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 1000)
    began = time.monotonic()

    result = await go(timeout=1.0)

    assert not result.ok
    assert result.summary.startswith("took longer than 1 s; killed in Kestra")
    assert server.executions[0].state == "KILLED"
    assert time.monotonic() - began < 10


async def test_what_does_not_obey_is_told(server, go):
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 1000)
    server.stubborn = True
    began = time.monotonic()

    result = await go(timeout=0.5)

    assert "Kestra was asked to kill it: http" in result.summary
    assert time.monotonic() - began < 0.5 + step.KILL_SECONDS + step.KILLED_SECONDS + 3


async def test_what_cannot_be_killed_is_told(server, go):
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 1000)
    server.fault("DELETE", "/kill", status=500, body=b'{"message": "queue is full"}')

    assert "could not be killed in Kestra (kestra answered 500: queue is full)" in (await go(timeout=0.5)).summary


# Once and no more -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filters", [True, False])
async def test_after_a_crash_it_goes_on_with_what_it_started(run, bench, filters):
    server = await KestraServer(filters=filters).start()
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 3 + ["SUCCESS"])
    first = spawn(run(step, RAW, reach=reach(server), timeout=6.0), name="test")
    await server.started.wait()
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)

    same = await run(step, RAW, reach=reach(server), timeout=6.0)
    later = await run(step, RAW, reach=reach(server), timeout=6.0, attempt=2)
    await server.stop()

    assert (same.values["execution_id"], later.values["execution_id"]) == ("exec1", "exec1")
    assert len(server.executions) == 1
    assert any("goes on with the execution exec1" in line for line in bench.said)


async def test_a_lost_answer_starts_nothing_twice(server, go, bench):
    server.fault("POST", "/executions/ops/restart", lost=True)

    result = await go()

    assert result.ok
    assert len(server.executions) == 1
    assert any("and yet it was started" in line for line in bench.said)


async def test_a_try_that_started_nothing_is_for_now(server, go):
    server.fault("POST", "/executions/ops/restart", status=503, headers={"Retry-After": "7"})

    with pytest.raises(TemporaryError, match="kestra answered 503") as caught:
        await go()
    assert caught.value.after == 7
    assert server.executions == []


async def test_a_failed_execution_is_not_the_one_of_the_next_attempt(server, go):
    server.flows["ops/restart"] = Flow(states=("FAILED",))
    assert not (await go()).ok
    assert not (await go()).ok
    server.flows["ops/restart"] = Flow(states=("SUCCESS",))

    assert (await go(attempt=2)).ok
    assert len(server.executions) == 2


async def test_another_step_and_another_run_start_their_own(server, go):
    await go()
    await go(step_key="other/1")
    await go(run_id="run2")

    assert len(server.executions) == 3


async def test_an_answer_that_ignores_what_was_asked_for_is_seen_through(server, go):
    await go(run_id="somebody-else")
    server.filters = None

    await go()

    assert len(server.executions) == 2


# Resuming and killing ---------------------------------------------------------------------------------------------


async def test_a_paused_execution_is_resumed_with_inputs_and_followed(server, go):
    server.flows["ops/restart"] = Flow(states=("PAUSED", "RUNNING", "SUCCESS"))
    began = await go({"wait": False})
    raw = {
        "action": "resume",
        "execution": "{{ params.e }}",
        "inputs": {"approved": True},
        "namespace": None,
        "flow": None,
    }

    result = await go(raw, values={"params": {"e": began.values["execution_id"]}})

    assert result.ok
    assert server.executions[0].resumed == [{"approved": "true"}]


RESUME = {"action": "resume", "execution": "exec1"}


async def test_what_is_not_paused_is_not_resumed_unless_a_try_before_did_it(server, run, go):
    await go({"wait": False})

    with pytest.raises(PermanentError, match="not PAUSED: nothing to resume"):
        await run(step, RESUME, reach=reach(server), timeout=6.0)
    assert (await run(step, RESUME, reach=reach(server), timeout=6.0, attempt=2)).ok


async def test_an_execution_is_killed(server, run, go):
    server.flows["ops/restart"] = Flow(states=["RUNNING"] * 1000)
    await go({"wait": False})

    result = await run(step, {"action": "kill", "execution": "exec1"}, reach=reach(server), timeout=6.0)
    again = await run(step, {"action": "kill", "execution": "exec1"}, reach=reach(server), timeout=6.0)

    assert result.ok
    assert result.values["state"] == "KILLED"
    assert again.ok
    assert len(server.made("DELETE")) == 1


async def test_what_is_not_there_cannot_be_killed(server, run):
    with pytest.raises(PermanentError, match="does not know /executions/none"):
        await run(step, {"action": "kill", "execution": "none"}, reach=reach(server), timeout=6.0)


async def test_cancelling_a_resume_leaves_what_others_started(server, run, go):
    server.flows["ops/restart"] = Flow(states=["PAUSED", *["RUNNING"] * 1000])
    await go({"wait": False})
    cancelled = asyncio.Event()
    task = spawn(run(step, RESUME, reach=reach(server), timeout=6.0, cancelled=cancelled), name="test")
    while not server.executions[0].resumed:
        await asyncio.sleep(0.02)
    cancelled.set()

    with pytest.raises(Cancelled):
        await task
    assert not server.executions[0].killed


# Refusals ---------------------------------------------------------------------------------------------------------


async def test_wrong_inputs_are_told_in_kestras_words(server, go):
    server.flows["ops/restart"] = Flow(inputs={"n": "INT"})

    with pytest.raises(PermanentError, match="Invalid input for `n`, expected `INT`"):
        await go({"inputs": {"n": "many"}})
    assert server.executions == []


async def test_an_unknown_flow_says_what_to_check(server, go):
    with pytest.raises(PermanentError, match=r"does not know /executions/ops/nope.*check the names"):
        await go({"flow": "nope"})


async def test_a_disabled_flow_is_refused(server, go):
    server.flows["ops/restart"] = Flow(disabled=True)
    with pytest.raises(PermanentError, match=r"\(409\): Illegal state: Cannot execute a disabled flow"):
        await go()


async def test_refused_credentials_say_where_they_are(server, run):
    known = reach(server, password={"env": "KESTRA_TOKEN"})
    with pytest.raises(PermanentError, match=r"does not let us in \(401\); check its credentials in targets\.yaml"):
        await run(step, RAW, reach=known)


async def test_a_connection_of_another_kind_or_none_is_refused(server, run):
    with pytest.raises(PermanentError, match="this step needs kestra"):
        await run(step, RAW, reach=reach(server, kind="http"))
    with pytest.raises(PermanentError, match="no connection 'kestra2'; did you mean kestra"):
        await run(step, {**RAW, "connection": "kestra2"}, reach=reach(server))


async def test_a_private_address_needs_to_be_allowed(server, run):
    with pytest.raises(PermanentError, match="not a public address"):
        await run(step, RAW, reach=reach(server, private=False))
    assert server.seen == []


@pytest.mark.parametrize("body", [b"[]", b"{}", b"<html>", b'{"id": 3}', b'{"results": [null, 3, {"id": null}]}'])
async def test_odd_answers_end_in_a_word(server, go, body):
    server.fault("GET", "/search", status=200, body=body)
    server.fault("POST", "/executions/ops/restart", status=200, body=body)

    with pytest.raises(PermanentError, match="not one of Kestra's"):
        await go()


async def test_the_password_is_seen_nowhere(server, go, bench):
    pair = base64.b64encode(f"bot@example.com:{PASSWORD}".encode()).decode()
    server.flows["ops/restart"] = Flow(outputs={"said": f"{PASSWORD} {pair}"}, logs=[f"INFO {PASSWORD}"] * 2)

    result = await go()

    told = repr((result, bench.said))
    assert PASSWORD not in told
    assert pair not in told
    assert MASK in told


async def test_a_redirect_is_not_followed(server, go):
    server.fault("GET", "/search", status=302, headers={"Location": "http://169.254.169.254/"})

    with pytest.raises(PermanentError, match="sends us elsewhere"):
        await go()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"flow": None}, "name its namespace and flow"),
        ({"execution": "x"}, "and no execution"),
        ({"action": "kill"}, "to kill an execution name it"),
        ({"action": "resume", "execution": "x"}, "neither namespace, flow nor labels"),
        ({"flow": "a/b"}, "not a name of Kestra's"),
        ({"flow": "../flows"}, "not a name of Kestra's"),
        ({"inputs": {'a"\r\n': 1}}, "cannot be the name of an input"),
        ({"labels": {"system.correlationId": "x"}}, "are taken"),
        ({"labels": {"tocsin_run": "x"}}, "are taken"),
        ({"labels": {"a b": "x"}}, "cannot be the name of a label"),
        ({"labels": {"a": "b:c"}}, "no colon"),
        ({"labels": {"a": " "}}, "no colon"),
        ({"ok_states": ["DONE"]}, "ok_states"),
        ({"ok_states": []}, "must not be empty"),
        ({"action": "stop"}, "action: must be"),
    ],
)
async def test_what_does_not_fit_is_refused(server, go, raw, told):
    with pytest.raises(PermanentError, match=told):
        await go(raw)
    assert server.seen == []


@pytest.mark.parametrize("value", ["../../flows", "a/b", "a?x=1", "", "a\nb", "%2e%2e"])
async def test_a_name_that_was_filled_in_cannot_lead_elsewhere(server, go, value):
    with pytest.raises(PermanentError, match="not a name of Kestra's"):
        await go({"flow": "{{ params.f }}"}, values={"params": {"f": value}})
    assert [path for path in server.made("POST") if path != "/executions/ops/restart"] == []
    assert server.executions == []


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), st.text(), min_size=1))
def test_a_form_holds_whatever_values_there_are(inputs):
    kind, body = step._form({name: value.encode("utf-8", "replace").decode() for name, value in inputs.items()})

    border = kind.partition("boundary=")[2].encode()
    assert body.count(border) == len(inputs) + 1
    assert body.endswith(b"--" + border + b"--\r\n")


# Looking only -----------------------------------------------------------------------------------------------------


async def test_a_dry_run_has_kestra_check_the_inputs_and_starts_nothing(server, bench):
    server.flows["ops/restart"] = Flow(inputs={"n": "INT", "host": "STRING"})
    context = bench.context(reach=reach(server))

    async def look(inputs):
        return await step.dry_run(context, prepare(step, {**RAW, "inputs": inputs}, context))

    good = await look({"n": 3, "host": "web-1"})
    bad = await look({"n": "many"})

    assert good.ok
    assert good.summary.endswith("Kestra takes the inputs")
    assert not bad.ok
    assert "n: Invalid input for `n`" in bad.summary
    assert "host: missing required input" in bad.summary
    assert server.executions == []


def test_it_says_which_connection_it_needs():
    assert step.needs(step.Params.model_validate({**RAW, "connection": "k"})) == [("connection", "k")]


def test_the_preview_says_what_would_be_started():
    assert step.preview(step.Params.model_validate({**RAW, "inputs": {"a": 1}})) == (
        'would start ops/restart in kestra with {"a": 1}'
    )
    assert step.preview(step.Params.model_validate(RESUME)) == "would resume the execution exec1 in kestra"
