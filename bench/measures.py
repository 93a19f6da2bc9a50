"""What is measured, one function for each goal; each brings its floor along and interleaves the two."""

import asyncio
import contextlib
import json
import math
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from bench import bodies, load
from bench.floors import SECRET
from bench.load import Load, percentile
from bench.place import Place, Process, rss
from bench.table import Line
from bot.incidents import timeline
from bot.incidents.model import Incident
from bot.kit.db import Database
from bot.sandbox import inputs
from bot.sandbox.delivery import Reply
from bot.sandbox.state import Channel, View

INCIDENTS = 50
FAST = 1000.0  # messages a second towards Slack, where Slack's own pace would only be waited for


@dataclass(frozen=True)
class Size:
    """How much of everything: a whole run, or a quick look."""

    seconds: float = 4.0  # of each run of a load
    rounds: int = 2
    openings: int = 50
    bursts: int = 4
    commands: int = 100  # in each burst: a second of them at most, since work waits no longer than that
    idle: float = 20.0
    rows: int = 1_000_000
    looks: int = 200
    tail: float = 60.0


QUICK = Size(seconds=2.0, rounds=1, openings=30, bursts=2, commands=80, idle=5.0, rows=100_000, looks=60, tail=15.0)


@dataclass
class Both:
    """Loads of a floor and of the bot, with what each cost its server."""

    load: Load
    cpu: float = 0.0
    database: float = 0.0

    def add(self, found: Load, cpu: float, database: float) -> None:
        self.load, self.cpu, self.database = self.load + found, self.cpu + cpu, self.database + database

    def each(self) -> str:
        """CPU milliseconds for each request, of the server and of its database."""
        done = max(1, self.load.done)
        more = f" + {self.database / done * 1000:.2f} in the database" if self.database else ""
        return f"{self.cpu / done * 1000:.2f} ms CPU each{more}"


async def _fire(
    place: Place, process: Process, into: Both, requests: list[bytes], connections: int, seconds: float
) -> None:
    cpu, database = process.cpu, place.database_cpu()
    found = await load.fire(process.port, requests, connections=connections, seconds=seconds)
    into.add(found, process.cpu - cpu, place.database_cpu() - database)


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


# -- openings and intake ----------------------------------------------------------------------------------------------


async def openings(place: Place, size: Size) -> list[Line]:
    """New groups, each an incident of its own: how fast they are furnished, and what each asks of Slack."""
    await place.fresh()
    bot = await place.bot(pace=FAST)
    place.sandbox.workspace.calls.clear()
    requests = [bodies.wire(bodies.alert("Known-0", f"service-{n}")) for n in range(size.openings)]
    began, cpu = time.monotonic(), bot.cpu
    accepted = await load.fire(bot.port, requests, connections=4, seconds=60)
    await place.quiet(120)
    pins = [call.started for call in place.sandbox.workspace.calls if call.method == "pins.add"]
    took = max(pins, default=math.inf) - began  # a channel's last part; redraws come later, at their own pace
    calls = Counter(call.method for call in place.sandbox.workspace.calls)
    pinned = calls["pins.add"]
    shown = f"{pinned / took:.1f}/s, {sum(calls.values()) / max(1, pinned):.1f} calls each"
    note = (
        f"{pinned} of {size.openings} furnished, {(bot.cpu - cpu) / max(1, pinned) * 1000:.0f} ms CPU each; "
        f"answered p99 {_ms(accepted.at(0.99))}; {_told(calls)}"
    )
    await bot.stop()
    return [Line("openings (furnished channels)", place.kind, shown, met=None, note=note)]


async def intake(place: Place, size: Size) -> list[Line]:
    """One alert in each body, nine of ten repeats, through the door of `tocsin run`."""
    await _storm(place)
    bot = await place.bot()
    floors = {mode: await place.floor(mode, place.spare()) for mode in ("plain", "parse", "row")}
    found: dict[tuple[str, int], Both] = {}
    place.sandbox.workspace.calls.clear()
    for connections in (16, 64):
        for turn in range(size.rounds):
            requests = bodies.mix(int(6000 * size.seconds), INCIDENTS, f"{connections}-{turn}")
            for mode, process in (
                ("plain", floors["plain"]),
                ("ours", bot),
                ("parse", floors["parse"]),
                ("row", floors["row"]),
            ):
                both = found.setdefault((mode, connections), Both(Load(connections)))
                seconds = size.seconds if mode == "ours" else size.seconds / 2
                await _fire(place, process, both, requests, connections, seconds)
    joined = place.rows("select count(*) from timeline where kind = 'alert.attached'")[0][0]
    during = len(place.sandbox.workspace.calls)
    tail = await place.quiet(size.tail)
    calls = Counter(call.method for call in place.sandbox.workspace.calls)
    for process in (bot, *floors.values()):
        await process.stop()
    lines = []
    for connections, limit, least in ((64, 100.0, 0.20), (16, 50.0, None)):
        ours, plain = found["ours", connections], found["plain", connections]
        ratio = ours.load.rate / plain.load.rate
        p99 = ours.load.at(0.99)
        met = ours.load.bad == 0 and p99 < limit and (least is None or ratio >= least)
        goal = f"p99 < {limit:.0f} ms" + (f", ratio >= {least:.2f}" if least else "")
        others = "; ".join(
            f"{mode} {both.load.rate:.0f}/s p99 {_ms(both.load.at(0.99))} ({both.each()})"
            for mode, both in ((mode, found[mode, connections]) for mode in ("plain", "parse", "row"))
        )
        note = (
            f"ours {ours.each()}, generator {ours.load.cpu / ours.load.seconds * 100:.0f} % of a core, "
            f"{ours.load.done} requests, {ours.load.bad} refused; floors: {others}; "
            f"per CPU {plain.cpu / plain.load.done / (ours.cpu / ours.load.done):.2f} of plain, "
            f"{ours.load.rate / found['row', connections].load.rate:.2f} of one durable row"
        )
        shown = f"{ours.load.rate:.0f}/s, p99 {_ms(p99)}"
        lines.append(
            Line(
                f"durable intake, {connections} connections",
                place.kind,
                shown,
                f"{plain.load.rate:.0f}/s",
                ratio,
                goal,
                met,
                note,
            )
        )
    drained = f"drained in {tail:.1f} s" if tail == tail else f"still at it after {size.tail:.0f} s"
    note = f"{_told(calls)}; during the load {during} of them; alerts that joined: {joined}"
    lines.append(Line("  its reactions", place.kind, f"{sum(calls.values())} calls, {drained}", note=note))
    return lines


async def _storm(place: Place) -> None:
    """Fifty open incidents, furnished, and the alerts of theirs that go on firing."""
    await place.fresh()
    bot = await place.bot(pace=FAST)
    first = [bodies.wire(body) for body in bodies.known(INCIDENTS)]
    for some, connections in ((first[:INCIDENTS], 4), (first[INCIDENTS:], 8)):
        await load.fire(bot.port, some, connections=connections, seconds=120)
        await place.quiet(120)
    await bot.stop()


def _told(calls: Counter[str]) -> str:
    return ", ".join(f"{method} {count}" for method, count in calls.most_common(8)) or "no calls"


# -- people -----------------------------------------------------------------------------------------------------------


async def commands(place: Place, size: Size) -> list[Line]:
    """From a slash command to its acknowledgement: signed HTTP beside a bare handler, then the same over a socket."""
    await place.fresh()
    bot = await place.bot(pace=FAST)
    channel = await _incident(place)
    floor = await place.floor("slash", place.spare())
    lines = []
    for connections in (1, 16):
        found = {name: Both(Load(connections)) for name in ("note", "help", "floor")}
        for turn in range(size.bursts):
            for name in ("floor", "note", "help"):
                text = f"note turn {turn}" if name != "help" else "help"
                requests = [
                    bodies.slash(_command(place, channel, f"{text} {n}" if name != "help" else text), SECRET)
                    for n in range(size.commands)
                ]
                await _fire(place, floor if name == "floor" else bot, found[name], requests, connections, 20)
                await place.quiet(60)
        bare = found["floor"].load
        for name, what in (("note", "/inc note"), ("help", "/inc help")):
            ours = found[name].load
            ratio = ours.at(0.99) / bare.at(0.99)
            goal, met = ("p99 <= 3 x floor", ratio <= 3 and ours.bad == 0) if name == "note" else ("", None)
            shown = f"p50 {_ms(ours.at(0.5))}, p99 {_ms(ours.at(0.99))}"
            bare_shown = f"p50 {_ms(bare.at(0.5))}, p99 {_ms(bare.at(0.99))}"
            note = f"{found[name].each()}, floor {found['floor'].each()}; {ours.done} commands, {ours.bad} refused"
            lines.append(
                Line(f"{what} over HTTP, {connections} at once", place.kind, shown, bare_shown, ratio, goal, met, note)
            )
    await floor.stop()
    await bot.stop()
    lines += await _sockets(place, size, channel)
    return lines


async def _sockets(place: Place, size: Size, channel: Channel) -> list[Line]:
    bot = await place.bot(mode="socket", pace=FAST)
    user = place.sandbox.actor("alice").user
    lines = []

    async def say(left: list[str]) -> list[Reply]:
        replies = []
        while left:
            replies.append(await place.sandbox.delivery.slash(user, channel, left.pop()))
        return replies

    for at_once in (1, 16):
        left = [f"/inc note over a socket {n}" for n in range(size.commands)]
        replies = [reply for some in await asyncio.gather(*(say(left) for _ in range(at_once))) for reply in some]
        times, failed = [reply.ms for reply in replies], sum(not reply.ok for reply in replies)
        await place.quiet(60)
        shown = f"p50 {_ms(percentile(times, 0.5))}, p99 {_ms(percentile(times, 0.99))}"
        lines.append(
            Line(
                f"/inc note over a socket, {at_once} at once",
                place.kind,
                shown,
                note=f"{failed} not acknowledged" * bool(failed),
            )
        )
    await bot.stop()
    return lines


async def _incident(place: Place) -> Channel:
    """One incident, declared by a person and furnished."""
    await place.sandbox.actor("alice").slash("/inc new sev3 Something for the notes to be about")
    await place.quiet(60)
    ((channel,),) = place.rows("select channel from incident where channel is not null")
    return place.sandbox.workspace.channels[channel]


def _command(place: Place, channel: Channel, text: str) -> dict[str, str]:
    """What Slack would send for that text, with an address where the answer is taken."""
    user = place.sandbox.actor("alice").user
    answer = place.sandbox.workspace.new_answer(user.id, channel.id)
    return {
        "token": "bench",
        "team_id": "T0SANDBOX",
        "team_domain": "sandbox",
        "channel_id": channel.id,
        "channel_name": channel.name,
        "user_id": user.id,
        "user_name": user.name,
        "command": "/inc",
        "text": text,
        "api_app_id": place.sandbox.workspace.app.id,
        "is_enterprise_install": "false",
        "response_url": place.sandbox.delivery.response_url(answer.id),
        "trigger_id": place.sandbox.workspace.new_trigger(user.id).id,
    }


async def declaring(place: Place, size: Size) -> list[Line]:
    """Forty people declare at once, half by a command and half by a form, while each call of Slack takes 100 ms."""
    await place.fresh()
    lines = []
    for mode in ("http", "socket"):
        bot = await place.bot(mode=mode, pace=FAST)
        alice = place.sandbox.actor("alice")
        form = (await alice.slash("/inc new")).modal or await alice.modal()
        place.sandbox.faults.latency = 0.1
        try:
            forms = [_submission(place, form, n) for n in range(20)]
            sent = (place.sandbox.delivery.deliver("interactive", sub, "submission", accepts=True) for sub in forms)
            said = (alice.slash(f"/inc new Declared by command {n}") for n in range(20))
            outcomes, replies = await asyncio.gather(asyncio.gather(*sent), asyncio.gather(*said))
        finally:
            place.sandbox.faults.latency = 0.0
        acks = [*outcomes, *(reply.outcome for reply in replies)]
        await alice.close(form)
        await place.quiet(60)
        await bot.stop()
        slowest = max(found.ms for found in acks)
        ((declared,),) = place.rows("select count(*) from incident where title like 'Declared by%'")
        fine = all(found.ok for found in acks) and declared == 40 * (len(lines) + 1)
        shown = f"max {_ms(slowest)}, p50 {_ms(percentile([found.ms for found in acks], 0.5))}"
        lines.append(
            Line(
                f"40 declare at once over {mode}, ack",
                place.kind,
                shown,
                goal="every < 1 s",
                met=fine and slowest < 1000,
                note="" if fine else f"{declared} incidents came of it",
            )
        )
    return lines


def _submission(place: Place, form: View, n: int) -> dict[str, Any]:
    """The form as another person would have sent it: an id of its own, and a title."""
    alice = place.sandbox.actor("alice")
    alice.enter(form, {"title": f"Declared by form {n}"})
    form.values = inputs.values(form.blocks, form.values)
    delivery = place.sandbox.delivery
    view = delivery._view_payload(form)
    common = delivery._common("view_submission", alice.user, place.sandbox.workspace.new_trigger(alice.id, form.id))
    return {**common, "view": {**view, "id": f"{view['id']}{n}"}, "response_urls": []}


# -- one alert, and none ----------------------------------------------------------------------------------------------


async def first_call(place: Place, size: Size) -> list[Line]:
    """From the commit of an alert, which is just before its 202, to the first request that reaches Slack."""
    await place.fresh()
    bot = await place.bot(pace=FAST)
    waits = []
    for n in range(max(10, size.openings // 2)):
        place.sandbox.workspace.calls.clear()
        answered = await load_one(bot, bodies.wire(bodies.alert("First", f"first-{n}")))
        while not place.sandbox.workspace.calls:
            await asyncio.sleep(0.0005)
        waits.append((place.sandbox.workspace.calls[0].started - answered) * 1000)
        await place.quiet(20)
    await bot.stop()
    half = statistics.median(waits)
    shown = f"p50 {_ms(half)}, p95 {_ms(percentile(waits, 0.95))}"
    return [Line("alert answered -> first Slack request", place.kind, shown, goal="p50 < 50 ms", met=half < 50)]


async def load_one(process: Process, request: bytes) -> float:
    """Send one request; the moment at which its answer came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        answered = time.monotonic()
        if not head.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(head.decode(errors="replace"))
    finally:
        writer.close()
    return answered


async def idle(place: Place, size: Size) -> list[Line]:
    """`tocsin run` from its start to /readyz, then left alone."""
    await place.fresh()
    starts = []
    for _ in range(2):
        place.sandbox.request_url = None
        bot = await place.bot(mode="socket")
        starts.append(time.monotonic() - bot.began)
        if len(starts) < 2:
            await bot.stop()
    await asyncio.sleep(3)
    cpu, database, began = bot.cpu, place.database_cpu(), time.monotonic()
    await asyncio.sleep(size.idle)
    took = time.monotonic() - began
    share, more = (bot.cpu - cpu) / took * 100, (place.database_cpu() - database) / took * 100
    memory = rss(bot.pid)
    await bot.stop()
    return [
        Line("cold start to /readyz", place.kind, f"{min(starts):.2f} s", note=f"{bot_started(starts)}"),
        Line("idle memory (RSS)", place.kind, f"{memory:.0f} MB", goal="<= 120 MB", met=memory <= 120),
        Line(
            "idle CPU", place.kind, f"{share:.1f} % of a core", goal="<= 3 %", met=share <= 3,
            note=f"and {more:.1f} % in the database" * bool(more),
        ),
    ]  # fmt: skip


def bot_started(starts: list[float]) -> str:
    return "starts: " + ", ".join(f"{start:.2f} s" for start in starts)


# -- the timeline -----------------------------------------------------------------------------------------------------


async def timelines(place: Place, size: Size) -> list[Line]:
    """A page of 50 events out of a thousand and out of a million of one incident: first, middle, last."""
    url = await place.fresh()
    small, large = "a" * 32, "b" * 32
    began = datetime(2026, 1, 1, tzinfo=UTC)
    await asyncio.to_thread(_fill, place, url, {small: 1000, large: size.rows}, began)
    db = Database(url)
    try:
        times = {}
        for name, incident, rows in (("small", small, 1000), ("large", large, size.rows)):
            for where, index in (("first", None), ("middle", rows // 2), ("last", rows - 51)):
                times[name, where] = (incident, _cursor(began, incident, index))
        found: dict[tuple[str, str], list[float]] = {key: [] for key in times}
        async with db.read() as session:
            for _ in range(size.looks):  # interleaved, so that a busy moment hits all of them
                for key, (incident, after) in times.items():
                    start = time.perf_counter()
                    events = await timeline.page(session, incident, after=after, limit=50)
                    found[key].append((time.perf_counter() - start) * 1000)
                    if len(events) != 50:
                        raise RuntimeError(f"{len(events)} events on a page")
                    session.expunge_all()
    finally:
        await db.close()
    lines = []
    for where in ("first", "middle", "last"):
        few, many = statistics.median(found["small", where]), statistics.median(found["large", where])
        lines.append(
            Line(
                f"timeline, {where} page of 50 of {size.rows:,}", place.kind, f"p50 {many:.2f} ms", f"p50 {few:.2f} ms",
                many / few, "ratio <= 1.30", many / few <= 1.3,
            )
        )  # fmt: skip
    return lines


def _cursor(began: datetime, incident: str, index: int | None) -> timeline.Cursor | None:
    if index is None:
        return None
    at = began + timedelta(seconds=index)
    return timeline.Cursor(at, at, f"{incident[0]}{index:031d}")


def _fill(place: Place, url: str, wanted: dict[str, int], began: datetime) -> None:
    """Incidents with that many events, a second apart, by SQL alone."""
    sqlite = place.server is None
    start = began.strftime("%Y-%m-%d %H:%M:%S")
    incident = Incident(
        id="x" * 32, number=1, title="Long", severity="SEV3", status="investigating", detected_at=began, opened_at=began
    )
    connection: Any = sqlite3.connect(url.removeprefix("sqlite:///")) if sqlite else psycopg.connect(url)
    with contextlib.closing(connection):
        for number, (name, rows) in enumerate(wanted.items(), 1):
            values = {**incident.model_dump(), "id": name, "number": number}
            _insert(connection, values, sqlite=sqlite)
            if sqlite:
                connection.execute(
                    "with recursive n(i) as (select 0 union all select i + 1 from n where i < ? - 1) "
                    "insert into timeline (id, incident_id, kind, text, at, recorded_at, actor, data, corrects) "
                    "select ? || printf('%031d', i), ?, 'note.added', 'Note number ' || i, "
                    "datetime(?, '+' || i || ' seconds') || '.000000', "
                    "datetime(?, '+' || i || ' seconds') || '.000000', 'U1', '{}', null from n",
                    (rows, name[0], name, start, start),
                )
            else:
                connection.execute(
                    "insert into timeline (id, incident_id, kind, text, at, recorded_at, actor, data, corrects) "
                    "select %s || lpad(i::text, 31, '0'), %s, 'note.added', 'Note number ' || i, "
                    "%s::timestamptz + i * interval '1 second', %s::timestamptz + i * interval '1 second', "
                    "'U1', '{}', null from generate_series(0, %s - 1) as i",
                    (name[0], name, began, began, rows),
                )
        connection.commit()
        if not sqlite:
            connection.autocommit = True
        connection.execute("analyze" if sqlite else "vacuum analyze timeline")
        connection.commit()


def _insert(connection: Any, values: dict[str, Any], *, sqlite: bool) -> None:
    """One row of `incident`."""
    plain = {}
    for name, value in values.items():
        if isinstance(value, (list, dict)):
            plain[name] = json.dumps(value)
        elif isinstance(value, datetime):
            plain[name] = value.strftime("%Y-%m-%d %H:%M:%S.%f") if sqlite else value
        else:
            plain[name] = value
    plain["is_open"] = 1 if sqlite else True
    marks = ", ".join(["?" if sqlite else "%s"] * len(plain))
    connection.execute(f"insert into incident ({', '.join(plain)}) values ({marks})", list(plain.values()))


Measure = Callable[[Place, Size], Awaitable[list[Line]]]
ALL: tuple[Measure, ...] = (openings, intake, commands, declaring, first_call, idle, timelines)
