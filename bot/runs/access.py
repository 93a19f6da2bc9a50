"""Who may start a runbook, and who may say yes to it."""

from collections.abc import Collection, Iterable

from bot.incidents.model import Incident, Role

RESPONDERS = "@responders"


def refusal(
    allowed: Iterable[str],
    what: str,
    incident: Incident,
    person: str,
    roles: Iterable[Role],
    groups: Collection[str] = (),
) -> str | None:
    """Why *person* may not do *what* ("Restart checkout may be run"); None if they may. Denied unless a rule lets them.

    *allowed* are user ids and `@names`; *groups* are the `@names` that *person* is known to belong to.
    """
    rules = set(allowed)
    if person in rules or rules & set(groups):
        return None
    responder = person == incident.declared_by or any(role.person == person for role in roles)
    if RESPONDERS in rules and responder:
        return None
    named = [f"<@{one}>" if one[:1] in "UW" else one for one in sorted(rules - {RESPONDERS})]
    who = [*(["responders of this incident"] if RESPONDERS in rules else []), *named]
    hint = " Press *Take command* or say `/inc join` first." if RESPONDERS in rules else ""
    return f"{what} by {' or '.join(who) or 'nobody'} only.{hint}"
