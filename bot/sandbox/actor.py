"""People for tests: they type, click and fill in forms as someone at the page would."""

import re
from collections.abc import Callable
from typing import Any

from bot.sandbox import inputs
from bot.sandbox.delivery import Delivery, Reply, Result
from bot.sandbox.inputs import ImpossibleError
from bot.sandbox.render import plain
from bot.sandbox.state import Channel, Json, Message, User, View
from bot.sandbox.workspace import Workspace, fields


class Actor:
    """One person. What cannot be done at a screen raises `ImpossibleError`, an AssertionError."""

    def __init__(self, workspace: Workspace, delivery: Delivery, user: User) -> None:
        self.workspace = workspace
        self.delivery = delivery
        self.user = user

    @property
    def id(self) -> str:
        return self.user.id

    @property
    def name(self) -> str:
        return self.user.name

    @property
    def mention(self) -> str:
        return f"<@{self.user.id}>"

    def channel(self, name: str | Channel) -> Channel:
        """A channel this person can see, by id or name."""
        found = name if isinstance(name, Channel) else self.workspace.channel(name)
        if found is None or not self.workspace.sees(found, self.id):
            there = ", ".join(f"#{c.name}" for c in self.workspace.channels.values() if self.workspace.sees(c, self.id))
            raise ImpossibleError(f"{self.name} sees no channel {name!r}; there is: {there}")
        return found

    async def slash(self, line: str, channel: str | Channel = "#general") -> Reply:
        """Type a slash command."""
        return await self.delivery.slash(self.user, self.channel(channel), line)

    async def say(self, channel: str | Channel, text: str, *, thread_ts: str | None = None) -> Message:
        """Write a message; ``@name`` and ``#channel`` become links as in Slack's composer."""
        place = self.channel(channel)
        if place.archived:
            raise ImpossibleError(f"#{place.name} is archived")
        return self.delivery.say(self.user, place, text, thread_ts)

    async def react(self, message: Message, name: str, *, add: bool = True) -> None:
        self.workspace.react(self.channel(message.channel), message, self.id, name.strip(":"), add=add)

    async def pin(self, message: Message, *, add: bool = True) -> None:
        self.workspace.pin(self.channel(message.channel), message, self.id, add=add)

    async def edit(self, message: Message, text: str) -> None:
        if message.user != self.id:
            raise ImpossibleError(f"{self.name} did not write this message")
        self.workspace.edit(self.channel(message.channel), message, self.id, text=self.delivery.typed(text))

    async def delete(self, message: Message) -> None:
        self.workspace.delete(self.channel(message.channel), message)

    async def join(self, channel: str | Channel) -> None:
        self.workspace.join(self.channel(channel), self.id)

    async def leave(self, channel: str | Channel) -> None:
        self.workspace.leave(self.channel(channel), self.id)

    async def invite(self, channel: str | Channel, *names: str) -> None:
        """Bring others, or the app by the name ``bot``, into a channel."""
        place = self.channel(channel)
        for name in names:
            user = self.workspace.bot if name == "bot" else self.workspace.person(name)
            if user is None:
                raise ImpossibleError(f"there is no {name!r}")
            self.workspace.join(place, user.id, self.id)

    async def remove(self, channel: str | Channel, name: str) -> None:
        """Take somebody, or the app by the name ``bot``, out of a channel."""
        user = self.workspace.bot if name == "bot" else self.workspace.person(name)
        if user is None:
            raise ImpossibleError(f"there is no {name!r}")
        self.workspace.leave(self.channel(channel), user.id)

    async def create(self, name: str, *, private: bool = False) -> Channel:
        if self.workspace.channel(name) is not None:
            raise ImpossibleError(f"#{name} exists")
        return self.workspace.create(name, self.id, private=private)

    async def archive(self, channel: str | Channel) -> None:
        self.workspace.archive(self.channel(channel), self.id)

    async def unarchive(self, channel: str | Channel) -> None:
        self.workspace.archive(self.channel(channel), self.id, archived=False)

    async def topic(self, channel: str | Channel, text: str) -> None:
        self.workspace.describe(self.channel(channel), self.id, "topic", text)

    async def staff(self, handle: str, *names: str) -> None:
        """Say who is in a user group, such as those on call."""
        group = next((g for g in self.workspace.groups.values() if g.handle == handle.removeprefix("@")), None)
        people = [self.workspace.person(name) for name in names]
        found = [person.id for person in people if person is not None]
        if group is None or len(found) != len(names) or not found:
            raise ImpossibleError(f"@{handle} and {', '.join(names) or 'nobody'} do not go together")
        self.workspace.regroup(group, found)

    def sees(self, channel: str | Channel) -> list[Message]:
        """The messages of a channel, with what only this person sees, oldest first."""
        place = self.channel(channel)
        return sorted([*place.messages, *self.ephemerals(place)], key=lambda m: m.ts)

    def ephemerals(self, channel: str | Channel) -> list[Message]:
        return [m for m in self.channel(channel).ephemerals if m.only_for == self.id]

    async def expect(
        self,
        contains: str,
        channel: str | Channel | None = None,
        within: float = 5.0,
        *,
        after: str | None = None,
    ) -> Message:
        """The newest message only for this person that contains this text, here or anywhere."""

        def found() -> Message | None:
            places = [self.channel(channel)] if channel is not None else self.workspace.channels.values()
            seen = [m for c in places for m in c.ephemerals if m.only_for == self.id]
            fitting = [m for m in seen if m.contains(contains) and (after is None or m.ts > after)]
            return max(fitting, key=lambda m: m.ts, default=None)

        what = f"message only for {self.name} with {contains!r}"
        answer: Message = await self.workspace.wait(found, within, what)
        return answer

    async def modal(
        self,
        within: float = 3.0,
        *,
        title: str | None = None,
        contains: str | None = None,
        until: Callable[[View], Any] | None = None,
    ) -> View:
        """The modal on top, once there is one and it has that title, contains that text, and *until* is true."""

        def found() -> View | None:
            view = self.workspace.top(self.id)
            if view is None or (title is not None and view.title != title):
                return None
            if contains is not None and not view.contains(contains):
                return None
            return view if until is None or until(view) else None

        try:
            answer: View = await self.workspace.wait(found, within, f"such modal for {self.name}")
        except AssertionError as error:
            top = self.workspace.top(self.id)
            raise AssertionError(f"{error}; on top is: {top.rendered if top else 'nothing'}") from None
        return answer

    async def home(self, within: float = 3.0, *, contains: str = "") -> View:
        """Open the app's Home tab and wait for what it shows."""
        self.delivery.open_home(self.user)

        def found() -> View | None:
            view = self.workspace.homes.get(self.id)
            return view if view is not None and view.contains(contains) else None

        answer: View = await self.workspace.wait(found, within, f"Home tab for {self.name} with {contains!r}")
        return answer

    async def click(self, place: Message | View, target: str, value: Any = None) -> Reply:
        """Press the button with this action id or visible text; for a menu, choose *value*."""
        if isinstance(place, View) and not place.open:
            raise ImpossibleError(f"the view {place.title!r} is closed")
        if isinstance(place, Message):
            self._still_there(place)
        block, element = find(place.blocks, target)
        if element["type"] in ("button", "icon_button"):
            return await self.delivery.act(self.user, place, block, element, {})
        if value is None:
            raise ImpossibleError(f"{target!r} is a {element['type']}; say which value to choose")
        state = inputs.entered(self.workspace, element, value)
        return await self.delivery.act(self.user, place, block, element, state)

    def _still_there(self, message: Message) -> None:
        channel = self.channel(message.channel)
        shown = channel.ephemerals if message.only_for else channel.messages
        if message not in shown or message.only_for not in (None, self.id):
            raise ImpossibleError(f"{self.name} does not see this message: {message.rendered[:80]!r}")

    async def suggest(self, place: Message | View, target: str, typed: str) -> list[Json]:
        """Type into a menu that asks the app for its options; the options, to be chosen as they are."""
        block, element = find(place.blocks, target)
        if not element["type"].endswith("external_select"):
            raise ImpossibleError(f"{target!r} is a {element['type']}, which asks the app for nothing")
        # Slack asks from the third character on unless the app says otherwise.
        if len(typed) < int(element.get("min_query_length", 3)):
            return []
        return await self.delivery.suggest(self.user, place, block, element, typed)

    async def fill(self, modal: View, **values: Any) -> Result:
        """Enter values by block id or action id (dots and dashes as ``_``) and submit."""
        return await self.submit(modal, values)

    async def submit(self, modal: View, values: dict[str, Any] | None = None) -> Result:
        """As `fill`, for ids that are no Python names."""
        self.enter(modal, values or {})
        if modal.body.get("submit") is None:
            raise ImpossibleError(f"the modal {modal.title!r} has no submit button")
        return await self.delivery.submit(self.user, modal)

    def enter(self, modal: View, values: dict[str, Any]) -> None:
        """Type into fields without submitting."""
        if not modal.open:
            raise ImpossibleError(f"the modal {modal.title!r} is closed")
        for name, value in values.items():
            block, element = find_field(modal.blocks, name)
            state = inputs.entered(self.workspace, element, value)
            modal.values.setdefault(block["block_id"], {})[element["action_id"]] = state

    async def close(self, modal: View, *, all_of_them: bool = False) -> Reply:
        """Cancel a modal; with *all_of_them* by the cross, which closes those below it too."""
        return await self.delivery.dismiss(self.user, modal, all_of_them=all_of_them)

    async def shortcut(self, callback_id: str) -> Reply:
        return await self.delivery.shortcut(self.user, callback_id)

    async def message_shortcut(self, callback_id: str, message: Message) -> Reply:
        self._still_there(message)
        return await self.delivery.shortcut(self.user, callback_id, message)


def caption(element: Json) -> str:
    """What a person reads on a button or a menu."""
    text = element.get("text") or element.get("placeholder") or {}
    return plain(str(text.get("text") or ""))


def find(blocks: list[Json], target: str) -> tuple[Json, Json]:
    """The element with that action id, or else that visible text, or block id."""
    there = fields(blocks)
    for matches in (
        lambda b, e: e.get("action_id") == target,
        lambda b, e: caption(e) == target,
        lambda b, e: re.sub(r":[\w+-]+:", "", caption(e)).strip() == target,
        lambda b, e: b.get("block_id") == target,
    ):
        found = [(b, e) for b, e in there if matches(b, e)]
        if found:
            return found[0]
    known = [f"{e.get('action_id')} ({caption(e) or e.get('type')})" for _, e in there]
    raise ImpossibleError(f"no button or menu {target!r}; there is: {', '.join(known) or 'none'}")


def find_field(blocks: list[Json], name: str) -> tuple[Json, Json]:
    """The field with that block id or action id; characters no Python name has may be written as ``_``."""
    there = [(b, e) for b, e in fields(blocks) if e.get("type") in inputs.SHAPES]
    for block, element in there:
        names = (str(block.get("block_id")), str(element.get("action_id")))
        if name in names or name in [re.sub(r"\W", "_", n) for n in names]:
            return block, element
    known = [f"{b.get('block_id')} / {e.get('action_id')}" for b, e in there]
    raise ImpossibleError(f"no field {name!r}; there is: {', '.join(known) or 'none'}")
