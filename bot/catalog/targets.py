"""`targets.yaml`: the hosts and services that runbooks may reach, and where their secrets are kept.

A runbook names them; addresses and credentials never stand in it. A secret is looked up when a step needs it, so one
that was changed is used at once, and one that is missing stops the step that needs it and nothing else.
"""

import asyncio
import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StrictInt, field_validator, model_validator

from bot.catalog.config import Strict, Version, checked, document
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import nearest

TARGETS = "targets.yaml"
SECRET_LIMIT = 64 * 1024
COMMAND_SECONDS = 10.0
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"

Kind = Literal["http", "prometheus", "loki", "postgres", "sqlite", "kestra", "kubernetes"]
Item = TypeVar("Item")


class Secret(Strict):
    """Where a secret is: in exactly one of these places."""

    env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    file: Path | None = None
    command: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if sum(place is not None for place in (self.env, self.file, self.command)) != 1:
            raise ValueError("say where the secret is: {env: NAME}, {file: /path} or {command: [program, argument]}")
        return self


class Host(Strict):
    """A machine that steps reach over ssh, with a key of its own and host keys that are known beforehand."""

    address: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]{0,252}$")
    port: StrictInt = Field(default=22, ge=1, le=65535)
    user: str = Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    key: Path
    known_hosts: Path


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
    targets = Targets() if found is None else checked(found, Targets)
    return Reach(targets, folder, environment)


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
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environment),
        )
    except OSError as error:
        raise PermanentError(
            f"the secret {name} cannot be had: {command[0]} cannot be run ({error.strerror})"
        ) from None
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        raise TemporaryError(
            f"the secret {name} cannot be had: {command[0]} gave none within {COMMAND_SECONDS:g} s"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise PermanentError(f"the secret {name} cannot be had: {command[0]} ended with code {process.returncode}")
    return _text(out, name, command[0])


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
