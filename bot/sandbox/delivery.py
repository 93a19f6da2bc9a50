"""Telling the app what people did: commands, clicks, submissions, events."""

import asyncio
import re
import secrets
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from bot.kit.clock import utc_now
from bot.kit.tasks import spawn
from bot.sandbox import inputs, review
from bot.sandbox.signed import Posts
from bot.sandbox.socket import Outcome, Sockets
from bot.sandbox.state import Channel, Delivered, Json, Message, Trigger, User, View
from bot.sandbox.workspace import DOMAIN, TEAM, Workspace, fields

TROUBLE = {
    "operation_timeout": "the app did not answer in {limit:g} s",
    "not_connected": "the app is not connected",
    "disconnected": "the app hung up",
    "dispatch_failed": "the app cannot be reached",
    "http_client_error": "the app refused",
    "http_service_error": "the app failed",
    "invalid_command": "no app here knows this command",
    "bad_response": "We had some trouble connecting. Try again?",
}


@dataclass(frozen=True)
class Reply:
    """What a person gets back at once: the ack's payload, and how long it took."""

    outcome: Outcome
    workspace: Workspace
    trigger: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome.ok

    @property
    def ack(self) -> Json | None:
        return self.outcome.payload

    @property
    def ms(self) -> float:
        return self.outcome.ms

    @property
    def error(self) -> str | None:
        return self.outcome.error

    @property
    def text(self) -> str:
        payload = self.ack or {}
        body = Message("", "", "", str(payload.get("text") or ""), list(payload.get("blocks") or []))
        return body.rendered

    @property
    def modal(self) -> View | None:
        """The view that was opened in answer, if there is one by now."""
        opened = (v for v in reversed(self.workspace.views.values()) if v.trigger == self.trigger)
        return next(opened, None) if self.trigger else None


@dataclass(frozen=True)
class Result:
    """How a submission ended: what the fields complain about, and whether the modal closed."""

    errors: dict[str, str] | None
    closed: bool
    ms: float
    error: str | None = None


class Delivery:
    """People act here; the page and the test actors use nothing else."""

    def __init__(self, workspace: Workspace, sockets: Sockets, posts: Posts) -> None:
        self.workspace = workspace
        self.sockets = sockets
        self.posts = posts
        self.faults = posts.faults
        self._tasks: set[asyncio.Task[Any]] = set()
        workspace.emit = self.event

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = spawn(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        doomed = list(self._tasks)
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)

    async def deliver(self, kind: str, payload: Json, what: str, *, accepts: bool) -> Outcome:
        """Hand the app a payload of the caller's own making, over whichever transport is in use."""
        return await self._send(kind, payload, what, accepts=accepts)

    async def _send(
        self, kind: str, payload: Json, what: str, *, accepts: bool, retry: int = 0, reason: str = ""
    ) -> Outcome:
        """Hand one payload to the app, over HTTP if it has a request URL, and keep how that went."""
        await self.faults.turn(kind)
        at = utc_now().isoformat()
        over = self.posts if self.posts.url else self.sockets
        outcome = await over.deliver(kind, payload, what, accepts=accepts, retry=retry, reason=reason)
        self.workspace.deliveries.append(
            Delivered(kind, what, over.name, at, outcome.ok, outcome.ms, outcome.error, retry)
        )
        self.workspace.touch("deliveries")
        self.faults.passed()
        return outcome

    def event(self, event: Json, channel: Channel | None) -> None:
        """Tell the app of an event, if it asked for such and may see the channel."""
        if channel is not None and self.workspace.bot.id not in channel.members:
            return
        name = event["type"]
        if name == "message":
            kinds = {"channel": "channels", "group": "groups", "im": "im"}
            name = f"message.{kinds[event['channel_type']]}"
        if name not in self.workspace.app.events:
            return
        payload = {
            "token": "sandbox",
            "team_id": TEAM,
            "context_team_id": TEAM,
            "context_enterprise_id": None,
            "api_app_id": self.workspace.app.id,
            "event": event,
            "type": "event_callback",
            "event_id": self.workspace.new_id("Ev"),
            "event_time": int(time.time()),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": TEAM,
                    "user_id": self.workspace.bot.id,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
            "event_context": secrets.token_hex(8),
        }
        self._spawn(self._tell(name, payload), f"sandbox event {name}")

    async def _tell(self, name: str, payload: Json) -> None:
        reason = ""
        for attempt, pause in enumerate((0.0, *self.workspace.limits.retry_seconds)):
            if pause:
                await asyncio.sleep(pause)
            if self.posts.url is None:
                await self.sockets.connected.wait()
            outcome = await self._send(
                "events_api", payload, f"event {name}", accepts=False, retry=attempt, reason=reason
            )
            if outcome.ok or outcome.no_retry:
                return
            reason = outcome.reason or "timeout"

    def _failed(self, user: User, what: str, error: str | None) -> None:
        why = TROUBLE.get(error or "", error or "").format(limit=self.workspace.limits.ack_seconds)
        self.workspace.notice(user.id, f"{what}: {why}" if error != "bad_response" else why)

    def _asker(self, user: User) -> Json:
        return {"id": user.id, "username": user.name, "name": user.name, "team_id": TEAM}

    def _common(self, kind: str, user: User, trigger: Trigger) -> Json:
        return {
            "type": kind,
            "user": self._asker(user),
            "api_app_id": self.workspace.app.id,
            "token": "sandbox",
            "trigger_id": trigger.id,
            "team": {"id": TEAM, "domain": DOMAIN},
            "enterprise": None,
            "is_enterprise_install": False,
        }

    def typed(self, text: str) -> str:
        """What a person typed, as Slack sends it: markup escaped, ``@alice`` and ``#general`` as links."""
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

        def mention(found: re.Match[str]) -> str:
            name = found[2]
            if found[1] == "@" and (user := self.workspace.person(name)):
                return f"<@{user.id}>"
            if found[1] == "#" and (channel := self.workspace.channel(name)):
                return f"<#{channel.id}|{channel.name}>"
            return found[0]

        return re.sub(r"(?<![\w&])([@#])([a-z0-9][a-z0-9._-]*[a-z0-9])", mention, text)

    async def slash(self, user: User, channel: Channel, line: str) -> Reply:
        """Type a slash command."""
        name, _, rest = line.strip().partition(" ")
        command = self.workspace.app.commands.get(name)
        if command is None:
            self._failed(user, name, "invalid_command")
            return Reply(Outcome(False, error="invalid_command"), self.workspace)
        trigger = self.workspace.new_trigger(user.id)
        answer = self.workspace.new_answer(user.id, channel.id)
        text = self.typed(rest.strip())
        if command.escape:
            text = re.sub(r"<@(\w+)>", self._named, text)
        else:
            text = rest.strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        outcome = await self._send(
            "slash_commands",
            {
                "token": "sandbox",
                "team_id": TEAM,
                "team_domain": DOMAIN,
                "channel_id": channel.id,
                "channel_name": self._channel_name(channel),
                "user_id": user.id,
                "user_name": user.name,
                "command": name,
                "text": text,
                "api_app_id": self.workspace.app.id,
                "is_enterprise_install": "false",
                "response_url": self.response_url(answer.id),
                "trigger_id": trigger.id,
            },
            f"slash command {line.strip()[:60]!r}",
            accepts=True,
        )
        if not outcome.ok:
            self._failed(user, line.strip()[:60], outcome.error)
        elif outcome.payload:
            self._speak(user, channel, outcome.payload, name)
        return Reply(outcome, self.workspace, trigger.id)

    def _named(self, found: re.Match[str]) -> str:
        return f"<@{found[1]}|{self.workspace.users[found[1]].name}>"

    def _channel_name(self, channel: Channel) -> str:
        if channel.kind == "im":
            return "directmessage"
        return channel.name if channel.kind == "public" else "privategroup"

    def _speak(self, user: User, channel: Channel, payload: Json, name: str) -> None:
        text, blocks = str(payload.get("text") or ""), payload.get("blocks") or []
        if not text and not blocks:
            return
        if review.message(self.workspace, f"the answer to {name}", text, blocks):
            self._failed(user, name, "bad_response")
        elif payload.get("response_type") == "in_channel":
            self.workspace.post(channel, self.workspace.bot.id, text, blocks=blocks)
        else:
            self.workspace.whisper(channel, user.id, text, blocks=blocks)

    def response_url(self, number: str) -> str:
        return f"{self.workspace.url}/respond/{number}"

    async def act(self, user: User, place: Message | View, block: Json, element: Json, state: Json) -> Reply:
        """Use a button or a menu of a message or a view."""
        view = place if isinstance(place, View) else None
        trigger = self.workspace.new_trigger(user.id, view.id if view else None)
        payload = self._common("block_actions", user, trigger)
        action = {
            "action_id": element["action_id"],
            "block_id": block["block_id"],
            "type": element["type"],
            "action_ts": self.workspace.next_ts(),
            **state,
        }
        if element["type"] == "button":
            action["text"] = element["text"]
            for key in ("value", "style", "url"):
                if key in element:
                    action[key] = element[key]
        elif element.get("placeholder"):
            action["placeholder"] = element["placeholder"]
        payload["actions"] = [action]
        if element["type"] not in inputs.STATELESS:
            self._keep(place, block, element, state)
        payload |= self._view_place(view) if view else self._message_place(user, place)
        what = f"{element['type']} {element['action_id']!r}"
        outcome = await self._send("interactive", payload, what, accepts=False)
        if not outcome.ok:
            self._failed(user, what, outcome.error)
        return Reply(outcome, self.workspace, trigger.id)

    async def suggest(self, user: User, place: Message | View, block: Json, element: Json, typed: str) -> list[Json]:
        """Type into a menu that asks the app for its options; what it then offers."""
        payload = self._common("block_suggestion", user, self.workspace.new_trigger(user.id))
        del payload["trigger_id"]
        payload |= {"action_id": element["action_id"], "block_id": block["block_id"], "value": typed}
        if isinstance(place, View):
            payload |= self._view_place(place)
        else:
            shown = self._message_place(user, place)
            payload |= {key: shown[key] for key in ("container", "channel", "message") if key in shown}
        what = f"options of {element['action_id']!r}"
        outcome = await self._send("interactive", payload, what, accepts=True)
        if not outcome.ok:
            self._failed(user, what, outcome.error)
            return []
        if review.loaded(self.workspace, what, outcome.payload):
            self._failed(user, what, "bad_response")
            return []
        return inputs.options(outcome.payload or {})

    def _keep(self, place: Message | View, block: Json, element: Json, state: Json) -> None:
        if isinstance(place, View):
            place.values.setdefault(block["block_id"], {})[element["action_id"]] = state

    def _view_place(self, view: View) -> Json:
        view.values = inputs.values(view.blocks, view.values)
        shown = self._view_payload(view)
        return {"container": {"type": "view", "view_id": view.id}, "view": shown} | (
            {"state": shown["state"]} if view.kind == "home" else {}
        )

    def _view_payload(self, view: View) -> Json:
        bot = self.workspace.bot
        return view.payload(TEAM, self.workspace.app.id, str(bot.bot_id))

    def _message_place(self, user: User, place: Any) -> Json:
        channel = self.workspace.channels[place.channel]
        answer = self.workspace.new_answer(user.id, channel.id, place)
        ephemeral = place.only_for is not None
        container = {
            "type": "message",
            "message_ts": place.ts,
            "channel_id": channel.id,
            "is_ephemeral": ephemeral,
        }
        if place.thread_ts:
            container["thread_ts"] = place.thread_ts
        found = {
            "container": container,
            "channel": {"id": channel.id, "name": self._channel_name(channel)},
            "state": {"values": inputs.values(place.blocks, {})},
            "response_url": self.response_url(answer.id),
        }
        # Slack does not keep ephemeral messages, so it cannot send one along.
        return found if ephemeral else found | {"message": place.payload(TEAM)}

    async def submit(self, user: User, view: View) -> Result:
        """Press a modal's submit button with what has been entered so far."""
        view.values = inputs.values(view.blocks, view.values)
        complaints: dict[str, str] = {}
        for block, element in fields(view.blocks):
            if block["type"] != "input":
                continue
            said = inputs.complaint(block, element, view.values[block["block_id"]][element["action_id"]])
            if said:
                complaints[block["block_id"]] = said
        if complaints:
            return Result(complaints, False, 0.0)
        trigger = self.workspace.new_trigger(user.id, view.id)
        payload = self._common("view_submission", user, trigger)
        payload |= {"view": self._view_payload(view), "response_urls": []}
        what = f"submission of {view.callback_id or view.title!r}"
        outcome = await self._send("interactive", payload, what, accepts=True)
        if not outcome.ok:
            self._failed(user, what, outcome.error)
            return Result(None, False, outcome.ms, outcome.error)
        return self._react(user, view, outcome, what)

    def _react(self, user: User, view: View, outcome: Outcome, what: str) -> Result:
        answer = outcome.payload or {}
        action = answer.get("response_action")
        if action is None:
            self.workspace.hide(view)
        elif action == "clear":
            self.workspace.hide(view, all_of_them=True)
        elif action == "errors":
            return self._errors(user, view, outcome, what)
        elif action in ("update", "push"):
            if review.view(self.workspace, f"{action} by {what}", answer.get("view")):
                return self._bad(user, what, outcome)
            if action == "update":
                self.workspace.reshow(view, answer["view"])
            elif len(self.workspace.stacks.get(user.id, [])) >= self.workspace.limits.modal_depth:
                self.workspace.violation("push_limit_reached", what)
                return self._bad(user, what, outcome)
            else:
                self.workspace.show(user.id, answer["view"], above=view)
        else:
            self.workspace.violation("bad_response", f"{what}: no response_action {action!r}")
            return self._bad(user, what, outcome)
        return Result(None, not view.open, outcome.ms)

    def _bad(self, user: User, what: str, outcome: Outcome) -> Result:
        self._failed(user, what, "bad_response")
        return Result(None, False, outcome.ms, "bad_response")

    def _errors(self, user: User, view: View, outcome: Outcome, what: str) -> Result:
        errors = (outcome.payload or {}).get("errors")
        known = {b["block_id"] for b in view.blocks if b["type"] == "input"}
        if not isinstance(errors, dict) or not errors:
            self.workspace.violation("bad_response", f"{what}: errors must be an object that is not empty")
            return self._bad(user, what, outcome)
        if strange := [key for key in errors if key not in known]:
            self.workspace.violation("bad_response", f"{what}: {strange} are no input blocks of this view")
            return self._bad(user, what, outcome)
        review.look(self.workspace, f"errors of {what}", None, errors)
        return Result({str(k): str(v) for k, v in errors.items()}, False, outcome.ms)

    async def dismiss(self, user: User, view: View, *, all_of_them: bool = False) -> Reply:
        """Close a modal without submitting it; the app hears of it only if it wants to."""
        everything = all_of_them or bool(view.body.get("clear_on_close"))
        gone = list(self.workspace.stacks.get(user.id, [])) if everything else [view]
        self.workspace.hide(view, all_of_them=everything)
        last = Outcome(True)
        for item in reversed(gone):
            if not item.body.get("notify_on_close"):
                continue
            payload = self._common("view_closed", user, self.workspace.new_trigger(user.id))
            del payload["trigger_id"]
            payload |= {"view": self._view_payload(item), "is_cleared": everything}
            what = f"closing of {item.callback_id or item.title!r}"
            last = await self._send("interactive", payload, what, accepts=False)
        return Reply(last, self.workspace)

    async def shortcut(self, user: User, callback_id: str, message: Message | None = None) -> Reply:
        """Use a global shortcut, or a message shortcut on *message*."""
        shortcut = self.workspace.app.shortcuts.get(callback_id)
        kind = "global" if message is None else "message"
        if shortcut is None or shortcut.kind != kind:
            known = [s.callback_id for s in self.workspace.app.shortcuts.values() if s.kind == kind]
            raise inputs.ImpossibleError(f"no {kind} shortcut {callback_id!r} in the manifest; there is: {known}")
        trigger = self.workspace.new_trigger(user.id)
        payload = self._common("shortcut" if message is None else "message_action", user, trigger)
        payload |= {"callback_id": callback_id, "action_ts": self.workspace.next_ts()}
        if message is not None:
            channel = self.workspace.channels[message.channel]
            answer = self.workspace.new_answer(user.id, channel.id)
            payload |= {
                "channel": {"id": channel.id, "name": self._channel_name(channel)},
                "message_ts": message.ts,
                "message": message.payload(TEAM),
                "response_url": self.response_url(answer.id),
            }
        what = f"shortcut {shortcut.name!r}"
        outcome = await self._send("interactive", payload, what, accepts=False)
        if not outcome.ok:
            self._failed(user, what, outcome.error)
        return Reply(outcome, self.workspace, trigger.id)

    def say(self, user: User, channel: Channel, text: str, thread_ts: str | None = None) -> Message:
        """Write a message, as a person does."""
        said = self.typed(text)
        section = {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}
        return self.workspace.post(
            channel, user.id, said, blocks=[{"type": "rich_text", "elements": [section]}], thread_ts=thread_ts
        )

    def open_home(self, user: User) -> None:
        """Look at the app's Home tab."""
        channel = self.workspace.direct(user.id)
        event: Json = {
            "type": "app_home_opened",
            "user": user.id,
            "channel": channel.id,
            "tab": "home",
            "event_ts": self.workspace.next_ts(),
        }
        if view := self.workspace.homes.get(user.id):
            event["view"] = self._view_payload(view)
        self.event(event, None)
