"""What the machine can do at all: the smallest servers that do a part of what the bot does.

    python -m bench.floors MODE PORT DATABASE_URL

plain: answers 200. parse: checks a signature and reads the JSON. row: the same, and keeps the alert in one row,
durably, all that wait in one commit. slash: a slash command: checks the signature and commits one row, each by itself.
"""

import asyncio
import hashlib
import hmac
import json
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import psycopg
from aiohttp import web

from bot.sandbox.signed import sign

SECRET = "a-secret-of-the-bench"
CREATE = "create table if not exists floor (id {serial}, fp text, name text, body text, at double precision)"
INSERT = "insert into floor (fp, name, body, at) values ({0}, {0}, {0}, {0})"

Row = tuple[str, str, str, float]
Put = Callable[[Row], Awaitable[None]]
Commit = Callable[[list[Row]], Awaitable[None]]


def trusted(request: web.Request, body: bytes) -> bool:
    """Whether *body* is signed as Slack signs."""
    stamp = request.headers.get("X-Slack-Request-Timestamp", "0")
    given = request.headers.get("X-Slack-Signature", "")
    return abs(time.time() - int(stamp)) < 300 and hmac.compare_digest(sign(SECRET, stamp, body), given)


def alert(body: bytes) -> Row:
    """The row of an Alertmanager body with one alert."""
    first = json.loads(body)["alerts"][0]
    labels = first["labels"]
    key = first.get("fingerprint") or hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16]
    return key, labels["alertname"], body.decode(), time.time()


def command(body: bytes) -> Row:
    """The row of a slash command."""
    found = dict(parse_qsl(body.decode()))
    return found["trigger_id"], found["command"], found.get("text", ""), time.time()


class Group:
    """All rows that wait go into one commit; each answer comes after it."""

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self.rows: list[tuple[Row, asyncio.Future[None]]] = []
        self.writer: asyncio.Task[None] | None = None

    async def put(self, row: Row) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.rows.append((row, done))
        if self.writer is None:
            self.writer = asyncio.ensure_future(self.write())
        await done

    async def write(self) -> None:
        while self.rows:
            rows, self.rows = self.rows, []
            await self.commit([row for row, _ in rows])
            for _, done in rows:
                done.set_result(None)
        self.writer = None


def sqlite(path: str) -> tuple[Put, Commit]:
    """One row at a time on the loop, or many in a thread; with the bot's own durability."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        db.execute(f"pragma {pragma}")
    db.execute(CREATE.format(serial="integer primary key"))
    insert = INSERT.format("?")

    def write(rows: list[Row]) -> None:
        db.execute("begin immediate")
        db.executemany(insert, rows)
        db.execute("commit")

    async def put(row: Row) -> None:
        write([row])

    async def commit(rows: list[Row]) -> None:
        await asyncio.to_thread(write, rows)

    return put, commit


async def postgres(url: str) -> tuple[Put, Commit]:
    """Ten connections; a row, or many, in one transaction."""
    free: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()
    for number in range(10):
        connection = await psycopg.AsyncConnection.connect(url)
        if not number:
            await connection.execute(CREATE.format(serial="bigserial primary key"))  # type: ignore[arg-type]
            await connection.commit()
        free.put_nowait(connection)
    insert = INSERT.format("%s")

    async def commit(rows: list[Row]) -> None:
        connection = await free.get()
        try:
            async with connection.cursor() as cursor:
                if len(rows) == 1:
                    await cursor.execute(insert, rows[0])  # type: ignore[arg-type]
                else:
                    await cursor.executemany(insert, rows)  # type: ignore[arg-type]
            await connection.commit()
        finally:
            free.put_nowait(connection)

    async def put(row: Row) -> None:
        await commit([row])

    return put, commit


async def application(mode: str, url: str) -> web.Application:
    """The server of one mode."""

    async def plain(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="ok")

    async def parse(request: web.Request) -> web.Response:
        body = await request.read()
        if not trusted(request, body):
            return web.Response(status=401)
        alert(body)
        return web.Response(text="ok")

    async def row(request: web.Request) -> web.Response:
        body = await request.read()
        if not trusted(request, body):
            return web.Response(status=401)
        await group.put(alert(body))
        return web.Response(text="ok")

    async def slash(request: web.Request) -> web.Response:
        body = await request.read()
        if not trusted(request, body):
            return web.Response(status=401)
        await put(command(body))
        return web.Response()

    app = web.Application()
    if mode in ("row", "slash"):
        if url.startswith("sqlite"):
            put, commit = sqlite(url.removeprefix("sqlite:///"))
        else:
            put, commit = await postgres(url)
        group = Group(commit)
    app.router.add_post("/{any:.*}", {"plain": plain, "parse": parse, "row": row, "slash": slash}[mode])
    return app


def main() -> None:
    mode, port, url = sys.argv[1:]
    web.run_app(application(mode, url), host="127.0.0.1", port=int(port), access_log=None, print=None)


if __name__ == "__main__":
    main()
