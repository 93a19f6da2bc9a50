"""Who may see an incident, and who may act at all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.incidents.model import Incident, Role


@dataclass(frozen=True)
class Person:
    """Somebody in the chat, as far as permissions go."""

    id: str
    name: str = ""
    email: str | None = None
    bot: bool = False
    guest: bool = False
    stranger: bool = False
    gone: bool = False
    zone: str | None = None


def refusal(person: Person | None) -> str | None:
    """Why this person may not use the bot; None if they may. Somebody unknown is let through and looked up later."""
    if person is None:
        return None
    if person.gone:
        return "This account is deactivated, so it cannot act on incidents."
    if person.bot:
        return "Bots cannot act on incidents."
    if person.guest:
        return "Guests cannot act on incidents. Ask a full member of this workspace."
    if person.stranger:
        return "People from other workspaces cannot act on incidents here. Ask a member of this workspace."
    return None


def may_see(incident: Incident, person: str, *, channel: str | None, roles: Iterable[Role] = ()) -> bool:
    """A private incident exists only for those in its channel, who declared it, or who hold a role in it."""
    if not incident.private:
        return True
    if channel is not None and channel == incident.channel:
        return True
    return person == incident.declared_by or any(r.person == person and r.incident_id == incident.id for r in roles)


def visible(
    incidents: Iterable[Incident], person: str, *, channel: str | None, roles: Sequence[Role]
) -> list[Incident]:
    """Those of *incidents* that *person* may see from *channel*."""
    return [incident for incident in incidents if may_see(incident, person, channel=channel, roles=roles)]
