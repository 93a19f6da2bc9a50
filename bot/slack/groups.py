"""Who belongs to the `@names` of runbooks: teams and on-call lists of the catalog, and Slack's own user groups.

Looked up from memory at every click. A name that nobody knows lets nobody in.
"""

from collections.abc import Callable, Iterable, Mapping

import structlog

from bot.incidents.access import Person
from bot.kit.errors import BotError
from bot.slack.client import SlackChat

log = structlog.get_logger()

ONCALL = "oncall"


class Groups:
    """Groups as of the last refresh. A name that the catalog has is the catalog's, whatever Slack says."""

    def __init__(
        self,
        chat: SlackChat,
        teams: Mapping[str, Iterable[str]],
        oncall: Callable[[], Mapping[str, Iterable[str]]],
    ) -> None:
        """*oncall* is asked at every click: who is on call under each name changes by the hour."""
        self._chat = chat
        self._teams = {f"@{name}": _keys(members) for name, members in teams.items()}
        self._oncall = oncall
        self._slack: dict[str, frozenset[str]] = {}

    def of(self, person: Person) -> frozenset[str]:
        """Every `@name` that *person* belongs to."""
        keys = {person.id.lower(), *([person.email.lower()] if person.email else [])}
        own = {name for name, members in self._listed().items() if members & keys}
        return frozenset(own | {name for name, members in self._slack.items() if person.id.lower() in members})

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of *names* that no group has: whoever they were meant to let in is kept out."""
        own = {"@responders", "@commander"}
        groups = {name for name in names if name.startswith("@")}
        return sorted(groups - own - set(self._listed()) - set(self._slack))

    async def refresh(self) -> None:
        """Learn Slack's user groups anew; those known before stay if Slack does not tell."""
        try:
            found = await self._chat.groups()
        except BotError as error:
            log.warning("groups.not_refreshed", reason=str(error))
            return
        listed = self._listed()
        self._slack = {f"@{handle}": _keys(members) for handle, members in found.items() if f"@{handle}" not in listed}

    def _listed(self) -> dict[str, frozenset[str]]:
        """The groups of the catalog, as of now."""
        found = dict(self._teams)
        for name, members in self._oncall().items():
            found[f"@{ONCALL}:{name}"] = _keys(members)
            if name == "primary":
                found[f"@{ONCALL}-primary"] = _keys(members)
        return found


def _keys(members: Iterable[str]) -> frozenset[str]:
    return frozenset(member.lower() for member in members)
