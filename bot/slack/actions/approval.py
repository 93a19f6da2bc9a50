"""The buttons and the form of a question whether a run may go on."""

from collections.abc import Mapping
from typing import Any

from bot.runs import approval as approvals
from bot.runs import run as runs
from bot.runs.form import declared, entered
from bot.slack import ids
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.views import forms


async def approve(context: Context, value: str) -> Reply:
    """Yes."""
    return await _vote(context, value, yes=True)


async def reject(context: Context, value: str) -> Reply:
    """No."""
    return await _vote(context, value, yes=False)


def approve_form(asked: Asked, value: str) -> Form:
    """Yes, with a reason or values."""
    return Form(forms.loading("Approve"), {"form": "approval", "approval": value, "yes": True})


def reject_form(asked: Asked, value: str) -> Form:
    """No, with a reason."""
    return Form(forms.loading("Reject"), {"form": "approval", "approval": value, "yes": False})


async def answered(context: Context, form: Mapping[str, Any]) -> Reply:
    """The form of an answer was sent."""
    about, values = form["about"], form["values"]
    reason = str(values.get("reason") or "")
    return await _vote(context, about["approval"], yes=about["yes"], reason=reason, values=values)


async def _vote(
    context: Context, approval_id: str, *, yes: bool, reason: str = "", values: Mapping[str, Any] | None = None
) -> Reply:
    """Everything is looked at again here: what a button or a form brings is only an id and what was typed."""
    approval = await approvals.find(context.tx.session, approval_id)
    await context.incident(approval.incident_id)
    run = await runs.find(context.tx.session, approval.run_id)
    book = context.books.runbooks.get(run.runbook)
    told = await approvals.vote(
        context.tx,
        context.react,
        approval_id,
        yes=yes,
        by=context.person,
        now=context.now,
        reason=reason,
        inputs=entered(declared(approval.inputs).params, values or {}),
        groups=context.groups,
        current=book.sha256 if book is not None else None,
    )
    return Reply(told)


OPENS = {ids.APPROVE_WITH: approve_form, ids.REJECT_WITH: reject_form}
BUTTONS = {ids.APPROVE: approve, ids.REJECT: reject}
FORMS = {ids.APPROVAL_FORM: answered}
