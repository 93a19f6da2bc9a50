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
    who = "responders of this incident" if RESPONDERS in allowed else ", ".join(sorted(allowed)) or "nobody"
    hint = " Press *Take command* or say `/inc join` first." if RESPONDERS in allowed else ""
    return f"{runbook.name} may be run by {who} only.{hint}"
