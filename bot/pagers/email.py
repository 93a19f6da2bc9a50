"""E-mail by SMTP: the page is sent once the mail server has taken the letter, and its answer is the proof.

The client of the standard library blocks, so it works in threads of its own, few of them. Nothing is tried again here.
"""

import asyncio
import functools
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from bot.catalog.config import Config
from bot.catalog.pagers import PORTS, Email
from bot.incidents.pager import Pager, PageRequest, PageResult
from bot.kit.clock import Clock, utc_now
from bot.kit.errors import BotError, PermanentError, TemporaryError, UserError
from bot.kit.ids import derived_id
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor

LINES = 2
# For one answer of the server, and for all of a letter with its wait for a thread.
PIECE_SECONDS, LETTER_SECONDS = 10.0, 40.0
SUBJECT = 200


def make(config: Config) -> Pager:
    """The pager that `email:` in tocsin.yaml describes; UserError if it does not."""
    if config.pagers.email is None:
        raise UserError("tocsin.yaml: the pager 'email' needs a section email: with host, from and to")
    settings, secrets = config.pagers.email
    password = secrets.main[0].get_secret_value() if secrets.main else None
    ca = None if settings.ca is None else config.pagers.folder / settings.ca
    return Letters(settings, password, ca=None if ca is None else str(ca))


class Letters:
    """One mail server, and who is written to."""

    def __init__(
        self,
        settings: Email,
        password: str | None,
        *,
        ca: str | None = None,
        clock: Clock = utc_now,
        seconds: float = LETTER_SECONDS,
    ) -> None:
        """Nothing is opened before it is needed."""
        self._settings, self._password, self._ca, self._clock, self._seconds = settings, password, ca, clock, seconds
        self._threads = ThreadPoolExecutor(LINES, thread_name_prefix="email")
        self._redact = Redactor([password] if password else [])

    async def page(self, request: PageRequest) -> PageResult:
        """Write to whoever is named for the service. A letter that is sent again carries the same Message-ID."""
        to = self._settings.services.get(request.service or "") or self._settings.to
        work = functools.partial(self._send, self._letter(request, to).as_bytes(), to)
        try:
            async with asyncio.timeout(self._seconds):
                proof, refused = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise TemporaryError(f"the mail server took no letter within {self._seconds:g} s") from None
        told = f"the mail server took a letter to {_people(len(to) - len(refused))}"
        if refused:
            told += f"; it refused {', '.join(refused)}"
        return PageResult("sent", told, proof)

    async def close(self) -> None:
        """A letter under way ends by itself; what waits for a thread does not begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- the letter -------------------------------------------------------------------------------------------------

    def _letter(self, request: PageRequest, to: tuple[str, ...]) -> EmailMessage:
        sender = self._settings.sender
        letter = EmailMessage(policy=SMTP)
        letter["From"] = Address("Tocsin", addr_spec=sender)
        letter["To"] = tuple(Address(addr_spec=one) for one in to)
        # No header is more than one line: what a title holds stays a part of the subject.
        letter["Subject"] = _line(f"[{request.severity}] {request.reference} {request.title}", SUBJECT)
        letter["Date"] = format_datetime(self._clock())
        letter["Message-ID"] = f"<{derived_id('letter', request.dedup_key)}@{sender.partition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter["Importance"] = "high"
        lines = [
            f"{request.reference} needs somebody now.",
            "",
            f"What:     {_line(request.title, 500)}",
            f"Severity: {request.severity}",
            *([f"Service:  {_line(request.service, 200)}"] if request.service else []),
            *([f"Where:    {request.url}"] if request.url else []),
            "",
            "Answering this letter acknowledges nothing: do it in the incident's channel in Slack.",
        ]
        letter.set_content("\n".join(lines) + "\n")
        return letter

    # -- in a thread ------------------------------------------------------------------------------------------------

    def _send(self, letter: bytes, to: tuple[str, ...]) -> tuple[str, list[str]]:
        try:
            with self._connection() as server:
                server.ehlo_or_helo_if_needed()
                if self._settings.tls == "starttls":
                    server.starttls(context=self._trust())
                    server.ehlo()
                if self._settings.username is not None and self._password is not None:
                    server.login(self._settings.username, self._password)
                return self._handed(server, letter, to)
        except BotError:
            raise
        except smtplib.SMTPAuthenticationError as error:
            raise self._refusal(error.smtp_code, "user and password", error.smtp_error) from None
        except smtplib.SMTPResponseException as error:
            raise self._refusal(error.smtp_code, "the connection", error.smtp_error) from None
        except smtplib.SMTPNotSupportedError as error:
            raise PermanentError(f"the mail server cannot do what email: in tocsin.yaml asks for: {error}") from None
        except ssl.SSLCertVerificationError as error:
            told = clip(one_line(error.verify_message), 200)
            raise PermanentError(f"the mail server has no certificate that we trust: {told}; see email.ca") from None
        except (OSError, ValueError, smtplib.SMTPException) as error:
            told = clip(one_line(self._redact.text(str(error))), 200) or type(error).__name__
            raise TemporaryError(f"the mail server cannot be reached: {told}", after=5.0) from None

    def _connection(self) -> smtplib.SMTP:
        settings = self._settings
        port, ours = settings.port or PORTS[settings.tls], settings.sender.partition("@")[2]
        if settings.tls == "tls":
            return smtplib.SMTP_SSL(settings.host, port, ours, timeout=PIECE_SECONDS, context=self._trust())
        return smtplib.SMTP(settings.host, port, ours, timeout=PIECE_SECONDS)

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca)
        except OSError as error:
            raise PermanentError(f"no certificate authority can be read from {self._ca}: {error}") from None

    def _handed(self, server: smtplib.SMTP, letter: bytes, to: tuple[str, ...]) -> tuple[str, list[str]]:
        code, said = server.mail(self._settings.sender)
        if code != 250:
            raise self._refusal(code, self._settings.sender, said)
        answers = {one: server.rcpt(one) for one in to}
        refused = [one for one, (code, _) in answers.items() if code not in (250, 251)]
        if len(refused) == len(to):
            # One that may be taken later is a reason to try again.
            code, said = min(answers.values(), key=lambda answer: answer[0])
            raise self._refusal(code, "every address", said)
        code, said = server.data(letter)
        if code != 250:
            raise self._refusal(code, "the letter", said)
        return clip(f"250 {self._words(said)}", 300), refused

    def _refusal(self, code: int, what: str, said: bytes | str) -> BotError:
        told = f"the mail server refused {what} ({code} {clip(self._words(said), 200)})"
        return TemporaryError(told, after=10.0) if 400 <= code < 500 or code <= 0 else PermanentError(told)

    def _words(self, said: bytes | str) -> str:
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        return one_line(clean(self._redact.text(text)))


def _line(text: str, limit: int) -> str:
    return clip(one_line(clean(text)), limit)


def _people(count: int) -> str:
    return f"{count} address{'' if count == 1 else 'es'}"
