"""Who uses the bot while it is hurt: a sender of alerts and people, both stubborn, and both keeping a ledger.

A sender sends again until it hears 202. A person tries again when nothing was acknowledged or the bot said that
nothing was done. Each try says something of its own, so what was promised and what was not can be told apart.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bot.sandbox.actor import Actor
from bot.sandbox.inputs import ImpossibleError
from bot.sandbox.state import Channel, Message
from tests.torture.world import World

ENDS = ("succeeded after", "failed after", "ended after", "rolled back after", "rollback after")
UNDONE = ("nothing was done", "did not open", "Something went wrong", "does not say who you are")


@dataclass
class Ledger:
    """What was promised to whom, as the players saw it."""

    alerts: set[str] = field(default_factory=set)
    resolved: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    asked: int = 0
    promised: dict[str, set[str]] = field(default_factory=dict)  # incident's channel -> notes that were acknowledged
    tried: dict[str, set[str]] = field(default_factory=dict)  # … and those of which nobody knows
    runs: Counter[str] = field(default_factory=Counter)  # channel -> runs that were acknowledged
    run_tries: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    commands: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)


def alert(service: str, instance: int, *, resolved: bool = False) -> dict[str, Any]:
    labels = {"alertname": "Torture", "service": service, "severity": "critical", "instance": f"web-{instance}"}
    now = datetime.now(UTC).isoformat()
    item = {
        "status": "resolved" if resolved else "firing",
        "labels": labels,
        "annotations": {"summary": f"{service} is in trouble"},
        "startsAt": "2026-11-20T03:10:00Z",
        "endsAt": now if resolved else "0001-01-01T00:00:00Z",
        "fingerprint": f"{service}-{instance}",
    }
    return {"version": "4", "status": item["status"], "receiver": "tocsin", "alerts": [item]}


@dataclass
class Players:
    """The people and the sender of one round."""

    world: World
    random: random.Random
    patience: float = 120.0
    ledger: Ledger = field(default_factory=Ledger)
    hands: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def play(self, incidents: int) -> None:
        """Several incidents at once, each from its first alert to its document."""
        await asyncio.gather(*(self._incident(f"service-{n}", n) for n in range(incidents)))

    async def _incident(self, service: str, number: int) -> None:
        await asyncio.sleep(self.random.random() * 0.5)
        self.ledger.groups.add(service)
        bodies = [alert(service, n) for n in (0, 1, 2, 0, 1)]
        await asyncio.gather(*(self._send(body) for body in bodies))
        channel: Channel = await self.world.sandbox.wait(lambda: self._channel(service), self.patience, service)
        actor = self.world.sandbox.actor(("alice", "bob")[number % 2])
        await actor.join(channel)
        for name in ("promised", "tried"):
            getattr(self.ledger, name)[channel.id] = set()
        await self._command(actor, channel)
        await self._note(actor, channel, "first")
        await self._run(actor, channel)
        await self._note(actor, channel, "second")
        await self._until_runs_end(actor, channel)
        await asyncio.gather(*(self._send(alert(service, n, resolved=True)) for n in (0, 1, 2)))
        await self._resolve(actor, channel)

    def _channel(self, service: str) -> Channel | None:
        for channel in self.world.sandbox.workspace.channels.values():
            if channel.name.startswith("inc-") and f"{service} is in trouble" in channel.topic.value:
                return channel
        return None

    # -- the sender -------------------------------------------------------------------------------------------------

    async def _send(self, body: dict[str, Any]) -> None:
        await asyncio.sleep(self.random.random() * 0.3)
        await self.world.post(body)
        item = body["alerts"][0]
        (self.ledger.resolved if item["status"] == "resolved" else self.ledger.alerts).add(item["fingerprint"])

    # -- people -----------------------------------------------------------------------------------------------------

    async def _insist(self, what: str, act: Callable[[int], Awaitable[bool]]) -> None:
        """Try until it was acknowledged."""
        loop = asyncio.get_running_loop()
        end, tries = loop.time() + self.patience, 0
        while True:
            tries += 1
            self.ledger.asked += 1
            try:
                if await act(tries):
                    return
            except (ImpossibleError, AssertionError):
                pass  # the message or the form is not there (any more): look again
            assert loop.time() < end, f"nobody could {what}"
            await asyncio.sleep(0.3)

    async def _note(self, actor: Actor, channel: Channel, word: str) -> None:
        async def act(number: int) -> bool:
            text = f"note {word} {number} in {channel.name}"
            self.ledger.tried[channel.id].add(text)
            reply = await actor.slash(f"/inc note {text}", channel)
            if not reply.ok or any(said in reply.text for said in UNDONE):
                return False
            self.ledger.promised[channel.id].add(text)
            return True

        await self._insist("write a note", act)

    async def _command(self, actor: Actor, channel: Channel) -> None:
        async def act(_: int) -> bool:
            before = self.world.sandbox.workspace.next_ts()
            reply = await actor.click(self._card(channel), "Take command")
            return reply.ok and not await self._excused(actor, channel, before)

        await self._insist("take command", act)
        self.ledger.commands.add(channel.id)

    async def _excused(self, actor: Actor, channel: Channel, before: str) -> bool:
        """Whether the bot told the person at once that nothing was done: for a button it says so aside."""
        await asyncio.sleep(0.15)
        told = [m for m in actor.ephemerals(channel) if m.ts > before]
        return any(said in m.rendered for m in told for said in UNDONE)

    def _card(self, channel: Channel) -> Message:
        found = [m for m in channel.messages if m.blocks and m.blocks[0].get("type") == "header"]
        if not found:
            raise ImpossibleError("no card yet")
        return found[0]

    async def _run(self, actor: Actor, channel: Channel) -> None:
        async def act(_: int) -> bool:
            async with self.hands.setdefault(actor.id, asyncio.Lock()):  # a person fills in one form at a time
                return await fill()

        async def fill() -> bool:
            reply = await actor.click(self._card(channel), "runbook.start:ledger")
            if not reply.ok:
                return False
            form = await actor.modal(within=5, until=lambda view: "Loading" not in str(view.blocks))
            if form.callback_id != "run.form":
                await actor.close(form)
                return False
            self.ledger.run_tries[channel.id] += 1
            result = await actor.submit(form)
            if result.error or result.errors or (form.open and "Nothing was done" in form.rendered):
                return False
            self.ledger.runs[channel.id] += 1
            return True

        await self._insist("start a runbook", act)

    async def _until_runs_end(self, actor: Actor, channel: Channel) -> None:
        """Watch the runs in the channel; when one asks what became of a step, answer one way or the other."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.patience
        answered: set[str] = set()
        while True:
            assert loop.time() < end, f"a run in {channel.name} does not end"
            told = [m for m in channel.messages if "Run " in m.rendered and "ledger" in m.rendered]
            runs = [m for m in told if "Write the second line of" not in m.rendered]  # that is the question
            asking = [m for m in runs if "run.repeat" in str(m.blocks)]
            await self._say_yes(actor, channel)
            done = [m for m in runs if any(w in m.rendered for w in ENDS)]
            if asking:
                choice = "run.repeat" if self.random.random() < 0.5 else "run.accept"
                block = next(b for b in asking[0].blocks if choice in str(b))
                element = next(e for e in block["elements"] if e["action_id"].startswith(choice))
                if element["value"] not in answered:
                    self.ledger.repeats += choice == "run.repeat"
                    reply = await actor.click(asking[0], element["action_id"])
                    if reply.ok:
                        answered.add(element["value"])
                        await asyncio.sleep(1)
            elif runs and len(done) == len(runs) and len(runs) >= self.ledger.runs[channel.id]:
                return
            await asyncio.sleep(0.2)
            if loop.time() > end - self.patience / 2:
                answered.clear()  # the answer itself may have been lost on the way

    async def _say_yes(self, actor: Actor, channel: Channel) -> None:
        """Answer every open question of a run. Saying it twice does no harm: it is refused with a word."""
        for message in channel.messages:
            block = next((b for b in message.blocks if "approval.approve" in str(b.get("elements"))), None)
            if block is not None:
                element = next(e for e in block["elements"] if e["action_id"].startswith("approval.approve"))
                await actor.click(message, element["action_id"])

    async def _resolve(self, actor: Actor, channel: Channel) -> None:
        async def act(number: int) -> bool:
            if any("is resolved" in m.rendered for m in channel.messages):
                return True
            reply = await actor.slash(f"/inc resolve put right {number}", channel)
            return reply.ok and not any(said in reply.text for said in UNDONE)

        await self._insist("resolve", act)
        self.ledger.ended.add(channel.id)
