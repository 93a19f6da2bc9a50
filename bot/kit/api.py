"""Another system's JSON API behind one address that the operator set: `bot.kit.fetch` with what every client needs.

Nothing is tried again here: whoever asked does that, and remembers it over a restart.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bot.kit.clock import Clock, utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.fetch import Allow, Answer, Guard, fetch
from bot.kit.text import clip, one_line

SECONDS = 15.0
TOLD = 300  # characters of what the other side said, in our errors


class Refused(PermanentError):  # noqa: N818 - it reads as what happened
    """The other side said no, with HTTP status *status*."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of *host*, as this machine sees them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


@dataclass(frozen=True)
class Api:
    """One system: *name* is what people call it, *url* where it is, *headers* what opens it.

    *hide* takes the secrets out of what we say of it. Private networks may be reached, since the operator wrote the
    address; metadata services never.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    hide: Callable[[str], str] = str
    hint: str = "check its credentials in the configuration"
    seconds: float = SECONDS
    ca: Path | None = None
    clock: Clock = utc_now
    allow: Allow = field(default_factory=lambda: Guard((), resolve, private=True).addresses)

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; the answer if its status is 2xx.

        TemporaryError: no answer, or one that says to try again, with the time to wait. Refused: every other answer.
        """
        url = self.url + path + (f"?{urlencode(params)}" if params else "")
        try:
            answer = await fetch(
                method,
                url,
                allow=self.allow,
                headers={**self.headers, **(headers or {})},
                json=json,
                data=body,
                timeout=self.seconds,
                cancelled=asyncio.Event(),
                ca=self.ca,
            )
        except TemporaryError as error:
            raise TemporaryError(
                f"{self.name} cannot be reached: {self._said(str(error))}", after=error.after
            ) from None
        except PermanentError as error:
            raise PermanentError(f"{self.name} cannot be called: {self._said(str(error))}") from None
        if answer.status == 429:
            raise TemporaryError(f"{self.name} asks us to wait: too many requests (HTTP 429)", after=self._wait(answer))
        if answer.passing:
            raise TemporaryError(f"{self.name} failed (HTTP {answer.status})", after=self._wait(answer))
        if not 200 <= answer.status < 300:
            raise Refused(f"{self.name} refused it (HTTP {answer.status}): {self._why(answer)}", answer.status)
        if answer.truncated:
            raise PermanentError(f"{self.name} answered with more than we read")
        return answer

    async def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """`call` where the answer must be a JSON object."""
        found = (await self.call(method, path, **more)).json()
        if not isinstance(found, dict):
            raise TemporaryError(f"{self.name} answered with no JSON object; does something stand in between?")
        return found

    def _wait(self, answer: Answer) -> float:
        return max(1.0, answer.after(self.clock()))

    def _why(self, answer: Answer) -> str:
        if 300 <= answer.status < 400:
            return "redirects are not followed; write the address it leads to"
        told = self._said(answer.text()) or "no reason given"
        return f"{told}; {self.hint}" if answer.status in (401, 403) else told

    def _said(self, text: str) -> str:
        return clip(one_line(self.hide(text)), TOLD)
