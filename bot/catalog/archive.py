"""`archive:` in `tocsin.yaml`: the Git repository that post-mortems are kept in."""

import re
from string import Formatter
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from bot.catalog.shape import Strict

FIELDS = ("reference", "number", "revision", "year", "month", "day", "severity", "service", "title")


class Archive(Strict):
    """Where to, and what the files and the commits are called."""

    repository: str = Field(min_length=1, max_length=1000)
    branch: str = Field(default="main", max_length=200)
    path: str = Field(default="{year}/{reference}.md", min_length=1, max_length=300)
    message: str = Field(default="{reference}: post-mortem, revision {revision}", min_length=1, max_length=300)
    author: str = Field(default="Tocsin <tocsin@localhost>", pattern=r"^[^<>\n]{1,100} <[^<>\s]{1,200}>$")
    format: str = Field(default="md", pattern=r"^[a-z][a-z0-9_]{0,39}$")

    @field_validator("repository")
    @classmethod
    def _repository(cls, found: str) -> str:
        if found.startswith("-") or "\0" in found or "::" in found:
            raise ValueError("write a folder, https://host/path.git or git@host:path.git")
        if "://" in found:
            parts = urlsplit(found)
            if parts.scheme not in ("https", "ssh", "file"):
                raise ValueError("only https, ssh and file addresses are taken")
            if parts.password or (parts.username and parts.scheme == "https"):
                raise ValueError("no password in here: give Git a credential helper or an ssh key")
        return found

    @field_validator("branch")
    @classmethod
    def _branch(cls, found: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9](?:[./]?[A-Za-z0-9_-])*", found) or found.endswith(".lock"):
            raise ValueError("it is no branch; write for example main")
        return found

    @field_validator("path", "message")
    @classmethod
    def _template(cls, found: str) -> str:
        try:
            named = [name for _, name, form, how in Formatter().parse(found) if name is not None or form or how]
        except ValueError as error:
            raise ValueError(f"it is not a template: {error}") from None
        if unknown := [name for name in named if name not in FIELDS]:
            raise ValueError(f"{{{unknown[0]}}} is not known; there is: {', '.join(FIELDS)}")
        return found

    @field_validator("path")
    @classmethod
    def _path(cls, found: str) -> str:
        parts = found.split("/")
        if re.search(r"[\\\0\n]", found) or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
            raise ValueError("write a path inside the repository, for example postmortems/{year}/{reference}.md")
        return found
