"""What leaves for other systems, over every pager, tracker and sink: nothing private; and what is kept: no secret."""

import base64
import json
import logging
import shutil
from datetime import timedelta
from typing import get_args
from urllib.parse import quote

import pytest

from bot.catalog.services import Place
from bot.engine import Engine
from bot.incidents.oncall import Duties
from bot.incidents.pager import Action, Acts, Kind, Looks, PageRequest, Probes, dedup_key
from bot.incidents.tracker import Changes, Move
from bot.kit.clock import utc_now
from bot.kit.db import Database
from tests.fakes.tap import Echo, Tap
from tests.incidents.places import ENVIRONMENT, PLACES, ROUTING, SECRET, Story, made, port_of, stand_in
from tests.sinks.conftest import said
from tests.trackers.conftest import wish

WORD = "payroll7q"
# What it says leaves for no other system: it is our own log.
SILENT = [("pager", "log")]
LOUD = [place for place in PLACES if place not in SILENT]
# A mail server speaks first, and what it is told besides the letter has tests of its own.
ASKED = [place for place in LOUD if place != ("pager", "email")]


@pytest.fixture
async def engine(database):
    made = Engine(database)
    yield made
    await made.close()


@pytest.fixture
async def lone(sqlite_template, tmp_path):
    """Where the kind of database makes no difference."""
    shutil.copy(sqlite_template, tmp_path / "tocsin.db")
    database = Database(f"sqlite:///{tmp_path}/tocsin.db")
    made = Engine(database)
    yield made
    await made.close()
    await database.close()


@pytest.mark.parametrize(("kind", "name"), PLACES, ids=map(" ".join, PLACES))
async def test_the_title_and_the_text_of_a_private_incident_leave_for_no_system(tmp_path, engine, kind, name):
    async with stand_in(kind, name) as server, Tap(port_of(server)) as tap:
        story = Story(engine, WORD, private=True, **made(kind, name, tmp_path, tap.port))
        await story.told()
        await story.close()

    assert WORD not in tap.text
    # It was told of the incident, unless it is one that must not be, and took what it was told.
    assert ("INC-1" in tap.text) == ((kind, name) not in [*SILENT, ("sink", "statuspage")])
    assert story.failures == []
    assert "given_up" not in await story.kept()


@pytest.mark.parametrize(("kind", "name"), LOUD, ids=map(" ".join, LOUD))
async def test_of_a_public_incident_they_do(tmp_path, lone, kind, name):
    """So that the test above sees what it looks for."""
    async with stand_in(kind, name) as server, Tap(port_of(server)) as tap:
        story = Story(lone, WORD, private=False, **made(kind, name, tmp_path, tap.port))
        await story.told()
        await story.close()

    assert WORD in tap.text


def spelled(secret: str) -> set[str]:
    """How a secret may be written: as it is, in an address, in JSON, in a header for `Basic`."""
    pairs = ("", "bot@example.com:", "tocsin:", ":")
    encoded = {base64.b64encode(f"{pair}{secret}".encode()).decode().rstrip("=") for pair in pairs}
    return {secret, quote(secret), json.dumps(secret), *encoded}


async def tried(story: Story) -> None:
    """Ask for everything that the place can do."""
    pager, sink = story.pager, story.told_by
    page = PageRequest("INC-1", "Checkout is down", "SEV1", "checkout", dedup_key("0" * 32), external_id="P1")
    if pager is not None:
        await story.tried(pager.page(page))
        if isinstance(pager, Acts):
            for act in get_args(Kind):
                await story.tried(pager.act(Action(act, page, "key", "a message", "bob@example.com")))
        if isinstance(pager, Looks):
            await story.tried(pager.look(page))
        if isinstance(pager, Probes):
            await story.tried(pager.probe())
        if isinstance(pager, Duties):
            await story.tried(pager.duties([Place("schedule", "PSCHED1"), Place("policy", "PPOLICY")]))
            await story.tried(pager.contacts("PALICE"))
            await story.tried(pager.cover("PSCHED1", "bob@example.com", utc_now(), utc_now() + timedelta(hours=1)))
    if story.tracker is not None:
        tracker = story.tickets.trackers["ops"]
        await story.tried(tracker.create(wish()))
        await story.tried(tracker.read("1"))
        await story.tried(tracker.move("1", Move(done=True, note="a note")))
        await story.tried(tracker.rank("1", "SEV1"))
        await story.tried(tracker.comment("1", "a text", "key"))
        await story.tried(tracker.attach("1", "a.txt", b"content"))
        if isinstance(tracker, Changes):
            await story.tried(tracker.propose(wish(), "normal"))
            await story.tried(tracker.verdict("1"))
    if sink is not None:
        await story.tried(sink.send(said()))
        await story.tried(sink.send(said("severity.changed")))


@pytest.mark.parametrize(("kind", "name"), ASKED, ids=map(" ".join, ASKED))
async def test_what_fails_tells_no_secret_even_if_it_is_sent_back(tmp_path, lone, caplog, capsys, kind, name):
    caplog.set_level(logging.DEBUG)
    async with Echo(401) as server:
        story = Story(lone, "Checkout is down", private=False, **made(kind, name, tmp_path, server.port))
        await story.told()
        for server.status in (400, 404, 409, 422, 429, 500, 302, 200):
            await tried(story)
        heard = b"".join(server.heard).decode(errors="replace")
    await tried(story)  # nobody is there any more
    await story.close()
    kept = await story.kept()
    out, err = capsys.readouterr()

    secrets = [*ENVIRONMENT.values(), SECRET, ROUTING]
    leaked = {form for secret in secrets for form in spelled(secret) if form in kept + caplog.text + out + err}
    assert leaked == set()
    assert len(story.failures) > 8
    if name != "webhook":  # which signs with it
        assert any(form in heard for secret in secrets for form in spelled(secret))
