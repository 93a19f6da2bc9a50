"""`targets.yaml`: the hosts and services that runbooks may reach, and where their secrets are kept.

A runbook names them; addresses and credentials never stand in it. A secret is looked up when a step needs it, so one
that was changed is used at once, and one that is missing stops the step that needs it and nothing else.
"""

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, StrictInt, field_validator, model_validator

from bot.catalog.config import TARGETS, ConfigError, Strict, Version, checked, document
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import nearest

SECRET_LIMIT = 64 * 1024
COMMAND_SECONDS = 10.0
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"

_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_HEADER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

Kind = Literal["http", "prometheus", "loki", "postgres", "sqlite", "kestra", "kubernetes"]
DATABASES: tuple[Kind, ...] = ("postgres", "sqlite")
Item = TypeVar("Item")


class Secret(Strict):
    """Where a secret is: in exactly one of these places."""

    env: str | None = None
    file: Path | None = None
    command: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _elsewhere(cls, found: object) -> object:
        if not isinstance(found, dict | Secret):
            raise ValueError(f"a secret is never written here; {_PLACES}")
        return found

    @field_validator("env")
    @classmethod
    def _variable(cls, found: str | None) -> str | None:
        # A name that is none is not repeated: somebody may have written the secret itself.
        if found is not None and not re.fullmatch(_ENV_NAME, found):
            raise ValueError("names an environment variable, such as LB_TOKEN")
        return found

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if sum(place is not None for place in (self.env, self.file, self.command)) != 1:
            raise ValueError(_PLACES)
        return self


_PLACES = "say where the secret is: {env: NAME}, {file: /path} or {command: [program, argument]}"


class Host(Strict):
    """A machine that steps reach over ssh, with a key of its own and host keys that are known beforehand."""

    address: str = Field(description="name or IP address")
    port: StrictInt = Field(default=22, ge=1, le=65535)
    user: str = Field(description="whose programs they are there")
    key: Path = Field(description="private key without a passphrase, for nobody else to read")
    known_hosts: Path = Field(description="keys that the host may have, as ssh-keyscan prints them")

    @field_validator("address")
    @classmethod
    def _address(cls, found: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}", found):
            raise ValueError("is neither the name of a host nor an IP address; the port stands beside it")
        return found

    @field_validator("user")
    @classmethod
    def _user(cls, found: str) -> str:
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", found):
            raise ValueError("is not the name of a user")
        return found


class Connection(Strict):
    """A service: its address and what opens it. A credential goes to that address and nowhere else."""

    kind: Kind = "http"
    url: str = Field(min_length=1)
    token: Secret | None = Field(default=None, description="sent as Authorization: Bearer")
    username: str | None = None
    password: Secret | None = None
    headers: dict[str, Secret] = Field(default_factory=dict)
    ca: Path | None = Field(default=None, description="certificate authorities to trust in place of the system's")
    private: bool = Field(default=False, description="whether its address may be one of a private network")
    write: bool = Field(default=False, description="for databases: steps that write use it, and no others")


class Targets(Strict):
    """The whole file."""

    version: Version = 1
    hosts: dict[Annotated[str, Field(pattern=NAME)], Host] = Field(default_factory=dict)
    connections: dict[Annotated[str, Field(pattern=NAME)], Connection] = Field(default_factory=dict)
    secrets: dict[Annotated[str, Field(pattern=NAME)], Secret] = Field(default_factory=dict)

    @field_validator("hosts", "connections", "secrets", mode="before")
    @classmethod
    def _filled(cls, found: object) -> object:
        return found or {}


@dataclass(frozen=True)
class Credentials:
    """What opens a service over HTTP: headers to send, and what in them nobody may see."""

    headers: Mapping[str, str]
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Reach:
    """What steps may reach: the targets, and how to open them. *folder* is where `file` and `key` are looked for."""

    targets: Targets = field(default_factory=Targets)
    folder: Path = Path()
    environment: Mapping[str, str] = field(default_factory=dict)

    def host(self, name: str) -> Host:
        """The host called *name*; PermanentError with the nearest name otherwise."""
        return _named(self.targets.hosts, name, "host", "hosts")

    def connection(self, name: str, *kinds: Kind) -> Connection:
        """The connection called *name*, of one of *kinds* if any are given; PermanentError otherwise."""
        found = _named(self.targets.connections, name, "connection", "connections")
        if kinds and found.kind not in kinds:
            wanted = " or ".join(kinds)
            raise PermanentError(f"the connection {name!r} is of kind {found.kind}; this step needs {wanted}")
        return found

    async def credentials(self, name: str) -> Credentials:
        """The headers that open the connection called *name*: its token or user and password, and its own headers."""
        found = self.connection(name)
        headers = {header: await self.reveal(where, f"{header} of {name}") for header, where in found.headers.items()}
        secrets = list(headers.values())
        if found.token is not None:
            secrets.append(await self.reveal(found.token, f"token of {name}"))
            headers["Authorization"] = f"Bearer {secrets[-1]}"
        elif found.username is not None and found.password is not None:
            password = await self.reveal(found.password, f"password of {name}")
            pair = base64.standard_b64encode(f"{found.username}:{password}".encode()).decode()
            secrets += [password, pair]
            headers["Authorization"] = f"Basic {pair}"
        return Credentials(headers, tuple(secrets))

    def path(self, path: Path) -> Path:
        """A file that targets.yaml names, relative to the folder it is in."""
        return self.folder / path

    def oddities(self) -> list[str]:
        """What will stop the steps that use it: files, variables and programs that are not there. Nothing is opened."""
        found = []
        for name, host in self.targets.hosts.items():
            told = [
                self._missing(host.key, "key") or self._open(host.key),
                self._missing(host.known_hosts, "known_hosts"),
            ]
            found += [f"host {name!r}: {one}" for one in told if one]
        for name, connection in self.targets.connections.items():
            told = [self.absent(secret) for secret in _secrets(connection)]
            if connection.ca is not None:
                told.append(self._missing(connection.ca, "ca"))
            if connection.url.startswith("http://") and not connection.private and _secrets(connection):
                told.append("its credentials go over http://, where anybody on the way can read them")
            found += [f"connection {name!r}: {one}" for one in told if one]
        found += [
            f"secret {name!r}: {one}" for name, where in self.targets.secrets.items() if (one := self.absent(where))
        ]
        return [f"{TARGETS}: {one}" for one in found]

    def _missing(self, path: Path, what: str) -> str | None:
        return None if self.path(path).is_file() else f"there is no file {self.path(path)} ({what})"

    def _open(self, path: Path) -> str | None:
        if self.path(path).stat().st_mode & 0o077:
            return f"ssh refuses a key that others may read: chmod 600 {self.path(path)}"
        return None

    def absent(self, where: Secret) -> str | None:
        """Why the secret at *where* cannot be had, as far as that can be seen without looking at it."""
        if where.env is not None and not self.environment.get(where.env, "").strip():
            return f"the environment variable {where.env} is not set"
        if where.file is not None:
            return self._missing(where.file, "file")
        if where.command is not None and shutil.which(where.command[0], path=self.environment.get("PATH")) is None:
            return f"the program {where.command[0]} is not installed"
        return None

    def known(self, name: str) -> bool:
        """Whether a secret of that name can be looked for: listed in targets.yaml, or in the environment."""
        return name in self.targets.secrets or name in self.environment

    async def secret(self, name: str) -> str:
        """The secret that a runbook calls *name*. PermanentError, without a word of its content, if there is none."""
        if name in self.targets.secrets:
            return await self.reveal(self.targets.secrets[name], name)
        return await self.reveal(Secret(env=name), name)

    async def reveal(self, where: Secret, name: str) -> str:
        """The secret that is kept at *where*; *name* is what people are told that it is for."""
        if where.env is not None:
            found = self.environment.get(where.env, "").strip()
            if not found:
                raise PermanentError(f"the secret {name} is not set: the environment variable {where.env} is empty")
            return found
        if where.file is not None:
            return await asyncio.to_thread(_read, self.folder / where.file, name)
        return await _printed(where.command or [], name, self.environment)


def load(folder: Path, environment: Mapping[str, str]) -> Reach:
    """What *folder*'s targets.yaml says; nothing may be reached where there is none. ConfigError with all problems."""
    found = document(folder / TARGETS)
    if found is None:
        return Reach(Targets(), folder, environment)
    targets = checked(found, Targets)
    problems = [
        str(found.error(("connections", name, *place), f"connection {name!r}: {wrong}"))
        for name, connection in targets.connections.items()
        for place, wrong in _wrong(connection)
    ]
    if problems:
        raise ConfigError(problems)
    return Reach(targets, folder, environment)


def _wrong(found: Connection) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a connection does not make sense, and why. The url stays out: it may hold a password."""
    try:
        url = urlsplit(found.url)
        password = url.password
    except ValueError:
        yield ("url",), "the url cannot be read"
        return
    if password is not None:
        yield ("url",), "a password never stands in a url; use username and password"
    elif found.kind not in DATABASES and url.username is not None:
        yield ("url",), "a user never stands in this url; use username and password"
    if found.kind in DATABASES:
        if found.kind == "postgres" and url.scheme not in ("postgresql", "postgres"):
            yield ("url",), "the url of a postgres is postgresql://host:5432/database"
        for field in ("token", "headers"):
            if getattr(found, field):
                yield (field,), f"{field} does nothing for a database; use username and password"
        return
    if url.scheme not in ("http", "https") or not url.hostname:
        yield ("url",), f"the url of {found.kind} begins with http:// or https:// and names a host"
    if url.query or url.fragment or found.url.endswith(("?", "#")):
        yield ("url",), "the url ends with a path: no ? and no #"
    if found.write:
        yield ("write",), f"write does nothing for {found.kind}, only for a database"
    if found.token is not None and (found.username is not None or found.password is not None):
        yield ("token",), "give a token, or a username and a password"
    elif (found.username is None) != (found.password is None):
        yield ("username" if found.password is None else "password",), "a username needs a password, and a password one"
    for header in found.headers:
        if not re.fullmatch(_HEADER, header):
            yield ("headers", header), f"{header!r} is not the name of a header"
        if header.lower() == "authorization" and (found.token is not None or found.password is not None):
            yield ("headers", header), "Authorization is made of the token or the password already"


def _secrets(connection: Connection) -> list[Secret]:
    places = (connection.token, connection.password, *connection.headers.values())
    return [where for where in places if where is not None]


def _named(there: Mapping[str, Item], name: str, one: str, many: str) -> Item:
    if name in there:
        return there[name]
    near = nearest(name, list(there))
    hint = f"did you mean {near}?" if near else f"{many} there: {_listed(there)}"
    raise PermanentError(f"targets.yaml has no {one} {name!r}; {hint}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _read(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(SECRET_LIMIT + 1)
    except OSError as error:
        raise PermanentError(f"the secret {name} cannot be read from {path} ({error.strerror})") from None
    return _text(raw, name, str(path))


async def _printed(command: list[str], name: str, environment: Mapping[str, str]) -> str:
    """What a program such as a vault's client prints. Its errors are not shown: they may hold the secret."""
    ours, its = os.pipe()
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(ours, "rb", buffering=0)
    )
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its,
                stderr=asyncio.subprocess.DEVNULL,
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            raise PermanentError(
                f"the secret {name} cannot be had: {command[0]} cannot be run ({error.strerror})"
            ) from None
        finally:
            os.close(its)
        return await _given(process, stream, command[0], name)
    finally:
        transport.close()


async def _given(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, program: str, name: str) -> str:
    out = bytearray()
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            while len(out) <= SECRET_LIMIT and (piece := await stream.read(65536)):
                out += piece
            if len(out) <= SECRET_LIMIT:
                await process.wait()
    except TimeoutError:
        raise TemporaryError(
            f"the secret {name} cannot be had: {program} gave none within {COMMAND_SECONDS:g} s"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it, and what it started
        await process.wait()
    if len(out) <= SECRET_LIMIT and process.returncode:
        raise PermanentError(f"the secret {name} cannot be had: {program} ended with code {process.returncode}")
    return _text(bytes(out), name, program)


def _text(raw: bytes, name: str, where: str) -> str:
    if len(raw) > SECRET_LIMIT:
        raise PermanentError(f"the secret {name}: {where} gives more than {SECRET_LIMIT // 1024} kB")
    try:
        found = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise PermanentError(f"the secret {name}: {where} gives no UTF-8 text") from None
    found = found.removesuffix("\n").removesuffix("\r")
    if not re.sub(r"\s", "", found):
        raise PermanentError(f"the secret {name}: {where} gives nothing")
    return found
