"""Every pager, tracker and sink there is, each with what it needs, and an incident that is told to one of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from bot.app import shelves
from bot.catalog import config as catalog
from bot.catalog.tracking import File, Followups, Rule, Tracking
from bot.engine import Engine
from bot.incidents import lifecycle, paging, tasks, tickets, timeline
from bot.incidents.model import Incident, Page, Sev, Status, TaskKind, Ticket
from bot.incidents.outgoing import Deliveries, Outgoing
from bot.incidents.paging import Paging, Rules
from bot.incidents.tickets import Tickets
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.reactions import react
from tests.fakes.github_issues import GitHubServer
from tests.fakes.gitlab_issues import GitLabServer
from tests.fakes.grafana import GrafanaServer
from tests.fakes.jira import JiraServer
from tests.fakes.opsgenie import OpsgenieServer
from tests.fakes.pagerduty import PagerDutyServer
from tests.fakes.receiver import Receiver
from tests.fakes.servicenow import ServiceNowServer
from tests.fakes.smtp import MailServer
from tests.fakes.statuspage import StatuspageServer
from tests.sinks.conftest import configured
from tests.trackers.conftest import access

SHELVES = shelves()
PLACES = [
    *(("pager", name) for name in SHELVES.pagers),
    *(("tracker", name) for name in SHELVES.trackers),
    *(("sink", name) for name in SHELVES.sinks),
]
SECRET, ROUTING = "marker-secret-0123456789-abcdefghij-KLMNOP", "markerroutingkey0123456789abcdef"
USER = "bot@example.com"
ENVIRONMENT = {name: f"{SECRET}-{name}" for name in ("KEY", "OTHER", "TOKEN")}


def pager(name: str, folder: Path, port: int) -> Any:
    """The pager called *name* as tocsin.yaml describes it, with its server at *port*."""
    url = f"http://127.0.0.1:{port}"
    text = {
        "log": "",
        "email": f"  host: 127.0.0.1\n  port: {port}\n  tls: none\n  from: tocsin@example.com\n"
        "  to: [oncall@example.com]\n",
        "oncall_webhook": "  url: {env: KEY}\n",
        "opsgenie": f"  api_key: {{env: KEY}}\n  api_url: {url}\n",
        "pagerduty": f"  routing_key: {{env: ROUTING}}\n  api_token: {{env: TOKEN}}\n  from_email: {USER}\n"
        f"  events_url: {url}\n  api_url: {url}\n",
        "webhook": f"  url: {url}/page\n  secret: {{env: KEY}}\n",
    }[name]
    (folder / "tocsin.yaml").write_text("version: 1\n" + (f"{name}:\n{text}" if text else ""))
    env = {**ENVIRONMENT, "ROUTING": ROUTING}
    if name == "oncall_webhook":
        env["KEY"] = f"{url}/{ENVIRONMENT['KEY']}/"
    made = SHELVES.pagers[name].make(catalog.load(folder, env))
    if hasattr(made, "_look"):
        made._look = 0.0
    return made


def tracker(name: str, port: int, token: str, username: str | None) -> Any:
    """The access to the tracker of that kind at *port*."""
    options = {
        "jira": {"project": "OPS", "edition": "cloud"},
        "servicenow": {},
        "github": {"repository": "example/ops"},
        "gitlab": {"project": "group/ops"},
    }[name]
    return access(name, f"http://127.0.0.1:{port}", token, username=username, **options)


def sink(name: str, folder: Path, port: int, secret: str) -> Any:
    """The sink of that kind, told of private incidents as far as it may be."""
    url = f"http://127.0.0.1:{port}"
    text = {
        "webhook": f"    url: {url}/hook\n    secret: {{env: SECRET}}\n",
        "grafana": f"    url: {url}\n    token: {{env: SECRET}}\n",
        "datadog": f"    api_url: {url}\n    api_key: {{env: SECRET}}\n",
        "statuspage": f"    api_url: {url}/v1\n    page_id: abcdef123456\n"
        "    api_key: {env: SECRET}\n    auto: true\n",
    }[name]
    return configured(folder, f"    kind: {name}\n    private: reference\n{text}", SECRET=secret)


@dataclass
class Story:
    """An incident with a word that must not leave, and all that follows from what happens to it at one place."""

    engine: Engine
    word: str
    private: bool
    pager: Any = None
    tracker: Any = None
    sink: Any = None
    now: datetime = field(default_factory=utc_now)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine._promise = lambda connection, work: None  # the story carries the work out itself
        self._done: set[str] = set()
        self.told_by = None if self.sink is None else SHELVES.sinks[self.sink.settings.kind].make(self.sink)
        if self.sink is not None:
            self.deliveries = Deliveries(self.engine, react, {"it": self.sink}, {"it": self.told_by}, None, self.clock)
        if self.pager is not None:
            rules = Rules({"SEV1": timedelta(minutes=5)}, raised="escalate", updates=True)
            self.paging = Paging(self.engine, react, self.pager, "it", None, self.clock, rules)
        if self.tracker is not None:
            rule, exported = Rule(tracker="ops", private=True), Followups(tracker="ops")
            file = File(trackers={"ops": self.tracker.entry}, tickets=(rule,), followups=exported)
            module = SHELVES.trackers[self.tracker.entry.kind]
            self.tickets = Tickets(
                self.engine, react, self.clock, Tracking(file, {"ops": self.tracker}),
                {"ops": module.make(self.tracker)}, None, str,
            )  # fmt: skip

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    async def told(self) -> None:
        """Everything that can be said of an incident, with the word in all of it."""
        async with self.engine.transaction() as tx:
            incident = await lifecycle.declare(
                tx, react, title=self.word, summary=self.word, severity=Sev.SEV2, by="U1", now=self.clock(),
                private=self.private, service="checkout",
            )  # fmt: skip
        self.incident_id = incident.id
        await self.follow()
        await self.do(lifecycle.note, self.word)
        await self.do(lifecycle.set_severity, Sev.SEV1, reason=self.word)
        await self.do(lifecycle.set_status, Status.FIXING)
        await self.do(paging.acknowledge)
        if self.pager is not None and await self.page() is not None:
            await self.do(paging.ask, "escalate", message=self.word, once="1")
            await self.do(paging.ask, "add_responder", user="bob@example.com", message=self.word, once="2")
            await self.again()
        await self.do(tasks.add, TaskKind.FOLLOWUP, tasks.Wish(self.word))
        if self.tracker is not None:
            await self.tried(self.tickets.followups(self.incident_id))
        await self.do(lifecycle.resolve, note=self.word)
        await self.do(lifecycle.reopen, reason=self.word)

    async def close(self) -> None:
        if self.pager is not None:
            await self.pager.close()

    async def again(self) -> None:
        async with self.engine.transaction() as tx:
            await paging.wake(tx, react, self.incident_id, self.word, key="again", now=self.clock(), actor="U1")
        await self.follow()

    async def do(self, what: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> None:
        """Something happens, and what follows from it is done."""
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, self.incident_id, lock=True)
            await what(tx, react, incident, *args, by="U1", now=self.clock(), **more)
        await self.follow()

    async def follow(self) -> None:
        if self.pager is not None:
            await self._paged()
        if self.tracker is not None:
            await self.tried(self.tickets.consider(self.incident_id))
            async with self.engine.db.read() as session:
                found = await tickets.of(session, self.incident_id)
            for ticket in found:
                await self.tried(self.tickets.settle(ticket.id))
        if self.sink is not None:
            await self.deliveries.dispatch(self.incident_id, [event.id for event in await self.events()])
            await self.deliveries.deliver("it", self.incident_id)

    async def _paged(self) -> None:
        doing = {"page": "page", "page_again": "again", "sync_pages": "sync", "press": "press"}
        for _ in range(10):
            works = [work for event in await self.events() for work in react(event)]
            fresh = [work for work in works if work.workflow in doing and work.id not in self._done]
            for work in fresh:
                self._done.add(work.id)
                await self.tried(getattr(self.paging, doing[work.workflow])(*work.args))
            if not fresh:
                return

    async def tried(self, work: Awaitable[Any]) -> None:
        """What the engine would try again or give up is written down with its reason, as the engine does."""
        try:
            async with asyncio.timeout(20):
                await work
        except (TemporaryError, PermanentError) as error:
            self.failures.append(str(error))

    async def page(self) -> Page | None:
        async with self.engine.db.read() as session:
            return await paging.current(session, self.incident_id)

    async def events(self) -> list[Any]:
        async with self.engine.db.read() as session:
            return await timeline.whole(session, self.incident_id)

    async def kept(self) -> str:
        """All that stands in the database afterwards, and what was said of failures."""
        async with self.engine.db.read() as session:
            rows = [
                row.model_dump()
                for model in (Incident, Page, Ticket, Outgoing)
                for row in await session.scalars(sa.select(model))
            ]
        events = [event.model_dump() for event in await self.events()]
        return str((rows, events, self.failures))


@asynccontextmanager
async def stand_in(kind: str, name: str) -> AsyncIterator[Any]:
    """The strict stand-in for a place, with our secrets."""
    key = ENVIRONMENT["KEY"]
    made = {
        ("pager", "email"): MailServer,
        ("pager", "opsgenie"): lambda: OpsgenieServer(key),
        ("pager", "pagerduty"): PagerDutyServer,
        ("tracker", "jira"): JiraServer,
        ("tracker", "servicenow"): ServiceNowServer,
        ("tracker", "github"): GitHubServer,
        ("tracker", "gitlab"): GitLabServer,
        ("sink", "grafana"): lambda: GrafanaServer(SECRET),
        ("sink", "statuspage"): lambda: StatuspageServer(SECRET, "abcdef123456"),
        ("sink", "datadog"): lambda: Receiver(usual=lambda got: web.json_response({"event": {"id": 7}}, status=202)),
    }.get((kind, name), Receiver)()
    if kind == "tracker" or name == "pagerduty":
        await made.start()
        made.token = ENVIRONMENT["TOKEN"]
        if name == "pagerduty":
            made.services[ROUTING] = "checkout"
        try:
            yield made
        finally:
            await made.stop()
    else:
        async with made:
            yield made


def port_of(server: Any) -> int:
    return getattr(server, "port", None) or server._server.port


def made(kind: str, name: str, folder: Path, port: int) -> dict[str, Any]:
    """What a story needs to play at a place whose server is at *port*."""
    if kind == "pager":
        return {"pager": pager(name, folder, port)}
    if kind == "tracker":
        username = {"jira": USER, "servicenow": "tocsin"}.get(name)
        return {"tracker": tracker(name, port, ENVIRONMENT["TOKEN"], username)}
    return {"sink": sink(name, folder, port, SECRET)}
