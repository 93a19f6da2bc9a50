"""What every pager must offer: a way to wake somebody, and an honest answer whether it did."""

from dataclasses import dataclass
from typing import Literal, Protocol

from bot.kit.errors import PermanentError


@dataclass(frozen=True)
class PageRequest:
    """What the woken person needs to know. The same `dedup_key` never wakes anybody twice for one incident."""

    reference: str
    title: str
    severity: str
    service: str | None
    dedup_key: str
    url: str | None = None


@dataclass(frozen=True)
class PageResult:
    """What the pager said: `sent` with its proof, `failed`, or `nobody` was to be woken; `detail` is for people."""

    outcome: Literal["sent", "failed", "nobody"]
    detail: str
    proof: str | None = None

    def __post_init__(self) -> None:
        """A page is sent only with proof from the pager."""
        if self.outcome == "sent" and not self.proof:
            raise PermanentError("a pager reported a page as sent and gave no proof of it")


class Pager(Protocol):
    """A file in ``bot/pagers``; its name is the file's."""

    async def page(self, request: PageRequest) -> PageResult:
        """Wake whoever is on call. Asking again with the same `dedup_key` wakes nobody again."""
        ...
