"""The door for what people ask: written down in one insert, or a form opened at once, then acknowledged.

Slack gives three seconds. Nothing here waits for anything but that insert or that one call.
"""

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import sqlalchemy as sa
import structlog
from slack_bolt.async_app import AsyncAck
from sqlmodel import col

from bot.engine import LINES, Batch, Engine, Work
from bot.incidents import access
from bot.incidents.model import Request
from bot.kit.clock import Clock
from bot.kit.db import insert_for, unavailable
from bot.kit.errors import BotError, UserError
from bot.kit.ids import derived_id
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.kit.text import clean, nearest
from bot.runs import form as run_form
from bot.runs import live, params
from bot.runs.books import Books
from bot.slack import ids
from bot.slack.client import SlackChat
from bot.slack.context import Asked, Form, words
from bot.slack.people import People
from bot.slack.views import fields, forms
from bot.slack.views.blocks import Block, quoted, safe
from bot.slack.words import heard, scrubbed

log = structlog.get_logger()

# How long an insert may take before the person is told that nothing was done.
PATIENCE = 1.5
# A response_url speaks for 30 minutes: https://docs.slack.dev/interactivity/handling-user-interaction#message_responses
SPEAKS = 29 * 60.0
# Slack repeats itself within minutes, if at all.
REMEMBERED = 2000
VOID = (
    ":warning: The database does not answer, so *nothing was done*. Please try again in a moment "
    "(reference `{reference}`)."
)

BATCH = 100  # requests in one transaction
# A request, until when it may be stored, and what is told when it is.
Waiting = tuple[Request, float, asyncio.Future[None]]
Fill = Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, None]]
# The choices of a field of an open form: what the form is about, and the field's name.
Suggest = Callable[[Mapping[str, Any], str], Awaitable[Sequence[str]]]


@dataclass
class Inbox:
    """What a person's request meets first. All it knows is in memory."""

    engine: Engine
    chat: SlackChat
    people: People
    commands: Shelf
    actions: Shelf
    books: Books
    clock: Clock
    fill: Fill
    suggest: Suggest
    word: str = "/inc"
    channels: dict[str, str] = field(default_factory=dict)
    services: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.verbs: dict[str, str] = {}
        for name in self.commands:
            for verb in (name.replace("_", "-"), *getattr(self.commands[name], "ALIASES", ())):
                self.verbs[verb] = name
        self.guide = guide(self.commands, self.word)
        self.buttons = _table(self.actions, "BUTTONS")
        self.forms = _table(self.actions, "FORMS")
        self.opens = _table(self.actions, "OPENS")
        self.sends = _table(self.actions, "SENDS")
        self.shortcuts = _table(self.actions, "SHORTCUTS")
        # Requests whose person was told that nothing was done, by id, with the deadline that tells them from repeats.
        self.revoked: dict[str, float] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._waiting: list[Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._insertion: Any = None

    # -- what Bolt calls ------------------------------------------------------------------------------------------

    async def command(self, ack: AsyncAck, body: Mapping[str, Any]) -> None:
        """A slash command."""
        asked = self._asked(body["user_id"], body["channel_id"])
        if why := self._refusal(asked):
            await ack(why)
            return
        verb, rest = words(heard(body.get("text") or ""))
        verb = verb.lower()
        if not verb:
            await self._bare(ack, body, asked)
            return
        name = self.verbs.get(verb)
        if name is None:
            await ack(self._unknown(verb))
            return
        module = self.commands[name]
        if (answer := getattr(module, "answer", None)) is not None:
            reply = answer(asked, rest)
            await ack(text=reply.text, blocks=list(reply.blocks) or None)
        elif (form := self._form(module, asked, rest)) is not None:
            await self._open(ack, body, asked, form)
        else:
            await self._command(ack, body, asked, name, rest)

    async def _bare(self, ack: AsyncAck, body: Mapping[str, Any], asked: Asked) -> None:
        """No word at all: the overview in an incident's channel, else the form to declare one."""
        if asked.incident_id:
            await self._command(ack, body, asked, "status", "")
        else:
            # Perhaps another process opened this channel a moment ago; there is no time to look before the form.
            await self._open(ack, body, asked, Form(forms.declare(), {"form": "here"}))

    async def _command(self, ack: AsyncAck, body: Mapping[str, Any], asked: Asked, name: str, text: str) -> None:
        payload = {"text": text, "response_url": body.get("response_url")}
        await self._record(ack, "command", name, f"command:{body['trigger_id']}", asked, payload)

    async def action(self, ack: AsyncAck, body: Mapping[str, Any]) -> None:
        """A button, of a message or of an open form."""
        item = body["actions"][0]
        name = str(item["action_id"]).partition(":")[0]
        about = _about(body.get("view") or {})
        channel = (body.get("channel") or {}).get("id") or (body.get("container") or {}).get("channel_id")
        asked = self._asked(body["user"]["id"], channel or about.get("channel"))
        body = {"response_url": about.get("url"), **dict(body)}
        value = str(item.get("value") or (item.get("selected_option") or {}).get("value") or "")
        if name == ids.OPEN_LINK or not (item.get("type") in ("button", None) or _chosen(item, name, self.buttons)):
            await ack()  # a field of a form: its value comes with the form
        elif why := self._refusal(asked):
            await ack()
            self._say(body, asked, why)
        elif name in self.sends and body.get("view"):
            await self._send(ack, body, asked, *self.sends[name])
        elif (opens := self.opens.get(name)) is not None:
            await self._open(ack, body, asked, opens(asked, value))
        elif name in self.buttons:
            payload = {"value": value, "response_url": body["response_url"]}
            await self._record(ack, "button", name, f"action:{body['trigger_id']}", asked, payload)
        else:
            await ack()
            word = f"`{self.word} status` in the incident's channel shows a fresh card."
            self._say(body, asked, f"This button belongs to another version of the bot. {word}")

    async def _send(
        self, ack: AsyncAck, body: Mapping[str, Any], asked: Asked, form: str, extra: Mapping[str, Any], word: str
    ) -> None:
        """A second way to send a form, which stays open and says how that went."""
        view = body["view"]
        about, values = _about(view), {**state(view), **extra}
        try:
            told = "; ".join(f"*{_label(view, name)}* {why}" for name, why in self._wrong(form, about, values).items())
        except UserError as error:
            told = safe(str(error))
        if told:
            await ack()
            word = f":warning: {told}"
        elif not await self._record(
            ack, "form", form, f"action:{body['trigger_id']}", asked, {"about": about, "values": values}, quiet=True
        ):
            word = VOID.format(reference=derived_id("request", f"action:{body['trigger_id']}")[:8])
        if self._first(f"word:{body['trigger_id']}"):
            spawn(self._word(view, word), name="form.word")

    async def _word(self, view: Mapping[str, Any], word: str) -> None:
        try:
            await self.chat.update_view(str(view["id"]), forms.with_word(view, word))
        except BotError as error:
            log.warning("form.not_filled", reason=str(error))

    async def submission(self, ack: AsyncAck, body: Mapping[str, Any]) -> None:
        """A form that was sent."""
        view = body["view"]
        about = _about(view)
        asked = self._asked(body["user"]["id"], about.get("channel"))
        values = state(view)
        if why := self._refusal(asked):
            await ack(response_action="update", view=forms.trouble("Not allowed", why))
            return
        if view["callback_id"] not in self.forms:
            await ack(response_action="update", view=forms.trouble("Sorry", "This form is not known here any more."))
            return
        try:
            wrong = self._wrong(view["callback_id"], about, values)
        except UserError as error:
            await ack(response_action="update", view=forms.trouble("Sorry", str(error)))
            return
        if wrong:
            await ack(response_action="errors", errors=wrong)
            return
        payload = {"about": about, "values": values}
        key = f"form:{view['id']}:{view.get('hash')}"
        # Of a form on top of another one, all close.
        closes = {"response_action": "clear"} if view.get("previous_view_id") else {}
        await self._record(ack, "form", view["callback_id"], key, asked, payload, modal=True, closes=closes)

    async def options(self, ack: AsyncAck, body: Mapping[str, Any]) -> None:
        """Somebody types into a menu that has too many choices to carry them."""
        about = _about(body.get("view") or {})
        name = str(body.get("block_id")).removeprefix(run_form.PREFIX)
        found: Sequence[str] = ()
        if self._refusal(self._asked(body["user"]["id"], None)) is None:
            try:
                found = await self.suggest(about, name)
            except (UserError, sa.exc.SQLAlchemyError) as error:
                log.warning("form.no_options", reason=type(error).__name__)
        await ack(options=fields.options(found, str(body.get("value") or "")))

    async def shortcut(self, ack: AsyncAck, body: Mapping[str, Any]) -> None:
        """A shortcut, from the menu of Slack or of a message."""
        name = body["callback_id"]
        asked = self._asked(body["user"]["id"], (body.get("channel") or {}).get("id"))
        if why := self._refusal(asked):
            await ack()
            self._say(body, asked, why)
        elif name == ids.DECLARE_SHORTCUT:
            await self._open(ack, body, asked, Form(forms.declare()))
        elif name in self.shortcuts:
            message = body.get("message") or {}
            payload = {
                "author": message.get("user"),
                "text": heard(str(message.get("text") or "")),
                "ts": message.get("ts"),
                "response_url": body.get("response_url"),
            }
            await self._record(ack, "shortcut", name, f"shortcut:{body['trigger_id']}", asked, payload)
        else:
            await ack()
            self._say(body, asked, "This shortcut is not known here any more.")

    async def event(self, ack: AsyncAck, body: Mapping[str, Any]) -> None:
        """Something happened in Slack. Slack may tell it again, so `event_id` is the key."""
        event = body["event"]
        if event["type"] == "app_mention" and event.get("user") and not event.get("bot_id"):
            asked = self._asked(event["user"], event.get("channel"))
            await self._record(ack, "event", "app_mention", f"event:{body['event_id']}", asked, {}, quiet=True)
            return
        await ack()

    # -- how ------------------------------------------------------------------------------------------------------

    def _asked(self, person: str, channel: str | None) -> Asked:
        found = self.channels.get(channel) if channel else None
        return Asked(person, channel, found, self.books, self.guide, self.word, self.services)

    def _refusal(self, asked: Asked) -> str | None:
        return access.refusal(self.people.recall(asked.person))

    def _form(self, module: ModuleType, asked: Asked, text: str) -> Form | None:
        make = getattr(module, "form", None)
        return make(asked, text) if make else None

    def _unknown(self, verb: str) -> str:
        near = nearest(verb, list(self.verbs))
        shown = quoted(verb)
        hint = f" Did you mean `{self.word} {near}`?" if near else f" `{self.word} help` shows what there is."
        return f"{shown} is not something this bot knows.{hint}"

    def _wrong(self, form: str, about: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with what was filled in, by field; UserError where the form as a whole cannot be sent."""
        if form == ids.DECLARE_FORM and not clean(str(values.get("title") or "")).strip():
            return {"title": "An incident needs a title."}
        try:
            if form == ids.RUN_FORM:
                self._check_run(about, values)
            elif form == ids.APPROVAL_FORM:
                if about.get("reason") and not str(values.get("reason") or "").strip():
                    return {"reason": "Say why; this question wants a reason."}
                declared = run_form.declared(about.get("inputs") or {})
                if "inputs" in about:
                    params.check(declared, run_form.entered(declared.params, values))
        except params.ParamErrors as error:
            found = {f"{run_form.PREFIX}{name}": told for name, told in error.errors.items()}
            if not set(found) <= set(values):
                raise UserError(str(error)) from None
            return found
        return {}

    def _check_run(self, about: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        runbook = self.books.runbooks.get(str(about.get("runbook")))
        if runbook is None:
            raise UserError("This runbook does not exist any more.")
        if runbook.sha256 != about.get("sha256"):
            raise UserError("The runbook was changed meanwhile. Close this form and press its button again.")
        live.check(about.get("live") or {}, params.check(runbook, run_form.entered(runbook.params, values)))

    async def _open(self, ack: AsyncAck, body: Mapping[str, Any], asked: Asked, form: Form) -> None:
        """The form first: its trigger lives three seconds, and opens one form however often Slack tells of it."""
        if not self._first(body["trigger_id"]):
            await ack()
            return
        below = _about(body.get("view") or {})
        answer: dict[str, Any] = {key: below[key] for key in ("url", "until") if key in below}
        if not answer and body.get("response_url"):
            answer = {"url": body["response_url"], "until": time.time() + SPEAKS}
        place: dict[str, Any] = {"channel": asked.channel, **answer}
        open_view = self.chat.push_view if body.get("view") else self.chat.open_view
        try:
            view_id = await open_view(body["trigger_id"], carrying(form.view, place))
        except BotError as error:
            log.warning("form.not_opened", reason=str(error))
            text = ":warning: Slack did not open the form. Please try again."
            if "command" in body:  # the text of an ack is shown for commands alone
                await ack(text)
            else:
                await ack()
                self._say(body, asked, text)
            return
        await ack()
        if form.fill:
            spawn(self.fill(view_id, {**form.fill, "person": asked.person, **place}), name="form.fill")

    def _first(self, key: str) -> bool:
        """Whether this process has not met *key* before."""
        if key in self._seen:
            return False
        self._seen[key] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True

    async def _record(
        self,
        ack: AsyncAck,
        kind: str,
        name: str,
        key: str,
        asked: Asked,
        payload: dict[str, Any],
        *,
        modal: bool = False,
        quiet: bool = False,
        closes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write the request down and acknowledge it; False if it could not be, and the person was told so."""
        row = Request(
            id=derived_id("request", key),
            key=key,
            kind=kind,
            name=name,
            person=asked.person,
            channel=asked.channel,
            payload=scrubbed(payload),
            deadline=time.time() + self.engine.ahead + PATIENCE,
            recorded=0.0,
            received_at=self.clock(),
        )
        insert = spawn(self._insert(row, time.monotonic() + PATIENCE), name=f"request.insert:{row.id}")
        done, _ = await asyncio.wait({insert}, timeout=PATIENCE)
        if done and insert.exception() is None:
            await ack(**(closes or {}))
            return True
        self.revoked[row.id] = row.deadline
        insert.add_done_callback(lambda _: spawn(self._revoke(row), name=f"request.revoke:{row.id}"))
        log.error("request.void", request=row.id, kind=kind, name=name, late=not done)
        text = VOID.format(reference=row.id[:8])
        if modal:
            await ack(response_action="update", view=forms.trouble("Nothing was done", text))
        elif kind == "command":
            await ack(text)
        else:  # the text of an ack is shown for commands alone
            await ack()
            if not quiet:
                self._say({**payload, "trigger_id": key}, asked, text)
        return False

    async def _insert(self, row: Request, until: float) -> None:
        """Return when *row* is committed; those that come meanwhile share the next commit."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, until, written))
        if self._writer is None:
            self._writer = spawn(self._drain(), name="request.writer")
        await written

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                # One that hangs must not hold up the others for longer than anybody waits.
                await asyncio.wait({spawn(self._write(batch), name="request.write")}, timeout=PATIENCE)
        finally:
            self._writer = None

    async def _write(self, batch: list[Waiting]) -> None:
        """One transaction; if something in it is bad, each by itself, so that it fails alone."""
        try:
            rows = {row.id: (row, until) for row, until, _ in reversed(batch)}
            await self.engine.batch(partial(self._store, rows))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to those who wait
            if len(batch) > 1 and not unavailable(error):
                for one in batch:
                    await self._write([one])
                return
            for *_, written in batch:
                written.set_exception(error)
        else:
            for *_, written in batch:
                written.set_result(None)

    def _store(self, rows: Mapping[str, tuple[Request, float]], batch: Batch) -> None:
        """The one insert. Slack may deliver the same request again: its key is unique, so the second is nothing."""
        connection = batch.connection
        values = [row.model_dump(exclude={"recorded"}) for row, _ in rows.values()]
        added = set(connection.execute(self._statement(connection), values).scalars())
        for row, until in rows.values():
            if row.id not in added:
                continue
            if time.monotonic() > until:
                connection.execute(self._voiding(row))
            else:
                turn = f"person:{row.person}"
                batch.enqueue(Work("request", f"request:{row.id}", (row.id,), queue=LINES, partition=turn))

    def _statement(self, connection: sa.Connection) -> Any:
        """Made once: making it takes as long as running it."""
        if self._insertion is None:
            insert = insert_for(connection, Request).values(recorded=sa.literal_column(self.engine.db.now))
            self._insertion = insert.on_conflict_do_nothing(index_elements=["key"]).returning(col(Request.id))
        return self._insertion

    def _voiding(self, row: Request) -> Any:
        """What was filled into a form goes: it may be secret, and nobody will ever use it."""
        mine = (col(Request.id) == row.id, col(Request.deadline) == row.deadline, col(Request.state) == "waiting")
        kept = {name: part for name, part in row.payload.items() if name != "values"}
        return sa.update(Request).where(*mine).values(state="void", payload=kept)

    async def _revoke(self, row: Request) -> None:
        """The person was told that nothing was done. Should the row have come through after all, it is void."""
        for wait in (0, 1, 2, 5, 10, 30, 60, 120):
            await asyncio.sleep(wait)
            try:
                async with self.engine.transaction() as tx:
                    await tx.session.execute(self._voiding(row))
            except (sa.exc.SQLAlchemyError, OSError) as error:
                log.warning("request.not_revoked", request=row.id, reason=type(error).__name__)
            else:
                self.revoked.pop(row.id, None)
                return

    def excuse(self, body: Mapping[str, Any], text: str) -> None:
        """Tell whoever did this that it failed, if it was a person at a button or a menu."""
        user = body.get("user")
        if isinstance(user, Mapping) and user.get("id"):
            self._say(body, self._asked(user["id"], None), text)

    def _say(self, body: Mapping[str, Any], asked: Asked, text: str) -> None:
        """Tell the person aside, once: the ack of what they did has no room for words."""
        url = body.get("response_url")
        if self._first(f"say:{body.get('trigger_id') or url}"):
            spawn(self._tell(url, asked, text), name="request.tell")

    async def _tell(self, url: str | None, asked: Asked, text: str) -> None:
        try:
            if url:
                await self.chat.reply(url, text)
            else:
                await self.chat.direct(asked.person, text)
        except BotError as error:
            log.warning("reply.lost", reason=str(error))


def guide(commands: Shelf, word: str) -> list[tuple[tuple[str, ...], str]]:
    """The lines of `help`, each with the words it is about."""
    lines = []
    for name in commands:
        module = commands[name]
        about = (module.__doc__ or "").strip().splitlines()[0]
        aliases = tuple(alias for alias in getattr(module, "ALIASES", ()) if alias.isalpha())
        also = f" (also {', '.join(f'`{alias}`' for alias in aliases)})" if aliases else ""
        usage = re.sub(r"[<>]", lambda found: {"<": "‹", ">": "›"}[found[0]], module.USAGE)
        lines.append(((name.replace("_", "-"), *aliases), f"• `{word} {usage}` – {about}{also}"))
    return lines


def carrying(view: Block, more: Mapping[str, Any]) -> Block:
    """*view*, with *more* among what comes back when it is sent."""
    about = {**_about(view), **{key: value for key, value in more.items() if value is not None}}
    return {**view, "private_metadata": json.dumps(about)}


def state(view: Mapping[str, Any]) -> dict[str, Any]:
    """What was filled into a form, by the name of the field."""
    values: dict[str, Any] = {}
    for block, elements in (view.get("state") or {}).get("values", {}).items():
        for element in elements.values():
            values[block] = _filled(block, element)
    return values


def _filled(block: str, element: Mapping[str, Any]) -> Any:
    match element.get("type"):
        case "static_select" | "external_select" | "radio_buttons":
            return (element.get("selected_option") or {}).get("value")
        case "checkboxes":
            chosen = [option["value"] for option in element.get("selected_options") or []]
            return ("true" in chosen) if block.startswith(run_form.PREFIX) else chosen
        case "users_select":
            return element.get("selected_user")
    return element.get("value")


def _label(view: Mapping[str, Any], name: str) -> str:
    """What people call a field of a form."""
    found: Mapping[str, Any] = next((block for block in view["blocks"] if block.get("block_id") == name), {})
    return safe(str((found.get("label") or {}).get("text") or name), 150)


def _about(view: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(view.get("private_metadata") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _chosen(item: Mapping[str, Any], name: str, buttons: Mapping[str, Any]) -> bool:
    """Whether it is a menu that does something at once, like a button."""
    return item.get("type") == "static_select" and name in buttons


def _table(shelf: Shelf, what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in shelf:
        found.update(getattr(shelf[name], what, {}))
    return found
