"""A sink in memory: keeps what it is told, and answers or fails as a test plans it."""

from dataclasses import dataclass, field

from bot.incidents.sink import Message, Receipt


@dataclass
class FakeSink:
    """Implements `bot.incidents.sink.Sink`. *answers* are receipts or errors of the next calls; None is delivered."""

    answers: list[object] = field(default_factory=list)
    told: list[Message] = field(default_factory=list)
    away: Exception | None = None

    async def send(self, message: Message) -> Receipt:
        self.told.append(message)
        answer = self.away or (self.answers.pop(0) if self.answers else None)
        if isinstance(answer, Exception):
            raise answer
        return answer or Receipt("delivered", "taken")
