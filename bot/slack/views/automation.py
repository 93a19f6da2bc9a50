"""How it looks what starts by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.runs import auto
from bot.runs.auto import History, Policy, Switched
from bot.runs.model import Trigger
from bot.runs.runbook import Runbook
from bot.slack.views.blocks import Block, context, moment, paragraphs, safe, section

Drawn = tuple[str, list[Block]]


@dataclass(frozen=True)
class Line:
    """One runbook, what was before, and when its clock comes next."""

    book: Runbook
    history: History
    next_at: datetime | None = None


def overview(lines: Sequence[Line], policy: Policy, every: Switched | None, *, word: str) -> Drawn:
    """Whether anything starts by itself, and what would."""
    head = _head(policy, every)
    if not lines:
        text = f"{head}\nNo runbook starts by itself: none has `mode: auto` or a `schedule`."
        return text, [section(text)]
    blocks = [section(head), *paragraphs([_line(line, policy) for line in lines])]
    blocks.append(context(f"`{word} auto off ID` keeps one from starting by itself, `{word} auto off` all of them."))
    return head, blocks


def _head(policy: Policy, every: Switched | None) -> str:
    if every is not None and every.off:
        return f":octagonal_sign: *Nothing starts by itself*: <@{every.by}> has switched it off, {moment(every.at)}"
    alerts = ":arrow_forward: *Alerts start runbooks.*"
    if not policy.on:
        alerts = ":double_vertical_bar: *Alerts start nothing*: `auto_runbooks` is off in tocsin.yaml."
    clock = ":arrow_forward: *The clock starts runbooks.*"
    if not policy.schedules:
        clock = ":double_vertical_bar: *The clock starts nothing*: `schedules` is off in tocsin.yaml."
    return f"{alerts}\n{clock}"


def _line(line: Line, policy: Policy) -> str:
    book, said = line.book, line.history.switched
    failed = len(auto.failures(line.history))
    if said is not None and said.off:
        standing = f":octagonal_sign: switched off by <@{said.by}>, {moment(said.at)}"
    elif failed >= policy.failures:
        standing = f":octagonal_sign: stopped after {failed} failures in a row"
    else:
        standing = ":arrow_forward: on"
    text = f"*{safe(book.name, 100)}* `{book.id}` {standing}"
    if any(offer.mode == "auto" for offer in book.offer):
        text += "\n        on alerts" + _last(line, Trigger.AUTO)
    if line.next_at is not None and policy.schedules:
        text += f"\n        by the clock, next {moment(line.next_at)}" + _last(line, Trigger.SCHEDULE)
    return text


def _last(line: Line, trigger: Trigger) -> str:
    run = next((run for run in line.history.runs if run.trigger == trigger), None)
    if run is None:
        return "; never yet"
    where = f"run {run.number} of {run.incident}" if run.incident else "in a private incident"
    return f"; last {moment(run.begun_at)} ({where}, {run.state.replace('_', ' ')})"
