"""The prometheus step against a strict local server: what is asked, how answers are judged, what a failure means."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from bot.catalog.targets import Connection, Reach, Secret, Targets
from bot.kit.chart import Chart
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs.step import Cancelled, prepare
from bot.steps import prometheus as step
from tests.kit.test_chart import colours, pixels

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n"


def sample(value: str, at: datetime = NOW, **labels: str) -> dict:
    return {"metric": labels, "value": [at.timestamp(), value]}


def row(values: list[tuple[float, str]], **labels: str) -> dict:
    """A series of a range: minutes before now, and a number."""
    points = [[(NOW - timedelta(minutes=ago)).timestamp(), value] for ago, value in values]
    return {"metric": labels, "values": points}


class Server(TestServer):
    """Answers one question at a time and refuses what Prometheus would: other paths, methods and keys."""

    def __init__(self) -> None:
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/{rest:.*}", self.answer)
        super().__init__(app, host="127.0.0.1")
        self.seen: list[dict] = []
        self.headers: dict[str, str] = {}
        self.gives: dict = {}
        self.holding = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = dict(await request.post())
        wanted = {"query", "timeout"} | ({"start", "end", "step"} if request.path.endswith("_range") else set())
        if request.method != "POST" or request.path not in ("/prom/api/v1/query", "/prom/api/v1/query_range"):
            return web.Response(status=404, text="404 page not found")
        assert set(asked) == wanted
        assert re.fullmatch(r"[0-9]+s", asked["timeout"])
        self.seen.append(asked | {"path": request.path.rpartition("/")[2]})
        self.headers = dict(request.headers)
        if self.holding:
            await asyncio.sleep(30)
        return web.Response(**self.gives)

    def data(self, kind: str, result: object, **more: object) -> None:
        body = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
        self.gives = {"text": json.dumps(body), "content_type": "application/json"}

    def vector(self, *samples: dict, **more: object) -> None:
        self.data("vector", list(samples), **more)

    def error(self, status: int, kind: str, told: str, **headers: str) -> None:
        body = {"status": "error", "errorType": kind, "error": told}
        self.gives = {"text": json.dumps(body), "status": status, "headers": headers}


@pytest.fixture
async def server():
    made = Server()
    await made.start_server()
    yield made
    await made.close()


def reach(server: Server, **more) -> Reach:
    connection = Connection(**{"kind": "prometheus", "url": str(server.make_url("/prom/")), "private": True, **more})
    other = Connection(kind="postgres", url="postgresql://127.0.0.1/x")
    return Reach(
        Targets(connections={"prometheus": connection, "orders": other}), environment={"TOKEN": "opensesame77"}
    )


@pytest.fixture
def ask(run, server):
    async def asked(query: str = "up", *, target: Reach | None = None, **raw):
        values = raw.pop("values", {})
        more = {key: raw.pop(key) for key in ("cancelled", "timeout", "step_key") if key in raw}
        return await run(
            step,
            {"query": query, **raw},
            reach=target or reach(server),
            clock=lambda: NOW,
            values=values,
            **more,
        )

    return asked


# What is asked --------------------------------------------------------------------------------------------------


async def test_one_number_is_asked_for_and_given(ask, server):
    server.vector(sample("0.25", __name__="up", job="web"))

    result = await ask("avg(up)")

    assert server.seen == [{"query": "avg(up)", "timeout": "10s", "path": "query"}]
    assert (result.ok, result.summary) == (True, "value 0.25")
    assert result.values == {
        "value": 0.25,
        "values": [{"labels": {"__name__": "up", "job": "web"}, "value": 0.25}],
        "count": 1,
        "image": None,
        "warnings": [],
    }
    assert result.output == '          0.25  up{job="web"}'


async def test_a_range_ends_now_and_its_newest_point_is_judged(ask, server):
    server.data("matrix", [row([(2, "1"), (1, "2"), (0, "3")], host="a"), row([(2, "9"), (1, "9")], host="gone")])

    result = await ask(range="1h", step="1m", expect="value == 3")

    asked = server.seen[0]
    assert asked["path"] == "query_range"
    assert float(asked["end"]) == NOW.timestamp()
    assert float(asked["start"]) == (NOW - timedelta(hours=1)).timestamp()
    assert float(asked["step"]) == 60
    assert result.ok
    assert result.values["values"] == [{"labels": {"host": "a"}, "value": 3.0}]


@pytest.mark.parametrize(("span", "step_"), [("1m", 1), ("1h", 12), ("6h", 72), ("7d", 2016)])
async def test_a_range_without_a_step_has_a_few_hundred_points_at_most(ask, server, span, step_):
    server.data("matrix", [row([(0, "1")])])

    await ask(range=span)

    asked = server.seen[0]
    assert float(asked["step"]) == step_
    assert (float(asked["end"]) - float(asked["start"])) / step_ <= 300


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"step": "1m"}, "does nothing without range"),
        ({"range": "7d", "step": "1s"}, "more than 2000 points"),
        ({"range": "500ms"}, "at least 1s"),
        ({"range": "1h", "step": "0s"}, "longer than 0"),
        ({"range": "8d"}, "longer than 7d"),
    ],
)
async def test_a_range_that_makes_no_sense_is_refused(ask, server, raw, told):
    with pytest.raises(PermanentError, match=told):
        await ask(**raw)
    assert not server.seen


async def test_a_token_goes_to_the_connection_and_is_never_shown(ask, server):
    server.vector(sample("1", leak="opensesame77"), warnings=["got opensesame77"])

    result = await ask(target=reach(server, token=Secret(env="TOKEN"), headers={"X-Scope-OrgID": Secret(env="TOKEN")}))

    assert server.headers["Authorization"] == "Bearer opensesame77"
    assert server.headers["X-Scope-OrgID"] == "opensesame77"
    assert "opensesame77" not in repr(result)


async def test_user_and_password_are_sent_as_basic_authentication(ask, server):
    server.error(400, "bad_data", "b3BzOm9wZW5zZXNhbWU3Nw== opensesame77")

    with pytest.raises(PermanentError) as caught:
        await ask(target=reach(server, username="ops", password=Secret(env="TOKEN")))

    assert server.headers["Authorization"] == "Basic b3BzOm9wZW5zZXNhbWU3Nw=="
    assert "opensesame" not in str(caught.value)
    assert "b3Bz" not in str(caught.value)


async def test_a_connection_of_another_kind_or_one_that_is_missing_is_refused(ask):
    with pytest.raises(PermanentError, match="'orders' is of kind postgres; this step needs prometheus"):
        await ask(connection="orders")
    with pytest.raises(PermanentError, match="did you mean prometheus"):
        await ask(connection="prometeus")


async def test_a_private_address_is_only_asked_where_the_connection_says_so(ask, server):
    with pytest.raises(PermanentError, match="not a public address"):
        await ask(target=reach(server, private=False))
    with pytest.raises(PermanentError, match="metadata"):
        await ask(target=reach(server, url="http://169.254.169.254/prom"))
    assert not server.seen


# How it is judged -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expect", "ok"),
    [("1", "value < 5", True), ("7", "value < 5", False), ("1e3", "value == 1000 and count == 1", True)],
)
async def test_what_is_expected_decides(ask, server, value, expect, ok):
    server.vector(sample(value))

    result = await ask(expect=expect)

    assert result.ok is ok
    assert ok or result.summary == "value 7, expected value < 5"


async def test_what_is_expected_may_name_parameters_and_labels(ask, server):
    server.vector(sample("1", host="a"), sample("5", host="b"))

    found = await ask(
        expect="values | selectattr('value', 'gt', params.most) | map(attribute='labels') | list == [{'host': 'b'}]",
        values={"params": {"most": 3}},
    )

    assert found.ok
    assert found.summary == "2 series, 1 to 5"
    assert found.values["value"] is None
    assert found.output.splitlines() == ['             1  {host="a"}', '             5  {host="b"}']


async def test_one_value_cannot_be_expected_of_several_series(ask, server):
    server.vector(sample("1", host="a"), sample("5", host="b"))

    with pytest.raises(PermanentError, match="gives 2 series and expect asks for one value; use sum"):
        await ask(expect="value is none or value < 10")


async def test_several_series_without_expectations_are_fine(ask, server):
    server.vector(sample("1", host="a"), sample("NaN", host="b"))

    result = await ask()

    assert result.ok
    assert result.values["values"][1] == {"labels": {"host": "b"}, "value": None}


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([], "no data: the query gives no series"),
        (["NaN"], "no number: the query gives NaN"),
        (["+Inf"], "no number: the query gives inf"),
        (["NaN", "NaN"], "no number: the query gives NaN"),
    ],
)
@pytest.mark.parametrize("expect", [None, "value < 5", "value > 5", "value == value and value", "not value < 5"])
async def test_no_number_is_a_failure(ask, server, samples, told, expect):
    server.vector(*(sample(value, host=str(i)) for i, value in enumerate(samples)))
    if expect and len(samples) > 1:
        expect = expect.replace("value", "values[0].value")

    result = await ask(expect=expect)

    assert not result.ok
    assert result.summary.startswith(told)
    json.dumps(dict(result.values), allow_nan=False)


@pytest.mark.parametrize("expect", ["value is none or value < 5", "(value or 0) < 5", "count == 0 or value is none"])
@pytest.mark.parametrize("samples", [[], ["NaN"]])
async def test_no_number_is_fine_where_that_is_expected(ask, server, samples, expect):
    server.vector(*map(sample, samples))

    assert (await ask(expect=expect)).ok


async def test_a_missing_number_among_others_is_not_compared(ask, server):
    server.vector(sample("1", host="a"), sample("NaN", host="b"))

    result = await ask(expect="values | selectattr('value', 'gt', 5) | list | length == 0")

    assert not result.ok
    assert "does not say what a missing number means" in result.summary


async def test_a_series_that_has_ended_is_no_data(ask, server):
    server.data("matrix", [row([(30, "1"), (20, "1")])])

    result = await ask(range="1h", graph=True)

    assert (result.ok, result.summary) == (False, "no data now: what the query gives has ended before")
    assert result.files


async def test_an_expectation_that_is_wrong_in_itself_is_said(ask, server):
    server.vector(sample("1"))

    with pytest.raises(PermanentError, match="valeu"):
        await ask(expect="valeu < 5")


async def test_a_plain_number_is_an_answer_too(ask, server):
    server.data("scalar", [NOW.timestamp(), "42"])

    assert (await ask("scalar(x)")).values["value"] == 42


async def test_warnings_are_passed_on(ask, server):
    server.vector(sample("1"), warnings=["partial response: store 2 is away", *"abcdefgh"])

    result = await ask()

    assert result.ok
    assert result.values["warnings"][0] == "partial response: store 2 is away"
    assert len(result.values["warnings"]) == 5
    assert result.output.startswith("warning: partial response: store 2 is away\n")


# What goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "error", "told"),
    [
        (400, "bad_data", PermanentError, "prometheus cannot read the query: because"),
        (422, "execution", PermanentError, "prometheus cannot compute the query: because"),
        (503, "timeout", TemporaryError, "gave the query up, it took too long: because"),
        (503, "canceled", TemporaryError, "stopped in the middle of the query: because"),
        (503, "unavailable", TemporaryError, "answered 503: because"),
        (500, "internal", TemporaryError, "answered 500: because"),
        (429, "too_many_requests", TemporaryError, "answered 429: because"),
        (401, "", PermanentError, "does not let us in .401.; check its credentials in targets.yaml"),
        (403, "", PermanentError, "does not let us in"),
        (418, "", PermanentError, "answered 418: because"),
        (302, "", PermanentError, "sends us elsewhere"),
    ],
)
async def test_errors_are_told_in_plain_words(ask, server, status, kind, error, told):
    server.error(status, kind, "because")

    with pytest.raises(error, match=told):
        await ask()


async def test_the_server_says_when_to_come_back(ask, server):
    server.error(429, "", "slow down", **{"Retry-After": "7"})

    with pytest.raises(TemporaryError) as caught:
        await ask()
    assert caught.value.after == 7


async def test_a_wrong_path_is_recognised(ask, server):
    with pytest.raises(PermanentError, match="no API of Prometheus at its url"):
        await ask(target=reach(server, url=str(server.make_url("/"))))


@pytest.mark.parametrize(
    "body",
    [
        "<html>Sign in</html>",
        "{",
        "[]",
        '"success"',
        '{"status": "success"}',
        '{"status": "success", "data": []}',
        '{"status": "success", "data": {"resultType": "vector"}}',
        '{"status": "success", "data": {"resultType": "streams", "result": []}}',
        '{"status": "success", "data": {"resultType": "vector", "result": {"a": 1}}}',
        '{"status": "success", "data": {"resultType": "vector", "result": [1]}}',
        '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}}]}}',
        '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": [], "value": [1, "1"]}]}}',
        '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": []}]}}',
        '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "x"]}]}}',
        '{"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [null, "1"]}]}}',
        '{"status": "success", "data": {"resultType": "scalar", "result": null}}',
        "[" * 100_000,
    ],
)
async def test_what_is_no_answer_of_prometheus_is_refused(ask, server, body):
    server.gives = {"text": body, "content_type": "application/json"}

    with pytest.raises(PermanentError, match=r"check its url|check the url"):
        await ask()


@pytest.mark.parametrize(
    ("kind", "result", "told"),
    [
        ("string", [0, "x"], "gives a text"),
        ("matrix", [row([(0, "1")])], "make one number of them"),
        ("vector", [{"metric": {}, "histogram": [0, {}]}], "histogram_quantile"),
        ("vector", [sample("1", n=str(i)) for i in range(1001)], "1001 series, more than 1000; use sum"),
    ],
)
async def test_answers_that_cannot_be_judged_say_what_to_ask_instead(ask, server, kind, result, told):
    server.data(kind, result)

    with pytest.raises(PermanentError, match=told):
        await ask()


async def test_an_answer_without_end_is_refused(ask, server):
    server.vector(*(sample("1", n="x" * 3000, m=str(i)) for i in range(900)))

    with pytest.raises(PermanentError, match="larger than 2 MiB; ask for less"):
        await ask()


async def test_many_series_are_listed_in_part(ask, server):
    server.vector(*(sample("1", n=str(i)) for i in range(100)))

    result = await ask()

    assert len(result.values["values"]) == 100
    assert result.output.splitlines()[-1] == "… and 60 more series"


async def test_labels_are_bounded_and_cannot_hide_anything(ask, server):
    server.vector({"metric": {"a": "x" * 100_000, "b": "\u202e\x00evil\n"}, "value": [1, "1"]})

    labels = (await ask()).values["values"][0]["labels"]

    assert len(labels["a"]) == 512
    assert labels["b"] == "evil\n"


async def test_a_server_that_hangs_is_left_in_time(ask, server):
    server.holding = True

    with pytest.raises(TemporaryError, match=r"no answer within 0\.3 s"):
        await ask(timeout=0.3)


async def test_a_query_can_be_cancelled_in_the_middle(ask, server):
    server.holding = True
    stop = asyncio.Event()
    going = spawn(ask(cancelled=stop), name="ask")
    while not server.seen:
        await asyncio.sleep(0.01)
    stop.set()

    with pytest.raises(Cancelled, match="stopped"):
        await asyncio.wait_for(going, 2)


async def test_a_server_that_is_away_may_come_back(ask, server):
    target = reach(server)
    await server.close()

    with pytest.raises(TemporaryError, match="failed"):
        await ask(target=target)


# The graph ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_graph_shows_an_hour_with_the_beginning_of_the_alert(ask, server):
    server.data("matrix", [row([(ago, str(ago % 7)) for ago in range(60, -1, -1)], host=name) for name in "ab"])
    began = (NOW - timedelta(minutes=20)).isoformat()

    result = await ask(
        graph=True, title="Errors of {{ alert.title }}", values={"alert": {"starts_at": began, "title": "checkout"}}
    )
    without = await ask(graph=True)

    assert float(server.seen[0]["end"]) - float(server.seen[0]["start"]) == 3600
    assert result.values["image"] == "step.png"
    assert [(file.name, file.title) for file in result.files] == [("step.png", "Errors of checkout")]
    wide, tall, rows = pixels(result.files[0].content)
    assert wide == 1440
    assert 600 < tall < 1200
    assert {"#ffffff", "#0072b2", "#d55e00", "#c81e1e"} <= colours(rows)
    assert "#c81e1e" not in colours(pixels(without.files[0].content)[2])


async def test_a_graph_of_nothing_is_a_picture_as_well(ask, server):
    server.data("matrix", [])

    result = await ask(graph=True, expect="count == 0", step_key="steps-1 / x")

    assert result.ok
    assert result.values["image"] == "steps-1-x.png"
    assert result.files[0].content.startswith(PNG)


async def test_of_many_series_those_that_reach_highest_are_drawn(bench, server):
    server.data("matrix", [])
    rows = [row([(1, "NaN"), (0, str(i))], job="web", host=f"h{i}") for i in range(30)]
    series = step._series({"resultType": "matrix", "result": rows}, step.Window(0, int(NOW.timestamp() * 1000), 60000))

    chart = step._chart(bench.context(), "x", series, step.Window(0, int(NOW.timestamp() * 1000), 60000))

    assert [line.name for line in chart.lines] == [f'{{host="h{i}"}}' for i in range(29, 19, -1)]
    assert chart.note == "the 10 of 30 series that reach highest"
    assert all(len(line.points) == 1 for line in chart.lines)


async def test_an_answer_counts_although_its_graph_cannot_be_drawn():
    async def broken(picture: str, width: int) -> bytes:
        raise PermanentError("nothing to draw with")

    assert await step._picture(Chart("x", [], 0, 60, 1), broken) == "no graph: nothing to draw with"


# What is filled in ----------------------------------------------------------------------------------------------


def filled(bench, query: str, **params: object) -> str:
    context = bench.context(values={"params": params, "steps": {}})
    return prepare(step, {"query": query}, context).query


@pytest.mark.parametrize(
    ("query", "value", "expected"),
    [
        ('up{host="{{ params.v }}"}', "web-1:9100", 'up{host="web-1:9100"}'),
        ('up{host="{{ params.v }}"}', '"} or vector(1) #', 'up{host="\\"} or vector(1) #"}'),
        ('up{host="{{ params.v }}"}', "a\\", 'up{host="a\\\\"}'),
        ('up{host="{{ params.v }}"}', "a\nb", 'up{host="a\\nb"}'),
        ("up{host='{{ params.v }}'}", 'it\'s "x"', "up{host='it\\'s \"x\"'}"),
        ("up{host=`{{ params.v }}`}", 'a\\"', 'up{host=`a\\"`}'),
        ('up{host=~"{{ params.v | re }}(:\\\\d+)?"}', "web-1.x", 'up{host=~"web\\\\-1\\\\.x(:\\\\d+)?"}'),
        ("rate({{ params.v }}[5m])", "http:errors_total", "rate(http:errors_total[5m])"),
        ("rate(x[{{ params.v }}])", "1h30m", "rate(x[1h30m])"),
        ("x > {{ params.v }}", 0.00001, "x > 1e-05"),
        ("x > {{ params.v }}", -5, "x > (-5)"),
        ("x > {{ params.v }}", "5", "x > 5"),
        ('x{a="\\"{{ params.v }}"}', '"', 'x{a="\\"\\""}'),
        ("x # it's\n > {{ params.v }}", 5, "x # it's\n > 5"),
        ('x{a="{{ params.v }}", b="{{ params.v }}"}', '"', 'x{a="\\"", b="\\""}'),
        ("{{ params.v }}", "up", "up"),
    ],
)
def test_what_is_filled_in_stays_one_text_one_number_or_one_name(bench, query, value, expected):
    assert filled(bench, query, v=value) == expected


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("up{host=`{{ params.v }}`}", "a`b"),
        ('up{host="\\{{ params.v }}"}', '"'),
        ("up {{ params.v }} down", "or"),
        ("up {{ params.v }}", "or vector(1)"),
        ("up {{ params.v }}", "} or up{"),
        ("up > {{ params.v }}", "1 or up"),
        ("{{ params.v }}", 'up{a="b"}'),
        ("up > {{ params.v }}", "inf"),
        ("up # {{ params.v }}", "x"),
        ("up > {{ params.v }}", None),
        ("up > {{ params.v }}", [1]),
        ("up > {{ params.v }}", {"a": 1}),
        ("up > {{ params.v }}", ""),
        ("up > {{ params.v }}", "5\n"),
    ],
)
def test_what_could_change_a_query_is_refused(bench, query, value):
    with pytest.raises(PermanentError, match=r"query: .*(cannot|not filled in)"):
        filled(bench, query, v=value)


@given(st.text(), st.sampled_from("\"'"))
def test_no_text_gets_out_of_its_quotes(value, mark):
    before = f"up{{host={mark}"
    after = f"{before}{step.quote(before, value)}"

    assert step._around(after) == (mark, False)
    assert step._around(after + mark) == ("", False)
    assert "\n" not in after


@given(st.text())
def test_nothing_but_one_word_or_number_stands_outside_of_quotes(value):
    try:
        found = step.quote("up > ", value)
    except PermanentError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_:.+-]+", found)


def test_it_tells_what_it_would_ask_and_whom(bench):
    params = prepare(step, {"query": "up\n> 0"}, bench.context())

    assert step.preview(params) == "would ask prometheus: up > 0"
    assert step.needs(params) == [("connection", "prometheus")]


# For whoever is no step --------------------------------------------------------------------------------------------


def reached(server: Server) -> Reach:
    url = str(server.make_url("/prom"))
    return Reach(Targets(connections={"prometheus": Connection(kind="prometheus", url=url, private=True)}))


@pytest.mark.parametrize(
    ("samples", "number"), [([], None), ([sample("0.25")], 0.25), ([sample("NaN")], None)], ids=["none", "one", "NaN"]
)
async def test_one_number_is_given_to_whoever_asks_for_one(server, samples, number):
    server.vector(*samples)

    assert await step.ask(reached(server), "prometheus", "a / b", (), lambda: NOW) == number
    assert server.seen[0]["query"] == "a / b"


async def test_several_numbers_are_not_one(server):
    server.vector(sample("1", host="a"), sample("2", host="b"))

    with pytest.raises(PermanentError, match="gives 2 series"):
        await step.ask(reached(server), "prometheus", "a", (), lambda: NOW)


async def test_an_answer_that_does_not_come_is_not_waited_for(server):
    server.holding = True

    with pytest.raises(TemporaryError):
        await step.ask(reached(server), "prometheus", "a", (), lambda: NOW, seconds=0.2)
