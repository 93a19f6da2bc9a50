"""How a question to people looks: what a yes is for, who may give it until when, and in the end what was answered."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bot.runs import form as run_form
from bot.runs.approval import Asked
from bot.runs.form import Field
from bot.runs.model import ApprovalState, Trigger
from bot.slack import ids
from bot.slack.views.blocks import (
    Block,
    actions,
    button,
    context,
    entry,
    formatted,
    modal,
    moment,
    named,
    paragraphs,
    people,
    safe,
    section,
)
from bot.slack.views.fields import field

Drawn = tuple[str, list[Block]]

ENDS = {
    ApprovalState.APPROVED: (":white_check_mark:", "was approved"),
    ApprovalState.REJECTED: (":x:", "was rejected"),
    ApprovalState.EXPIRED: (":hourglass:", "was not approved in time"),
    ApprovalState.VOID: (":no_entry_sign:", "is not asked any more"),
}
# What a form can carry back to us of the declarations of its fields.
CARRIED = 1800
PLAN, PLANNED = 12, 200


def approval(noun: Asked) -> Drawn:
    """The message of one question."""
    row, run = noun.approval, noun.run
    name = f"Run {run.number}: {safe(noun.runbook.name, 100)}"
    asked = row.state == ApprovalState.ASKED
    mark, word = (":raised_hand:", "asks before it goes on") if asked else ENDS[ApprovalState(row.state)]
    blocks: list[Block] = [section(f"{mark} *{name}* {word}"), section(formatted(row.prompt, 2500))]
    blocks += _plan(row.plan)
    if asked:
        blocks.append(context(*_who(noun)))
        blocks.append(actions(*_buttons(noun)))
    else:
        blocks.append(context(people(row.told, 1500) or word, *_votes(noun)))
    return f"{name} {word}", blocks


def _plan(plan: Sequence[str]) -> list[Block]:
    """What is done after a yes: an answer counts for that and nothing else."""
    if not plan:
        return [context("After a yes nothing is changed by this run.")]
    lines = [f"• {safe(line, PLANNED)}" for line in plan[:PLAN]]
    if len(plan) > PLAN:
        lines.append(f"_and {len(plan) - PLAN} more_")
    return paragraphs(["*A yes is for this:*", *lines])


def _who(noun: Asked) -> list[str]:
    row, run = noun.approval, noun.run
    yes = [vote.person for vote in noun.votes if vote.yes]
    requester = f"<@{run.requested_by}>" if run.trigger == Trigger.PERSON else "the bot itself"
    own = ", who cannot say yes" if row.not_requester and run.trigger == Trigger.PERSON else ""
    many = "" if row.count == 1 else f"{row.count} different people of "
    small = [
        f":busts_in_silhouette: May answer: {many}{named(row.who)}",
        f":bust_in_silhouette: Asked for by {requester}{own}",
        f":alarm_clock: Until {moment(row.expires_at)}; then the answer is no",
    ]
    if row.count > 1 or yes:
        so_far = f": {', '.join(f'<@{one}>' for one in yes)}" if yes else ""
        small.insert(0, f":ballot_box_with_ballot: {len(yes)} of {row.count} said yes{so_far}")
    return small


def _votes(noun: Asked) -> list[str]:
    if len(noun.votes) < 2 or not any(vote.reason for vote in noun.votes):
        return []
    told = [
        f"<@{vote.person}> said {'yes' if vote.yes else 'no'}" + (f": {safe(vote.reason, 200)}" if vote.reason else "")
        for vote in noun.votes
    ]
    return ["; ".join(told)] if told else []


def _buttons(noun: Asked) -> list[Block]:
    row = noun.approval
    if row.require_reason or row.inputs:
        yes, no = "Approve…", "Reject…"
        return [
            button(yes, ids.APPROVE_WITH, row.id, style="primary"),
            button(no, ids.REJECT_WITH, row.id, style="danger"),
        ]
    name = noun.runbook.name
    return [
        button("Approve", ids.APPROVE, row.id, style="primary", confirm=(f"Let “{name}” go on?", "Approve")),
        button("Reject", ids.REJECT, row.id, style="danger", confirm=(f"End “{name}” here?", "Reject")),
    ]


def form(noun: Asked, *, yes: bool) -> Block:
    """The form of an answer that needs more than a press: a reason, values."""
    row, run = noun.approval, noun.run
    blocks: list[Block] = [
        section(f"*Run {run.number}: {safe(noun.runbook.name, 100)}*\n{formatted(row.prompt, 2000)}"),
    ]
    declared: Mapping[str, Any] = row.inputs if yes else {}
    if yes:
        blocks += _plan(row.plan)
        blocks += [field(Field(name, param), ask=False) for name, param in run_form.declared(declared).params.items()]
    asked = {"type": "plain_text_input", "multiline": True, "max_length": 1000}
    blocks.append(
        entry(
            "reason",
            "Why?",
            asked,
            optional=not row.require_reason,
            hint="It is kept with your answer, for everybody to read.",
        )
    )
    about: dict[str, Any] = {"approval": row.id, "yes": yes, "reason": row.require_reason}
    if len(json.dumps(declared)) <= CARRIED:
        about["inputs"] = declared
    word = "Approve" if yes else "Reject"
    return modal(ids.APPROVAL_FORM, f"{word} run {run.number}", blocks, submit=word, about=json.dumps(about))
