"""The documents say what the code does: settings, commands, keys, events, examples and links."""

import ast
import contextlib
import importlib
import json
import logging
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
import typer
from aiohttp import web
from pydantic import SecretStr
from typer.testing import CliRunner

from bot.alerts import routing
from bot.alerts.model import AlertStatus
from bot.app import shelves
from bot.catalog import config as catalog
from bot.catalog import pagers, services, sinks, targets, tracking
from bot.catalog.archive import Archive
from bot.catalog.quiet import QuietHours
from bot.cli import cli
from bot.engine import Engine
from bot.incidents import hearing, lifecycle, roles
from bot.incidents.access import Person
from bot.incidents.model import RoleName, Sev
from bot.incidents.pager import OWNERS
from bot.incidents.paging import BOT, SENT
from bot.kit import signature, yaml
from bot.kit.clock import parse_duration
from bot.kit.db import Database
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.shelf import Shelf
from bot.reactions import REACTIONS, react
from bot.runs import runbook as runbooks
from bot.runs.auto import Why
from bot.runs.books import Books
from bot.runs.params import Param
from bot.runs.rehearsal import rehearse, scenes
from bot.runs.step import StepContext, prepare
from bot.settings import Settings
from bot.slack import manifest
from bot.slack.context import Context
from tests.fakes.receiver import Receiver
from tests.postmortems.papers import written
from tests.sinks.conftest import said

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHELVES = shelves()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table; a `|` inside a cell is written as `\\|`."""
    found = []
    for line in text.splitlines():
        if line.lstrip().startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.append([cell.strip().replace("\\|", "|") for cell in cells])
    return found


def fenceless(text: str) -> str:
    return re.sub(r"^[ \t]*```.*?^[ \t]*```$", "", text, flags=re.MULTILINE | re.DOTALL)


def coded(text: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", fenceless(text))


def first_cells(text: str) -> set[str]:
    return {word for cells in rows(text) for word in coded(cells[0])}


def chapter(text: str, title: str) -> str:
    """What stands under the heading *title*, with its own sub-headings."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"there is no heading {title!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a page in *language*, without their indentation."""
    found = re.findall(rf"^([ \t]*)```{language}\n(.*?)^[ \t]*```$", read(name), re.MULTILINE | re.DOTALL)
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) + "\n" for indent, text in found]


def titled(language: str, marker: str) -> list[tuple[str, str, str]]:
    """(page, file name, text) of every block whose first line names its file."""
    found = []
    for name in NAMES:
        for text in blocks(name, language):
            title = re.match(rf"{marker} (\S+)\n", text)
            assert title, f"{name}: a {language} block does not begin with the name of its file:\n{text[:80]}"
            found.append((name, title[1], text))
    return found


def told(error: object) -> str:
    return str(error)[:300]


# What the reference pages list ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_listed_with_its_default(name):
    default = Settings.model_fields[name].default
    shown = default.get_secret_value() if isinstance(default, SecretStr) else default

    row = {word: cells for cells in rows(read("docs/reference/settings.md")) for word in coded(cells[0])}

    assert row[f"TOCSIN_{name.upper()}"][1] == ("not set" if shown is None else f"`{shown}`")


def test_no_setting_is_listed_that_does_not_exist():
    listed = {word for word in first_cells(read("docs/reference/settings.md")) if word.startswith("TOCSIN_")}

    assert listed == {f"TOCSIN_{name.upper()}" for name in Settings.model_fields}


def commands() -> dict[str, object]:
    """Every command of the command line by its whole name."""
    found: dict[str, object] = {}

    def walk(command, name):
        inner = getattr(command, "commands", None)
        if inner is None or name == "tocsin":
            found[name] = command
        for word, child in (inner or {}).items():
            walk(child, f"{name} {word}")

    walk(typer.main.get_command(cli), "tocsin")
    return found


COMMANDS = commands()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_and_option_is_on_the_page(name):
    page = read("docs/reference/cli.md")
    options = {
        (word, max(param.opts, key=len)): param
        for param in COMMANDS[name].params
        if param.param_type_name == "option" and param.name != "help"
        for word in [name]
    }

    listed = {
        (" ".join(w for w in coded(cells[0])[0].split() if w.islower()), coded(cells[1])[0])
        for cells in rows(chapter(page, "Options"))
        if len(cells) > 2 and coded(cells[0]) and coded(cells[1])
    }

    assert name == "tocsin" or name in first_cells(page)
    assert set(options) == {(word, option) for word, option in listed if word == name}


def test_the_page_of_the_command_line_lists_no_command_that_does_not_exist():
    listed = {word for word in first_cells(read("docs/reference/cli.md").split("## Options")[0]) if "tocsin" in word}

    assert listed == set(COMMANDS) - {"tocsin"}


@pytest.mark.parametrize("name", list(SHELVES.commands))
def test_every_slash_command_is_listed_with_its_usage_and_its_other_words(name):
    module = SHELVES.commands[name]
    listed = {word: cells for cells in rows(read("docs/reference/commands.md")) for word in coded(cells[0])[:1]}

    assert module.USAGE in listed, f"`{module.USAGE}` of /inc {name} is not in commands.md"
    assert coded(listed[module.USAGE][2]) == list(getattr(module, "ALIASES", ()))


def test_no_slash_command_is_listed_that_does_not_exist():
    usages = {SHELVES.commands[name].USAGE for name in SHELVES.commands}
    table = read("docs/reference/commands.md").split("## Buttons")[0]

    assert {cells[0].strip("`") for cells in rows(table)[2:]} == usages


def recorded() -> set[str]:
    """The event kinds written out in the code: texts like `run.started` that go neither to the log nor to Slack."""
    nouns = {kind.partition(".")[0] for kind in REACTIONS} | {"channel", "approval"}
    kind = re.compile(rf"(?:{'|'.join(nouns)})\.(?:[a-z]+_)*(?:[a-z]+ed|sent|nobody|unknown|made|given|broken)")
    found = set()
    files = [ROOT / "bot/app.py", ROOT / "bot/cli.py"]
    for folder in ("incidents", "runs", "postmortems"):
        files += sorted((ROOT / "bot" / folder).glob("*.py"))
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        logged = {
            id(node.args[0])
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and node.args
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in logged:
                found |= {node.value} if kind.fullmatch(node.value) else set()
    return found


def test_every_kind_of_event_is_listed_with_what_follows_from_it():
    listed = {
        word: cells[2]
        for cells in rows(read("docs/reference/timeline-events.md"))
        if len(cells) == 3
        for word in coded(cells[0])[:1]
    }
    kinds = set(REACTIONS) | recorded()

    assert len(recorded()) > 20
    assert set(listed) == kinds
    for kind in kinds:
        follows = ", ".join(follow.__name__ for follow in REACTIONS.get(kind, ())) or "nothing"
        assert listed[kind] == follows, f"after {kind} the page says {listed[kind]!r}"


def test_every_work_that_follows_is_explained():
    page = read("docs/reference/timeline-events.md")
    work = {follow.__name__ for follows in REACTIONS.values() for follow in follows}

    assert work <= set(coded(page[: page.index("## Incident")]))


@pytest.mark.parametrize(
    ("shelf", "page"),
    [
        ("sources", "docs/reference/alerts-api.md"),
        ("exporters", "docs/reference/postmortem.md"),
        ("pagers", "docs/configure.md"),
        ("sinks", "docs/outgoing.md"),
    ],
)
def test_every_plugin_is_on_its_page(shelf, page):
    for name in getattr(SHELVES, shelf):
        assert f"`{name}`" in read(page), f"{shelf}/{name} is not in {page}"


def page_of(title: str) -> str:
    return "docs/catalog.md" if title == "catalog.yaml" else "docs/configure.md"


def test_the_page_about_paging_says_who_owns_what_as_the_code_has_it():
    table = rows(chapter(read("docs/paging.md"), "Who says what"))[2:]

    assert {cells[0]: cells[1] for cells in table} == dict(OWNERS)


def test_the_page_about_paging_lists_what_may_become_of_a_word():
    text = chapter(read("docs/paging.md"), "Hearing PagerDuty")
    made = {value for name, value in vars(hearing).items() if name.isupper() and isinstance(value, str)}

    assert first_cells(text) - {"alert", "repeat", "forged"} == made - {hearing.WAITING, SENT, BOT}


def keys(model) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


@pytest.mark.parametrize("name", list(SHELVES.steps))
def test_every_step_type_is_listed_with_its_keys_and_results(name):
    text = chapter(read("docs/reference/steps.md"), name)
    module = SHELVES.steps[name]

    assert first_cells(text) == keys(module.Params)
    results = text[text.index("\nResult") :]
    assert set(module.RESULT) <= set(coded(results.split(".")[0]))


def test_the_page_of_the_steps_lists_no_type_that_does_not_exist():
    assert sorted(re.findall(r"^## (\w+)$", read("docs/reference/steps.md"), re.MULTILINE)) == list(SHELVES.steps)


def test_the_scopes_are_those_of_the_manifest_with_their_reasons():
    listed = {coded(c[0])[0]: c[1] for c in rows(chapter(read("docs/configure.md"), "Slack")) if coded(c[0])}

    assert listed == manifest.SCOPES


@pytest.mark.parametrize(
    ("title", "models"),
    [
        ("tocsin.yaml", [catalog.General, catalog.Retention, catalog.Postmortems, QuietHours]),
        ("PagerDuty", [catalog.PagerDuty]),
        ("Archive", [Archive]),
        ("Other pagers", [pagers.Email, pagers.Webhook, pagers.OnCallWebhook, pagers.Opsgenie]),
        ("connections.yaml", [catalog._Connection]),
        ("routes.yaml", [routing.Route, routing.Defaults]),
        (
            "catalog.yaml",
            [services.Service, services.Team, services.AtPager, services.Slo, services.OnCall, services.Asset],
        ),
        ("targets.yaml", [targets.Host, targets.Connection, targets.Secret]),
        ("sinks.yaml", [SHELVES.sinks[kind].Settings for kind in SHELVES.sinks]),
    ],
)
def test_every_key_of_the_configuration_is_listed(title, models):
    text = chapter(read(page_of(title)), title)

    assert first_cells(text) == set().union(*map(keys, models)) | ({"defaults"} if title == "routes.yaml" else set())


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("routes.yaml", routing.Routes),
        ("connections.yaml", catalog._Connections),
        ("catalog.yaml", services.Catalog),
        ("targets.yaml", targets.Targets),
        ("sinks.yaml", sinks._File),
    ],
)
def test_every_key_of_a_whole_file_is_named(title, model):
    assert keys(model) <= set(coded(chapter(read(page_of(title)), title)))


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("A tracker", tracking.Entry),
        ("Which incidents get a ticket", tracking.Rule),
        ("Findings", tracking.FindingRule),
        ("Change requests", tracking.ChangeRule),
    ],
)
def test_every_key_of_a_tracker_is_listed(title, model):
    assert first_cells(chapter(read("docs/trackers.md"), title)) == keys(model)


@pytest.mark.parametrize("kind", list(SHELVES.trackers))
def test_every_option_of_a_kind_of_tracker_is_listed(kind):
    title = {"jira": "Jira", "servicenow": "ServiceNow", "github": "GitHub", "gitlab": "GitLab"}[kind]

    assert first_cells(chapter(read("docs/trackers.md"), title)) == keys(SHELVES.trackers[kind].Options)


def test_who_has_the_last_word_is_listed_as_the_code_has_it():
    listed = {
        coded(cells[0])[0]: cells[1] for cells in rows(chapter(read("docs/trackers.md"), "Who has the last word"))[2:]
    }

    assert listed == dict(tracking.FIELDS)
    defaults = tracking.Truth().model_dump()
    assert {name: listed[name] for name in defaults} == defaults


@pytest.mark.parametrize("name", list(catalog.General.model_fields))
def test_the_defaults_of_the_general_file_are_those_of_the_code(name):
    table = rows(chapter(read("docs/configure.md"), "tocsin.yaml"))
    listed = {word: cells[1] for cells in table for word in coded(cells[0])[:1]}
    default = catalog.General.model_fields[name].default
    shown = {
        "version": "",
        "announcement_channel": "none",
        "public_url": "none",
        "retention": "see below",
        "postmortems": "see below",
        "operations_channel": "none",
        "auto_runbooks": "`false`",
        "schedules": "`false`",
        "pagerduty": "none",
        "page_ack_minutes": "see below",
        "page_updates": "`false`",
        **dict.fromkeys(("email", "webhook", "oncall_webhook", "opsgenie", "archive"), "none"),
    }

    assert listed[name] == shown.get(name, "`[]`" if default == () else f"`{default}`")


@pytest.mark.parametrize("name", list(catalog.Retention.model_fields))
def test_the_defaults_of_what_is_kept_are_those_of_the_code(name):
    table = rows(chapter(read("docs/configure.md"), "tocsin.yaml"))
    listed = {word: cells[1] for cells in table for word in coded(cells[0])[:1]}

    assert parse_duration(listed[name].strip("`")) == catalog.Retention.model_fields[name].default


def test_what_the_configuration_refuses_is_named():
    assert set(catalog.LATER) <= set(coded(chapter(read("docs/configure.md"), "routes.yaml")))


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("The file", runbooks.Runbook),
        ("The file", runbooks.Offer),
        ("The file", runbooks.Match),
        ("Parameters", Param),
        ("The file", runbooks.Access),
        ("The file", runbooks.Concurrency),
        ("The file", runbooks.Schedule),
        ("Steps", runbooks.Step),
        ("Steps", runbooks.Retry),
        ("Tests", runbooks.Trial),
        ("Tests", runbooks.Expectation),
        ("Tests", runbooks.Alert),
    ],
)
def test_every_key_of_a_runbook_is_named(title, model):
    given_by_the_loader = (
        {"sha256", "key", "type", "action", "check"} if model in (runbooks.Runbook, runbooks.Step) else set()
    )
    named = {part for word in coded(chapter(read("docs/runbooks.md"), title)) for part in word.split(".")}

    assert keys(model) - given_by_the_loader <= named


@pytest.mark.parametrize(
    ("title", "model"),
    [("The schedule", runbooks.Schedule), ("Alerts that runbooks raise", runbooks.Raise)],
)
def test_every_key_of_what_happens_by_itself_is_listed(title, model):
    assert first_cells(chapter(read("docs/automation.md"), title)) >= keys(model)


@pytest.mark.parametrize("why", list(Why))
def test_everything_that_holds_a_runbook_is_explained(why):
    assert str(why) in first_cells(chapter(read("docs/automation.md"), "What holds it"))


def test_what_a_runbook_may_not_name_is_listed():
    assert set(runbooks.DENIED) <= set(coded(chapter(read("docs/runbooks.md"), "Security")))


def test_every_test_that_is_named_as_proof_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read("docs/reference/runbook-proof.md"))

    assert len(named) > 25
    assert [f"{file}::{name}" for file, name in named if f"def {name}(" not in read(file)] == []


# Examples ---------------------------------------------------------------------------------------------------------


def typed() -> list[tuple[str, str]]:
    """Every `tocsin …` line of a shell block."""
    found = []
    for name in NAMES:
        for text in blocks(name, "sh"):
            found += [(name, line.strip()) for line in text.splitlines() if re.match(r"\s*tocsin\b", line)]
    return found


@pytest.mark.parametrize(("page", "line"), typed())
def test_every_command_line_can_be_typed(page, line):
    words = shlex.split(re.split(r" [|>#<] ?| && ", line)[0])[1:]
    command, name = typer.main.get_command(cli), "tocsin"
    while words and words[0] in getattr(command, "commands", {}):
        name, command = f"{name} {words[0]}", command.commands[words.pop(0)]

    assert name in COMMANDS
    assert command.make_context(name, words) is not None


# What needs no network, no database and no time is really run.
SAFE = [
    (page, line)
    for page, line in typed()
    if re.match(
        r"tocsin (--version|manifest|alerts read (?!uptime)[^-|]*$|runbooks (lint|schema|render|schedule))", line
    )
]


@pytest.mark.parametrize(("page", "line"), SAFE)
def test_what_needs_nothing_works_as_written(page, line, logs_as_before):
    words = shlex.split(line.split(" > ")[0])[1:]

    with contextlib.chdir(ROOT):
        done = CliRunner().invoke(cli, words)

    assert done.exit_code == 0, done.output


@pytest.fixture
def logs_as_before():
    """A command sets logging up for its whole process, and here the process is that of the tests."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_the_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = {
        word for name in NAMES for text in blocks(name, "sh") for word in re.findall(r"^make (\w+)", text, re.MULTILINE)
    }

    assert {"demo", "test"} <= named <= targets


def test_every_yaml_block_is_read_by_the_real_loaders(tmp_path):
    token = {"ALERTMANAGER_TOKEN": "x" * 32, "SCRIPTS_TOKEN": "y" * 32, "ALERTMANAGER_TOKEN_NEW": "z" * 32}
    token |= dict.fromkeys(("PAGERDUTY_ROUTING_KEY", "PAGERDUTY_SEARCH_KEY", "PAGERDUTY_TOKEN"), "p" * 32)
    token |= dict.fromkeys(
        ("SMTP_PASSWORD", "PAGE_WEBHOOK_SECRET", "ARCHIVE_SECRET", "GRAFANA_TOKEN", "STATUSPAGE_KEY"), "q" * 32
    )
    token["PAGERDUTY_WEBHOOK_SECRET"] = "p" * 32
    seen = set()
    for number, (page, name, text) in enumerate(titled("yaml", "#")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_text(text)
        seen.add(name)
        try:
            if name in (catalog.GENERAL, catalog.CONNECTIONS, catalog.CATALOG):
                config = catalog.load(folder, token)
                assert {c.source for c in config.connections.values()} <= set(SHELVES.sources)
            elif name == catalog.ROUTES:
                assert routing.load(folder / name).routes
            elif name == catalog.SINKS:
                kinds = {kind: SHELVES.sinks[kind].Settings for kind in SHELVES.sinks}
                assert sinks.load(folder, token, kinds)
            elif name == catalog.TARGETS:
                assert targets.load(folder, token).targets.connections
            elif name == catalog.TRACKERS:
                kinds = {kind: SHELVES.trackers[kind].Options for kind in SHELVES.trackers}
                assert tracking.load(folder, token, kinds).accesses
            elif name == "prometheus.yml":
                assert yaml.load(text, name).data["scrape_configs"]
            elif name == "alertmanager.yml":
                assert yaml.load(text, name).data["receivers"]
            else:
                runbooks.load(text, name, SHELVES.steps)
        except UserError as error:
            pytest.fail(f"{page}: {told(error)}")

    assert {"tocsin.yaml", "connections.yaml", "routes.yaml", "catalog.yaml", "targets.yaml"} <= seen
    assert "restart-worker.yaml" in seen


def test_the_examples_of_runbooks_are_played(tmp_path):
    examples = [(name, text) for page, name, text in titled("yaml", "#") if page == "docs/runbooks.md"]
    for name, text in examples:
        (tmp_path / name).write_text(text)

    _, found, problems = scenes(tmp_path, SHELVES.steps)

    assert problems == []
    assert len(found) >= 10
    for scene in found:
        verdict = rehearse(scene, SHELVES.steps)
        assert verdict.ok, "\n".join([*map(str, verdict.reasons), *verdict.story])


def test_the_example_configuration_is_read():
    config = catalog.load(ROOT / "config.example", {"ALERTMANAGER_TOKEN": "x" * 32})
    routes = routing.load(ROOT / "config.example/routes.yaml")
    reach = targets.load(ROOT / "config.example", {})

    assert config.connections
    assert config.services
    assert sinks.load(ROOT / "config.example", {}, {}) == {}
    assert tracking.load(ROOT / "config.example", {}, {}).accesses == {}
    assert reach.connection("prometheus").private
    assert reach.oddities() == []
    assert [route.name for route in routes.routes] == ["watchdog", "critical", "everything else"]


@pytest.mark.parametrize(
    ("name", "empty"),
    [("sinks.yaml", "sinks: {}"), ("trackers.yaml", "trackers: {}"), ("tocsin.yaml", "pager: log")],
)
def test_what_the_example_configuration_has_as_a_comment_is_read_too(tmp_path, name, empty):
    first, *lines = (ROOT / "config.example" / name).read_text().splitlines()
    assert first.startswith("# ")
    rest = [line for line in lines if not line.endswith(":") or not line.startswith("# To ")]
    text = "\n".join(line.removeprefix("# " if name == "tocsin.yaml" else "#") for line in rest)
    (tmp_path / name).write_text(text.replace(empty, empty.removesuffix(" {}") if "{}" in empty else ""))
    secret = "k" * 32
    env = dict.fromkeys(re.findall(r"env: (\w+)", text), secret)
    assert env

    assert catalog.load(tmp_path, env).general.pager == ("pagerduty" if name == "tocsin.yaml" else "log")
    kinds = {kind: SHELVES.sinks[kind].Settings for kind in SHELVES.sinks}
    assert len(sinks.load(tmp_path, env, kinds)) == (2 if name == "sinks.yaml" else 0)
    read = tracking.load(tmp_path, env, {kind: SHELVES.trackers[kind].Options for kind in SHELVES.trackers})
    assert (list(read.accesses), read.oddities()) == (["ops"] if name == "trackers.yaml" else [], [])


@pytest.mark.parametrize("name", NAMES)
def test_every_json_block_is_json(name):
    for text in blocks(name, "json"):
        assert json.loads(text)


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """The examples of docs/adding.md, each on a shelf of its own, loaded as the bot loads its own."""
    home = tmp_path_factory.mktemp("shelves")
    examples = [example for example in titled("python", "#") if example[1].startswith("bot/")]
    for _, name, text in examples:
        folder = home / ("docs_" + Path(name).parent.name)
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / Path(name).name).write_text(text)
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    must = {
        "sources": ("parse",),
        "steps": ("Params", "run", "EFFECT", "RESULT", "preview"),
        "commands": ("USAGE", "run"),
        "exporters": ("export", "SUFFIX", "MEDIA_TYPE"),
        "sinks": ("Settings", "make"),
    }
    yield SimpleNamespace(
        files=[name for _, name, _ in examples],
        **{kind: Shelf(f"docs_{kind}", must_have=parts).load() for kind, parts in must.items()},
    )
    sys.path.remove(str(home))


def test_the_examples_name_files_that_would_be_new(plugins):
    assert len(plugins.files) == 5
    for name in plugins.files:
        assert not (ROOT / name).exists()
        assert (ROOT / name).parent.is_dir()


def test_the_example_source_reads_and_refuses(plugins):
    parse = plugins.sources["uptime"].parse
    body = {"check": "shop", "state": "down", "severity": "high", "changed_at": "2026-03-01T11:59:00Z"}

    (down,) = parse(body, received_at=NOW)
    (up,) = parse({**body, "state": "up"}, received_at=NOW)

    assert (down.status, down.title, str(down.severity)) == (AlertStatus.FIRING, "shop is down", "high")
    assert (up.status, up.fingerprint, up.ends_at is not None) == (AlertStatus.RESOLVED, down.fingerprint, True)
    for wrong in ([], {}, {"check": "x"}, {"check": [], "state": "down"}, {"check": "x", "state": {}}):
        with pytest.raises((PermanentError, TypeError)) as refused:
            parse(wrong, received_at=NOW)
        assert refused.type is PermanentError


async def test_the_example_sink_tells_and_fails_for_now(plugins, tmp_path):
    kind = plugins.sinks["ntfy"]
    async with Receiver(answers=[web.json_response({"id": "n1"}), 503]) as server:
        (tmp_path / "sinks.yaml").write_text(
            f"version: 1\nsinks:\n  push:\n    kind: ntfy\n    url: {server.url}\n    topic: incidents\n"
            "    token: {env: NTFY_TOKEN}\n"
        )
        (made,) = sinks.load(tmp_path, {"NTFY_TOKEN": "n" * 32}, {"ntfy": kind.Settings}).values()
        told = kind.make(made)
        receipt = await told.send(said())
        with pytest.raises(TemporaryError):
            await told.send(said())

    assert (receipt.outcome, receipt.reference) == ("delivered", "n1")
    assert server.got[0].json["title"] == "INC-42 Payments are down"
    assert server.got[0].headers["authorization"] == f"Bearer {'n' * 32}"


def test_the_receiver_of_the_page_knows_what_is_genuine():
    (text,) = (text for _, name, text in titled("python", "#") if name == "receiver/verify.py")
    receiver: dict = {}
    exec(compile(text, "verify.py", "exec"), receiver)  # noqa: S102 - it is the page's own example

    for secret in ("a plain secret of thirty-two letters", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"):
        body, now = b'{"specversion":"1.0"}', int(time.time())
        headers = signature.headers([secret, "the other one"], "msg_1", now, body)
        assert receiver["genuine"](secret, headers, body)
        assert receiver["genuine"]("the other one", headers, body)
        assert not receiver["genuine"](secret, headers, body + b" ")
        assert not receiver["genuine"]("another", headers, body)
        assert not receiver["genuine"](secret, signature.headers([secret], "msg_1", now - 400, body), body)
        assert not receiver["genuine"](secret, {}, body)


async def test_the_example_step_runs_and_fails_for_now(plugins, unused_port):
    step = plugins.steps["port"]
    context = StepContext(run_id="r", step_key="s", timeout=2, values={"params": {"port": unused_port}})

    params = prepare(step, {"host": "127.0.0.1", "port": "{{ params.port }}"}, context)

    assert step.preview(params).startswith("would ")
    with pytest.raises(TemporaryError, match="does not answer"):
        await step.run(context, params)


async def test_the_example_step_tells_its_results(plugins, listening_port):
    step = plugins.steps["port"]
    context = StepContext(run_id="r", step_key="s", timeout=2)

    result = await step.run(context, step.Params(host="127.0.0.1", port=listening_port))

    assert result.ok
    assert set(result.values) == set(step.RESULT)


def test_the_example_step_can_stand_in_a_runbook(plugins):
    text = "version: 1\nid: look\nname: Look\nowner: team\nsteps:\n  - port: {host: db1.example.com, port: 5432}\n"

    assert "`port: {host: db1.example.com, port: 5432}`" in read("docs/adding.md")
    assert runbooks.load(text, "look.yaml", plugins.steps).steps[0].type == "port"


async def test_the_example_command_answers(plugins, sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "tocsin.db")
    db = Database(f"sqlite:///{tmp_path / 'tocsin.db'}")
    engine = Engine(db)
    request = SimpleNamespace(id="r", name="roles", channel=None)
    try:
        async with engine.transaction() as tx:
            incident = await lifecycle.declare(tx, react, title="Down", severity=Sev.SEV2, by="U1", now=NOW)
            context = Context(
                tx=tx, react=react, request=request, person=Person("U1"), now=NOW, books=Books()
            )  # fmt: skip
            before = await plugins.commands["roles"].run(context, "INC-1")
            await roles.assign(tx, react, incident, RoleName.COMMANDER, "U1", by="U1", now=NOW)
            after = await plugins.commands["roles"].run(context, "INC-1")
    finally:
        await engine.close()
        await db.close()

    assert before.text == "Nobody has a role in INC-1 yet."
    assert after.text == "commander: <@U1>"


def test_the_example_exporter_writes_and_lets_no_markup_through(plugins):
    exporter = plugins.exporters["txt"]

    made = exporter.export(written("---\nid: INC-1\n---\n# INC-1: down\n\n**We** [saw](https://example.com) it.\n"))

    assert made.decode() == "INC-1: down\n\nWe saw it.\n\nINC-1 · revision 1 · 2026-03-02 15:30 UTC\n"


@pytest.fixture
def unused_port():
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def listening_port():
    """A port that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# Links, the map, and what must not stand anywhere -------------------------------------------------------------------


def anchor(heading: str) -> str:
    """The anchor that Git hosts give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", fenceless(text))


@pytest.mark.parametrize("name", NAMES)
def test_every_link_inside_leads_somewhere(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8")))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name}: {link} does not exist"
        if place:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in map(anchor, headings), f"{name}: {link} has no such heading"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_every_page_can_be_reached_from_the_readme(page):
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        here = todo.pop()
        seen.add(here)
        for link in re.findall(r"\]\(([^)#\s]+\.md)", here.read_text(encoding="utf-8")):
            target = (here.parent / link).resolve()
            if target.exists() and target not in seen:
                todo.append(target)

    assert page in seen


def test_the_files_named_in_the_text_exist():
    # What a reader would add: placeholders and the examples of adding.md.
    new = re.compile(r"NAME|\bID\b|tests/slack/commands|\b(test_)?(uptime|port|roles|txt|ntfy)\b")
    missing = [
        f"{name}: {path}"
        for name in NAMES
        for path in re.findall(r"`((?:bot|tests|templates|runbooks|config\.example)/[\w./-]+)`", read(name))
        if not new.search(path) and not (ROOT / path).exists()
    ]

    assert missing == []


def test_the_largest_room_is_described_whole():
    there = {path.stem for path in (ROOT / "bot/incidents").glob("*.py")} - {"__init__"}
    table = rows(chapter(read("docs/architecture.md"), "The largest room"))[2:]
    listed = [name for cells in table for name in coded(cells[1]) if "/" not in name]

    assert sorted(listed) == sorted(there)


def test_every_workflow_is_named():
    text = chapter(read("docs/architecture.md"), "What follows from what")
    listed = coded(text.partition("The workflows are ")[2].partition(", registered")[0])
    tree = ast.parse((ROOT / "bot/app.py").read_text())
    pairs = [node.elts for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    made = [name.value for name, work in pairs if isinstance(name, ast.Constant) and isinstance(work, ast.Attribute)]

    assert sorted(listed) == sorted(made)


def test_the_map_of_the_tree_lists_the_packages_in_the_order_of_the_imports():
    listed = [coded(cells[0])[0].rstrip("/") for cells in rows(chapter(read("README.md"), "Map of the tree"))[2:]]
    there = {
        path.stem
        for path in (ROOT / "bot").iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or (path.suffix == ".py" and path.stem != "__init__")
    }
    contract = read("pyproject.toml").split("layers = [", 1)[1].split("]", 1)[0]
    layers = [re.findall(r"[\w]+", line) for line in re.findall(r'"([^"]+)"', contract)]
    depth = {name: level for level, names in enumerate(layers) for name in names}

    assert set(listed) == there
    assert [depth[name] for name in listed if name in depth] == sorted(depth[name] for name in listed if name in depth)


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda page: page.name)
def test_a_decision_is_short_and_numbered(page):
    lines = page.read_text(encoding="utf-8").splitlines()

    assert len(lines) <= 25
    assert lines[0].startswith(f"# {page.name[:4]}: ")


def test_the_changelog_is_kept():
    text = read("CHANGELOG.md")

    assert re.search(r"^## \[\d+\.\d+\.\d+\] - (Unreleased|\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


# In pieces, so that this file holds none of them.
HOSTS = [
    ("py", "pi.org"),
    ("python", "hosted.org"),
    ("npm", "js.org"),
    ("npm", "js.com"),
    ("yarn", "pkg.com"),
    ("js", "delivr.net"),
    ("un", "pkg.com"),
    ("cdn", "js.com"),
    ("crates", ".io"),
    ("ruby", "gems.org"),
    ("ana", "conda.org"),
    ("proxy.go", "lang.org"),
    ("maven.a", "pache.org"),
    ("packag", "ist.org"),
    ("docker", ".io"),
    ("gh", "cr.io"),
    ("qu", "ay.io"),
]
WORDS = [
    ("/wo", "rk/"),
    ("/ho", "me/user"),
    ("anth", "ropic"),
    ("cla", "ude"),
    ("chat", "gpt"),
    ("copi", "lot"),
    ("open", "ai"),
    ("language ", "model"),
    ("artificial ", "intelligence"),
]


def texts() -> list[tuple[str, str]]:
    """Every file that is, or would be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    files = [ROOT / name for name in listed.split("\0") if name]
    return [
        (str(file.relative_to(ROOT)), file.read_bytes().decode("utf-8", "replace")) for file in files if file.is_file()
    ]


def test_no_file_names_a_package_registry_or_the_place_where_it_was_made():
    hosts = [rf"(?<!\w){re.escape(''.join(parts))}(?!\w)" for parts in HOSTS]
    words = [re.escape("".join(parts)) for parts in WORDS]
    pattern = re.compile("|".join([*hosts, *words]), re.IGNORECASE)

    found = [f"{name}: {hit[0]}" for name, text in texts() for hit in pattern.finditer(text)]

    assert found == []
