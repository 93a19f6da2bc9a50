"""Small pieces of Block Kit for the tests of this folder."""

from typing import Any

Json = dict[str, Any]


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text}


def section(text: str = "hello", **more: Any) -> Json:
    return {"type": "section", "text": mrkdwn(text), **more}


def button(action: str = "press", text: str = "Press", **more: Any) -> Json:
    return {"type": "button", "action_id": action, "text": plain(text), **more}


def actions(*elements: Json) -> Json:
    return {"type": "actions", "elements": list(elements)}


def option(value: str, text: str | None = None) -> Json:
    return {"text": plain(text or value), "value": value}


def menu(*values: str, **more: Any) -> Json:
    return {"type": "static_select", "action_id": "menu", "options": [option(v) for v in values], **more}


def field(name: str, element: Json | None = None, **more: Any) -> Json:
    element = element or {"type": "plain_text_input", "action_id": "value"}
    return {"type": "input", "block_id": name, "label": plain(name), "element": element, **more}


def modal(*blocks: Json, **more: Any) -> Json:
    body = {"type": "modal", "callback_id": "form", "title": plain("Form"), "submit": plain("Send")}
    return body | {"blocks": list(blocks) or [field("name")]} | more
