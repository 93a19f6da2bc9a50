"""Who is who, from memory, so that nobody waits for it."""

from bot.incidents.access import Person
from bot.slack.client import SlackChat


class People:
    """Everybody in the workspace as of the last refresh; who is missing is asked for when it matters."""

    def __init__(self, chat: SlackChat) -> None:
        self._chat = chat
        self._known: dict[str, Person] = {}

    def recall(self, user: str) -> Person | None:
        """What is known without asking."""
        return self._known.get(user)

    def name(self, user: str) -> str:
        """What people call them, if that is known."""
        known = self._known.get(user)
        return known.name if known else user

    def id_of(self, who: str) -> str | None:
        """The id of somebody who is known by *who*: that id, or an e-mail address."""
        if who in self._known:
            return who
        mail = who.lower()
        here = (one.id for one in self._known.values() if (one.email or "").lower() == mail and not one.gone)
        return next(here, None)

    async def find(self, user: str) -> Person | None:
        """The same, asking Slack if need be."""
        if user not in self._known and (found := await self._chat.person(user)):
            self._known[user] = found
        return self._known.get(user)

    async def refresh(self) -> None:
        """Learn everybody anew."""
        self._known = {person.id: person for person in await self._chat.people()}

    def learn(self, person: Person) -> None:
        """Take note of a change."""
        self._known[person.id] = person
