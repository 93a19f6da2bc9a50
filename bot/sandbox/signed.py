"""Signed HTTP: the app is told things at its request URL, and answers in the response.

https://docs.slack.dev/authentication/verifying-requests-from-slack/
https://docs.slack.dev/apis/events-api/#error-handling
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
import urllib.parse
from dataclasses import dataclass, replace

import aiohttp

from bot.kit.errors import UserError
from bot.sandbox.faults import FaultPlan
from bot.sandbox.socket import Outcome
from bot.sandbox.state import Json
from bot.sandbox.workspace import Workspace

AGENT = "Slackbot 1.0 (+https://api.slack.com/robots)"
FORM = "application/x-www-form-urlencoded"


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of ``X-Slack-Signature`` for a request."""
    base = b"v0:" + timestamp.encode() + b":" + body
    return "v0=" + hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()


def encode(kind: str, payload: Json) -> tuple[bytes, str]:
    """A delivery as the body of a request, and the content type of that body."""
    if kind == "slash_commands":
        return urllib.parse.urlencode(payload).encode(), FORM
    if kind == "interactive":
        return urllib.parse.urlencode({"payload": json.dumps(payload)}).encode(), FORM
    return json.dumps(payload).encode(), "application/json"


@dataclass(frozen=True)
class Said:
    """What the app answered: status, whether it forbade further attempts, and the body with its type."""

    status: int
    no_retry: bool
    body: bytes
    type: str


class Posts:
    """Deliveries to one URL. While `url` is None everything goes over sockets."""

    name = "http"

    def __init__(self, workspace: Workspace, faults: FaultPlan, secret: str) -> None:
        self.workspace = workspace
        self.faults = faults
        self.secret = secret
        self.url: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        # Each delivery has a connection of its own: one that is kept may be closed by the app just then.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def deliver(
        self, kind: str, payload: Json, what: str, *, accepts: bool, retry: int = 0, reason: str = ""
    ) -> Outcome:
        """Send one request and wait for its answer as long as Slack does."""
        body, content = encode(kind, payload)
        headers = self._headers(body, content, retry, reason)
        repeat = self.faults.repeat()
        if repeat is None:
            return await self._exchange(kind, body, headers, what, accepts=accepts)
        again = headers
        if repeat == "new":
            event = kind == "events_api"
            again = self._headers(body, content, retry + 1 if event else 0, "http_timeout")
        # Two requests at once: the app cannot know which of them is looked at.
        first, _ = await asyncio.gather(
            self._exchange(kind, body, headers, what, accepts=accepts),
            self._exchange(kind, body, again, f"{what} (duplicate)", accepts=accepts),
        )
        return first

    def _headers(self, body: bytes, content: str, retry: int, reason: str) -> dict[str, str]:
        at = str(int(time.time()))
        found = {
            "Content-Type": content,
            "User-Agent": AGENT,
            "X-Slack-Request-Timestamp": at,
            "X-Slack-Signature": sign(self.secret, at, body),
        }
        if retry:
            found |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": reason}
        return found

    async def _exchange(self, kind: str, body: bytes, headers: dict[str, str], what: str, *, accepts: bool) -> Outcome:
        started = time.monotonic()
        limit = self.workspace.limits.ack_seconds
        try:
            async with asyncio.timeout(limit):
                said = await self._post(body, headers)
        except TimeoutError:
            self.workspace.violation("late_ack", f"{what} was not acknowledged within {limit:g} s")
            outcome = Outcome(False, error="operation_timeout", reason="http_timeout")
        except aiohttp.ClientConnectorError:
            outcome = Outcome(False, error="dispatch_failed", reason="connection_failed")
        except (aiohttp.ClientError, ConnectionError):
            outcome = Outcome(False, error="disconnected", reason="connection_failed")
        else:
            outcome = self._read(kind, said, what, accepts=accepts)
        return replace(outcome, ms=(time.monotonic() - started) * 1000)

    async def _post(self, body: bytes, headers: dict[str, str]) -> Said:
        if self._session is None or self.url is None:
            raise UserError("the sandbox is not running, or has no request URL")
        # Redirects are not followed: a signed request goes to the URL in the app's settings and nowhere else.
        async with self._session.post(self.url, data=body, headers=headers, allow_redirects=False) as response:
            no_retry = response.headers.get("X-Slack-No-Retry") == "1"
            return Said(response.status, no_retry, await response.read(), response.content_type)

    def _read(self, kind: str, said: Said, what: str, *, accepts: bool) -> Outcome:
        if not 200 <= said.status < 300:
            # An app may refuse an event for now, and hears it again. Nothing else comes a second time.
            if kind != "events_api":
                self.workspace.violation("bad_status", f"{what} was answered with HTTP {said.status}")
            error = "http_client_error" if said.status < 500 else "http_service_error"
            return Outcome(False, error=error, reason="http_error", no_retry=said.no_retry)
        if kind == "events_api" or not said.body.strip():
            return Outcome(True)
        return Outcome(True, self._payload(said, what, accepts=accepts))

    def _payload(self, said: Said, what: str, *, accepts: bool) -> Json | None:
        """The body of an answer: a JSON object, or text that stands for a message."""
        try:
            text = said.body.decode()
        except UnicodeDecodeError:
            self.workspace.violation("bad_ack", f"the answer to {what} is not UTF-8")
            return None
        if said.type != "application/json":
            return {"text": text} if accepts else None
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.workspace.violation("bad_ack", f"the answer to {what} is not a JSON object: {text[:80]}")
            return None
        return found

    async def verify(self) -> bool:
        """Ask the app to repeat a challenge, as Slack does before it accepts a request URL."""
        challenge = secrets.token_urlsafe(40)
        body, content = encode("", {"token": "sandbox", "challenge": challenge, "type": "url_verification"})
        headers = self._headers(body, content, 0, "")
        try:
            async with asyncio.timeout(self.workspace.limits.ack_seconds):
                said = await self._post(body, headers)
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            return self._unverified(type(error).__name__)
        if said.status != 200:
            return self._unverified(f"HTTP {said.status}")
        if challenge not in _challenges(said):
            return self._unverified("the challenge did not come back")
        return True

    def _unverified(self, why: str) -> bool:
        self.workspace.violation("url_verification", f"the request URL was not accepted: {why}")
        return False

    async def answers(self) -> bool:
        """Whether anything at all answers at the URL, whatever it says."""
        if self._session is None or self.url is None:
            return False
        try:
            async with (
                asyncio.timeout(self.workspace.limits.ack_seconds),
                self._session.get(self.url, allow_redirects=False) as response,
            ):
                return response.status > 0
        except (TimeoutError, aiohttp.ClientError, ConnectionError):
            return False


def _challenges(said: Said) -> list[str]:
    """The challenge in each of the three forms Slack reads: text, form, JSON."""
    text = said.body.decode(errors="replace").strip()
    if said.type == FORM:
        return urllib.parse.parse_qs(text).get("challenge", [])
    if said.type == "application/json":
        try:
            found = json.loads(text)
        except ValueError:
            return []
        return [str(found.get("challenge"))] if isinstance(found, dict) else [str(found)]
    return [text]
