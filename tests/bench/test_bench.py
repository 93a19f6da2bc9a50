"""The bench's own tools: what it sends, how it counts, what it prints. How fast anything is, no test says."""

import json
import math
import os
import socket

import pytest
from aiohttp import web

from bench import bodies, floors, load, measures, place, table
from bench.table import Line
from bot.alerts.source import decode
from bot.kit.clock import utc_now
from bot.sources import alertmanager


@pytest.fixture
async def echo():
    """A server that counts what it is asked, and refuses every fourth time."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(await request.read())
        return web.Response(status=503 if len(asked) % 4 == 0 else 202, text="stored")

    app = web.Application()
    app.router.add_post("/alerts/am", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], asked
    await runner.cleanup()


async def test_the_generator_sends_each_request_once_and_counts_what_came_back(echo):
    port, asked = echo
    found = await load.fire(port, bodies.mix(40, 5, "t"), connections=4, seconds=20)

    assert (found.done, len(asked)) == (40, 40)
    assert found.statuses == {"202": 30, "503": 10}
    assert found.bad == 10
    assert found.rate > 0
    assert found.at(0.5) <= found.at(0.99) <= found.at(1)


async def test_the_generator_ends_when_nothing_answers_at_all():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(RuntimeError, match="load generator"):
            await load.fire(nobody.getsockname()[1], bodies.mix(2, 2, "t"), connections=1, seconds=1)


def test_nine_of_ten_bodies_repeat_known_alerts_and_the_tenth_is_new_and_joins():
    sent = [json.loads(raw.partition(b"\r\n\r\n")[2]) for raw in bodies.mix(100, 10, "t")]
    known = {body["alerts"][0]["fingerprint"] for body in bodies.known(10)}
    new = [body for body in sent if body["alerts"][0]["fingerprint"] not in known]

    assert len(new) == 10
    assert len({body["alerts"][0]["fingerprint"] for body in new}) == 10
    assert {body["alerts"][0]["labels"]["service"] for body in new} <= {f"service-{n}" for n in range(10)}


def test_the_bodies_are_what_the_bot_reads():
    body = bodies.wire(bodies.alert("A", "s")).partition(b"\r\n\r\n")[2]
    (alert,) = alertmanager.parse(decode(body), received_at=utc_now())
    assert alert.labels["service"] == "s"
    assert floors.alert(body)[0] == alert.fingerprint


@pytest.mark.parametrize("mode", ["plain", "parse", "row", "slash"])
async def test_a_floor_takes_what_the_bot_takes(mode, tmp_path):
    app = await floors.application(mode, f"sqlite:///{tmp_path}/floor.db")
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        requests = bodies.mix(6, 2, "t")
        if mode == "slash":
            payloads = ({"command": "/inc", "text": "x", "trigger_id": str(n)} for n in range(6))
            requests = [bodies.slash(payload, floors.SECRET) for payload in payloads]
        found = await load.fire(port, requests, connections=2, seconds=20)
    finally:
        await runner.cleanup()
    assert found.statuses == {"200": 6}


async def test_a_floor_refuses_what_is_not_signed(tmp_path):
    request = bodies.slash({"command": "/inc", "trigger_id": "1"}, "another secret")
    app = await floors.application("slash", f"sqlite:///{tmp_path}/floor.db")
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        found = await load.fire(runner.addresses[0][1], [request], connections=1, seconds=20)
    finally:
        await runner.cleanup()
    assert found.statuses == {"401": 1}


def test_two_runs_add_up_to_one():
    both = load.Load(4, 2.0, 0.1, {"202": 3}, [1, 2, 3]) + load.Load(4, 1.0, 0.1, {"202": 2, "503": 1}, [4, 5, 6])
    assert (both.done, both.rate, both.bad) == (6, 2.0, 1)
    assert math.isnan(load.percentile([], 0.5))


def test_the_table_says_what_is_met_and_keeps_its_columns(tmp_path):
    lines = [
        Line("intake", "SQLite", "900/s", "4000/s", 0.225, "ratio >= 0.20", True),
        Line("idle memory", "Postgres", "130 MB", goal="<= 120 MB", met=False, note="as measured"),
        Line("openings", "SQLite", "8/s"),
    ]
    drawn = table.drawn(lines).splitlines()
    assert "0.23" in drawn[2] or "0.22" in drawn[2]
    assert drawn[2].endswith("met")
    assert drawn[3].endswith("NOT MET")
    assert drawn[2].index("900/s") == drawn[3].index("130 MB") == drawn[4].index("8/s")
    assert "as measured" in drawn[-1]

    table.write(tmp_path / "out" / "bench.json", lines, {"machine": "m"})
    kept = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [line["met"] for line in kept["lines"]] == [True, False, None]


def test_a_process_is_accounted_for():
    assert place.rss(os.getpid()) > 1
    assert place.cpu(os.getpid()) > 0


def test_every_measure_has_a_name_of_its_own():
    names = [measure.__name__ for measure in measures.ALL]
    assert len(set(names)) == len(names)
