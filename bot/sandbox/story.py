"""The whole story of one incident, played without a person; every stage must really happen."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.kit.errors import BotError, UserError
from bot.sandbox import render
from bot.sandbox.demo import Scene, sample, scene
from bot.sandbox.state import Channel, Message

Say = Callable[[str], None]
KINDS = (
    *("incident.opened", "channel.opened", "page.nobody", "role.assigned", "run.started", "run.step_succeeded"),
    *("run.ended", "note.added", "severity.changed", "alert.resolved", "alerts.cleared", "incident.resolved"),
    "postmortem.drafted",
)


@dataclass
class Story:
    """One incident from alert to document. What each stage learned is kept for the next."""

    scene: Scene
    out: Path
    say: Say
    began: float = field(default_factory=time.monotonic)
    channel: Channel | None = None
    document: str = ""

    @property
    def room(self) -> Channel:
        """The incident's channel."""
        if self.channel is None:
            raise UserError("there is no channel yet")
        return self.channel

    async def play(self) -> None:
        """Stage by stage, a line each."""
        await self._stage("alert posted, INC-1's channel furnished", self.open)
        await self._stage("a person takes command", self.take_command)
        await self._stage("runbook button clicked, its form submitted", self.start_runbook)
        await self._stage("bot killed with kill -9 while the run waits", self.kill)
        await self._stage("bot started again, the run finishes", self.recover)
        await self._stage("note written", self.note)
        await self._stage("severity changed", self.change_severity)
        await self._stage("alert resolved, resolution offered", self.clear)
        await self._stage("incident resolved", self.resolve)
        await self._stage("post-mortem shared and exported", self.export)
        await self._stage("timeline complete, nothing twice", self.check)

    async def _stage(self, what: str, play: Callable[[], Awaitable[str]]) -> None:
        start = time.monotonic()
        try:
            told = await play()
        except (BotError, TimeoutError, AssertionError) as error:
            raise UserError(f"{what}: did not happen: {str(error) or type(error).__name__}") from error
        self.say(f"  {time.monotonic() - self.began:6.2f} s  {what}  (+{time.monotonic() - start:.2f} s)  {told}")

    async def open(self) -> str:
        """An alert becomes a channel with everything in it."""
        await self.scene.bot.alert(sample())
        sandbox = self.scene.sandbox
        room = self.channel = await sandbox.expect_channel("inc-1-*", within=20)
        await self._card()
        await sandbox.expect_message("#incidents", "INC-1", within=20)
        await sandbox.wait(lambda: room.pins and room.topic.value and room.bookmarks, 20, "pinned card, topic and link")
        return f"#{room.name}"

    async def _card(self) -> Message:
        """The message with the headline; the topic names the incident too."""
        room = self.room
        found = await self.scene.sandbox.wait(
            lambda: next((message for message in room.messages if _is_card(message)), None), 20, "card"
        )
        assert isinstance(found, Message)  # noqa: S101 - for the reader and the type checker
        return found

    async def take_command(self) -> str:
        """The first button of the card."""
        alice = self.scene.sandbox.actor("alice")
        await alice.join(self.room)
        card = await self._card()
        await alice.click(card, "Take command")
        await self.scene.sandbox.expect_message(self.room.id, "is commander", within=10)
        return alice.name

    async def start_runbook(self) -> str:
        """The runbook's button, and its form as the alert filled it in."""
        alice = self.scene.sandbox.actor("alice")
        card = await self._card()
        await alice.click(card, "runbook.start:high-error-rate")
        form = await alice.modal(until=lambda view: "Loading" not in json.dumps(view.blocks))
        result = await alice.fill(form, **{"param.observe": "6s"})
        if result.errors:
            raise UserError(f"the form was refused: {result.errors}")
        await self.scene.sandbox.expect_message(self.room.id, "Watch for 6s", within=10)
        await self._waits()
        return "high-error-rate"

    async def _waits(self) -> None:
        """Until the run has come to its pause: the hourglass stands before the step that waits."""
        await self.scene.sandbox.expect_message(self.room.id, ":hourglass_flowing_sand: Watch for 6s", within=20)

    async def kill(self) -> str:
        """No time to say goodbye."""
        return f"process {await self.scene.bot.kill()}"

    async def recover(self) -> str:
        """The next process finds the run and goes on after the pause, without starting anything twice."""
        await self.scene.bot.start()
        await self.scene.sandbox.expect_message(self.room.id, "succeeded after", within=40)
        return f"process {self.scene.bot.process.pid if self.scene.bot.process else '?'}"

    async def note(self) -> str:
        """By slash command."""
        await self.scene.sandbox.actor("alice").slash("/inc note Rolled back the last deployment", self.room)
        await self.scene.sandbox.expect_message(self.room.id, "Rolled back the last deployment", within=10)
        return ""

    async def change_severity(self) -> str:
        """By slash command, with the reason."""
        await self.scene.sandbox.actor("alice").slash("/inc sev 2 only card payments fail", self.room)
        await self.scene.sandbox.expect_message(self.room.id, "SEV1 → SEV2", within=10)
        return "SEV1 → SEV2"

    async def clear(self) -> str:
        """The alert ends, and the bot asks."""
        await self.scene.bot.alert(sample(resolved=True))
        await self.scene.sandbox.expect_message(self.room.id, "Every alert of INC-1 has resolved", within=10)
        return ""

    async def resolve(self) -> str:
        """The button under the question, and its form."""
        alice = self.scene.sandbox.actor("alice")
        asked = await self.scene.sandbox.expect_message(self.room.id, "Every alert of INC-1 has resolved")
        await alice.click(asked, "Resolve")
        form = await alice.modal()
        await alice.fill(form, note="The deployment was rolled back and errors went away")
        await self.scene.sandbox.expect_message(self.room.id, "INC-1 is resolved", within=10)
        return ""

    async def export(self) -> str:
        """The file in the channel and the file from the command line are the same document."""
        room = self.room
        await self.scene.sandbox.wait(lambda: any(m.files for m in room.messages), 20, "a file in the channel")
        target = self.out / "postmortem.md"
        await self.scene.bot.command("postmortem", "export", "INC-1", "--format", "md", "--out", str(target))
        self.document = await asyncio.to_thread(target.read_text, encoding="utf-8")
        if "INC-1" not in self.document:
            raise UserError("the exported document does not name the incident")
        return f"{len(self.document.splitlines())} lines"

    async def check(self) -> str:
        """What the timeline says, and what Slack would have refused."""
        text = await self.scene.bot.command("timeline", "export", "INC-1", "--format", "json")
        events = json.loads(text)
        await asyncio.to_thread((self.out / "timeline.json").write_text, text, encoding="utf-8")
        kinds = [event["kind"] for event in events]
        if missing := [kind for kind in KINDS if kind not in kinds]:
            raise UserError(f"the timeline lacks {', '.join(missing)}")
        steps = [
            (e["kind"], e["data"].get("step"), e["data"].get("attempt"))
            for e in events
            if e["kind"].startswith("run.step")
        ]
        if twice := {step for step in steps if steps.count(step) > 1}:
            raise UserError(f"done twice: {twice}")
        for kind in ("incident.opened", "channel.opened", "run.started", "run.ended", "incident.resolved"):
            if kinds.count(kind) != 1:
                raise UserError(f"{kind} is on the timeline {kinds.count(kind)} times")
        cards = [message for message in self.room.messages if _is_card(message)]
        runs = [m for m in self.room.messages if "Run 1:" in m.rendered]
        if (len(cards), len(runs)) != (1, 1):
            raise UserError(f"{len(cards)} cards and {len(runs)} messages of the run instead of one each")
        self.scene.sandbox.assert_no_violations()
        return f"{len(events)} events, {self.scene.bot.starts} processes, 0 violations"


async def story(manifest: Mapping[str, Any], out: Path, say: Say) -> None:
    """Play the story; leave transcript.md, timeline.json, postmortem.md and tocsin.db in *out*.

    Raises UserError when a stage did not happen or the sandbox saw something that Slack would refuse.
    """
    await asyncio.to_thread(out.mkdir, parents=True, exist_ok=True)
    say("The story of one incident, over real HTTP and WebSockets:")
    async with scene(manifest, out) as made:
        told = Story(made, out, say)
        try:
            await told.play()
        finally:
            text = transcript(made)
            await asyncio.to_thread((out / "transcript.md").write_text, text, encoding="utf-8")
    say(f"All of it happened. See {out}/transcript.md, timeline.json, postmortem.md and tocsin.db")


def _is_card(message: Message) -> bool:
    return bool(message.blocks) and message.blocks[0].get("type") == "header"


def _seen(message: Message) -> str:
    """What a reader sees: the blocks, else the text."""
    return "\n".join(render.texts(message.blocks)) if message.blocks else render.plain(message.text)


def transcript(made: Scene) -> str:
    """What people saw, channel by channel, as it stood at the end."""
    workspace = made.sandbox.workspace
    names = {f"@{user.id}": f"@{user.name}" for user in workspace.users.values()}
    names |= {f"#{channel.id}": f"#{channel.name}" for channel in workspace.channels.values()}
    names |= {f"<@{user.id}>": f"@{user.name}" for user in workspace.users.values()}

    def named(line: str) -> str:
        for name, shown in sorted(names.items(), key=lambda pair: -len(pair[0])):
            line = line.replace(name, shown)
        return line.replace("\u200b", "")

    lines = [
        "# Transcript",
        "",
        "Every channel as people saw it at the end; messages that were edited show their last text.",
    ]
    for channel in workspace.channels.values():
        if not channel.messages:
            continue
        lines += ["", f"## #{channel.name}", ""]
        if channel.topic.value:
            lines += [f"_Topic: {named(channel.topic.value)}_", ""]
        for message in channel.messages:
            who = workspace.users[message.user].name if message.user in workspace.users else message.user
            at = time.strftime("%H:%M:%S", time.gmtime(float(message.ts)))
            edited = " (edited)" if message.edited else ""
            lines.append(f"**{who}** {at} UTC{edited}")
            lines += [f"> {named(line)}" for line in _seen(message).splitlines()]
            lines += [f"> [file: {file.get('name')}]" for file in message.files]
            lines.append("")
    return "\n".join(lines) + "\n"
