"""The blocks that views are built of, each within Slack's limits, with text from outside made harmless."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bot.kit.text import clean, clip, inert, one_line

Block = dict[str, Any]

# https://docs.slack.dev/reference/block-kit/blocks
SECTION, HEADER, BUTTON, FIELD, CONTEXT = 3000, 150, 75, 2000, 2000


def safe(text: str, limit: int = 2900) -> str:
    """Text from an alert, a person or a program: nothing in it can mention, link or format."""
    return cut(inert(clip(clean(text), limit)), limit)


def code(text: str, limit: int = 2900) -> str:
    """Output of a program, as a code block."""
    plain = escaped(clip(clean(text), limit)).replace("```", "'''")
    return f"```{cut(plain, limit - 6)}```"


def mentions(text: str, limit: int) -> str:
    """Text that may hold words of anybody, with mentions of people and channels and our own formatting left in it."""
    parts = re.split(
        r"(<@[UW][A-Z0-9]{1,20}>|<#C[A-Z0-9]{1,20}>)", re.sub(r"@(?=channel|here|everyone)", "@\u200b", clean(text))
    )
    return cut("".join(part if i % 2 else escaped(part) for i, part in enumerate(parts)), limit)


def formatted(text: str, limit: int = 2900) -> str:
    """What the author of a runbook wrote, with its formatting; what was filled into it can mention and link nothing."""
    plain = re.sub(r"@(?=channel|here|everyone)", "@\u200b", clean(text))
    return cut(escaped(plain), limit)


def named(names: Sequence[str], limit: int = 600) -> str:
    """People, as mentions, and `@names` of groups, which are known to us alone."""
    told = [f"<@{name}>" if re.fullmatch(r"[UW][A-Z0-9]{1,20}", name) else safe(name, 100) for name in names]
    return cut(" or ".join(told), limit) or "nobody"


def quoted(word: str) -> str:
    """A word that somebody typed, said back to them."""
    plain = one_line(word).replace("`", "'")
    return f"`{mentions(clip(plain, 50), 300)}`"


def people(text: str, limit: int = 2900) -> str:
    """Our own text with user mentions (`<@U…>`) in it; everything else is made harmless."""
    parts = re.split(r"(<@[UW][A-Z0-9]{1,20}>)", text)
    return cut("".join(part if i % 2 else safe(part, limit) for i, part in enumerate(parts)), limit)


def escaped(text: str) -> str:
    """The three characters that Slack gives a meaning, made plain."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(markup: str, limit: int) -> str:
    """`clip` for text that is mrkdwn already: never within ``&amp;``, a mention or a link."""
    if len(markup) <= limit:
        return markup
    return re.sub(r"&[a-z]{0,4}$|<[^<>]*$", "", markup[: max(0, limit - 1)]) + "…"


def link(url: str, text: str) -> str:
    """A link, if *url* is an http(s) address that is not too long, else the text alone."""
    if not re.fullmatch(r"https?://[^\s<>|]{1,1200}", url) or clean(url) != url:
        return safe(text, 300)
    return f"<{escaped(url)}|{safe(one_line(text), 300)}>"


def paragraphs(lines: Sequence[str], *, most: int = 10) -> list[Block]:
    """Lines of mrkdwn in as few sections as hold them whole."""
    groups: list[list[str]] = [[]]
    for line in lines:
        if len(groups[-1]) == most or sum(len(each) + 1 for each in groups[-1]) + len(line) > SECTION:
            groups.append([])
        groups[-1].append(line)
    return [section("\n".join(group)) for group in groups if group]


def bounded(blocks: Sequence[Block], *, most: int = 50, room: int = 10_000) -> list[Block]:
    """The first of *blocks*, as many as one message may have and hold; what does not fit is said to be left out."""
    kept: list[Block] = []
    for block in blocks:
        room -= _length(block)
        if room < 0 or len(kept) == most - 1:
            return [*kept, context("_and more_")] if len(kept) < len(blocks) else kept
        kept.append(block)
    return kept


def _length(part: Any) -> int:
    """How long the text in a block is."""
    if isinstance(part, dict):
        return sum(
            len(value) if key == "text" and isinstance(value, str) else _length(value) for key, value in part.items()
        )
    return sum(map(_length, part)) if isinstance(part, list) else 0


def moment(at: datetime) -> str:
    """A time in the reader's own time zone."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def header(text: str) -> Block:
    """A headline; plain text, so nothing in it is formatted."""
    return {"type": "header", "text": plain(text, HEADER)}


def section(text: str, *, fields: Sequence[str] = (), accessory: Block | None = None) -> Block:
    """A paragraph of mrkdwn."""
    block: Block = {"type": "section"}
    if text or not fields:
        block["text"] = mrkdwn(text)
    if fields:
        block["fields"] = [mrkdwn(cut(field, FIELD)) for field in fields[:10]]
    if accessory:
        block["accessory"] = accessory
    return block


def context(*texts: str) -> Block:
    """Small grey lines."""
    return {"type": "context", "elements": [mrkdwn(cut(text, CONTEXT)) for text in texts[:10]]}


def actions(*elements: Block) -> Block:
    """A row of buttons."""
    return {"type": "actions", "elements": list(elements[:25])}


def divider() -> Block:
    """A line."""
    return {"type": "divider"}


def button(
    text: str,
    action: str,
    value: str,
    *,
    style: str | None = None,
    confirm: tuple[str, str] | None = None,
) -> Block:
    """A button; *value* is an opaque id, never trusted when it comes back. *confirm* is a question and its yes."""
    block: Block = {"type": "button", "text": plain(text, BUTTON), "action_id": action, "value": clip(value, 2000)}
    if style:
        block["style"] = style
    if confirm:
        question, yes = confirm
        block["confirm"] = {
            "title": plain("Are you sure?", 100),
            "text": plain(question, 300),
            "confirm": plain(yes, 30),
            "deny": plain("No", 30),
        }
    return block


def plain(text: str, limit: int) -> Block:
    """A plain-text object."""
    return {"type": "plain_text", "text": clip(clean(text), limit) or "–", "emoji": True}


def mrkdwn(text: str) -> Block:
    """A mrkdwn object; *text* has been made safe by whoever wrote it."""
    return {"type": "mrkdwn", "text": cut(text, SECTION) or "–"}


def option(text: str, value: str) -> Block:
    """One choice of a menu."""
    return {"text": plain(text, 75), "value": clip(value, 150)}


def menu(placeholder: str, action: str, options: Sequence[Block]) -> Block:
    """A menu in a message: what is chosen comes back like the value of a button."""
    return {
        "type": "static_select",
        "action_id": action,
        "placeholder": plain(placeholder, 150),
        "options": list(options[:100]),
    }


def entry(name: str, label: str, element: Block, *, optional: bool = False, hint: str | None = None) -> Block:
    """A labelled field of a form; *name* is what its value and its error are found under."""
    block: Block = {
        "type": "input",
        "block_id": name,
        "label": plain(label, 2000),
        "element": {"action_id": "value", **element},
        "optional": optional,
    }
    if hint:
        block["hint"] = plain(hint, 2000)
    return block


def modal(callback: str, title: str, blocks: Sequence[Block], *, submit: str | None = None, about: str = "") -> Block:
    """A form. *about* comes back with what is submitted."""
    view: Block = {
        "type": "modal",
        "callback_id": callback,
        "title": plain(title, 24),
        "close": plain("Cancel" if submit else "Close", 24),
        "blocks": list(blocks[:100]),
        "private_metadata": about[:3000],
    }
    if submit:
        view["submit"] = plain(submit, 24)
    return view
