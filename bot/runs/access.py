"""Who may start a runbook."""

from collections.abc import Iterable

from bot.incidents.model import Incident, Role
from bot.runs.runbook import Runbook

RESPONDERS = "@responders"


def refusal(runbook: Runbook, incident: Incident, person: str, roles: Iterable[Role]) -> str | None:
    """Why *person* may not run *runbook* here; None if they may. Denied unless a rule of the runbook lets them."""
    allowed = set(runbook.access.run)
    if person in allowed:
        return None
    responder = person == incident.declared_by or any(role.person == person for role in roles)
    if RESPONDERS in allowed and responder:
        return None
    named = [f"<@{one}>" if one[:1] in "UW" else one for one in sorted(allowed - {RESPONDERS})]
    who = [*(["responders of this incident"] if RESPONDERS in allowed else []), *named]
    hint = " Press *Take command* or say `/inc join` first." if RESPONDERS in allowed else ""
    return f"{runbook.name} may be run by {' or '.join(who) or 'nobody'} only.{hint}"
