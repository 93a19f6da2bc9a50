"""Which names of the bot's environment runbooks may use: those that the workspace lists, and never the bot's own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from bot.catalog.config import GENERAL, TARGETS, General
from bot.catalog.targets import Targets
from bot.kit.errors import PermanentError
from bot.runs.runbook import Path_, Problem, Runbook, Written, denied, secrets, variables

Key = Literal["runbook_environment", "runbook_secrets"]


@dataclass(frozen=True)
class Grants:
    """*environment* and *secrets* are what tocsin.yaml lists; *listed* are the secrets of targets.yaml, each of which
    says by itself where it is kept. Without any of it nothing may be used.
    """

    environment: Sequence[str] = ()
    secrets: Sequence[str] = ()
    listed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, general: General, targets: Targets) -> "Grants":
        """What the configuration allows."""
        return cls(general.runbook_environment, general.runbook_secrets, frozenset(targets.secrets))

    def variable(self, name: str) -> None:
        """PermanentError unless `env` may name *name*."""
        _granted(name, self.environment, "runbook_environment")

    def secret(self, name: str) -> None:
        """PermanentError unless a runbook may name the secret *name*."""
        if name not in self.listed:
            _granted(name, self.secrets, "runbook_secrets")

    def problems(self, written: Written) -> list[Problem]:
        """Every name that a runbook may not use, at its line."""
        return [written.problem(path, told) for path, told in self._refused(written.runbook)]

    def _refused(self, runbook: Runbook) -> Iterator[tuple[Path_, str]]:
        for check, named in ((self.variable, variables(runbook)), (self.secret, secrets(runbook))):
            for path, name in named:
                if told := _word(check, name):
                    yield path, told


def _granted(name: str, patterns: Sequence[str], key: Key) -> None:
    if denied(name):
        raise PermanentError(f"{name} belongs to the bot; no runbook may name it")
    if not any(fnmatchcase(name, pattern) for pattern in patterns):
        where = f"list it under {key} in {GENERAL}"
        if key == "runbook_secrets":
            where = f"say in {TARGETS}, under secrets, where it is kept, or {where}"
        raise PermanentError(f"{name} is nothing that runbooks may use here: {where}")


def _word(check: Callable[[str], None], name: str) -> str | None:
    try:
        check(name)
    except PermanentError as error:
        return str(error)
    return None
