"""Play an Ansible playbook on hosts that it knows, and tell how each of them took it.

`ansible-playbook` runs as a program of its own. Its settings come from the `ansible.cfg` beside the playbook and from
nowhere else on the machine; variables and the password of a vault go in by files that only the bot can read.
"""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    model_validator,
)

from bot.kit.errors import PermanentError
from bot.kit.text import clip, one_line
from bot.runs import process, scratch
from bot.runs.expressions import templated
from bot.runs.program import Env, end, need, settle
from bot.runs.step import SECRETS, StepContext, StepResult, Text, matching, refuse

EFFECT = "write"
RESULT = ("stats", "changed", "failed", "unreachable", "exit_code")

INSTALL = "install Ansible (the package ansible-core) where the bot runs"
KEEP = 1024 * 1024
HOSTS, NAMED = 500, 10
# What a playbook finds beside itself without naming it, and where people put what it includes.
PARTS = (
    *("ansible.cfg", "roles", "collections", "group_vars", "host_vars", "vars", "tasks", "handlers", "files"),
    *("templates", "library", "module_utils", "action_plugins", "callback_plugins", "connection_plugins"),
    *("filter_plugins", "lookup_plugins", "strategy_plugins", "test_plugins", "vars_plugins"),
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_COMPUTED = ("{{", "{%", "{#")
_RECAP = re.compile(
    r"^(\S.{0,250}?)[ \t]{0,300}: ok=([0-9]{1,9})[ \t]{1,9}changed=([0-9]{1,9})[ \t]{1,9}unreachable=([0-9]{1,9})"
    r"[ \t]{1,9}failed=([0-9]{1,9})(?![^ \t])"
)
_FAULT = re.compile(r"^(?:ERROR! |\[ERROR\]: )(.{1,1000})", re.MULTILINE)


def _env(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if told := _closed(str(name)):
            raise refuse(told)
    return value


def _closed(name: str) -> str | None:
    return (
        f"{name} cannot be set; put it into the ansible.cfg beside the playbook" if name.startswith("ANSIBLE") else None
    )


def _vars(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not _VARIABLE.fullmatch(str(name)):
            raise refuse(f"{name!r} cannot be the name of a variable")
    return value


def _given(value: object) -> object:
    # An empty value of a parameter must not mean every host, or every task.
    if value is None or value == "" or value == []:
        raise ValueError("is empty; leave it out if that is meant")
    return value


# No `~` (a regular expression) and no `@` (a file to read); a dash or a blank never begins a pattern.
Limit = Annotated[
    Text,
    matching(
        r"[A-Za-z0-9_*!&\[][A-Za-z0-9_.:*?!&,\[\]-]{0,511}",
        "is no pattern of hosts such as web-1, web:!web-3 or *.example.com",
    ),
]
Tag = Annotated[Text, matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", "cannot be a tag")]


class Params(BaseModel):
    """Which playbook, for whom, and with what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    playbook: Annotated[Text, Field(min_length=1)] = Field(description="file beside the runbooks")
    inventory: Annotated[Annotated[Text, Field(min_length=1)] | None, BeforeValidator(_given)] = Field(
        default=None, description="file or folder beside the runbooks; the hosts of targets.yaml otherwise"
    )
    limit: Annotated[Limit | None, BeforeValidator(_given)] = Field(
        default=None, description="pattern of hosts to keep to; needed without inventory"
    )
    vars: Annotated[dict[str, Any], BeforeValidator(_vars), SECRETS] = Field(
        default={}, description="extra variables; handed over in a file"
    )
    tags: Annotated[list[Tag], BeforeValidator(_given)] = Field(
        default=[], max_length=50, description="only the tasks with any of these tags"
    )
    check: StrictBool = Field(default=False, description="only look what would change")
    diff: StrictBool = Field(default=True, description="show how files change")
    vault_password: Annotated[Annotated[Text, Field(min_length=1)] | None, SECRETS] = Field(
        default=None, description="opens what ansible-vault has encrypted; a secret"
    )
    env: Annotated[Env, BeforeValidator(_env), SECRETS] = Field(
        default={}, description="environment variables for modules and plugins"
    )

    @model_validator(mode="after")
    def _somewhere(self) -> "Params":
        if self.inventory is None and self.limit is None:
            raise refuse(
                "say with limit which hosts of targets.yaml are meant (all for every one), or give an inventory"
            )
        return self


def effect(params: Params) -> Literal["read", "write"]:
    """A check changes nothing."""
    return "read" if params.check else "write"


def needs(params: Params) -> list[tuple[str, str]]:
    """The files it uses, and the hosts of targets.yaml that it names one by one."""
    found = [("file", params.playbook), *(("beside", name) for name in _around(params.playbook))]
    if params.inventory is not None:
        return [*found, ("file", params.inventory)]
    limit = params.limit or ""
    named = [limit] if templated(limit) else [part for part in re.split(r"[,:]", limit) if _NAME.fullmatch(part)]
    return [*found, *(("host", name) for name in named if name not in ("all", "ungrouped", "localhost"))]


def _around(playbook: str) -> list[str]:
    """Where a playbook finds roles, variables and tasks: in its folder, and beside it if that is the runbooks' own."""
    folder = PurePosixPath(playbook).parent
    return [str(folder)] if folder.parts else list(PARTS)


def preview(params: Params) -> str:
    """What would be played for whom; of variables, the names."""
    where = f"{params.inventory or 'targets.yaml'}" + (f", only {params.limit}" if params.limit else "")
    told = f"would {'check' if params.check else 'play'} {params.playbook} on the hosts of {where}"
    told += f", only tags {', '.join(params.tags)}" if params.tags else ""
    return told + (f", with {', '.join(params.vars)}" if params.vars else "")


async def run(context: StepContext, params: Params) -> StepResult:
    """Play it to its end. A host that fails or cannot be reached is a result that is not ok."""
    return await _played(context, params, check=params.check, diff=params.diff)


async def dry_run(context: StepContext, params: Params) -> StepResult:
    """Have every task say what it would change, and how."""
    return await _played(context, params, check=True, diff=True)


# -- playing ---------------------------------------------------------------------------------------------------------


async def _played(context: StepContext, params: Params, *, check: bool, diff: bool) -> StepResult:
    for name in context.env:
        if told := _closed(name):
            raise PermanentError(told)
    for name, value in params.vars.items():
        if any(mark in text for text in _texts(value) for mark in _COMPUTED):
            raise PermanentError(
                f"the variable {name} holds {{{{ or {{%, which Ansible would compute; it is not handed over"
            )
    playbook = context.file(params.playbook)
    if not playbook.is_file():
        raise PermanentError(f"{params.playbook!r} is a folder; name the file of the playbook")
    need("ansible-playbook", INSTALL)
    with scratch.corner(context.scratch) as corner:
        outcome = await process.run(
            [
                *("ansible-playbook", f"--inventory={_inventory(context, params, corner)}"),
                *([f"--limit={params.limit}"] if params.limit is not None else []),
                *([f"--tags={','.join(params.tags)}"] if params.tags else []),
                *([f"--extra-vars=@{_file(corner, 'given.json', params.vars)}"] if params.vars else []),
                *(["--check"] if check else []),
                *(["--diff"] if diff else []),
                str(playbook),
            ],
            mark=f"{context.run_id}/{context.step_key}",
            seconds=context.timeout,
            redact=context.redact,
            cancelled=context.cancelled,
            say=context.say,
            env={**context.env, **params.env, **_settings(params, playbook, corner)},
            cwd=str(playbook.parent),
            keep=KEEP,
        )
    settle("ansible-playbook", outcome)
    stats = await asyncio.to_thread(recap, outcome.stdout)
    return _judged(context, params, outcome, stats, check=check)


def _settings(params: Params, playbook: Path, corner: Path) -> dict[str, str]:
    """What Ansible reads from its environment: all that decides how it looks and where it looks."""
    beside = playbook.parent / "ansible.cfg"
    given = {
        # The one of the machine, /etc/ansible/ansible.cfg, would make the same runbook mean another thing elsewhere.
        "ANSIBLE_CONFIG": str(beside if beside.is_file() else scratch.put(corner / "ansible.cfg", "")),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_DISPLAY_FAILED_STDERR": "0",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    if params.vault_password is not None:
        given["ANSIBLE_VAULT_PASSWORD_FILE"] = str(scratch.put(corner / "vault", params.vault_password + "\n"))
    return given


def _inventory(context: StepContext, params: Params, corner: Path) -> Path:
    if params.inventory is not None:
        return context.file(params.inventory)
    hosts = context.reach.targets.hosts
    if not hosts:
        raise PermanentError("targets.yaml has no hosts; add them there, or name an inventory beside the runbooks")
    rows: dict[str, Any] = {}
    for name, host in hosts.items():
        known = shlex.quote(f'UserKnownHostsFile="{context.reach.path(host.known_hosts).resolve()}"')
        strict = "-F /dev/null -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes"
        rows[name] = {
            "ansible_host": host.address,
            "ansible_port": host.port,
            "ansible_user": host.user,
            "ansible_ssh_private_key_file": str(context.reach.path(host.key).resolve()),
            "ansible_ssh_common_args": f"{strict} -o GlobalKnownHostsFile=/dev/null -o {known}",
        }
    return _file(corner, "hosts.json", {"all": {"hosts": rows}})


def _file(corner: Path, name: str, value: Any) -> Path:
    return scratch.put(corner / name, json.dumps(value, ensure_ascii=False))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tally:
    """How many tasks went how on one host."""

    ok: int
    changed: int
    unreachable: int
    failed: int

    def value(self) -> dict[str, JsonValue]:
        """What later steps see of it."""
        return {"ok": self.ok, "changed": self.changed, "failed": self.failed, "unreachable": self.unreachable}


def recap(text: str) -> dict[str, Tally]:
    """How each host took it, from the last recap in *text*; empty where there is none."""
    lines = text.split("\n")
    begins = [i for i, line in enumerate(lines) if line.startswith("PLAY RECAP *")]
    found: dict[str, Tally] = {}
    for line in lines[begins[-1] + 1 :] if begins else ():
        if not (row := _RECAP.match(line)):
            break
        found[row[1]] = Tally(*map(int, row.groups()[1:]))
    return found


def fault(text: str) -> str:
    """What Ansible says is wrong before any host comes into it."""
    told = [one_line(one) for one in _FAULT.findall(text)]
    return clip("; ".join(told), 400) if told else clip(one_line(text.strip().rpartition("\n")[2]), 400)


def _judged(
    context: StepContext, params: Params, outcome: process.Outcome, stats: Mapping[str, Tally], *, check: bool
) -> StepResult:
    failed = [name for name, tally in stats.items() if tally.failed]
    unreachable = [name for name, tally in stats.items() if tally.unreachable]
    values: dict[str, JsonValue] = {
        "stats": {name: tally.value() for name, tally in list(stats.items())[:HOSTS]},
        "changed": sum(tally.changed for tally in stats.values()),
        "failed": list[JsonValue](failed[:HOSTS]),
        "unreachable": list[JsonValue](unreachable[:HOSTS]),
        "exit_code": outcome.exit_code,
    }
    ok = outcome.exit_code == 0 and bool(stats) and not failed and not unreachable
    if outcome.timed_out:
        told = f"{params.playbook} was stopped after {context.timeout:g} s; what it did until then stands"
    elif failed or unreachable:
        parts = [f"failed on {_names(failed)}"] if failed else []
        parts += [f"could not reach {_names(unreachable)}"] if unreachable else []
        told = f"{params.playbook}: {'; '.join(parts)}"
    elif not ok:
        none = "no host matched, nothing was done" if outcome.exit_code == 0 else ""
        told = f"{params.playbook}: {none or fault(outcome.stderr) or end(outcome)}"
    else:
        changed = [name for name, tally in stats.items() if tally.changed]
        how = f"{'would change' if check else 'changed'} {_names(changed)}" if changed else "nothing to change"
        told = f"{params.playbook}: {how}; well on {len(stats)} {'host' if len(stats) == 1 else 'hosts'}"
    output = outcome.stdout + (f"\n{outcome.stderr}" if outcome.stderr else "")
    return StepResult(ok, told, output, values, truncated=outcome.dropped)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
