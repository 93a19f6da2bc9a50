"""`/inc auto`: what starts by itself, who may stop it, and who may let it start again."""

from types import SimpleNamespace

import pytest

from bot.engine import Engine
from bot.incidents import lifecycle, logbook, timeline
from bot.incidents.access import Person
from bot.incidents.model import Sev
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.runs import automation
from bot.runs.auto import Policy
from bot.runs.books import Books
from bot.runs.runbook import load
from bot.slack.commands import auto as command
from bot.slack.context import Context
from tests.runs.conftest import nothing_follows
from tests.runs.test_auto import BOOK
from tests.runs.test_runbook import HEAD, NOTE, SHELF


class Desk:
    """Says it as somebody does, in an incident's channel or elsewhere."""

    def __init__(self, engine: Engine) -> None:
        shelf = SHELF if SHELF.modules else SHELF.load()
        closed = BOOK.replace("id: restart", "id: closed").replace(
            "risk: low", "risk: low\naccess: {run: ['@dba', UCAROL]}"
        )
        nightly = HEAD.replace("id: demo", "id: nightly") + "schedule: 0 4 * * *\n" + NOTE
        texts = {"restart": BOOK, "closed": closed, "nightly": nightly, "demo": HEAD + NOTE}
        self.engine = engine
        self.books = Books({name: load(text, f"{name}.yaml", shelf) for name, text in texts.items()})
        self.policy = Policy(on=True, schedules=True)

    async def say(self, text: str, *, by: str = "UBOB", channel: str | None = None, groups=frozenset()) -> str:
        request = SimpleNamespace(id="r", name="auto", channel=channel)
        async with self.engine.transaction() as tx:
            context = Context(
                tx=tx, react=nothing_follows, request=request, person=Person(by), now=utc_now(),
                books=self.books, groups=groups, policy=self.policy,
            )  # fmt: skip
            reply = await command.run(context, text)
        return "\n".join([reply.text, *(str(block) for block in reply.blocks)])

    async def off(self) -> set[str]:
        async with self.engine.db.read() as session:
            return {name for name, said in (await automation.switched(session)).items() if said.off}


@pytest.fixture
async def desk(sqlite_template, tmp_path):
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = Engine(Database(f"sqlite:///{path}"))
    yield Desk(engine)
    await engine.close()
    await engine.db.close()


async def test_anybody_may_stop_all_of_it_or_one(desk):
    assert await desk.say("off") == "No runbook starts by itself any more."
    assert await desk.say("off closed") == "closed does not start by itself any more."
    assert await desk.off() == {"*", "closed"}
    assert await desk.say("ON all") == "Runbooks start by themselves again."
    assert await desk.off() == {"closed"}


async def test_only_those_who_may_run_it_let_it_start_again(desk):
    await desk.say("off closed")
    with pytest.raises(UserError, match=r"Only those who may run `closed` .*: @dba, UCAROL"):
        await desk.say("on closed")
    assert await desk.off() == {"closed"}

    assert await desk.say("on closed", groups=frozenset({"@dba"})) == "closed starts by itself again."
    await desk.say("off closed")
    await desk.say("on closed", by="UCAROL")
    assert await desk.off() == set()
    assert await desk.say("on restart") == "restart starts by itself again."  # responders: any member


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("maybe", "Say `/inc auto off` or `/inc auto on`"),
        ("off restrat", "There is no runbook 'restrat'. Did you mean restart?"),
        ("off demo", "`demo` starts by hand alone: it has neither `mode: auto` nor a schedule"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_a_word(desk, text, told):
    with pytest.raises(UserError, match=told.replace(".", r"\.")):
        await desk.say(text)
    assert await desk.off() == set()


async def test_it_is_on_record_where_it_was_said_and_in_the_operations_log(desk):
    async with desk.engine.transaction() as tx:
        incident = await lifecycle.declare(
            tx, nothing_follows, title="Down", severity=Sev.SEV2, by="UBOB", now=utc_now()
        )
        incident.channel = "CINC"
    await desk.say("off nightly", channel="CINC")

    async with desk.engine.db.read() as session:
        told = [
            [(event.kind, event.actor) for event in await timeline.whole(session, where)][-1]
            for where in (incident.id, logbook.ID)
        ]
    assert told == [("automation.stopped", "UBOB")] * 2


async def test_what_may_start_is_shown_with_how_it_stands(desk):
    await desk.say("off closed")
    shown = await desk.say("")

    assert "Alerts start runbooks" in shown
    assert "The clock starts runbooks" in shown
    assert "`closed` :octagonal_sign: switched off by <@UBOB>" in shown
    assert "`restart` :arrow_forward: on" in shown
    assert "by the clock, next" in shown
    assert "demo" not in shown

    desk.policy = Policy()
    shown = await desk.say("")
    assert "Alerts start nothing" in shown
    assert "The clock starts nothing" in shown
    assert "by the clock, next" not in shown
    assert "stays off" in await desk.say("on restart")
    await desk.say("off")
    assert "Nothing starts by itself" in await desk.say("")
