"""Look at a Kubernetes cluster, or change something in it, with kubectl.

Which cluster, as whom and in which namespace is said by `context` and `namespace` alone, never by an argument: kubectl
is given a kubeconfig of this step's own, made from a connection of targets.yaml. Arguments are read as kubectl reads
them, and what is not known to be harmless is refused.
"""

import asyncio
import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from bot.catalog.targets import Connection
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.fetch import Guard
from bot.kit.text import clip, one_line
from bot.runs import process, scratch
from bot.runs.expressions import templated
from bot.runs.program import end, need, settle
from bot.runs.redact import MASK, Open, Redactor
from bot.runs.step import Quoted, StepContext, StepResult, Text, refuse

EFFECT = "write"
RESULT = ("stdout", "stderr", "exit_code", "json")

INSTALL = "install kubectl (the package kubernetes-client, or your cluster's own) where the bot runs"
JSON_LIMIT = 4 * 1024 * 1024
SHOWN = 64 * 1024

READING = ("get", "describe", "logs", "top", "version", "explain", "api-resources")
READING_PARTS = {"rollout": ("status", "history"), "auth": ("can-i",)}
# What kubectl can do, and on what; None where no word follows that decides.
PARTS: Mapping[str, tuple[str, ...] | None] = {
    **dict.fromkeys(READING),
    **dict.fromkeys(("annotate", "api-versions", "apply", "autoscale", "cordon", "create", "delete", "diff", "drain")),
    **dict.fromkeys(
        ("events", "exec", "expose", "label", "patch", "replace", "run", "scale", "taint", "uncordon", "wait")
    ),
    "top": ("node", "nodes", "no", "pod", "pods", "po"),
    "rollout": ("status", "history", "pause", "restart", "resume", "undo"),
    "auth": ("can-i", "whoami", "reconcile"),
    "certificate": ("approve", "deny"),
    "set": ("env", "image", "resources", "selector", "serviceaccount", "subject"),
}
UNFIT = {
    "attach": "it needs a person at a terminal",
    "cluster-info": "its dump writes files on the bot's machine; use version and get",
    "config": "the kubeconfig is made from targets.yaml",
    "cp": "it copies files of the bot's machine; use exec with cat, or an image of your own",
    "debug": "it needs a person at a terminal, and rights that a runbook should not have",
    "edit": "it needs a person with an editor; use patch, apply or set",
    "plugin": "plugins are programs of the bot's machine; use exec: for them",
    "port-forward": "it does not end by itself; use exec, or http: where the service can be reached",
    "proxy": "it opens the cluster to the bot's machine; use get",
}
# What can be asked of the server without doing it.
RUNS_DRY = {
    *("annotate", "apply", "autoscale", "cordon", "create", "delete", "drain", "expose", "label", "patch", "replace"),
    *("run", "scale", "set", "taint", "uncordon", "rollout undo", "auth reconcile"),
}

TARGET = {
    *("as", "as-group", "as-uid", "as-user-extra", "certificate-authority", "client-certificate", "client-key"),
    *(
        "cluster",
        "context",
        "insecure-skip-tls-verify",
        "kubeconfig",
        "kuberc",
        "password",
        "server",
        "tls-server-name",
    ),
    *("token", "user", "username"),
}
PLACE = {"namespace"}
# They read or write files of the bot's machine, or make kubectl tell more than it should.
MACHINE = {
    *("cache-dir", "profile", "profile-output", "output-directory", "v", "vmodule", "log-dir", "log-file"),
    *("log-file-max-size", "log-backtrace-at", "logtostderr", "alsologtostderr", "stderrthreshold", "add-dir-header"),
    *("raw", "template", "from-file", "from-env-file", "cert", "key", "editor", "windows-line-endings", "env-file"),
}
TERMINAL = {"stdin", "tty", "attach", "leave-stdin-open", "interactive", "i", "t"}
ENDLESS = {"get": {"watch", "watch-only"}, "logs": {"follow"}, "events": {"watch"}}
FILES = {"filename", "kustomize", "patch-file"}
# Letters that mean the same wherever they are known, and take a value.
SHORT = {"f": "filename", "k": "kustomize", "o": "output", "l": "selector", "L": "label-columns", "c": "container"}
CLOSED = {"s": "server", "n": "namespace", "v": "v"}
HARMLESS = {"wide", "name"}
REMOTE = ("exec", "run", "create")  # a program in a container may follow `--`

_FLAG = re.compile(r"--([A-Za-z0-9][A-Za-z0-9_-]{0,80})(?:=(.*))?", re.DOTALL)
_NAMESPACE = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_SECRETS = re.compile(r"(?:^|[,/])secrets?(?:$|[,./])", re.IGNORECASE)
_PASSING = re.compile(
    r"\((?:ServiceUnavailable|TooManyRequests|InternalError|Timeout|ServerTimeout|Conflict)\)|"
    r"Unable to connect to the server|connection refused|was refused|i/o timeout|TLS handshake timeout|no such host|"
    r"no route to host|connection reset by peer|unexpected EOF|etcdserver:|error on the server|http2: |"
    r"server is currently unable|net/http: request canceled|context deadline exceeded"
)
_NOISE = re.compile(r"^[EWI][0-9]{4} [0-9:.]{8,20} ")


def _argument(before: str, value: Any) -> str:
    """*value* as it is filled into an argument: never the beginning of an option."""
    if isinstance(value, list | dict) or value is None:
        raise PermanentError(f"{clip(json.dumps(value), 60)} cannot be an argument; only a text or a number can")
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if not before and (not text or text.startswith("-")):
        raise PermanentError(f"{clip(text, 60)!r} cannot begin an argument: it would be an option, or nothing")
    if "\0" in text:
        raise PermanentError("an argument cannot hold a NUL")
    return text


def _args(value: object) -> object:
    if isinstance(value, str):
        raise refuse("must be a list, one item per argument, beginning with the verb: [get, pods]")
    if isinstance(value, list) and value:
        words = value[:2] if PARTS.get(str(value[0])) else value[:1]
        if any(map(templated, words)):
            raise refuse("what kubectl is to do must be written out; only its arguments may be filled in")
    return value


def _checked(value: list[str]) -> list[str]:
    command(value)
    return value


def _given(value: object) -> object:
    # An empty value of a parameter must not mean another namespace.
    if value is None or value == "":
        raise ValueError("is empty; leave it out if the namespace default is meant")
    return value


class Params(BaseModel):
    """Which cluster, and what to do there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    args: Annotated[
        list[Text],
        BeforeValidator(_args),
        AfterValidator(_checked),
        Quoted(_argument),
        Field(min_length=1, max_length=100),
    ] = Field(description="verb and arguments, without kubectl itself; each stays ONE argument, no shell")
    context: Text = Field(default="kubernetes", description="name of a connection of kind kubernetes")
    namespace: Annotated[Annotated[Text, Field(pattern=_NAMESPACE)] | None, BeforeValidator(_given)] = Field(
        default=None, description="where to look; default otherwise"
    )
    parse: Literal["text", "json"] = Field(
        default="text", description="json asks for JSON and reads it, without what Secrets hold"
    )

    @model_validator(mode="after")
    def _fit(self) -> "Params":
        if self.parse == "json" and (told := _output(self.args)) not in (None, "json"):
            raise refuse(f"parse: json does not go with the output {told!r}")
        return self


def effect(params: Params) -> Literal["read", "write"]:
    """What only looks is read; so is what asks the server what it would do."""
    found = command(params.args)
    return "read" if found.reads or found.dry else "write"


def needs(params: Params) -> list[tuple[str, str]]:
    """The connection it uses, and the manifests."""
    files = command(params.args).files
    return [("connection", params.context), *(("file", file) for file in files)]


def preview(params: Params) -> str:
    """The command line."""
    where = f" (cluster {params.context}, namespace {params.namespace or 'default'})"
    return f"would run: {shlex.join(['kubectl', *params.args])}{where}"


async def run(context: StepContext, params: Params) -> StepResult:
    """Run it and read what it printed; what the cluster refuses is a result that is not ok, or passes."""
    return await _run(context, params, params.args)


async def dry_run(context: StepContext, params: Params) -> StepResult:
    """Have the server say what it would do, where it can be asked; the command line otherwise."""
    found = command(params.args)
    if found.reads or found.dry:
        return await _run(context, params, params.args)
    if not RUNS_DRY & {found.name, found.name.split()[0]}:
        return StepResult(True, preview(params))
    result = await _run(context, params, [*params.args[: found.words], "--dry-run=server", *params.args[found.words :]])
    if not result.ok and "unknown flag: --dry-run" in str(result.values.get("stderr", "")):
        return StepResult(True, preview(params))
    return replace(result, summary=f"{result.summary} (only asked)") if result.ok else result


# -- the command line ------------------------------------------------------------------------------------------------


@dataclass
class Command:
    """A command line as kubectl reads it."""

    name: str
    words: int  # how many of the arguments are its name
    named: bool = True  # whether a word follows the name, and no option
    flags: list[tuple[str, str | None]] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)

    @property
    def reads(self) -> bool:
        """Whether it only looks."""
        verb, _, part = self.name.partition(" ")
        return verb in READING or part in READING_PARTS.get(verb, ())

    @property
    def dry(self) -> bool:
        """Whether it only asks what would be done."""
        return self.name == "diff" or any(
            name == "dry-run" and value in ("server", "client") for name, value in self.flags
        )

    @property
    def files(self) -> list[str]:
        """The files it reads."""
        return [value for name, value in self.flags if name in FILES and value]


def command(args: Sequence[str]) -> Command:
    """What *args* make kubectl do; an error that says why, where a runbook may not do that."""
    found = _named(args)
    i = found.words
    while i < len(args):
        word = args[i]
        if _ends(args, i):
            if found.name.split()[0] not in REMOTE:
                raise refuse("-- is for the program of exec, run or create")
            break
        if word.startswith("-"):
            i += _flag(found, word, args[i + 1 : i + 2])
        else:
            found.rest.append(word)
            i += 1
    _allowed(found)
    if found.name == "exec" and i >= len(args) - 1:
        raise refuse("exec needs -- and the program behind it: [exec, deploy/web, --, ls]")
    return found


def _ends(args: Sequence[str], i: int) -> bool:
    """Whether options end at *i*. A `--` behind an option may be its value, and then they do not."""
    return args[i] == "--" and (i == 0 or not args[i - 1].startswith("-") or "=" in args[i - 1])


def _named(args: Sequence[str]) -> Command:
    verb = args[0]
    if verb in UNFIT:
        raise refuse(f"{verb} has no place in a runbook: {UNFIT[verb]}")
    if verb not in PARTS:
        raise refuse(
            f"{clip(verb, 40)!r} is not one of kubectl's verbs that runbooks may use: {', '.join(sorted(PARTS))}"
        )
    parts = PARTS[verb]
    if parts is None:
        return Command(verb, 1, named=len(args) > 1 and not args[1].startswith("-"))
    if len(args) < 2 or args[1] not in parts:
        raise refuse(f"after {verb} comes one of {', '.join(parts)}")
    return Command(f"{verb} {args[1]}" if verb != "top" else verb, 2)


def _flag(found: Command, word: str, following: Sequence[str]) -> int:
    """Take one flag in; how many arguments it is."""
    if long := _FLAG.fullmatch(word):
        # kubectl takes --as_group for --as-group as well.
        name, value = long[1].replace("_", "-").lower(), long[2]
        taken = value is None and name in FILES | {"output", "dry-run"}
    else:
        letter, value = word[1:2], word[2:].removeprefix("=") if word[2:] else None
        if letter == "f" and found.name == "logs":
            raise refuse("logs does not end by itself with -f; use --since or --tail")
        if letter in CLOSED:
            raise refuse(_closed(CLOSED[letter], f"-{letter}"))
        if value is not None and letter not in SHORT:
            raise refuse(
                f"{clip(word, 40)!r} cannot be told apart; write each option for itself, and its value after it"
            )
        name, taken = SHORT.get(letter, letter), value is None and letter in SHORT
    if taken:
        if name == "dry-run":
            raise refuse("write --dry-run=server or --dry-run=client")
        if not following or following[0].startswith("-"):
            raise refuse(f"{word} needs a value after it")
        value = following[0]
    if name in TARGET | PLACE | MACHINE:
        raise refuse(_closed(name, word.partition("=")[0]))
    found.flags.append((name, value))
    return 2 if taken else 1


def _closed(name: str, written: str) -> str:
    if name in TARGET:
        return f"{written} cannot be given: which cluster, and as whom, is said by context and targets.yaml"
    if name in PLACE:
        return f"{written} cannot be given: say it with namespace"
    return f"{written} cannot be given: it reaches the bot's own machine, or tells more than a runbook should"


def _allowed(found: Command) -> None:
    """Refuse what does not end by itself, needs a person, or shows what nobody should see."""
    verb = found.name.split()[0]
    for name, value in found.flags:
        off = value == "false"
        if verb in ("exec", "run", "delete") and name in TERMINAL and not off:
            raise refuse(f"{verb} cannot have a terminal or an input: nobody sits there")
        if (name in ENDLESS.get(verb, ()) or (verb != "rollout" and name == "w")) and not off:
            raise refuse(f"{verb} does not end by itself with {name}; look again and again with wait:")
        if name in FILES and (told := _strange(value or "")):
            raise refuse(told)
        if name == "output" and _read_from_file(value or ""):
            raise refuse("the template of an output must be written out; no file is read for it")
    if sum(name == "dry-run" for name, _ in found.flags) > 1:
        raise refuse("--dry-run can be given once")
    first = found.rest[0] if found.rest else ""
    if found.name == "create" and first == "token":
        raise refuse("create token would show a token; get it where it is needed")
    if first and (found.name == "apply" or (found.name == "create" and not found.named)):
        # It would be another command, whose name stands behind its options.
        raise refuse(f"{clip(first, 40)!r} has no place after {found.name}; write options as --name=value")


def _strange(file: str) -> str | None:
    if file == "-" or not file:
        return "there is no input to read from; name a file beside the runbooks"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", file):
        return "manifests come from beside the runbooks, not from the net"
    return None


def _read_from_file(told: str) -> bool:
    return re.match(r"(?:[a-z-]*-file|templatefile)(?:=|$)", told) is not None


def _output(args: Sequence[str]) -> str | None:
    return next((value for name, value in command(args).flags if name == "output"), None)


def _shows_secrets(found: Command) -> bool:
    """Whether it may print what Secrets hold."""
    told = next((value for name, value in found.flags if name == "output"), None)
    if told is None or told.partition("=")[0] in HARMLESS:
        return False
    return bool(found.files) or any(_SECRETS.search(word) for word in found.rest)


# -- running ---------------------------------------------------------------------------------------------------------


async def _run(context: StepContext, params: Params, args: Sequence[str]) -> StepResult:
    found = command(args)
    if params.parse == "text" and _shows_secrets(found):
        raise PermanentError("this may show what Secrets hold; use parse: json, which leaves that out")
    if closed := [name for name in context.env if name.startswith("KUBE")]:
        raise PermanentError(f"{closed[0]} cannot be handed over: which cluster, and how, is said by targets.yaml")
    need("kubectl", INSTALL)
    connection = context.reach.connection(params.context, "kubernetes")
    token = await _token(context, params.context, connection)
    redact = context.redact.knowing(token)
    with scratch.corner(context.scratch) as corner:
        config = await _kubeconfig(context, params, connection, token, corner)
        wants_json = params.parse == "json"
        more = ["--output=json"] if wants_json and _output(args) is None else []
        outcome = await process.run(
            ["kubectl", f"--kubeconfig={config}", *args[: found.words], *more, *_placed(context, args[found.words :])],
            mark=f"{context.run_id}/{context.step_key}",
            seconds=context.timeout,
            redact=Open() if wants_json else redact,
            cancelled=context.cancelled,
            say=_silent if wants_json else context.say,
            env=context.env,
            keep=JSON_LIMIT if wants_json else SHOWN,
        )
    settle("kubectl", outcome)
    return await _judged(context, params, found, outcome, redact)


def _silent(line: str) -> None:
    """Shows nothing."""


async def _token(context: StepContext, name: str, connection: Connection) -> str:
    if connection.token is None:
        raise PermanentError(f"the connection {name!r} has no token; give it one of a service account in targets.yaml")
    return await context.reach.reveal(connection.token, f"token of {name}")


async def _kubeconfig(context: StepContext, params: Params, connection: Connection, token: str, corner: Path) -> Path:
    """A kubeconfig for this step alone; the address is checked first."""
    try:
        where = urlsplit(connection.url)
        port = where.port or 443
    except ValueError:
        raise PermanentError(f"the url of the connection {params.context!r} cannot be read") from None
    if where.scheme != "https" or not where.hostname or "@" in where.netloc:
        raise PermanentError(f"the url of the connection {params.context!r} must be https://host, without a user")
    await Guard(context.allow_private, context.resolve, connection.private).addresses(where.hostname, port)
    cluster: dict[str, str] = {"server": connection.url}
    if connection.ca is not None:
        file = context.reach.path(connection.ca)
        try:
            trusted = await asyncio.to_thread(file.read_bytes)
        except OSError as error:
            raise PermanentError(f"no certificate authority can be read from {file} ({error.strerror})") from None
        cluster["certificate-authority-data"] = base64.standard_b64encode(trusted).decode()
    name = params.context
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": params.namespace or "default"}}
        ],
    }
    return scratch.put(corner / "kubeconfig", json.dumps(config))


def _placed(context: StepContext, args: Sequence[str]) -> Iterator[str]:
    """*args* with the files that they name as they lie on this machine."""
    takes = False
    for i, word in enumerate(args):
        if _ends(args, i):
            yield from args[i:]
            return
        name, equals, value = word.partition("=")
        if takes:
            yield str(context.file(word))
            takes = False
        elif word.startswith("--") and name[2:].replace("_", "-").lower() in FILES:
            yield f"{name}={context.file(value)}" if equals else word
            takes = not equals
        elif SHORT.get(word[1:2]) in FILES and word.startswith("-"):
            attached = word[2:].removeprefix("=")
            yield f"{word[:2]}{context.file(attached)}" if attached else word
            takes = not attached
        else:
            yield word


# -- judging ---------------------------------------------------------------------------------------------------------


async def _judged(
    context: StepContext, params: Params, found: Command, outcome: process.Outcome, redact: Redactor
) -> StepResult:
    stderr = redact.text(outcome.stderr)
    values: dict[str, JsonValue] = {"stderr": stderr, "exit_code": outcome.exit_code}
    name = f"kubectl {found.name}"
    if params.parse == "text":
        stdout = redact.text(outcome.stdout)
    elif outcome.exit_code != 0:
        stdout = ""  # a part of JSON, from which nothing can be left out
    elif outcome.dropped:
        raise PermanentError(f"{name} printed more than {JSON_LIMIT // 1024**2} MiB; ask for less, as with -l")
    else:
        values["json"], stdout = await asyncio.to_thread(read, outcome.stdout, redact)
    values["stdout"] = stdout
    ok = outcome.exit_code == 0 or (outcome.exit_code == 1 and found.name == "diff" and not stderr)
    if ok:
        told = _told(stdout)
    elif outcome.timed_out:
        told = f"was stopped after {context.timeout:g} s"
    else:
        told = told_by(stderr) or told_by(stdout) or end(outcome)
        if "command terminated with exit code" not in stderr:  # or these are the words of a program in a container
            _raised(params.context, name, stderr, told)
    output = stdout + (f"\n{stderr}" if stderr else "")
    return StepResult(ok, f"{name}: {told}", output, values, truncated=outcome.dropped)


def _told(stdout: str) -> str:
    lines = [line for line in stdout.splitlines() if line.strip()]
    if len(lines) > 1:
        return f"{len(lines)} lines"
    return clip(one_line(lines[0]), 300) if lines else "nothing was printed"


def _raised(context: str, name: str, stderr: str, told: str) -> None:
    """Raise for what is wrong with the connection, and for what may pass."""
    if re.search(r"\(Unauthorized\)|must be logged in|provide credentials", stderr):
        raise PermanentError(f"the cluster of {context} refuses the token; give targets.yaml one that is good")
    if "x509:" in stderr:
        raise PermanentError(f"{context} has no certificate that we trust; name its authority with ca in targets.yaml")
    if _PASSING.search(stderr):
        raise TemporaryError(f"{name}: {told}")


def read(text: str, redact: Redactor) -> tuple[JsonValue, str]:
    """JSON that kubectl printed, without secrets and without what Secrets hold; and the same as text, bounded."""
    try:
        found = json.loads(text)
        clean = redact.value(hidden(found))
    except (ValueError, RecursionError):
        raise PermanentError("kubectl did not print JSON, although it was asked to") from None
    return clean, clip(json.dumps(clean, indent=2, ensure_ascii=False), SHOWN)


def hidden(value: Any) -> Any:
    """*value* with the content of every Secret in it left out."""
    if isinstance(value, list):
        return [hidden(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "Secret":
        return {key: _kept(key, item) for key, item in value.items()}
    if value.get("kind") == "SecretList" and isinstance(value.get("items"), list):
        # The rows of a list do not always say themselves what they are.
        rows = [{"kind": "Secret", **item} if isinstance(item, dict) else item for item in value["items"]]
        return {**value, "items": [hidden(row) for row in rows]}
    return {key: hidden(item) for key, item in value.items()}


def _kept(key: str, value: Any) -> Any:
    """A part of a Secret, without what it holds."""
    if key in ("data", "stringData"):
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
    if key != "metadata" or not isinstance(value, dict):
        return value
    notes = value.get("annotations")
    # An earlier version of the whole Secret may stand in there.
    kept = (
        {name: MASK if "last-applied" in name else note for name, note in notes.items()}
        if isinstance(notes, dict)
        else notes
    )
    return {**value, **({"annotations": kept} if notes is not None else {})}


def told_by(text: str) -> str:
    """The line in which kubectl says what is wrong."""
    lines = [one_line(line) for line in text.split("\n") if line.strip() and not _NOISE.match(line)]
    for line in lines:
        if line.startswith(("Error from server", "error: ", "Error: ", "The ", "Unable to connect")):
            return clip(line.removeprefix("error: ").removeprefix("Error: "), 400)
    return clip(lines[-1], 400) if lines else ""
