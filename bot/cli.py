"""What an operator types. What is meant for programs is JSON alone on stdout; everything else goes to stderr."""

import asyncio
import contextlib
import gc
import getpass
import importlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import sqlalchemy as sa
import typer
from pydantic import ValidationError

from bot import __version__, app, migrations
from bot.alerts import source as alert_source
from bot.catalog import backstage, targets
from bot.catalog import config as catalog
from bot.engine import Engine
from bot.incidents import lifecycle, logbook, outgoing, timeline
from bot.incidents.model import Incident
from bot.kit import log, yaml
from bot.kit import table as tables
from bot.kit.clock import duration_text, utc_now
from bot.kit.db import Database
from bot.kit.errors import BotError, UserError
from bot.kit.ids import new_id
from bot.kit.shelf import Shelf
from bot.postmortems import archive as archives
from bot.postmortems import draft as drafts
from bot.postmortems import examples, press, rules, sarif
from bot.postmortems import lint as linter
from bot.postmortems import merge as merging
from bot.postmortems import render as rendering
from bot.postmortems.exporter import file_name
from bot.postmortems.facts import Facts
from bot.postmortems.model import Origin, Postmortem
from bot.postmortems.plan import Plan
from bot.reactions import react
from bot.runs import approval as approvals
from bot.runs import audit, cron, params, process, recorded
from bot.runs import outline as outlines
from bot.runs import preview as previews
from bot.runs import report as reports
from bot.runs import run as runs
from bot.runs import runbook as runbooks
from bot.runs import schedule as schedules
from bot.runs import schema as schemas
from bot.runs.books import prefill
from bot.runs.grants import Grants
from bot.runs.model import Run, RunState, RunStep, Trigger
from bot.runs.redact import Redactor
from bot.runs.runbook import Alert, Runbook
from bot.settings import Settings, environment
from bot.slack import manifest as manifests

T = TypeVar("T")

DRY_LINES = 20  # of what a step printed

cli = typer.Typer(
    name="tocsin",
    help="An incident response bot for Slack: alerts in, channels, runbooks, timeline, post-mortems out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
alerts = typer.Typer(help="Look at what a sender sends.", no_args_is_help=True)
runbook = typer.Typer(help="Check runbooks, try them, run them.", no_args_is_help=True)
postmortem = typer.Typer(help="Post-mortem documents.", no_args_is_help=True)
templating = typer.Typer(help="Templates of post-mortems, those of the installation too.", no_args_is_help=True)
timelines = typer.Typer(help="The timeline of an incident.", no_args_is_help=True)
catalogs = typer.Typer(help="What you run and who owns it: catalog.yaml.", no_args_is_help=True)
imports = typer.Typer(help="Make catalog.yaml of what another system knows.", no_args_is_help=True)
audits = typer.Typer(help="The audit of runs: a chain of lines that cannot be changed unseen.", no_args_is_help=True)
cli.add_typer(audits, name="audit")
cli.add_typer(alerts, name="alerts")
cli.add_typer(catalogs, name="catalog")
catalogs.add_typer(imports, name="import")
cli.add_typer(runbook, name="runbooks")
cli.add_typer(postmortem, name="postmortem")
cli.add_typer(templating, name="templates")
cli.add_typer(timelines, name="timeline")


def main(arguments: list[str] | None = None) -> None:
    """The command `tocsin`. Exit code 0: done; 1: it ran and found something wrong; 2: it could not be done."""
    try:
        cli(args=arguments)
    except BotError as error:
        fail(str(error))
    except ValidationError as error:
        told = [f"TOCSIN_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_input=False)]
        fail("\n".join(told))
    except sa.exc.DBAPIError as error:
        fail(f"The database refused or did not answer ({type(error).__name__}). Try: tocsin check")


def fail(text: str, code: int = 2) -> NoReturn:
    """Say what is wrong on stderr and end."""
    print(log.masked(text), file=sys.stderr)  # noqa: T201
    raise SystemExit(code)


def out(text: str) -> None:
    """What was asked for, on stdout."""
    print(text)  # noqa: T201


def say(text: str) -> None:
    """A word to the person, on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


@cli.command()
def run() -> None:
    """Run the bot until it is told to stop (SIGTERM or Ctrl-C)."""
    settings = Settings()
    log.configure(json={"auto": None, "json": True, "text": False}[settings.log])
    process.conceal()  # the tokens in its environment are nothing for programs that runbooks start
    sys.setswitchinterval(0.0005)  # whoever waits for an answer is served by the loop, not by the engine's threads
    asyncio.run(_serve(app.build(settings, environment())))


async def _serve(bot: app.Bot) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    await bot.start()
    settle()
    await stopped.wait()
    await bot.stop()


def settle() -> None:
    """What is there after the start stays: nobody need look through it for garbage while somebody waits."""
    gc.collect()
    gc.freeze()


@cli.command()
def migrate() -> None:
    """Create the database, or bring it to this program's version."""
    db = _database()
    try:
        version = migrations.migrate(db)
    except (sa.exc.OperationalError, OSError) as error:
        fail(f"The database cannot be reached or made: {migrations.told(error)}")
    out(f"The database is at version {version}.")


@cli.command()
def check() -> None:
    """Check the configuration, the runbooks and the database's version; nothing is changed."""
    settings = Settings()
    bot = app.build(settings, environment())
    version = migrations.check(bot.db)
    odd = bot.oddities()
    for problem in odd:
        say(problem)
    if odd:
        fail(f"{len(odd)} thing{'s' if len(odd) > 1 else ''} to look at; the bot would run all the same", code=1)
    out(
        f"Fine: database at version {version}, {len(bot.config.connections)} connections, "
        f"{len(bot.books.runbooks)} runbooks, pager {bot.config.general.pager!r}."
    )


@cli.command()
def deliveries(
    failed: Annotated[
        bool, typer.Option("--failed", help="only those that were given up or fail at the moment")
    ] = False,
    again: Annotated[
        str | None,
        typer.Option("--again", help="id of a delivery to try anew, or how it begins; all: what was given up"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many, newest first")] = 50,
) -> None:
    """Show what sinks were told of incidents, and what not. Works beside a running bot."""
    if again is not None:

        async def retry(engine: Engine) -> list[outgoing.Outgoing]:
            async with engine.transaction() as tx:
                if again == "all":
                    return await outgoing.all_again(tx, now=utc_now())
                return [await outgoing.again(tx, again, now=utc_now())]

        for row in (tried := _beside(retry)):
            out(f"{row.id[:12]} for {row.sink}")
        say(f"{len(tried)} tried anew, by the bot that runs")
        return

    async def work(engine: Engine) -> list[tuple[outgoing.Outgoing, int]]:
        async with engine.db.read() as session:
            return await outgoing.listed(session, failed=failed, limit=limit)

    found = _beside(work)
    for row, number in found:
        when = row.next_at if row.state == outgoing.WAITING else row.ended_at or row.created_at
        what = "next try" if row.state == outgoing.WAITING else "since"
        about = f"INC-{number}" if number else "OPS-0"
        state = row.state.replace("_", " ")
        out(f"{row.id[:12]}  {row.sink}  {about}  {row.kind}  {state}  {what} {when:%Y-%m-%d %H:%M:%S} UTC")
        if row.detail:
            out(f"  {row.detail} ({row.attempts} {'try' if row.attempts == 1 else 'tries'})")
    say(f"{len(found)} deliveries" if found else "no deliveries")


@cli.command()
def sandbox(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="port of the page and the API on 127.0.0.1; 0 picks a free one")
    ] = 8090,
    request_url: Annotated[
        str | None,
        typer.Option(help="where the bot takes signed HTTP, such as http://127.0.0.1:8080/slack/events; else sockets"),
    ] = None,
) -> None:
    """Start only the Slack stand-in, and print the settings a bot needs to use it."""
    asyncio.run(_sandbox(port, request_url))


async def _sandbox(port: int, request_url: str | None) -> None:
    from bot.sandbox.server import Sandbox  # noqa: PLC0415 - a bot that runs needs none of it

    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    try:
        made = await Sandbox(_manifest(), port=port, request_url=request_url).start()
    except OSError as error:
        raise UserError(f"Cannot listen on 127.0.0.1:{port} ({error.strerror}); choose another --port") from None
    out(f"export TOCSIN_SLACK_MODE={'http' if request_url else 'socket'}")
    out(f"export TOCSIN_SLACK_API_URL={made.api_url}")
    out(f"export TOCSIN_SLACK_BOT_TOKEN={made.bot_token}")
    out(f"export TOCSIN_SLACK_APP_TOKEN={made.app_token}")
    out(f"export TOCSIN_SLACK_SIGNING_SECRET={made.signing_secret}")
    sys.stdout.flush()
    say(f"The page: {made.url}/   (Ctrl-C ends it)")
    await stopped.wait()
    await made.stop()


@cli.command()
def demo(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="port of the page on 127.0.0.1; 0 picks a free one")
    ] = 8090,
    folder: Annotated[Path, typer.Option("--dir", help="where the demo keeps its database and log")] = Path("var/demo"),
    story: Annotated[bool, typer.Option("--story", help="play a whole incident without a person, then end")] = False,
    out_: Annotated[Path, typer.Option("--out", help="where --story leaves its files")] = Path("out"),
    seconds: Annotated[float | None, typer.Option(help="end after so many seconds")] = None,
) -> None:
    """Try the bot without Slack: a stand-in with a web page, the bot, and one open incident."""
    from bot.sandbox import demo as demos  # noqa: PLC0415 - a bot that runs needs none of it
    from bot.sandbox import story as stories  # noqa: PLC0415

    if story:
        asyncio.run(_told(stories.story(_manifest(), out_.resolve(), say)))
    else:
        asyncio.run(demos.demo(_manifest(), folder.resolve(), say, port=port, seconds=seconds))


async def _told(story: Coroutine[Any, Any, None]) -> None:
    try:
        await story
    except UserError as error:
        fail(f"FAILED  {error}", code=1)


@cli.command()
def manifest(
    url: Annotated[
        str | None, typer.Option(help="the bot's public address, for TOCSIN_SLACK_MODE=http; without it: Socket Mode")
    ] = None,
) -> None:
    """Print the manifest to make the Slack app from (api.slack.com/apps → Create New App → From a manifest)."""
    if url is not None and not re.fullmatch(r"https://[^\s/]+(/[^\s?#]*)?", url):
        raise UserError(f"{url!r} is not an address Slack would call; write for example https://tocsin.example.com")
    out(json.dumps(_manifest(url), indent=2))


def _manifest(url: str | None = None) -> dict[str, Any]:
    return manifests.build(app.shelves().commands, url=url)


@alerts.command("read")
def read(
    source: Annotated[str, typer.Argument(help="alertmanager, generic, …")],
    file: Annotated[Path, typer.Argument(help="a request body; - for standard input")],
    header: Annotated[list[str] | None, typer.Option("-H", help="a header of the request: 'Name: value'")] = None,
) -> None:
    """Print as JSON what would be understood of a request. Nothing is stored or sent."""
    headers = {}
    for line in header or []:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UserError(f"{line!r} is not a header; write -H 'Name: value'")
        headers[name.strip()] = value.strip()
    out(json.dumps(alert_source.read(source, _bytes(file), headers, app.shelves().sources, utc_now()), indent=2))


def _bytes(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None


@imports.command("backstage")
def import_backstage(
    paths: Annotated[list[Path], typer.Argument(help="catalog-info.yaml files, or folders that are looked through")],
    into: Annotated[Path | None, typer.Option(help="a catalog.yaml to add to; what it says stays as it is")] = None,
    target: Annotated[str, typer.Option("--out", help="a file; - for standard output")] = "-",
) -> None:
    """Make catalog.yaml of Backstage's files. What has no place in it is named on stderr."""
    before = None if into is None else catalog.document(into)
    if into is not None and before is None:
        raise UserError(f"{into} does not exist")
    made = backstage.read(paths, before.data if before is not None else None)
    found = backstage.checked(made)
    _put(target, made.text.encode())
    for note in made.notes:
        say(note)
    many = f"{len(found.services)} services, {len(found.teams)} teams, {len(found.assets)} assets"
    say(f"{many}; {len(made.notes)} notes on what was left out")


@catalogs.command("check")
def check_catalog() -> None:
    """Find names in catalog.yaml that lead nowhere, as file:line: what; nothing is changed, no database is needed."""
    bot = app.build(Settings(), environment())
    found = bot.dangling()
    for problem in found:
        out(problem)
    if found:
        fail(f"{len(found)} problem{'s' if len(found) > 1 else ''}", code=1)
    catalog_ = bot.config.catalog
    say(f"no problems: {len(catalog_.services)} services, {len(catalog_.teams)} teams, {len(catalog_.assets)} assets")


@runbook.command("lint")
def lint(path: Annotated[Path, typer.Argument(help="a runbook, or a folder of them")] = Path("runbooks")) -> None:
    """Check a runbook or a folder of them; every problem as file:line: what is wrong.

    Where there is a configuration (TOCSIN_CONFIG), names of its environment that runbooks may not use are problems.
    """
    _there(path)
    steps = app.shelves().steps
    problems = runbooks.lint(path, steps)
    if (granted := _grants()) is not None:
        problems += [told for written in runbooks.written(path, steps) for told in granted.problems(written)]
    for problem in problems:
        out(str(problem))
    if problems:
        fail(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", code=1)
    say("no problems")


Given = Annotated[
    list[str] | None, typer.Option("--param", help="a value for a parameter: name=value; may be given more than once")
]
FromAlert = Annotated[
    Path | None, typer.Option("--alert", help="JSON of an alert (labels, annotations, …) that fills in parameters")
]


@runbook.command("test", context_settings={"ignore_unknown_options": True})
def play_tests(
    path: Annotated[Path, typer.Argument(help="a runbook, or a folder of them")] = Path("runbooks"),
    options: Annotated[
        list[str] | None, typer.Argument(help="handed on to pytest: -k WORD, -x, --junitxml=FILE")
    ] = None,
) -> None:
    """Play the tests of runbooks over mocks: no network, no database, no waiting."""
    import pytest  # noqa: PLC0415 - a bot that runs needs none of it

    if str(path).startswith("-"):
        path, options = Path("runbooks"), [str(path), *(options or ())]
    _there(path)
    # By itself: not by what some project around the runbooks sets up for its own tests.
    alone = [
        "-c",
        os.devnull,
        "--rootdir=.",
        "--noconftest",
        "--continue-on-collection-errors",
        "--disable-plugin-autoload",
        "-p",
        "no:cacheprovider",
    ]
    code = pytest.main(
        [*alone, "-p", "bot.runs.pytest_plugin", "--no-header", "--show-capture=no", "-v", *(options or ()), str(path)]
    )
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        fail(f"there are no tests in {path}", code=1)
    if code == pytest.ExitCode.USAGE_ERROR:
        raise SystemExit(2)
    raise SystemExit(0 if code == pytest.ExitCode.OK else 1)


@runbook.command()
def schema() -> None:
    """Print the JSON Schema of a runbook, for editors."""
    out(json.dumps(schemas.schema(app.shelves().steps), indent=2, ensure_ascii=False))


@runbook.command()
def render(
    file: Annotated[Path, typer.Argument(help="a runbook")], param: Given = None, alert: FromAlert = None
) -> None:
    """Print what every step would be with these values; what only a run can know is marked ‹like this›."""
    steps = app.shelves().steps
    book = _book(file, steps)
    began_with = _alert(alert)
    values = _values(book, param, began_with)
    out(yaml.dump(outlines.outline(book, values, began_with, steps)).rstrip())


@runbook.command("dry-run")
def dry_run(
    file: Annotated[Path, typer.Argument(help="a runbook")],
    param: Given = None,
    alert: FromAlert = None,
    json_: Annotated[bool, typer.Option("--json", help="print everything at the end, as JSON")] = False,
) -> None:
    """Really carry out what only reads, and show the rest, with the targets of the configuration; no database."""
    folder, steps = Settings().config, app.shelves().steps
    book = _book(file, steps)
    began_with = _alert(alert)
    values = _values(book, param, began_with)
    general, reach = catalog.general(folder), targets.load(folder, environment())
    site = previews.Site(
        steps=steps,
        reach=reach,
        environment=environment(),
        allow_private=general.private_networks,
        grants=Grants.of(general, reach.targets),
        folder=file.resolve().parent,
        books=runbooks.beside(file, book, steps),
    )
    tell = say if json_ else out

    def told(row: RunStep) -> None:
        tell(reports.step_line(reports.step(row)))
        printed = row.output.strip("\n").splitlines()
        for line in printed[:DRY_LINES]:
            tell(f"    {line}")
        if len(printed) > DRY_LINES:
            tell(f"    … {len(printed) - DRY_LINES} more lines")

    memory = asyncio.run(previews.dry_run(book, values, began_with, site, told))
    about = reports.about(memory.run, None, memory.rows)
    if json_:
        out(json.dumps(about, indent=2, ensure_ascii=False))
    failure = memory.run.failure or {}
    if memory.run.state != RunState.DRY_RUN:
        fail(f"{memory.run.state}: {failure.get('message') or 'the dry run did not come to its end'}", code=1)
    for name, value in memory.run.outputs.items():
        tell(f"{name}: {value}")


@runbook.command("run")
def run_runbook(
    name: Annotated[str, typer.Argument(help="id of a runbook")],
    incident: Annotated[str, typer.Option(help="INC-1: the incident it is run for")],
    param: Given = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="as a dry run")] = False,
) -> None:
    """Start a run; the bot that is running carries it out. Prints the number of the run."""
    bot = app.build(Settings(), environment())
    book = bot.books.find(name)
    given = _open_values(book, param)

    async def work(engine: Engine) -> Run:
        async with engine.transaction() as tx:
            about = await _incident(tx.session, incident)
            filled = prefill(book, about, await lifecycle.alerts(tx.session, about.id))
            return await runs.start(
                tx,
                react,
                about,
                book,
                {**filled, **given},
                asked=runs.Asked(f"cli:{getpass.getuser()}", Trigger.COMMAND),
                now=utc_now(),
                run_id=new_id(),
                dry_run=dry,
                uses=runbooks.used(book, bot.books.runbooks),
                commit=bot.books.commit,
            )

    made = _beside(work)
    out(str(made.number))
    waits = "waits its turn" if made.held else "is handed to the bot"
    say(f"Run {made.number} of {book.name} {waits}. See how it goes: tocsin runbooks show {incident} {made.number}")


@runbook.command()
def show(
    which: Annotated[str, typer.Argument(help="INC-1, or the id of a run")],
    number: Annotated[
        int | None, typer.Argument(help="number of a run of that incident; all of them otherwise")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Show the runs of an incident, or one run with its steps, outputs and approvals."""

    async def work(engine: Engine) -> list[dict[str, Any]] | dict[str, Any]:
        async with engine.db.read() as session:
            if not re.fullmatch(r"(?:inc-|#)?\d{1,9}", which.strip(), re.IGNORECASE):
                run = await runs.find(session, which)
                about = await lifecycle.find(session, run.incident_id)
            else:
                about = await _incident(session, which)
                there = await runs.of_incident(session, about.id)
                if number is None:
                    return [reports.brief(run, about.reference) for run in there]
                found = next((run for run in there if run.number == number), None)
                if found is None:
                    listed = ", ".join(str(run.number) for run in there) or "none"
                    raise UserError(f"{about.reference} has no run {number}; there is: {listed}")
                run = found
            asked, votes = await approvals.of_run(session, run.id)
            return reports.about(run, about.reference, await runs.attempts(session, run.id), asked, votes)

    told = _beside(work)
    if json_:
        out(json.dumps(told, indent=2, ensure_ascii=False))
    elif isinstance(told, list):
        out("\n".join(map(reports.head, told)) or f"No runbook was run for {which}.")
    else:
        out("\n".join(reports.lines(told)))


def _there(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path} does not exist")


def _grants() -> Grants | None:
    """What the configuration lets runbooks use; None where there is none."""
    folder = Settings().config
    if not any((folder / name).exists() for name in (catalog.GENERAL, catalog.TARGETS)):
        return None
    return Grants.of(catalog.general(folder), targets.load(folder, environment()).targets)


def _book(file: Path, steps: Shelf) -> Runbook:
    _there(file)
    return runbooks.read_file(file, steps).runbook


def _alert(file: Path | None) -> Alert | None:
    """An alert, or the first of those in a request body such as Alertmanager sends."""
    if file is None:
        return None
    try:
        found = json.loads(_bytes(file))
    except (ValueError, RecursionError):
        raise UserError(f"{file} is not JSON") from None
    if isinstance(found, dict) and isinstance(found.get("alerts"), list) and found["alerts"]:
        found = found["alerts"][0]
    if not isinstance(found, dict):
        raise UserError(f'{file} holds no alert: write for example {{"labels": {{"service": "checkout"}}}}')
    known = {name: found[name] for name in Alert.model_fields if found.get(name) is not None}
    try:
        return Alert.model_validate(known)
    except ValidationError as error:
        part = error.errors(include_input=False)[0]
        raise UserError(f"{file}: {'.'.join(map(str, part['loc']))}: {part['msg']}") from None


def _values(book: Runbook, param: list[str] | None, alert: Alert | None) -> dict[str, Any]:
    filled = runbooks.prefilled(book, alert) if alert is not None else {}
    return params.check(book, {**filled, **_open_values(book, param)})


def _open_values(book: Runbook, param: list[str] | None) -> dict[str, str]:
    """What stands on the command line, where everybody on this machine can read it: no secrets."""
    given: dict[str, str] = {}
    there = environment()
    redact = Redactor([there[name] for name in book.secrets if there.get(name)])
    for one in param or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise UserError("write --param name=value")
        secret = name in book.params and book.params[name].type == "secret"
        if not secret and redact.value({name: value}) != {name: value}:
            raise UserError(
                f"--param {name}: what is given looks like a secret, and a command line can be read by everybody on "
                "this machine. Declare the parameter as type: secret and give the name of a secret."
            )
        given[name] = value
    return given


@runbook.command("schedule")
def schedule(
    path: Annotated[
        Path | None, typer.Argument(help="a runbook, or a folder of them; without it those that the bot uses")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="how many times of each")] = 3,
) -> None:
    """Show when runbooks run by the clock. Nothing is started."""
    folder = _runbooks() if path is None else path
    _there(folder)
    found, problems = runbooks.load_path(folder, app.shelves().steps)
    now = utc_now()
    for book in sorted(found, key=lambda book: book.id):
        if book.schedule is None or not book.enabled:
            continue
        times = islice(cron.times(book.schedule.cron, book.schedule.timezone, now), count)
        out(f"{book.id}  {book.schedule.cron} {book.schedule.timezone}")
        for time in times:
            out(
                f"  {schedules.local(book.schedule, time)}  ({time:%Y-%m-%d %H:%M} UTC, in {duration_text(time - now)})"
            )
    if problems:
        for problem in problems:
            say(str(problem))
        fail(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", code=1)


def _runbooks() -> Path:
    settings = Settings()
    return app.runbook_folder(settings.config, catalog.Config(catalog.general(settings.config)))


@runbook.command("from")
def from_incident(
    reference: Annotated[str, typer.Argument(help="INC-1")],
    target: Annotated[str, typer.Option("--out", help="a file; - for standard output")] = "-",
) -> None:
    """Draft a runbook from what was done in an incident: its runs, and what people wrote down as actions."""
    settings = Settings()
    bot = app.build(settings, environment())

    async def work(engine: Engine) -> bytes:
        async with engine.db.read() as session:
            incident = await _incident(session, reference)
            events = await timeline.whole(session, incident.id)
            done = await runs.of_incident(session, incident.id)
            alerts = await lifecycle.alerts(session, incident.id)
        service = bot.config.services.get(incident.service or "")
        owner = (service.owner if service else None) or "unowned"
        return recorded.draft(incident, events, done, alerts, bot.books.runbooks, owner=owner).encode()

    _put(target, _beside(work))


@postmortem.command("export")
def export(
    reference: Annotated[str, typer.Argument(help="INC-1")],
    format_: Annotated[
        str | None, typer.Option("--format", help="how it is written; by the ending of --out if not said, else md")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--out", help="a file or a folder; - for standard output; inc-1-postmortem-1.md here")
    ] = None,
    revision: Annotated[
        int | None, typer.Option(min=1, help="a revision as it was stored, and no new one is written")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="write over a file that exists")] = False,
) -> None:
    """Write the post-mortem of an incident as a file. Works beside a running bot."""
    bot = app.build(Settings(), environment())
    exporters, follows = bot.shelves.exporters, bot.react
    name = format_ or _by_ending(exporters, target) or "md"
    if name not in exporters:
        raise UserError(f"There is no format {name!r}; there is: {', '.join(exporters)}")
    plan = _plan()

    async def work(engine: Engine) -> None:
        async with engine.db.read() as session:
            incident = await _incident(session, reference)
            stored = await drafts.stored(session, incident.id, revision) if revision else None
            newest = await drafts.newest(session, incident.id) if revision and not stored else None
        if revision and not stored:
            told = f"the newest is {newest.revision}" if newest else "it has none yet"
            raise UserError(f"{incident.reference} has no revision {revision} of its post-mortem; {told}.")
        document = stored or await drafts.draft(engine, follows, incident.id, now=utc_now(), plan=plan)
        place = _place(target, file_name(incident.reference, document.revision, exporters[name]), force=force)
        content = await press.write(exporters, name, document)
        _put(place, content)
        async with engine.transaction() as tx:
            await timeline.record(
                tx,
                follows,
                incident.id,
                "postmortem.exported",
                f"Post-mortem draft, revision {document.revision}, exported as {name}",
                now=utc_now(),
                actor="bot",
                data={"revision": document.revision, "exporter": name, "place": "file"},
            )

    with _busy(f"Writing the post-mortem of {reference} as {name}"):
        _beside(work)


@postmortem.command("import")
def import_document(
    reference: Annotated[str, typer.Argument(help="INC-1")],
    file: Annotated[Path, typer.Argument(help="the Markdown that people have edited; - for standard input")],
    revision: Annotated[
        int | None,
        typer.Option(min=1, help="the revision it was made of; by the file's name if not said, else the newest"),
    ] = None,
) -> None:
    """Keep what people made of the document as a new revision. Nothing that was written meanwhile is lost."""
    try:
        text = _bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text; a post-mortem is imported as Markdown") from None
    named = re.fullmatch(r"inc-\d+-postmortem-(\d{1,6})", file.stem.lower())
    base = revision or (int(named[1]) if named else None)
    by = getpass.getuser()

    async def work(engine: Engine) -> tuple[Postmortem, int, int]:
        async with engine.transaction() as tx:
            incident = await _incident(tx.session, reference)
            before = await drafts.newest(tx.session, incident.id)
            edit = drafts.Edit(text, Origin.FILE, base)
            document, conflicts = await drafts.revise(tx, react, incident, edit, by=by, now=utc_now())
            return document, conflicts, before.revision if before else 0

    document, conflicts, before = _beside(work)
    if document.revision == before:
        say(f"Nothing changed: revision {document.revision} says the same.")
        return
    out(f"Revision {document.revision} of the post-mortem of {reference.upper()} is what you wrote.")
    if conflicts:
        fail(
            f"{conflicts} conflict{'s' if conflicts > 1 else ''} with what was written meanwhile: both texts stand in "
            "revision "
            f"{document.revision} between markers. Export it, keep one of them, and import it again.",
            code=1,
        )


@postmortem.command("revisions")
def revisions(reference: Annotated[str, typer.Argument(help="INC-1")]) -> None:
    """List every revision of a post-mortem: when, by whom, from where, and what waits for a decision in it."""

    async def work(engine: Engine) -> list[Postmortem]:
        async with engine.db.read() as session:
            return await drafts.listed(session, (await _incident(session, reference)).id)

    rows = [
        (
            str(one.revision),
            f"{one.created_at:%Y-%m-%d %H:%M}",
            one.author,
            one.origin,
            one.template,
            str(merging.conflicts(one.text)),
            one.sha256[:12],
        )
        for one in _beside(work)
    ]
    if rows:
        out(tables.table(("revision", "at (UTC)", "by", "from", "template", "conflicts", "sha256"), rows))
    else:
        say("no post-mortem yet")


@templating.command("lint")
def lint_templates(
    folder: Annotated[
        Path | None, typer.Argument(help="a folder with postmortems/ in it; else that of the configuration")
    ] = None,
) -> None:
    """Fill in every template with an incident that has everything and one that has nothing; name what fails."""
    place = folder or _plan().folder
    if folder is not None and not (folder / "postmortems").is_dir():
        raise UserError(f"{folder} has no folder postmortems/ with templates in it")
    found = rendering.templates(place)
    problems = [f"{path}: {told}" for name, path in found.items() for told in examples.problems(name, place)]
    for told in problems:
        out(told)
    if problems:
        fail(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", code=1)
    say(f"no problems: {', '.join(found)}")


@templating.command("preview")
def preview_template(
    name: Annotated[str, typer.Argument(help="full, lightweight, public, or one of yours")],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="a folder with postmortems/ in it; else that of the configuration")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--incident", help="INC-1 of the database; else an example that has everything")
    ] = None,
) -> None:
    """Print what a template makes of an incident; nothing is stored."""
    place = folder or _plan().folder
    if reference is None:
        out(rendering.render(examples.whole(), name, place).rstrip("\n"))
        return

    async def work(engine: Engine) -> Facts:
        async with engine.db.read() as session:
            return await drafts.facts(session, await _incident(session, reference))

    out(rendering.render(_beside(work), name, place).rstrip("\n"))


def _plan() -> Plan:
    """What the configuration says of post-mortems, where there is one."""
    folder = Settings().config
    return Plan.of(catalog.general(folder).postmortems, folder)


@postmortem.command("publish")
def publish(reference: Annotated[str, typer.Argument(help="INC-1")]) -> None:
    """Commit the post-mortem of an incident to the Git repository of `archive` in tocsin.yaml, if it changed."""
    general = catalog.general(Settings().config)
    exporters = app.shelves().exporters
    kept_in = general.archive
    if kept_in is None:
        raise UserError("Name the repository first: archive: {repository: …} in tocsin.yaml (docs/configure.md).")
    if kept_in.format not in exporters:
        raise UserError(f"tocsin.yaml: archive: no format {kept_in.format!r}; there is: {', '.join(exporters)}")
    there, plan = environment(), Plan.of(general.postmortems, Settings().config)

    async def work(engine: Engine) -> archives.Kept:
        async with engine.db.read() as session:
            incident = await _incident(session, reference)
        document = await drafts.draft(engine, react, incident.id, now=utc_now(), plan=plan)
        content = await press.write(exporters, kept_in.format, document)
        kept = await archives.keep(kept_in, incident, document, content, there)
        async with engine.transaction() as tx:
            await timeline.record(
                tx,
                react,
                incident.id,
                "postmortem.exported",
                f"Post-mortem, revision {document.revision}, kept in Git as {kept.path}",
                now=utc_now(),
                actor="bot",
                data={"revision": document.revision, "exporter": kept_in.format, "place": "git", "commit": kept.commit},
                once=f"git:{kept.commit}:{kept.path}",
            )
        return kept

    with _busy(f"Keeping the post-mortem of {reference} in Git"):
        kept = _beside(work)
    out(f"{kept.commit} {kept.path}")
    say("committed and pushed" if kept.fresh else "it was there already, as it is now")


@postmortem.command("schema")
def document_schema() -> None:
    """Print the JSON Schema of what --format json writes."""
    out(json.dumps(app.shelves().exporters["json"].schema(), indent=2, ensure_ascii=False))


def _by_ending(exporters: Shelf, target: str | None) -> str | None:
    """The format whose files end like *target*: the longest ending counts."""
    fitting = [
        (len(exporters[name].SUFFIX), name) for name in exporters if (target or "").endswith(exporters[name].SUFFIX)
    ]
    return max(fitting)[1] if fitting else None


def _place(target: str | None, name: str, *, force: bool) -> str:
    """Where a file goes; UserError if one is there that nobody said to write over."""
    if target == "-":
        return target
    place = Path(target or name)
    if place.is_dir():
        place /= name
    if place.exists() and not force:
        raise UserError(f"{place} exists; --force writes over it, --out FILE writes elsewhere.")
    return str(place)


@contextlib.contextmanager
def _busy(what: str) -> Iterator[None]:
    """Show a person at a terminal that it goes on, and for how long."""
    if not sys.stderr.isatty():
        yield
        return
    # Loaded here: the bot that runs for months shows no progress to anybody.
    rich, terminal = importlib.import_module("rich.progress"), importlib.import_module("rich.console")
    shown = (rich.SpinnerColumn(), rich.TextColumn("{task.description}"), rich.TimeElapsedColumn())
    with rich.Progress(*shown, console=terminal.Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        yield


@postmortem.command("lint")
def lint_postmortem(
    file: Annotated[Path, typer.Argument(help="any Markdown file; - for standard input")],
    participants: Annotated[
        Path | None, typer.Option(help="a file with the names of the people in it, one on each line")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="text, json or sarif")] = "text",
    language: Annotated[str, typer.Option(help="the rules of which language")] = "en",
) -> None:
    """Look for language that blames people, and for what a post-mortem lacks; exit code 1 if anything is an error."""
    if format_ not in ("text", "json", "sarif"):
        raise UserError(f"There is no format {format_!r}; there is: text, json, sarif")
    known = rules.rules(language)
    people = _text(participants).splitlines() if participants else []
    findings = linter.lint(_text(file), people, known)
    if format_ == "json":
        out(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    elif format_ == "sarif":
        out(
            json.dumps(
                sarif.sarif(findings, "stdin.md" if str(file) == "-" else str(file)), indent=2, ensure_ascii=False
            )
        )
    else:
        for one in findings:
            out(f"{file}:{one.line}:{one.column}: {one.level} {one.rule}: “{one.text}” {one.why} {one.hint}")
        counts = [f"{sum(one.level == level for one in findings)} {level}" for level in ("error", "warn", "info")]
        say(", ".join(counts) if findings else "nothing to look at")
    if any(one.level == "error" for one in findings):
        raise SystemExit(1)


def _text(file: Path) -> str:
    try:
        text = _bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start}).") from None
    if len(text) > linter.LIMIT:
        raise UserError(f"{file} is longer than {linter.LIMIT // 1_000_000} million characters.")
    return text


@timelines.command("export")
def export_timeline(
    reference: Annotated[str, typer.Argument(help="INC-1; OPS-0 for the operations log")],
    format_: Annotated[str, typer.Option("--format", help="json")] = "json",
    target: Annotated[str, typer.Option("--out", help="a file; - for standard output")] = "-",
) -> None:
    """Write everything that happened in an incident, in order, as JSON."""
    if format_ != "json":
        raise UserError(f"There is no format {format_!r}; there is: json")

    async def work(engine: Engine) -> bytes:
        async with engine.db.read() as session:
            log_ = await logbook.find(session) if re.fullmatch(r"ops(-0)?", reference.strip(), re.IGNORECASE) else None
            incident = log_ or await _incident(session, reference)
            events = await timeline.whole(session, incident.id)
        rows = [{"incident": incident.reference, **event.model_dump(mode="json")} for event in events]
        return (json.dumps(rows, indent=2, ensure_ascii=False) + "\n").encode()

    _put(target, _beside(work))


@audits.command("verify")
def verify(
    expect: Annotated[
        str | None, typer.Option(help="NUMBER:HASH of a line, as `tocsin audit head` printed it before")
    ] = None,
) -> None:
    """Go through the whole audit and say the first line that was changed, added, moved or taken out."""
    noted = _noted(expect)

    async def work(engine: Engine) -> audit.Verdict:
        async with engine.db.read() as session:
            return await audit.verify(session, noted)

    verdict = _beside(work)
    if verdict.problem:
        fail(f"BROKEN  {verdict.problem}; the {verdict.lines} lines before hold", code=1)
    out(f"{verdict.lines}:{verdict.head}")
    say(f"all {verdict.lines} lines hold")


def _noted(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,12}):([0-9a-f]{64})", text.strip())
    if not found:
        raise UserError(f"{text!r} is not a line of the audit; give what `tocsin audit head` printed: NUMBER:HASH")
    return int(found[1]), found[2]


@audits.command("head")
def head() -> None:
    """Print number and hash of the newest line, to be kept where nobody who can write to the database can write."""

    async def work(engine: Engine) -> tuple[int, str]:
        async with engine.db.read() as session:
            return await audit.head(session)

    number, newest = _beside(work)
    out(f"{number}:{newest}")


@audits.command("export")
def export_audit(
    since: Annotated[int, typer.Option(min=0, help="only lines after this number")] = 0,
    target: Annotated[str, typer.Option("--out", help="a file; - for standard output")] = "-",
) -> None:
    """Write the audit as one JSON object a line."""

    async def work(engine: Engine) -> bytes:
        async with engine.db.read() as session:
            rows = [row.model_dump(mode="json") async for row in audit.lines(session, since=since)]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    _put(target, _beside(work))


def _beside(work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
    """Do something with the database while the bot may be running: without the engine, whose work the bot does."""
    db = _database()
    migrations.check(db)

    async def inner() -> T:
        engine = Engine(db)
        try:
            return await work(engine)
        finally:
            await engine.close()
            await db.close()

    return asyncio.run(inner())


async def _incident(session: Any, reference: str) -> Incident:
    found = re.fullmatch(r"(?:inc-|#)?(\d{1,9})", reference.strip(), re.IGNORECASE)
    if not found:
        raise UserError(f"{reference!r} is not an incident; write for example INC-1")
    try:
        return await lifecycle.by_number(session, int(found[1]))
    except UserError:
        raise UserError(f"There is no INC-{int(found[1])} in this database.") from None


def _put(target: str, content: bytes) -> None:
    if target == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_bytes(content)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    say(f"written: {target}")


def _database() -> Database:
    return Database(Settings().database_url.get_secret_value())


@cli.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="print the version", is_eager=True)] = False,
) -> None:
    if version:
        out(__version__)
        raise typer.Exit
    log.configure(json=False)
