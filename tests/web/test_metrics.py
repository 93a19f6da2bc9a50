"""The page of numbers: who may read it, what it costs the database, and that the documents name all of it."""

import asyncio
import re
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families as families
from sqlalchemy import event

from bot.engine import Engine
from bot.kit import yaml
from bot.kit.db import Database
from bot.metrics import WATCHED, Metrics
from bot.settings import Settings
from bot.web import metrics as page
from bot.web.metrics import FAMILIES, Stored
from tests.conftest import KINDS

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-the-scraper-0123"
PROCESS = ("process_", "python_")


@pytest.fixture
async def serve():
    """Starts a web server with the page on a free port."""
    clients, databases = [], []

    async def start(database, token=None, metrics=None):
        databases.append(database)
        app, metrics = web.Application(), metrics or Metrics()
        app.add_routes(page.routes(metrics, Engine(database, metrics=metrics), token))
        server = TestServer(app)
        await server.start_server()
        clients.append(TestClient(server))
        return clients[-1]

    yield start
    for made in (*clients, *databases):
        await made.close()


def everything_once() -> Metrics:
    """Every metric with a value."""
    metrics = Metrics()
    stored = Stored(Engine(Database("sqlite:///none.db"), metrics=metrics))
    stored.found = {name: {family.labels: 1} for name, family in FAMILIES.items()}
    metrics.registry.register(stored)
    metrics.built("1.2.3", "sqlite")
    for name in WATCHED:
        metrics.watch(name, lambda: 1)
    metrics.sockets(open=lambda: 2, heard=lambda: 0.5)
    metrics.socket_lost("silent")
    metrics.delivered("prometheus", 202, 0.01)
    metrics.stored(1, {"opened": 1})
    metrics.worked("open", "done")
    metrics.decided("started")
    metrics.scheduled("started")
    metrics.paged("pagerduty", "sent")
    metrics.told("pagerduty", "applied")
    metrics.sunk("archive", "delivered")
    metrics.acked("command", "socket", 0.01, True)
    metrics.called("chat.postMessage", "ok", 0.1)
    metrics.limited("chat.postMessage", 1)
    metrics.stated("read", 0.001)
    metrics.pruned[("workflows",)].inc()
    return metrics


def read(text):
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in families(text)}


def labels(family):
    return sorted({label for sample in family.samples for label in sample.labels if label != "le"})


def test_the_page_lists_every_metric_with_its_type_labels_and_meaning():
    found = read(generate_latest(everything_once().registry).decode())
    rows = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        for line in (ROOT / "docs/reference/metrics.md").read_text().splitlines()
        if line.startswith("| `tocsin_")
    ]

    listed = {row[0].strip("`"): (row[1], re.findall(r"`(\w+)`", row[2]), row[3]) for row in rows}

    assert len(listed) == len(rows)
    assert listed == {
        name: (family.type, labels(family), family.documentation)
        for name, family in found.items()
        if not name.startswith(PROCESS)
    }


def test_the_page_says_which_metrics_come_from_the_database():
    text = (ROOT / "docs/reference/metrics.md").read_text()
    chapter = text[text.index("## From the database") :]

    assert set(re.findall(r"^\| `(\w+)`", chapter, re.MULTILINE)) == {"tocsin_scrape_ok", *FAMILIES}


def rules():
    document = yaml.load((ROOT / "docs/examples/tocsin-rules.yml").read_text(), "tocsin-rules.yml").data
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_the_example_rules_ask_for_what_is_there():
    metrics = everything_once()
    text = generate_latest(metrics.registry).decode()
    samples = {sample.name: set(sample.labels) for family in families(text) for sample in family.samples}

    for rule in rules():
        expression = re.sub(r'"[^"]*"', '""', rule["expr"])
        asked = re.findall(r"\b(tocsin_\w+)(?:\{([^}]*)\})?", expression)
        assert asked
        for name, matchers in asked:
            assert name in samples, f"{rule['alert']}: there is no {name}"
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - {"job"}
            assert used <= samples[name], f"{rule['alert']}: {name} has no label {used - samples[name]}"
        assert expression.count("(") == expression.count(")")


def test_every_example_rule_says_what_to_do():
    found = rules()

    assert len({rule["alert"] for rule in found}) == len(found) >= 8
    for rule in found:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
        assert rule["labels"]["severity"] in ("critical", "high", "medium")


async def test_the_page_is_open_unless_a_token_is_set(serve, database):
    answer = await (await serve(database)).get("/metrics")

    assert answer.status == 200
    assert 'tocsin_scrape_ok{part="database"} 1.0' in await answer.text()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 401),
        ("", 401),
        ("Bearer wrong", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer ключ", 401),
    ],
)
async def test_with_a_token_only_its_bearer_reads_the_page(serve, tmp_path, header, status):
    client = await serve(Database(f"sqlite:///{tmp_path}/none.db"), TOKEN)

    answer = await client.get("/metrics", headers={} if header is None else {"Authorization": header})

    assert answer.status == status
    assert ("tocsin_" in await answer.text()) == (status == 200)
    assert TOKEN not in await answer.text()
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_token_that_can_be_guessed_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="at least 16") as refused:
        Settings(metrics_token="hunter2-hunter2")

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:///{}/empty.db", "postgresql://x@127.0.0.1:1/none?connect_timeout=1"])
async def test_without_a_database_the_rest_is_told(serve, tmp_path, url):
    metrics = Metrics()
    metrics.called("auth.test", "ok", 0.1)

    answer = await (await serve(Database(url.format(tmp_path)), metrics=metrics)).get("/metrics")
    found = read(await answer.text())

    assert answer.status == 200
    (told,) = found["tocsin_scrape_ok"].samples
    assert (told.labels, told.value) == ({"part": "database"}, 0)
    assert found["tocsin_slack_calls_total"].samples
    assert found["tocsin_incidents"].samples == []


@pytest.mark.parametrize("database_url", [kind for kind in KINDS if kind == "postgres"], indirect=True)
async def test_a_database_that_does_not_come_to_an_answer_is_not_waited_for(database, database_url):
    stored = Stored(Engine(database), patience=0.2)
    with psycopg.connect(database_url) as other:
        other.execute("lock table incident in access exclusive mode")
        await stored.look()
        hindered = dict(stored.found)
    await stored.look()

    assert set(hindered) == {"tocsin_work_waiting", "tocsin_work_running", "tocsin_work_oldest_waiting_seconds"}
    assert set(stored.found) == set(FAMILIES)


async def test_who_looks_at_the_same_time_shares_one_look(database):
    stored = Stored(Engine(database), rest=0)
    said = []
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *args: said.append(args[2]))

    await stored.look()
    alone = len([statement for statement in said if "SELECT" in statement.upper()])
    said.clear()
    await asyncio.gather(*(stored.look() for _ in range(5)))

    assert len([statement for statement in said if "SELECT" in statement.upper()]) == alone > 0


async def test_one_who_gives_up_takes_the_look_from_nobody(database):
    stored = Stored(Engine(database))
    hasty = asyncio.ensure_future(stored.look())
    patient = asyncio.ensure_future(stored.look())
    await asyncio.sleep(0)
    hasty.cancel()
    await patient

    assert set(stored.found) == set(FAMILIES)


async def test_work_that_waits_and_work_under_way_are_told_apart(database):
    engine = Engine(database)
    table = "workflow_status" if database.sqlite else "dbos.workflow_status"
    insert = sa.text(
        f"insert into {table} (workflow_uuid, status, name, queue_name, created_at, updated_at, priority) values"
        f" (:id, :status, :name, :queue, ({database.now} - :age) * 1000, 0, 0)"
    )
    rows = [
        ("a", "ENQUEUED", "open", "main", 30),
        ("b", "ENQUEUED", "open", "main", 90),
        ("c", "PENDING", "run", "runs", 10),
        ("d", "SUCCESS", "open", "main", 500),
    ]
    async with database.write() as session:
        for row in rows:
            await session.execute(insert, dict(zip(("id", "status", "name", "queue", "age"), row, strict=True)))
    stored = Stored(engine)
    await stored.look()

    assert stored.found["tocsin_work_waiting"] == {("main", "open"): 2}
    assert stored.found["tocsin_work_running"] == {("runs", "run"): 1}
    (oldest,) = stored.found["tocsin_work_oldest_waiting_seconds"].values()
    assert 90 <= oldest < 120


@pytest.mark.parametrize(("rest", "shown"), [(0.0, 1), (1e9, 0)])
async def test_what_takes_long_to_count_is_not_counted_for_every_scrape(database, rest, shown):
    class Slow(Stored):
        async def _read(self, session):
            await asyncio.sleep(page.QUICK * 2)
            return await super()._read(session)

    stored = Slow(Engine(database), rest=rest)
    await stored.look()
    async with database.write() as session:
        await session.execute(sa.text("insert into counter (name, value) values ('pruned.request.form.done', 1)"))
    await stored.look()

    assert stored.found["tocsin_requests_total"].get(("form", "done"), 0) == shown
    assert set(stored.found) == set(FAMILIES)


async def test_a_history_that_takes_longer_to_count_than_a_scrape_may_is_not_taken_for_a_database_that_is_away(
    database,
):
    class Slower(Stored):
        async def _read(self, session):
            await asyncio.sleep(self.patience * 2)
            return await super()._read(session)

    stored = Slower(Engine(database), patience=0.2)
    await stored.look()
    first = set(stored.found)
    await asyncio.sleep(0.5)
    await stored.look()

    assert "tocsin_work_waiting" in first
    assert set(stored.found) == set(FAMILIES)
