"""The prometheus step against a real Prometheus: one that scrapes, and that remembers an hour with a hole in it."""

import math
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.catalog.targets import Connection, Reach, Targets
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError
from bot.steps import prometheus as step
from tests.kit.test_chart import colours, pixels
from tests.real.monitoring import Monitoring, _metrics, _port, _ready
from tests.steps.conftest import Bench

CONFIG = "scrape_configs: [{{job_name: tests, scrape_interval: 500ms, static_configs: [{{targets: ['{metrics}']}}]}}]\n"
HOLE = (20, 30)  # minutes ago


@dataclass
class Store:
    """A Prometheus, what it scrapes, and how to reach it."""

    reach: Reach
    watched: Monitoring

    async def ask(self, query: str, **raw):
        more = {key: raw.pop(key) for key in ("values", "timeout") if key in raw}
        return await Bench().run(step, {"query": query, **raw}, reach=self.reach, **more)


def history(now: float) -> str:
    """An hour of two servers, one of which was away for a while; as promtool reads it."""
    lines = ["# TYPE requests_rate gauge"]
    for server, level in (("web-1.example.com", 100), ("web-2.example.com", 60)):
        for ago in range(60 * 60, -1, -15):
            if server.startswith("web-2") and HOLE[0] * 60 < ago < HOLE[1] * 60:
                continue
            value = level + 20 * math.sin(ago / 300)
            lines.append(f'requests_rate{{instance="{server}:9100",service="checkout"}} {value:.3f} {now - ago:.3f}')
    return "\n".join([*lines, "# EOF", ""])


@contextmanager
def prometheus(folder: Path) -> Iterator[Store]:
    (folder / "history.txt").write_text(history(time.time()))
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "history.txt", "data"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    watched = Monitoring(bot=0)
    server, port = _metrics(watched), _port()
    (folder / "prometheus.yml").write_text(CONFIG.format(metrics=f"127.0.0.1:{server.server_address[1]}"))
    flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(["prometheus", *flags, "--query.timeout=5s"], cwd=folder, stdout=log, stderr=log)
    try:
        _ready(port, folder / "log")
        connection = Connection(kind="prometheus", url=f"http://127.0.0.1:{port}", private=True)
        yield Store(Reach(Targets(connections={"prometheus": connection})), watched)
    finally:
        running.terminate()
        running.wait(20)
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with prometheus(tmp_path_factory.mktemp("prometheus")) as made:
        yield made


async def test_what_was_scraped_just_now_is_seen(store):
    store.watched.failing["checkout"] = 3
    deadline = time.monotonic() + 20
    while True:
        result = await store.ask(
            'work_failing{service="{{ params.service }}"}', values={"params": {"service": "checkout"}}
        )
        if result.ok or time.monotonic() > deadline:
            break
        time.sleep(0.2)

    assert (result.ok, result.values["value"]) == (True, 3)
    assert result.values["values"][0]["labels"]["job"] == "tests"
    assert (await store.ask('work_failing{service="checkout"}', range="1m", expect="value == 3")).ok


async def test_the_last_hour_is_drawn_with_its_gap_and_the_beginning_of_the_alert(store):
    began = utc_now().timestamp() - 25 * 60
    starts_at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(began))

    result = await store.ask(
        "requests_rate", graph=True, title="Requests", values={"alert": {"starts_at": starts_at, "labels": {}}}
    )

    assert result.ok
    if place := os.environ.get("TOCSIN_TEST_CAPTURE"):
        (Path(place) / "graph.png").write_bytes(result.files[0].content)
    assert result.values["count"] == 2
    assert result.output.count('service="checkout"') == 2
    wide, tall, rows = pixels(result.files[0].content)
    assert (wide, tall > 600) == (1440, True)
    assert {"#0072b2", "#d55e00", "#c81e1e", "#ffffff"} <= colours(rows)
    # The second server was away in these minutes (a value is good for five more), and nothing is drawn of it there.
    left, right = (110 + (1410 - 110) * (60 - ago) / 60 for ago in (HOLE[1] - 6, HOLE[0] + 1))
    seen = colours([row[int(left) * 4 : int(right) * 4] for row in rows[: tall - 120]])
    assert "#0072b2" in seen
    assert "#d55e00" not in seen


async def test_a_hostile_value_looks_for_a_label_of_that_name_and_for_nothing_else(store):
    hostile = '"} or vector(1) or up{a="'
    result = await store.ask('requests_rate{service="{{ params.v }}"}', values={"params": {"v": hostile}})
    lines = await store.ask('requests_rate{service="{{ params.v }}"}', values={"params": {"v": "a\nb\\\t\x01é"}})

    assert result.summary == lines.summary == "no data: the query gives no series"


@pytest.mark.parametrize(("host", "found"), [("web-1.example.com", 1), ("web-1xexample.com", 0), (".*", 0)])
async def test_a_host_is_matched_as_it_is_written(store, host, found):
    query = 'count(requests_rate{instance=~"{{ params.host | re }}(:\\\\d+)?"})'

    result = await store.ask(query, values={"params": {"host": host}}, expect=f"count == {found}")

    assert result.ok, result.summary


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("sum(", "cannot read the query: .*parse error"),
        ("requests_rate / on(service) requests_rate", "cannot compute the query: .*many-to-many|duplicate series"),
        ("requests_rate[5m]", "make one number of them"),
        ('"text"', "gives a text"),
        ("nowhere{", "cannot read the query"),
    ],
)
async def test_what_prometheus_refuses_is_told_in_plain_words(store, query, told):
    with pytest.raises(PermanentError, match=told):
        await store.ask(query)


@pytest.mark.parametrize("query", ["nothing_of_the_kind", "vector(0) / 0", "sqrt(vector(-1))", "vector(1) / 0"])
async def test_no_number_fails_unless_it_is_expected(store, query):
    assert not (await store.ask(query)).ok
    assert not (await store.ask(query, expect="value < 5")).ok
    assert (await store.ask(query, expect="value is none")).ok
    assert (await store.ask(query, range="5m", expect="value is none")).ok


@pytest.mark.parametrize("query", ["vector(7)", "scalar(vector(7))", "7"])
async def test_a_constant_is_a_number(store, query):
    assert (await store.ask(query, expect="value == 7")).ok
    assert (await store.ask(query, range="5m", expect="value == 7")).ok


async def test_the_guard_stands_before_a_private_address(store):
    closed = Connection(**{**store.reach.targets.connections["prometheus"].model_dump(), "private": False})
    with pytest.raises(PermanentError, match="not a public address"):
        await Bench().run(step, {"query": "up"}, reach=Reach(Targets(connections={"prometheus": closed})))
