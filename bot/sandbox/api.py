"""The HTTP face of the Web API: arguments in every form clients send them, tokens, scopes, faults."""

import asyncio
import time
from typing import Any

from aiohttp import web

from bot.kit.clock import utc_now
from bot.sandbox.faults import Fault, FaultPlan
from bot.sandbox.methods.method import Method, RefusedError, Request
from bot.sandbox.methods.table import METHODS
from bot.sandbox.rates import POST
from bot.sandbox.socket import Sockets
from bot.sandbox.state import Call, Json
from bot.sandbox.workspace import Workspace

# Errors that a well-made app never causes. Others, such as name_taken, can happen to anybody.
BLUNDERS = {
    "canvas_too_large": "a canvas has 1 MiB at most",
    "channel_canvas_already_exists": "a channel has one canvas",
    "expired_trigger_id": "a trigger lives three seconds",
    "exchanged_trigger_id": "a trigger opens one view",
    "invalid_trigger_id": "there is no such trigger",
    "invalid_arguments": "arguments",
    "invalid_blocks_format": "blocks must be a list",
    "invalid_metadata_format": "metadata",
    "invalid_metadata_schema": "metadata",
    "invalid_name_maxlength": "channel names have 80 characters at most",
    "invalid_name_punctuation": "channel names need a letter or a digit",
    "invalid_name_required": "a channel needs a name",
    "invalid_name_specials": "channel names are made of a-z, 0-9, - and _",
    "is_archived": "the channel is archived",
    "markdown_text_conflict": "markdown_text stands alone",
    "metadata_too_large": "metadata",
    "msg_blocks_too_long": "all the text of a message may have 12,000 characters",
    "msg_too_long": "the text is too long",
    "no_text": "a message needs text or blocks",
    "not_in_channel": "the app is not a member",
    "invalid_parameters": "people or channels, and a level of access",
    "invalid_users": "a user group is made of members of the workspace",
    "no_users_provided": "a user group cannot be empty",
    "push_limit_reached": "three modals may lie on top of each other",
    "time_in_past": "a message cannot be posted in the past",
    "time_too_far": "a message waits 120 days at most",
    "too_long": "topic and purpose have 250 characters at most",
    "view_too_large": "a view has 250 kB at most",
}


class Api:
    """Answers ``/api/<method>``."""

    def __init__(self, workspace: Workspace, sockets: Sockets, faults: FaultPlan, tokens: dict[str, str]):
        self.workspace = workspace
        self.sockets = sockets
        self.faults = faults
        self.tokens = tokens

    async def handle(self, http: web.Request) -> web.StreamResponse:
        started = time.monotonic()
        name = http.match_info["method"]
        args = await arguments(http)
        token = http.headers.get("Authorization", "").removeprefix("Bearer ").strip() or args.get("token")
        args.pop("token", None)
        kind = self.tokens.get(str(token), "unknown") if token else "none"
        if delay := self.faults.delay():
            await asyncio.sleep(delay)
        fault = None
        if (wait := self._wait(name, args, kind)) is not None:
            answer, response = _limited(wait)
        else:
            fault = self.faults.strike(name)
            if fault is not None and fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
            if fault is not None and fault.kind in ("429", "500", "error"):
                answer, response = _refusal(fault)
            else:
                answer = self._answer(name, args, kind)
                response = web.json_response(answer, headers=self._headers(name))
        self.workspace.calls.append(
            Call(
                method=name,
                args=args,
                started=started,
                at=utc_now().isoformat(),
                ok=bool(answer["ok"]),
                error=answer.get("error"),
                token_kind=kind,
                keys=tuple(answer),
            )
        )
        self.workspace.touch("calls")
        if fault is not None and fault.kind == "lost" and http.transport is not None:
            http.transport.abort()
        return response

    def _wait(self, name: str, args: Json, kind: str) -> int | None:
        """The seconds this call came too early, if it did. Strangers are not counted."""
        method = METHODS.get(name)
        if method is None or (method.caller != "anyone" and kind != method.caller):
            return None
        place = str(args.get("channel") or "") if name == POST else ""
        channel = self.workspace.channel(place) if place else None
        return self.workspace.rates.admit(name, method.tier, channel.id if channel else place)

    def _headers(self, name: str) -> dict[str, str]:
        method = METHODS.get(name)
        accepted = ""
        if method is not None:
            scopes = [method.scopes] if isinstance(method.scopes, str) else sorted(set(method.scopes.values()))
            accepted = ",".join(s for s in scopes if s)
        return {"x-oauth-scopes": ",".join(self.workspace.app.scopes), "x-accepted-oauth-scopes": accepted}

    def _answer(self, name: str, args: Json, kind: str) -> Json:
        method = METHODS.get(name)
        if method is None:
            self.workspace.violation("unknown_method", name)
            return {"ok": False, "error": "unknown_method", "req_method": name}
        request = Request(name, method, args, self.workspace, self.sockets)
        try:
            self._admit(method, kind)
            self._check_arguments(request)
            found = method.run(request)
        except RefusedError as refused:
            if refused.error in BLUNDERS:
                self.workspace.violation(refused.error, f"{name}: {BLUNDERS[refused.error]} {_about(args)}")
            return {"ok": False, "error": refused.error, **refused.more}
        answer: Json = {"ok": True, **found}
        if request.warnings:
            answer["warning"] = "superfluous_argument"
            metadata = answer.setdefault("response_metadata", {})
            metadata["warnings"] = ["superfluous_argument"]
            metadata["messages"] = request.warnings
        return answer

    def _admit(self, method: Method, kind: str) -> None:
        if method.caller == "anyone":
            return
        if kind == "none":
            raise RefusedError("not_authed")
        if kind == "unknown":
            raise RefusedError("invalid_auth")
        if kind != method.caller:
            raise RefusedError("not_allowed_token_type")
        granted = self.workspace.app.scopes
        wanted = [method.scopes] if isinstance(method.scopes, str) else list(method.scopes.values())
        wanted = [scope for scope in wanted if scope]
        if wanted and not set(wanted) & set(granted):
            raise RefusedError("missing_scope", needed=wanted[0], provided=",".join(granted))

    def _check_arguments(self, request: Request) -> None:
        method = request.method
        for name in request.args:
            # Slack takes team_id everywhere, and its SDK sends it with every call.
            if name not in (*method.needs, *method.takes, "team_id"):
                self.workspace.violation("unknown_argument", f"{request.name} takes no {name[:40]!r}")
                request.warnings.append(f"[WARN] unknown argument: {name[:40]}")
        missing = [name for name in method.needs if request.args.get(name) in (None, "")]
        if missing:
            messages = [f"[ERROR] missing required field: {name}" for name in missing]
            raise RefusedError("invalid_arguments", response_metadata={"messages": messages})


def _about(args: Json) -> str:
    shown = {k: str(v)[:40] for k, v in args.items() if k in ("channel", "channel_id", "name", "user", "ts")}
    return " ".join(f"{k}={v}" for k, v in shown.items())


def _refusal(fault: Fault) -> tuple[Json, web.Response]:
    """The planned failure as an answer, and the body it stands for."""
    if fault.kind == "429":
        return _limited(fault.retry_after)
    if fault.kind == "500":
        return {"ok": False, "error": "http_500"}, web.Response(status=500, text="upstream connect error")
    body = {"ok": False, "error": fault.error}
    return body, web.json_response(body)


def _limited(wait: int) -> tuple[Json, web.Response]:
    body: Json = {"ok": False, "error": "ratelimited"}
    return body, web.json_response(body, status=429, headers={"Retry-After": str(wait)})


async def arguments(http: web.Request) -> Json:
    """The arguments of a call: from the query, and from a form or a JSON body on top of it."""
    found: Json = dict(http.query)
    if http.method != "POST" or not http.can_read_body:
        return found
    if http.content_type == "application/json":
        try:
            body: Any = await http.json()
        except ValueError:
            return found
        if isinstance(body, dict):
            found |= {str(k): v for k, v in body.items() if v is not None}
    else:
        form = await http.post()
        found |= {k: v for k, v in form.items() if isinstance(v, str)}
    return found
