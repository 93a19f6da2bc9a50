"""views: modals and the Home tab."""

import time
from typing import Any

from bot.sandbox import blocks, review
from bot.sandbox.methods.method import Method, RefusedError, Request, refuse
from bot.sandbox.state import Json, Trigger, View
from bot.sandbox.workspace import TEAM


def _body(request: Request, kind: str) -> Json:
    body: Any = request.json("view")
    if isinstance(body, dict) and blocks.size(body) > blocks.VIEW_BYTES:
        raise RefusedError("view_too_large")
    problems = review.view(request.workspace, request.name, body)
    refuse("invalid_arguments", problems, "/view")
    if body["type"] != kind:
        raise RefusedError(
            "invalid_arguments",
            response_metadata={"messages": [f"[ERROR] must be {kind} [json-pointer:/view/type]"]},
        )
    return dict(body)


def _unique(request: Request, body: Json, view: View | None = None) -> None:
    external = body.get("external_id")
    for other in request.workspace.views.values():
        if external and other is not view and other.open and other.body.get("external_id") == external:
            raise RefusedError("duplicate_external_id")


def _trigger(request: Request) -> Trigger:
    """The right to open a view: once, and soon."""
    trigger = request.workspace.triggers.get(request.text("trigger_id"))
    if trigger is None:
        raise RefusedError("invalid_trigger_id")
    if trigger.used:
        raise RefusedError("exchanged_trigger_id")
    if time.monotonic() - trigger.made > request.workspace.limits.trigger_seconds:
        raise RefusedError("expired_trigger_id")
    return trigger


def _shown(request: Request, view: View) -> Json:
    return {"view": view.payload(TEAM, request.workspace.app.id, str(request.workspace.bot.bot_id))}


def open_view(request: Request) -> Json:
    trigger = _trigger(request)
    body = _body(request, "modal")
    _unique(request, body)
    trigger.used = True
    return _shown(request, request.workspace.show(trigger.user, body, trigger=trigger.id))


def push(request: Request) -> Json:
    trigger = _trigger(request)
    body = _body(request, "modal")
    stack = request.workspace.stacks.get(trigger.user, [])
    below = request.workspace.views.get(trigger.view or "")
    if below is None or not below.open or not stack:
        raise RefusedError("not_found")
    if len(stack) >= request.workspace.limits.modal_depth:
        raise RefusedError("push_limit_reached")
    _unique(request, body)
    trigger.used = True
    view = request.workspace.show(trigger.user, body, above=stack[-1], trigger=trigger.id)
    return _shown(request, view)


def update(request: Request) -> Json:
    number, external = request.text("view_id"), request.text("external_id")
    if number:
        view = request.workspace.views.get(number)
    else:
        found = (v for v in request.workspace.views.values() if external and v.body.get("external_id") == external)
        view = next(found, None)
    if view is None or not view.open:
        raise RefusedError("not_found")
    body = _body(request, view.kind)
    _check_hash(request, view)
    _unique(request, body, view)
    request.workspace.reshow(view, body)
    return _shown(request, view)


def publish(request: Request) -> Json:
    user = request.text("user_id")
    if user not in request.workspace.users:
        raise RefusedError("missing_profile_id")
    if not request.workspace.app.home:
        raise RefusedError("not_enabled")
    body = _body(request, "home")
    if (old := request.workspace.homes.get(user)) is not None:
        _check_hash(request, old)
    return _shown(request, request.workspace.publish(user, body))


def _check_hash(request: Request, view: View) -> None:
    if (hash_ := request.text("hash")) and hash_ != view.hash:
        raise RefusedError("hash_conflict")


METHODS = {
    "views.open": Method(open_view, ("view",), ("trigger_id", "interactivity_pointer"), tier=4),
    "views.push": Method(push, ("view",), ("trigger_id", "interactivity_pointer"), tier=4),
    "views.update": Method(update, ("view",), ("view_id", "external_id", "hash"), tier=4),
    "views.publish": Method(publish, ("user_id", "view"), ("hash", "interactivity_pointer"), tier=4),
}
