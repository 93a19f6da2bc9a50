"""The one place where parts are made and joined; everything else receives what it needs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa
import structlog
from aiohttp import web
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from pydantic import SecretStr
from slack_sdk.web.async_client import AsyncWebClient

from bot import __version__, jobs, migrations
from bot.alerts import routing
from bot.alerts.routing import Routes
from bot.catalog import config as catalog
from bot.catalog import dangling, sinks, targets, tracking
from bot.catalog.config import Config
from bot.catalog.sinks import Configured
from bot.catalog.targets import Reach
from bot.catalog.tracking import Tracking
from bot.engine import Engine, Retry, Work
from bot.incidents import parts, timeline
from bot.incidents.budget import Budgets
from bot.incidents.chat import Look
from bot.incidents.hearing import Hearing
from bot.incidents.intake import ANSWER_SECONDS, Intake
from bot.incidents.logbook import Logbook
from bot.incidents.model import Incident
from bot.incidents.oncall import Board, Duties
from bot.incidents.opening import Opening
from bot.incidents.outgoing import FIRST, Deliveries, Outbox
from bot.incidents.overdue import Overdue, trouble
from bot.incidents.pager import Acts, Follows, Hears, Looks, Pager
from bot.incidents.paging import Paging, Rules
from bot.incidents.probing import Probing, failing
from bot.incidents.retention import Pruning
from bot.incidents.services import Services
from bot.incidents.shifts import Shifts
from bot.incidents.staleness import QUIET, Staleness
from bot.incidents.statuspage import Page
from bot.incidents.telling import Telling
from bot.incidents.tickets import Tickets
from bot.incidents.tracker import Changes, Tracker
from bot.kit.clock import Clock, utc_now
from bot.kit.db import Database, unavailable
from bot.kit.errors import BotError, TemporaryError, UserError
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.metrics import Metrics
from bot.postmortems import press
from bot.postmortems.files import Files
from bot.postmortems.plan import Plan
from bot.postmortems.render import templates
from bot.postmortems.review import Reminders
from bot.postmortems.share import Share
from bot.reactions import REACTIONS, leaving_out
from bot.runs import access as run_access
from bot.runs import approval as approvals
from bot.runs import needs, scratch
from bot.runs import run as runs
from bot.runs.access import May
from bot.runs.aftermath import Aftermath
from bot.runs.alarm import Alarm
from bot.runs.asking import Asking
from bot.runs.auto import Policy
from bot.runs.automation import Automation
from bot.runs.books import Books
from bot.runs.change import POLL_SECONDS, Clearing
from bot.runs.filing import Filing
from bot.runs.grants import Grants
from bot.runs.interpreter import Interpreter
from bot.runs.live import FRESH, Live
from bot.runs.model import ENDED, RunState
from bot.runs.pages import IncidentPages
from bot.runs.ranking import Ranking
from bot.runs.room import IncidentRoom
from bot.runs.schedule import Schedules
from bot.runs.sharing import Sharing
from bot.runs.show import Show
from bot.settings import Settings
from bot.slack import desk as desks
from bot.slack import http as slack_http
from bot.slack.app import Edge, bolt, draw
from bot.slack.client import Pace, SlackChat
from bot.slack.context import Site
from bot.slack.desk import Desk
from bot.slack.filling import Filling
from bot.slack.groups import Groups
from bot.slack.inbox import Inbox
from bot.slack.people import People
from bot.slack.socket import Patience, Sockets
from bot.steps import prometheus
from bot.web import health, server, trackers, webhooks
from bot.web import metrics as metrics_page
from bot.web import pagers as pager_routes

log = structlog.get_logger()

# Larger than any body the webhooks take; they keep their own bound while reading.
WEB_LIMIT = 17 * 1024**2
# What people are told of when it is given up, and how it is called.
PARKED = {
    "open": "setting up the channel",
    "page": "paging",
    "alarm": "waking the owner of a runbook",
    "draft": "the post-mortem draft",
    "export": "the post-mortem as a file",
    "sync_pages": "telling the pager how the incident stands",
    "press": "calling more people by the pager",
}
# Where the runbooks are that the bot brings: in its source, and in the package.
BROUGHT = (Path(__file__).parent.parent / "runbooks", Path(__file__).parent / "data/runbooks")


@dataclass(frozen=True)
class Shelves:
    """Every plugin there is."""

    sources: Shelf
    steps: Shelf
    pagers: Shelf
    trackers: Shelf
    exporters: Shelf
    sinks: Shelf
    commands: Shelf
    actions: Shelf


def shelves() -> Shelves:
    """Load them all."""
    return Shelves(
        sources=Shelf("bot.sources", must_have=("parse",)).load(),
        steps=Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load(),
        pagers=Shelf("bot.pagers", must_have=("make",)).find(),  # one of them is used
        trackers=Shelf("bot.trackers", must_have=("Options", "make", "genuine", "heard")).load(),
        exporters=Shelf(press.SHELF, must_have=press.NEEDS).find(),  # they write in a process of their own
        sinks=Shelf("bot.sinks", must_have=("Settings", "make")).load(),
        commands=Shelf("bot.slack.commands", must_have=("USAGE", "run")).load(),
        actions=Shelf("bot.slack.actions", must_have=("BUTTONS",)).load(),
    )


@dataclass(frozen=True)
class Tempo:
    """How fast the clockwork goes; tests turn it up."""

    lease_seconds: float = 15.0
    poll_seconds: float = 5.0
    listen_seconds: float = 1.0
    drain_seconds: float = 5.0
    messages_per_second: float = 1.0
    retry_seconds: float = 0.5
    answer_seconds: float = ANSWER_SECONDS
    sweep_seconds: float = 600.0
    stale_seconds: float = QUIET.total_seconds()
    schedule_seconds: float = 10.0
    expire_seconds: float = 10.0
    deliver_seconds: float = 10.0
    deliver_again_seconds: float = FIRST.total_seconds()
    watch_seconds: float = 5.0
    probe_seconds: float = 300.0
    oncall_seconds: float = 60.0
    edit_seconds: float = 3.0
    change_seconds: float = POLL_SECONDS
    fresh_seconds: float = FRESH
    sockets: int = 2
    patience: Patience = field(default_factory=Patience)


class Bot:
    """The whole bot, made by `build` and not yet running."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        *,
        clock: Clock = utc_now,
        tempo: Tempo | None = None,
        traces: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        """Read the configuration and check it; nothing is opened. Raises UserError with all that is wrong.

        *traces* see every HTTP request the bot makes through its one session.
        """
        self.traces = list(traces)
        self.settings = settings
        self.environment = environment
        self.clock = clock
        self.tempo = tempo or Tempo()
        self.shelves = shelves()
        self.config, self.routes, self.reach, self.tracking, self.sinks = _configuration(
            settings.config, environment, self.shelves
        )
        self.trackers: dict[str, Tracker] = {
            name: self.shelves.trackers[access.entry.kind].make(access)
            for name, access in self.tracking.accesses.items()
        }
        self.pager: Pager = self.shelves.pagers[self.config.general.pager].make(self.config)
        self.fallbacks: dict[str, Pager] = {
            name: self.shelves.pagers[name].make(self.config) for name in self.config.general.fallback_pagers
        }
        self.grants = Grants.of(self.config.general, self.reach.targets)
        self.books = Books.read(runbook_folder(settings.config, self.config), self.shelves.steps, self.grants)
        self.metrics = Metrics()
        self.db = Database(settings.database_url.get_secret_value(), self.metrics)
        self.metrics.built(__version__, "sqlite" if self.db.sqlite else "postgres")
        self.engine = Engine(
            self.db,
            lease_seconds=self.tempo.lease_seconds,
            poll_seconds=self.tempo.poll_seconds,
            listen_seconds=self.tempo.listen_seconds,
            parked=self._parked,
            metrics=self.metrics,
        )
        # Where nothing starts by itself, nothing is looked at for it; nor where no tracker or pager can be told.
        idle = [] if self.config.general.auto_runbooks else ["automate"]
        if not any(isinstance(pager, Acts) for pager in (self.pager, *self.fallbacks.values())):
            idle += ["sync_pages", "press"]
        if not self.trackers:
            idle += ["tickets", "followups"]
        self.react_inside = leaving_out(*idle)
        self.outbox = Outbox(self.sinks)
        self.react = self.outbox.after(self.react_inside)
        self.port = 0
        self._joined: _Joined | None = None
        self._paging: Paging | None = None
        self._ending: list[Any] = []

    async def start(self) -> None:
        """Open everything, in the order in which it is needed. Alerts are taken before Slack answers."""
        access = _access(self.settings)
        await asyncio.to_thread(migrations.check, self.db)
        for problem in self.oddities():
            log.warning("configuration.odd", problem=problem)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=100),
            timeout=aiohttp.ClientTimeout(total=30),
            trace_configs=self.traces,
        )
        joined = self._joined = self._join(session, access)
        try:
            await self._open(joined)
        except BaseException:
            await self.stop()
            raise

    def oddities(self) -> list[str]:
        """What is most likely a mistake, though the bot can run with it."""
        found = [str(problem) for problem in self.books.problems]
        if not self.settings.config.is_dir():
            found.append(
                f"the folder {self.settings.config} (TOCSIN_CONFIG) does not exist: everything is at its default"
            )
        if not self.config.connections:
            found.append("connections.yaml names no connection, so no alert can come in")
        found += self._idle()
        found += self._unwritten()
        found += self._untold()
        found += self._unused()
        named = [(f"routes.yaml: route {route.name!r}", route.runbooks or ()) for route in self.routes.routes]
        found += [
            f"{where}: there is no runbook {runbook!r}"
            for where, runbooks in named
            for runbook in runbooks
            if runbook not in self.books.runbooks
        ]
        found += self.dangling()
        found += self.reach.oddities()
        found += self.tracking.oddities()
        found += self._untracked()
        if self.books.folder is not None and self.books.folder.resolve() not in map(Path.resolve, BROUGHT):
            # Of those that the bot brings, each installation uses what it has something for.
            found += [str(problem) for problem in self.books.refused]
            found += needs.missing(self.books.runbooks.values(), self.shelves.steps, self.reach, self.books.folder)
        return found

    def _unwritten(self) -> list[str]:
        """Templates of post-mortems that are named and not there."""
        said = self.config.general.postmortems
        known = templates(Plan.of(said, self.settings.config).folder)
        return [
            f"tocsin.yaml: postmortems: there is no template {name!r}; there is: {', '.join(known)}"
            for name in dict.fromkeys([said.template, *said.template_by_severity.values()])
            if name not in known
        ]

    def _untold(self) -> list[str]:
        """Sinks that wait for what will never come."""
        nouns = {kind.partition(".")[0] for kind in REACTIONS} | {"channel", "approval"}
        found = []
        for sink in self.sinks.values():
            where = f"sinks.yaml:{sink.line}: sink {sink.name!r}"
            parts = set(sink.settings.services) | set(getattr(sink.settings, "components", ()))
            found += [
                f"{where}: there is no service {service!r} in catalog.yaml"
                for service in sorted(parts)
                if service not in self.config.services
            ]
            found += [
                f"{where}: no kind of event fits {glob!r}; docs/reference/timeline-events.md lists them"
                for glob in sink.settings.events
                if not any(fnmatchcase(noun, glob.partition(".")[0]) for noun in nouns)
            ]
        return found

    def dangling(self) -> list[str]:
        """Names that lead nowhere in catalog.yaml, or into it."""
        pagerduty, services = self.config.pagerduty, self.config.services
        known = dangling.Known(
            runbooks=self.books.runbooks,
            pagers=list(self.shelves.pagers),
            keys=pagerduty.services if pagerduty is not None else (),
            connections={name: found.kind for name, found in self.reach.targets.connections.items()},
            says=isinstance(self.pager, Duties),
        )
        document = catalog.document(self.settings.config / catalog.CATALOG)
        found = [] if document is None else dangling.dangling(document, self.config.directory, known)
        found += [
            f"routes.yaml: route {route.name!r}: catalog.yaml has no service {route.service!r}"
            for route in self.routes.routes
            if services and route.service is not None and route.service not in services
        ]
        return found

    def _untracked(self) -> list[str]:
        """Rules of trackers.yaml that can never be met, or never kept."""
        file = self.tracking.file
        named = [(f"findings of {rule.tracker}", rule.runbook) for rule in file.findings]
        named += [(f"changes of {rule.tracker}", rule.runbook) for rule in file.changes]
        found = [
            f"trackers.yaml: {where}: there is no runbook {runbook!r}"
            for where, runbooks in named
            for runbook in runbooks
            if runbook not in self.books.runbooks
        ]
        without = [rule.tracker for rule in file.changes if not isinstance(self.trackers.get(rule.tracker), Changes)]
        return found + [
            f"trackers.yaml: changes: {name} has no change requests, so what these rules match will never run"
            for name in dict.fromkeys(without)
        ]

    def _unused(self) -> list[str]:
        """Pagers that are described and wake nobody."""
        general = self.config.general
        return [
            f"tocsin.yaml: {name}: is described, but neither pager nor fallback_pagers names it, so it wakes nobody"
            for name in self.shelves.pagers
            if getattr(general, name, None) is not None and name not in (general.pager, *general.fallback_pagers)
        ]

    def _idle(self) -> list[str]:
        """What is meant to happen by itself, and cannot."""
        general, found = self.config.general, []
        doubts = [doubt for connection in self.config.connections.values() if (doubt := connection.doubt)]
        if general.auto_runbooks and doubts and len(doubts) == len(self.config.connections):
            found.append(f"auto_runbooks is on, but nothing that comes in may start a runbook: {'; '.join(doubts)}")
        if general.schedules and general.operations_channel is None and general.announcement_channel is None:
            found += [
                f"{book.id}.yaml runs by the clock, but nobody sees it: set operations_channel in tocsin.yaml"
                for book in self.books.runbooks.values()
                if book.schedule is not None
            ]
        return found + self._unheard()

    def _unheard(self) -> list[str]:
        """What is asked of paging that it cannot do."""
        general, pager, name = self.config.general, self.pager, self.config.general.pager
        found = []
        if general.page_ack_minutes and not (isinstance(pager, Looks) and pager.sees):
            hint = "set pagerduty.webhook_secrets or api_token" if name == "pagerduty" else "people say /inc ack"
            found.append(
                f"tocsin.yaml: page_ack_minutes: nothing is seen of what people do in {name}, so only what they say in "
                f"Slack counts; {hint}"
            )
        if general.fallback_pagers and name == "log":
            found.append("tocsin.yaml: fallback_pagers does nothing: the pager is 'log', which never fails")
        if general.page_updates and not (isinstance(pager, Follows) and "status_update" in pager.follows):
            found.append(f"tocsin.yaml: page_updates does nothing: {name} takes no status updates")
        if self.config.pagerduty is not None and self.config.pagerduty.alerts and name != "pagerduty":
            found.append("tocsin.yaml: pagerduty.alerts does nothing: the pager is another one")
        return found

    async def reread(self) -> None:
        """Take up what was changed in the folder of the runbooks. Runs go on with the runbook that they began with."""
        if not await asyncio.to_thread(self.books.reread):
            return
        log.info("runbooks.read", runbooks=len(self.books.runbooks), commit=self.books.commit)
        for problem in (*self.books.problems, *self.books.refused):
            log.warning("runbooks.problem", problem=str(problem))

    async def _open(self, joined: "_Joined") -> None:
        await self.engine.start()
        joined.inbox.channels.update(await desks.channels(self.engine))
        await joined.begin()
        await self._serve(joined)
        try:
            await joined.chat.hello()
        except TemporaryError as error:
            log.warning("slack.away", reason=str(error))
        joined.connecting = spawn(self._connect(joined), name="slack.connect")
        joined.clockwork.start()
        joined.ticker = spawn(self.metrics.watch_loop(), name="loop.watch")
        log.info(
            "bot.started",
            port=self.port,
            database="sqlite" if self.db.sqlite else "postgres",
            runbooks=len(self.books.runbooks),
            connections=len(self.config.connections),
        )

    async def _connect(self, joined: "_Joined") -> None:
        """Reach Slack, however long it takes."""
        wait = 1.0
        while True:
            try:
                if not joined.chat.identity:
                    await joined.chat.hello()
                break
            except (BotError, aiohttp.ClientError, TimeoutError, OSError) as error:
                told = str(error) if isinstance(error, BotError) else type(error).__name__
                log.warning("slack.not_connected", reason=told, wait_seconds=wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 60.0)
        if joined.sockets is not None:
            await joined.sockets.start()
        log.info("slack.connected", team=joined.chat.identity.get("team_id"), mode=self.settings.slack_mode)
        try:
            await joined.people.refresh()  # whoever is not known yet is asked for one by one
        except BotError as error:
            log.warning("people.not_refreshed", reason=str(error))
        await joined.refresh_groups()

    async def _serve(self, joined: "_Joined") -> None:
        app = web.Application(client_max_size=WEB_LIMIT)
        app.add_routes(
            webhooks.routes(self.config.connections, self.shelves.sources, joined.intake, self.clock, self.metrics)
        )
        app.add_routes(trackers.routes(self.tracking, self.shelves.trackers, self.engine, self.clock))
        app.add_routes(metrics_page.routes(self.metrics, self.engine, _secret(self.settings.metrics_token)))
        app.add_routes(joined.routes)
        app.add_routes(
            health.routes(
                {
                    "database": self._database,
                    "engine": self._lease,
                    "slack": joined.reachable,
                },
                {"pager": self._paged},
            )
        )
        joined.runner = server.runner(app, stop_seconds=self.tempo.drain_seconds)
        await joined.runner.setup()
        site = web.TCPSite(joined.runner, self.settings.host, self.settings.port)
        try:
            await site.start()
        except OSError as error:
            raise UserError(
                f"Cannot listen on {self.settings.host}:{self.settings.port} ({error.strerror}); set TOCSIN_PORT"
            ) from None
        self.port = joined.runner.addresses[0][1]

    async def stop(self) -> None:
        """Take nothing new, finish what is under way, leave the rest to the next process."""
        joined, self._joined = self._joined, None
        if joined is not None:
            if joined.ticker is not None:
                joined.ticker.cancel()
            if joined.clockwork.running:
                joined.clockwork.shutdown(wait=False)
            if joined.connecting is not None:
                joined.connecting.cancel()
            if joined.sockets is not None:
                await joined.sockets.stop()
            await joined.intake.stop()
            if joined.runner is not None:
                await joined.runner.cleanup()
        if self.engine.serving:
            await self.engine.stop(drain_seconds=self.tempo.drain_seconds)
        else:
            await self.engine.close()
        for pager in self._pagers().values():
            await pager.close()
        if joined is not None:
            await joined.session.close()
            log.info("bot.stopped")
        await self.db.close()

    def _join(self, session: aiohttp.ClientSession, access: "_Access") -> "_Joined":
        general = self.config.general
        webclient = AsyncWebClient(
            token=access.bot_token, base_url=self.settings.slack_api_url, session=session, retry_handlers=[]
        )
        chat = SlackChat(
            webclient,
            session,
            draw,
            announcements=general.announcement_channel or "",
            pace=Pace(rate=self.tempo.messages_per_second, waits=self.metrics.paced),
            metrics=self.metrics,
        )
        people = People(chat)
        services = Services(self.config.directory, self.clock)
        board = Board(self.config.directory, self.clock)
        groups = Groups(chat, {name: team.members for name, team in self.config.teams.items()}, board.members)
        ranking = Ranking(self.engine, self.books, self.clock)
        rules = self._rules()
        paging = Paging(
            self.engine, self.react, self.pager, general.pager, general.public_url, self.clock, rules,
            self.fallbacks, general.pager if self._raising() else None,
        )  # fmt: skip

        def pages(incident: Incident) -> IncidentPages:
            return IncidentPages(
                self.engine, self.react, self.pager, general.pager, self.clock, incident.id, general.public_url,
                paging.due,
            )  # fmt: skip

        interpreter = Interpreter(
            self.engine,
            self.react,
            self.shelves.steps,
            self.clock,
            self.environment,
            general.private_networks,
            reach=self.reach,
            folder=self.books.folder,
            home=self.settings.scratch or scratch.default(),
            grants=self.grants,
            rooms=lambda run, incident: IncidentRoom(self.engine, self.react, chat, self.clock, incident.id, run.id),
            pages=lambda run, incident: pages(incident),
        )
        clearing = Clearing(
            self.engine, self.react, self.clock, self.tracking, self.trackers, self.tempo.change_seconds
        )
        if self.tracking.file.changes:
            interpreter.clearance = clearing
        interpreter.may = May(self.engine, people.find, groups.of).refusal
        live = Live(interpreter, fresh=self.tempo.fresh_seconds)
        filling = Filling(self.engine, chat, people, self.books, self.shelves.steps, ranking, live, groups.of)
        desk = Desk(self.engine, self.react, chat, people, self.clock, groups=groups.of, offers=ranking.offers)
        inbox = Inbox(
            self.engine,
            chat,
            people,
            self.shelves.commands,
            self.shelves.actions,
            self.books,
            self.clock,
            fill=filling.fill,
            suggest=filling.suggest,
            channels=filling.channels,
            services=self._services(),
        )
        desk.inbox = inbox
        look = Look(
            prefix=general.channel_prefix,
            announce=general.announcement_channel is not None,
            invite=general.invite,
        )
        opening = Opening(
            self.engine,
            self.react,
            chat,
            look,
            ranking.offers,
            self.clock,
            opened=inbox.channels.__setitem__,
            services=services,
            on_call=board.of_service,
        )
        show = Show(self.engine, self.react, chat, self.clock, interpreter, every_seconds=self.tempo.edit_seconds)
        asking = Asking(self.engine, self.react, chat, self.clock)
        telling = Telling(self.engine, self.react, chat, self.clock)
        plan = Plan.of(general.postmortems, self.settings.config)
        reminders = Reminders(self.engine, self.react, self.clock)
        share = Share(self.engine, self.react, chat, self.clock, telling.notify, tuple(self.shelves.exporters), plan)
        files = Files(self.engine, self.react, chat, self.clock, self.shelves.exporters, self.trackers, plan)
        intake = Intake(
            self.engine,
            self.react_inside,
            lambda: self.routes,
            self.clock,
            lambda: self.config.services,
            answer_seconds=self.tempo.answer_seconds,
            outbox=self.outbox,
        )
        deliveries = Deliveries(
            self.engine,
            self.react,
            self.sinks,
            {name: self.shelves.sinks[sink.settings.kind].make(sink) for name, sink in self.sinks.items()},
            general.public_url,
            self.clock,
            first=timedelta(seconds=self.tempo.deliver_again_seconds),
        )
        for name in self.sinks:
            self.metrics.expect(sink=name)
        desk.status_pages = filling.status_pages = self._status_pages()
        read = {general.pager: self.shelves.sources[general.pager].parse} if self._raising() else {}

        def known(address: str) -> str | None:
            return people.id_of(self.config.directory.person(address))

        hearing = Hearing(self.engine, self.react, self._pagers(), rules, self.clock, intake.accept, read, known)
        overdue = Overdue(self.engine, self.react, paging, self.clock)
        policy = Policy.of(self.config)
        automation = Automation(self.engine, self.react, self.clock, self.books, policy)
        filing = Filing(self.engine, self.clock, self.tracking)
        aftermath = Aftermath(
            self.engine, self.react, intake.accept, self.clock, policy, filing.file, clearing.conclude
        )
        logbook = Logbook(
            self.engine, self.react, chat, self.clock, general.operations_channel or general.announcement_channel
        )
        desk.formats, desk.templates = tuple(self.shelves.exporters), tuple(templates(plan.folder))
        desk.policy, desk.log, desk.tracking = policy, logbook.open, self.tracking
        probing = Probing(
            self.engine, self.react, self._pagers(), self.clock, logbook.open, seconds=self.tempo.probe_seconds
        )
        tickets = Tickets(
            self.engine, self.react, self.clock, self.tracking, self.trackers, general.public_url, people.name
        )
        duties = self.pager if isinstance(self.pager, Duties) else None
        desk.site = Site(services, duties is not None, people.id_of, people.recall)
        shifts = Shifts(
            self.engine,
            self.react,
            chat,
            self.clock,
            self.config.directory,
            logbook,
            duties,
            people.id_of,
            self.tempo.oncall_seconds,
        )
        budgets = Budgets(self.engine, self.clock, self.config.services, self._count)
        schedules = Schedules(self.engine, self.react, self.clock, self.books, logbook, on=general.schedules)
        for name, workflow in (
            ("open", opening.open),
            ("refresh", opening.refresh),
            ("notify", telling.notify),
            ("page", paging.page),
            ("page_again", paging.again),
            ("sync_pages", paging.sync),
            ("press", paging.press),
            ("overdue", overdue.overdue),
            ("hear", hearing.hear),
            ("probe", probing.probe),
            ("request", desk.perform),
            ("answer", desk.answer),
            ("run", interpreter.run),
            ("show_run", show.show),
            ("show_runs", show.show_all),
            ("show_approval", asking.show),
            ("expire", asking.expire),
            ("share_file", Sharing(self.engine, self.react, chat, self.clock).share),
            ("draft", share.draft),
            ("export", files.export),
            ("automate", automation.consider),
            ("tickets", tickets.consider),
            ("ticket", tickets.settle),
            ("ticket_heard", tickets.hear),
            ("followups", tickets.followups),
            ("aftermath", aftermath.weigh),
            ("alarm", Alarm(self.engine, pages, lambda: self.config.services).ring),
            ("schedule", schedules.start),
            ("oncall", shifts.look),
            ("budgets", budgets.look),
            ("handover", shifts.announce),
            ("cover", shifts.cover),
            ("logbook", logbook.settle),
            ("sweep", Staleness(self.engine, self.react, timedelta(seconds=self.tempo.stale_seconds)).sweep),
            ("dispatch", deliveries.dispatch),
            ("deliver", deliveries.deliver),
            ("prune", Pruning(self.engine, general.retention).prune),
        ):
            self.engine.workflow(
                name, workflow, Retry(first=self.tempo.retry_seconds, most=self.tempo.retry_seconds * 240)
            )
        edge = Edge(bolt(webclient, chat, inbox), acked=self.metrics.acked, knocked=self.engine.courtesy.knock)
        sockets, routes = None, []
        if access.app_token is not None:
            token = access.app_token
            sockets = Sockets(
                session, lambda: chat.socket_url(token), edge.envelope,
                count=self.tempo.sockets, patience=self.tempo.patience, lost=self.metrics.socket_lost,
            )  # fmt: skip
            self.metrics.sockets(open=lambda: sockets.open, heard=sockets.silence)
        else:
            routes = slack_http.routes(edge.post, access.signing_secret or "")

        async def refresh_channels() -> None:
            inbox.channels.update(await desks.channels(self.engine, newest=200))

        async def refresh_groups() -> None:
            await groups.refresh()
            named = [name for book in self.books.runbooks.values() for name in run_access.named(book)]
            if unknown := groups.unknown(named):
                log.warning("groups.unknown", names=unknown, hint="runbooks name them, and they let nobody in")

        async def sweep_alerts() -> None:
            now = self.clock()
            async with self.engine.transaction() as tx:  # several processes may tick; the id makes it one sweep
                tx.enqueue(
                    Work("sweep", f"sweep:{now.timestamp() // self.tempo.sweep_seconds:.0f}", (now.isoformat(),))
                )

        async def prune_history() -> None:
            now = self.clock()
            async with self.engine.transaction() as tx:
                tx.enqueue(Work("prune", f"prune:{now:%Y%m%d%H}", (now.isoformat(),)))

        async def expire_approvals() -> None:
            now = self.clock()
            async with self.db.read() as session:
                if not await approvals.late(session, now):
                    return
            async with self.engine.transaction() as tx:
                window = now.timestamp() // self.tempo.expire_seconds
                tx.enqueue(Work("expire", f"expire:{window:.0f}", (now.isoformat(),)))

        async def learn_on_call() -> None:
            try:
                async with self.db.read() as session:
                    await board.learn(session)
            except sa.exc.SQLAlchemyError as error:
                if not unavailable(error):
                    raise
                log.warning("oncall.not_learned", reason=type(error).__name__)

        async def remind() -> None:
            try:
                await reminders.tick()
            except sa.exc.SQLAlchemyError as error:
                if not unavailable(error):
                    raise
                log.warning("postmortems.not_reminded", reason=type(error).__name__)

        async def begin() -> None:
            await ranking.refresh()
            await learn_on_call()
            await shifts.tick()
            await budgets.tick()

        clockwork = jobs.scheduler(
            {
                "people.refresh": people.refresh,
                "channels.refresh": refresh_channels,
                "groups.refresh": refresh_groups,
                "runbooks.reread": self.reread,
                "schedules.tick": schedules.tick,
                "alerts.sweep": sweep_alerts,
                "history.prune": prune_history,
                "approvals.expire": expire_approvals,
                "deliveries.tick": deliveries.tick,
                "pages.watch": overdue.tick,
                "pager.probe": probing.tick,
                "runbooks.rank": ranking.refresh,
                "oncall.look": shifts.tick,
                "budgets.look": budgets.tick,
                "oncall.learn": learn_on_call,
                "postmortems.remind": remind,
            },
            {
                "alerts.sweep": self.tempo.sweep_seconds,
                "approvals.expire": self.tempo.expire_seconds,
                "deliveries.tick": self.tempo.deliver_seconds,
                "pages.watch": self.tempo.watch_seconds,
                "pager.probe": self.tempo.probe_seconds,
                "schedules.tick": self.tempo.schedule_seconds,
                "oncall.look": self.tempo.oncall_seconds,
                "oncall.learn": self.tempo.oncall_seconds / 6,
            },
        )
        self._paging = paging
        routes += pager_routes.routes(self._pagers(), hearing)
        return _Joined(session, chat, people, refresh_groups, inbox, begin, intake, tickets, sockets, routes, clockwork)

    async def _count(self, connection: str, query: str) -> float | None:
        """One number of Prometheus."""
        return await prometheus.ask(self.reach, connection, query, self.config.general.private_networks, self.clock)

    def _status_pages(self) -> dict[str, Page]:
        """The sinks that are status pages."""
        made = {
            name: getattr(self.shelves.sinks[sink.settings.kind], "page", None) for name, sink in self.sinks.items()
        }
        return {name: page(self.sinks[name]) for name, page in made.items() if page is not None}

    def _pagers(self) -> dict[str, Pager]:
        """Every pager by its name: the one that wakes people, and those that stand in."""
        return {**self.fallbacks, self.config.general.pager: self.pager}

    def _rules(self) -> Rules:
        return Rules.of(self.config.general, sees=isinstance(self.pager, Looks) and self.pager.sees)

    def _raising(self) -> bool:
        """Whether what people raise in the pager shall be alerts here."""
        access, name = self.config.pagerduty, self.config.general.pager
        return bool(access and access.alerts) and name in self.shelves.sources and isinstance(self.pager, Hears)

    def _services(self) -> list[str]:
        """The services that can be paged by name: those with a key of their own."""
        access = self.config.pagerduty
        if self.config.general.pager == "pagerduty" and access is not None:
            return sorted(access.services)
        return sorted(self.config.services)

    # -- how it is --------------------------------------------------------------------------------------------------

    async def _database(self) -> str | None:
        try:
            async with self.db.read() as session:
                await session.execute(sa.text("select 1"))
        except (sa.exc.SQLAlchemyError, OSError) as error:
            return f"the database does not answer ({type(error).__name__})"
        return None

    async def _paged(self) -> str | None:
        async with self.db.read() as session:
            told = await trouble(session, self.config.general.pager, self.clock())
            troubled = await failing(session)
        found = [told, *(f"{name}: {why}" for name, why in troubled.items() if name in self._pagers())]
        return "; ".join(one for one in found if one) or None

    async def _lease(self) -> str | None:
        age = self.engine.lease_age()
        if age is None or age > self.engine.lease_seconds:
            return "the engine could not renew its lease; another process may take its work over"
        return None

    async def _parked(self, workflow: str, id_: str, args: tuple[Any, ...], why: str) -> None:
        """A workflow was given up: say so where people look."""
        now = self.clock()
        if workflow == "run":
            async with self.engine.transaction() as tx:
                run = await runs.find_alone(tx.session, args[0])
                if run.state not in ENDED:
                    failure = {"step": "the run as a whole", "message": why}
                    await runs.end(tx, self.react, run, RunState.FAILED, now=now, failure=failure)
        elif workflow == "request":
            async with self.engine.transaction() as tx:
                await desks.give_up(tx, args[0], why)
        elif workflow == "ticket" and self._joined is not None:
            async with self.engine.transaction() as tx:
                await self._joined.tickets.give_up(tx, args[0], why)
        elif workflow in PARKED:
            what = PARKED[workflow]
            async with self.engine.transaction() as tx:
                if workflow == "open":
                    await parts.give_up(tx, args[0], why)
                elif workflow == "page" and self._paging is not None:
                    await self._paging.give_up(tx, args[0], args[1], why)
                    return  # that it failed says more
                await timeline.record(
                    tx,
                    self.react,
                    args[0],
                    "work.parked",
                    f"The bot gave up on {what}: {why}",
                    now=now,
                    actor="bot",
                    data={"workflow": workflow, "reason": why},
                    once=id_,
                )


@dataclass
class _Joined:
    session: aiohttp.ClientSession
    chat: SlackChat
    people: People
    refresh_groups: Callable[[], Awaitable[None]]
    inbox: Inbox
    begin: Callable[[], Awaitable[None]]
    intake: Intake
    tickets: Tickets
    sockets: Sockets | None
    routes: list[web.RouteDef]
    clockwork: AsyncIOScheduler
    runner: web.AppRunner | None = None
    connecting: asyncio.Task[None] | None = None
    ticker: asyncio.Task[None] | None = None

    async def reachable(self) -> str | None:
        if not self.chat.identity:
            return "Slack has not answered yet"
        return self.sockets.health() if self.sockets is not None else None


def build(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    clock: Clock = utc_now,
    tempo: Tempo | None = None,
    traces: Sequence[aiohttp.TraceConfig] = (),
) -> Bot:
    """The bot, made and checked, not yet running."""
    return Bot(settings, environment, clock=clock, tempo=tempo, traces=traces)


def runbook_folder(folder: Path, config: Config) -> Path:
    """Where the runbooks are: beside the configuration, else where the bot was started, else those it brings."""
    wanted = Path(config.general.runbooks)
    return next((place for place in (folder / wanted, wanted, *BROUGHT) if place.is_dir()), wanted)


def _configuration(
    folder: Path, environment: Mapping[str, str], found: Shelves
) -> tuple[Config, Routes, Reach, Tracking, Mapping[str, Configured]]:
    """Everything in the folder; UserError with all that is wrong in it, a line each."""
    problems: list[str] = []
    config, routes, reach, tracked = Config(), Routes(), Reach(), Tracking()
    told: Mapping[str, Configured] = {}
    try:
        config = catalog.load(folder, environment)
    except UserError as error:
        problems.append(str(error))
    try:
        routes = routing.load(folder / "routes.yaml")
    except UserError as error:
        problems.append(str(error))
    try:
        reach = targets.load(folder, environment)
    except UserError as error:
        problems.append(str(error))
    try:
        tracked = tracking.load(folder, environment, {name: found.trackers[name].Options for name in found.trackers})
    except UserError as error:
        problems.append(str(error))
    try:
        told = sinks.load(folder, environment, {name: found.sinks[name].Settings for name in found.sinks})
    except UserError as error:
        problems.append(str(error))
    problems += _unknown(config, found)
    if problems:
        raise UserError("\n".join(problems))
    return config, routes, reach, tracked, told


def _unknown(config: Config, found: Shelves) -> list[str]:
    problems = [
        f"connections.yaml: {name}: there is no source {connection.source!r}; there is: {', '.join(found.sources)}"
        for name, connection in config.connections.items()
        if connection.source not in found.sources
    ]
    if config.general.pager not in found.pagers:
        problems.append(f"tocsin.yaml: there is no pager {config.general.pager!r}; there is: {', '.join(found.pagers)}")
    for name in config.general.fallback_pagers:
        if name not in found.pagers:
            problems.append(f"tocsin.yaml: fallback_pagers: there is no {name!r}; there is: {', '.join(found.pagers)}")
        elif name in (config.general.pager, "log"):
            told = "it wakes nobody" if name == "log" else "it is the pager itself"
            problems.append(f"tocsin.yaml: fallback_pagers: {name!r} cannot stand in, {told}")
    archive = config.general.archive
    if archive is not None and archive.format not in found.exporters:
        problems.append(f"tocsin.yaml: archive: no format {archive.format!r}; there is: {', '.join(found.exporters)}")
    return problems


@dataclass(frozen=True)
class _Access:
    """What opens Slack: with `app_token` by socket, else by requests signed with `signing_secret`."""

    bot_token: str
    app_token: str | None = None
    signing_secret: str | None = None


def _access(settings: Settings) -> _Access:
    """The secrets that the chosen mode needs; UserError when one is missing."""
    bot = _secret(settings.slack_bot_token)
    app, secret = _secret(settings.slack_app_token), _secret(settings.slack_signing_secret)
    if settings.slack_mode == "http":
        if bot and secret:
            return _Access(bot, signing_secret=secret)
        raise UserError(
            "TOCSIN_SLACK_MODE=http needs TOCSIN_SLACK_BOT_TOKEN (xoxb-…) and TOCSIN_SLACK_SIGNING_SECRET (Basic "
            "Information): make an app from the manifest that `tocsin manifest --url https://…` prints"
        )
    if bot and app:
        return _Access(bot, app_token=app)
    raise UserError(
        "Set TOCSIN_SLACK_BOT_TOKEN (xoxb-…) and TOCSIN_SLACK_APP_TOKEN (xapp-…): make an app from the "
        "manifest that `tocsin manifest` prints. To try the bot without Slack: tocsin demo"
    )


def _secret(found: SecretStr | None) -> str | None:
    return None if found is None else found.get_secret_value()
