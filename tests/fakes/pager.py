"""A pager in memory: keeps what it was asked, and answers or fails as a test plans it."""

from dataclasses import dataclass, field

from bot.incidents.pager import Action, ActResult, PageRequest, PageResult


@dataclass
class FakePager:
    """Implements `bot.incidents.pager.Pager`. *answers* are results or errors of the next calls."""

    answers: list[object] = field(default_factory=list)
    asked: list[object] = field(default_factory=list)

    def _answer(self, asked: object, usual: object) -> object:
        self.asked.append(asked)
        answer = self.answers.pop(0) if self.answers else usual
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def page(self, request: PageRequest) -> PageResult:
        return self._answer(request, PageResult("sent", "woke alice", "proof-1"))

    async def close(self) -> None:
        self.asked.append("close")


@dataclass
class ActingPager(FakePager):
    """One that can do more: `bot.incidents.pager.Acts`."""

    async def act(self, action: Action) -> ActResult:
        return self._answer(action, ActResult("done", f"did {action.kind}", "triggered", "P1", "proof-1"))
