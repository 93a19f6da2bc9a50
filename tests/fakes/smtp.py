"""A mail server on a local port: it takes letters as RFC 5321 has it, refuses what a test plans, and keeps the rest."""

import asyncio
import base64
import re
import ssl
from dataclasses import dataclass, field


@dataclass
class Letter:
    sender: str
    to: list[str]
    content: bytes
    tls: bool
    user: str | None


@dataclass
class MailServer:
    """*answers* plans what the next MAIL, RCPT or DATA is answered; `slow` seconds go by before each answer."""

    cert: str | None = None
    key: str | None = None
    implicit: bool = False
    users: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    slow: float = 0
    letters: list[Letter] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> "MailServer":
        self._context = None
        if self.cert:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self.cert, self.key)
        self._server = await asyncio.start_server(
            self._talk, "127.0.0.1", self.port, ssl=self._context if self.implicit else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls, user, sender, to = self.implicit, None, None, []

        async def say(text: str) -> None:
            if self.slow:
                await asyncio.sleep(self.slow)
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        def planned(verb: str) -> str | None:
            return self.answers[verb].pop(0) if self.answers.get(verb) else None

        try:
            await say("220 mail.example.com ESMTP")
            while line := (await reader.readline()).decode():
                assert line.endswith("\r\n"), "a line must end with CRLF"
                self.lines.append(line.strip())
                verb = line[:4].upper()
                if planned_answer := planned(verb):
                    await say(planned_answer)
                elif verb == "EHLO":
                    offers = ["mail.example.com"]
                    offers += ["STARTTLS"] if self._context and not tls else []
                    offers += ["AUTH PLAIN"] if self.users and tls else []
                    for offer in offers[:-1]:
                        await say(f"250-{offer}")
                    await say(f"250 {offers[-1]}")
                elif verb == "STAR" and self._context and not tls:
                    await say("220 go ahead")
                    await writer.start_tls(self._context)
                    tls = True
                elif verb == "AUTH":
                    if not tls:
                        await say("538 encryption required")
                        continue
                    _, name, password = base64.b64decode(line.split()[2]).decode().split("\0")
                    ok = self.users.get(name) == password
                    user = name if ok else None
                    await say("235 welcome" if ok else "535 5.7.8 wrong user or password")
                elif verb == "MAIL":
                    if self.users and user is None:
                        await say("530 authentication required")
                        continue
                    found = re.fullmatch(r"MAIL FROM:<([^<>\s]+)>.*\r\n", line, re.IGNORECASE)
                    sender, to = found[1] if found else None, []
                    await say("250 ok" if found else "501 syntax")
                elif verb == "RCPT":
                    found = re.fullmatch(r"RCPT TO:<([^<>\s]+)>\r\n", line, re.IGNORECASE)
                    if found and sender:
                        to.append(found[1])
                    await say("250 ok" if found and sender else "503 bad sequence")
                elif verb == "DATA" and to:
                    await say("354 go on")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    self.letters.append(Letter(sender, to, content[:-3].replace(b"\r\n..", b"\r\n."), tls, user))
                    await say(f"250 2.0.0 queued as {len(self.letters):04d}")
                elif verb == "QUIT":
                    await say("221 bye")
                    break
                elif verb == "RSET":
                    await say("250 ok")
                else:
                    await say("502 not here")
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
