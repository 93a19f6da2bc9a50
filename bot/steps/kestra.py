"""Start a flow of Kestra and follow it to its end; resume or kill an execution.

An execution that was started carries labels that say which run, step and attempt started it. Before another one is
started they are looked for, so a crash or a lost answer starts nothing twice.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StrictBool, model_validator

from bot.catalog.targets import Connection
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.fetch import Answer, Guard, Stopped, fetch
from bot.kit.ids import derived_id
from bot.kit.text import clip, one_line
from bot.runs.step import Cancelled, StepContext, StepResult, Text, refuse

EFFECT = "write"
RESULT = ("state", "execution_id", "outputs", "link")

STATES = ("SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "RETRIED", "SKIPPED")
State = Literal["SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "RETRIED", "SKIPPED"]
# One request; between two looks, which become fewer; and for a new execution to show, since Kestra queues it first.
CALL_SECONDS, FIRST_LOOK, LAST_LOOK, SHOWS_SECONDS = 15.0, 1.0, 10.0, 15.0
# For the end of a killed execution, within what a step may overrun its time.
KILL_SECONDS, KILLED_SECONDS = 5.0, 5.0
LATE_LOOKS = 3
LINES, LINE, OUTPUTS = 20, 300, 64 * 1024
RUN, STEP, ATTEMPT = "tocsin_run", "tocsin_step", "tocsin_attempt"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")
_INPUT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Found = Mapping[str, Any]


def _named(value: object) -> object:
    if isinstance(value, str) and "{{" not in value and not _ID.fullmatch(value):
        raise refuse("is not a name of Kestra's: letters, digits, dots, dashes and underscores")
    return value


def _inputs(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not _INPUT.fullmatch(str(name)):
            raise refuse(f"{name!r} cannot be the name of an input")
    return value


def _labels(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", str(name)) or str(name).startswith(("system.", "tocsin_")):
            raise refuse(f"{name!r} cannot be the name of a label; system.… and tocsin_… are taken")
    return value


Named = Annotated[Text, BeforeValidator(_named)]


class Params(BaseModel):
    """Which flow, and with what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["start", "resume", "kill"] = Field(
        default="start", description="start a flow; resume or kill an execution that is there"
    )
    connection: Text = Field(default="kestra", description="name of a connection of kind kestra")
    namespace: Named | None = Field(default=None, description="namespace of the flow to start")
    flow: Named | None = Field(default=None, description="id of the flow to start")
    execution: Named | None = Field(default=None, description="id of the execution to resume or kill")
    inputs: Annotated[dict[str, Any], BeforeValidator(_inputs)] = Field(
        default={}, description="inputs of the flow, or of the pause that is resumed; lists and keys go as JSON"
    )
    labels: Annotated[dict[str, Text], BeforeValidator(_labels)] = Field(
        default={}, description="labels of the execution; a value holds no colon"
    )
    wait: StrictBool = Field(default=True, description="follow it to its end; otherwise only begin")
    ok_states: Annotated[list[State], Field(min_length=1)] = Field(
        default=["SUCCESS", "WARNING"], description="ends that mean it went well"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Params":
        if self.action == "start" and (self.namespace is None or self.flow is None or self.execution is not None):
            raise refuse("to start a flow name its namespace and flow, and no execution")
        if self.action != "start" and (self.execution is None or self.namespace or self.flow or self.labels):
            raise refuse(f"to {self.action} an execution name it, and neither namespace, flow nor labels")
        if self.action == "kill" and self.inputs:
            raise refuse("a kill takes no inputs")
        if any(re.search(r"[:\r\n]", value) or not value.strip() for value in self.labels.values()):
            raise refuse("the value of a label is not empty and holds no colon and no new line")
        return self


def needs(params: Params) -> list[tuple[str, str]]:
    """The connection it uses."""
    return [("connection", params.connection)]


def looks_first(params: Params) -> bool:
    """A start looks for its labels, and a kill may be asked for twice. A second resume might resume a later pause."""
    return params.action != "resume"


def preview(params: Params) -> str:
    """What would be started, resumed or killed."""
    if params.action != "start":
        return f"would {params.action} the execution {params.execution} in {params.connection}"
    told = f"would start {params.namespace}/{params.flow} in {params.connection}"
    return told + (f" with {clip(json.dumps(params.inputs, ensure_ascii=False), 500)}" if params.inputs else "")


async def dry_run(context: StepContext, params: Params) -> StepResult:
    """Have Kestra check the inputs; nothing is started."""
    if params.action != "start":
        return StepResult(ok=True, summary=preview(params))
    kestra = await Kestra.reached(context, params.connection)
    flow = f"{_part(params.namespace)}/{_part(params.flow)}"
    answer = await kestra.call("POST", f"/executions/{flow}/validate", inputs=params.inputs)
    found = answer.json()
    wrong: list[str] = []
    for one in _rows(found.get("inputs") if isinstance(found, dict) else None):
        name = (one.get("input") or {}).get("id", "?")
        wrong += [f"{name}: {error.get('message')}" for error in _rows(one.get("errors"))]
    if wrong:
        return StepResult(ok=False, summary=kestra.line(f"Kestra refuses the inputs: {'; '.join(wrong)}"))
    return StepResult(ok=True, summary=f"{preview(params)}; Kestra takes the inputs")


async def run(context: StepContext, params: Params) -> StepResult:
    """Begin, and follow to the end. Cancelled or out of time, what was begun here is killed."""
    kestra = await Kestra.reached(context, params.connection)
    until = asyncio.get_running_loop().time() + context.timeout
    execution = await BEGIN[params.action](kestra, params)
    if not params.wait:
        return _result(kestra, execution, ok=True, told=f"{params.action}: {_state(execution)}")
    follow = Follow(kestra, execution, until)
    try:
        execution = await follow.to_the_end()
    except Cancelled:
        raise Cancelled(f"stopped{await _end(kestra, follow.execution, params)}") from None
    state = _state(execution)
    if state not in STATES:
        told = f"took longer than {context.timeout:g} s{await _end(kestra, execution, params)}"
        return _result(kestra, execution, ok=False, told=told, follow=follow)
    good = state in params.ok_states or (params.action == "kill" and state == "KILLED")
    return _result(kestra, execution, ok=good, told=state, follow=follow)


# -- beginning -------------------------------------------------------------------------------------------------------


async def _started(kestra: "Kestra", params: Params) -> Found:
    """The execution of this step: one that was started before, or a new one."""
    context = kestra.context
    marks = {
        RUN: context.run_id,
        STEP: derived_id("kestra", context.run_id, context.step_key),
        ATTEMPT: str(context.attempt),
    }
    before = await (_sought if context.again else _begun)(kestra, params, marks)
    if before is not None:
        context.say(kestra.line(f"goes on with the execution {before['id']}, which this step started before"))
        return before
    query = [("wait", "false"), *(("labels", f"{name}:{value}") for name, value in {**params.labels, **marks}.items())]
    path = f"/executions/{_part(params.namespace)}/{_part(params.flow)}"
    try:
        execution = _execution((await kestra.call("POST", path, query=query, inputs=params.inputs)).json())
    except Cancelled:
        found = await _late(kestra.unstoppable(), params, marks)
        raise Cancelled("stopped" + (await _end(kestra, found, params) if found else "")) from None
    except TemporaryError as error:
        found = await _late(kestra, params, marks)
        if found is None:
            raise
        context.say(kestra.line(f"{error}; and yet it was started"))
        return found
    context.say(kestra.line(f"{_state(execution)} {kestra.link(execution)}"))
    return execution


async def _sought(kestra: "Kestra", params: Params, marks: Mapping[str, str]) -> Found | None:
    """What was started before a crash. Kestra shows a new one late, so it is looked for more than once; and as long as
    Kestra does not answer, nobody knows whether there is one.
    """
    loop, context, looks = asyncio.get_running_loop(), kestra.context, 0
    until = loop.time() + context.timeout
    while True:
        try:
            found = await _begun(kestra, params, marks)
            looks += 1
            if found is not None or looks > LATE_LOOKS:
                return found
        except TemporaryError as error:
            if loop.time() >= until:
                raise
            context.say(kestra.line(f"{error}; looking again"))
        await asyncio.sleep(FIRST_LOOK * kestra.pace)


async def _late(kestra: "Kestra", params: Params, marks: Mapping[str, str]) -> Found | None:
    """What was started although no answer came; Kestra shows it a little later."""
    for _ in range(LATE_LOOKS):
        await asyncio.sleep(FIRST_LOOK * kestra.pace)
        try:
            found = await _begun(kestra, params, marks)
        except (TemporaryError, PermanentError):
            continue
        if found is not None:
            return found
    return None


async def _begun(kestra: "Kestra", params: Params, marks: Mapping[str, str]) -> Found | None:
    """What an earlier try of this step started. One that failed in an earlier attempt is not taken for this one's."""
    mine = f"{STEP}:{marks[STEP]}"
    query = [
        *(("size", "25"), ("page", "1"), ("sort", "state.startDate:desc")),
        # Kestra before 1.0 knows the first two, Kestra since 1.0 the others; each passes over what it does not know.
        *(("namespace", str(params.namespace)), ("labels", mine)),
        ("filters[namespace][EQUALS]", str(params.namespace)),
        (f"filters[labels][EQUALS][{STEP}]", marks[STEP]),
    ]
    found = (await kestra.call("GET", "/executions/search", query=query)).json()
    for one in _rows(found.get("results") if isinstance(found, dict) else None):
        labels = _labelled(one)
        if not isinstance(one.get("id"), str) or labels.get(STEP) != marks[STEP] or labels.get(RUN) != marks[RUN]:
            continue
        if labels.get(ATTEMPT) == marks[ATTEMPT] or _state(one) not in STATES or _state(one) in params.ok_states:
            return one
    return None


async def _resumed(kestra: "Kestra", params: Params) -> Found:
    execution = _execution(await kestra.get(str(params.execution)))
    if _state(execution) != "PAUSED":
        if kestra.context.attempt > 1:
            return execution  # the try before this one may have done it
        raise PermanentError(f"the execution {params.execution} is {_state(execution)}, not PAUSED: nothing to resume")
    await kestra.call("POST", f"/executions/{_part(params.execution)}/resume", inputs=params.inputs)
    return _execution(await kestra.get(str(params.execution)))


async def _killed(kestra: "Kestra", params: Params) -> Found:
    execution = _execution(await kestra.get(str(params.execution)))
    if _state(execution) not in STATES:
        await kestra.kill(str(params.execution))
    return execution


async def _end(kestra: "Kestra", execution: Found, params: Params) -> str:
    """Kill what was begun here, whatever happened to the run; in words for whoever reads how it ended."""
    if params.action != "start":
        return ""
    mercy = kestra.unstoppable()
    try:
        await mercy.kill(str(execution["id"]))
        loop = asyncio.get_running_loop()
        until = loop.time() + KILLED_SECONDS
        while loop.time() < until:
            if _state(_execution(await mercy.get(str(execution["id"])))) in STATES:
                return "; killed in Kestra"
            await asyncio.sleep(FIRST_LOOK * mercy.pace / 2)
    except (TemporaryError, PermanentError) as error:
        return f"; it could not be killed in Kestra ({error}): {kestra.link(execution)}"
    return f"; Kestra was asked to kill it: {kestra.link(execution)}"


BEGIN = {"start": _started, "resume": _resumed, "kill": _killed}


# -- following -------------------------------------------------------------------------------------------------------


@dataclass
class Follow:
    """Looks at an execution until it ends or the time is over, and says what is new."""

    kestra: "Kestra"
    execution: Found
    until: float
    seen: int = 0
    tail: Sequence[str] = ()
    told: str = ""
    mute: bool = False

    async def to_the_end(self) -> Found:
        """The execution as it was last; not ended if the time was over first."""
        loop, pause = asyncio.get_running_loop(), FIRST_LOOK * self.kestra.pace
        appears, away = loop.time() + SHOWS_SECONDS * self.kestra.pace, ""
        while _state(self.execution) not in STATES and loop.time() < self.until:
            await self._pause(min(pause, self.until - loop.time()))
            pause = min(pause * 1.3, LAST_LOOK * self.kestra.pace)
            try:
                found = _execution(await self.kestra.get(str(self.execution["id"])))
                # Its address is told once, when it is started.
                self.execution = {"url": self.execution.get("url"), **found}
            except TemporaryError as error:
                # It goes on there without us; that we cannot see it for a while is no reason to start it anew.
                if str(error) != away:
                    self.kestra.context.say(str(error))
                away = str(error)
                continue
            except Missing:
                if loop.time() > appears:
                    raise PermanentError(f"Kestra has lost the execution {self.execution['id']}") from None
                continue
            away = ""
            self._tell()
            await self._read()
        if _state(self.execution) in STATES:
            await self._read()
        return self.execution

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.kestra.context.cancelled.wait(), max(0.0, seconds))
        except TimeoutError:
            return
        raise Cancelled("stopped")

    def _tell(self) -> None:
        state = _state(self.execution)
        if state != self.told:
            self.told = state
            waits = ": it waits for somebody in Kestra" if state == "PAUSED" else ""
            self.kestra.context.say(self.kestra.line(f"{state}{waits} {self.kestra.link(self.execution)}"))

    async def _read(self) -> None:
        """Say the log lines that are new. Without them, or with too many, the execution is followed all the same."""
        if self.mute:
            return
        try:
            answer = await self.kestra.call("GET", f"/logs/{_part(self.execution['id'])}", query=[("minLevel", "INFO")])
        except (TemporaryError, PermanentError):
            return
        if answer.truncated:
            self.mute = True
            self.kestra.context.say("its log is too long to be shown here")
            return
        lines = [self.kestra.log(entry) for entry in _rows(answer.json())]
        for line in lines[max(self.seen, len(lines) - LINES) :]:
            self.kestra.context.say(line)
        self.seen = max(self.seen, len(lines))
        self.tail = lines[-LINES:] or self.tail


# -- one request -----------------------------------------------------------------------------------------------------


class Missing(PermanentError):  # noqa: N818 - an answer of Kestra's
    """Kestra does not know it, or not yet."""


@dataclass(frozen=True)
class Kestra:
    """A Kestra that can be asked, with the context that knows what must not be seen of its credentials."""

    context: StepContext
    name: str
    connection: Connection
    headers: Mapping[str, str]
    seconds: float
    pace: float = 1.0

    @classmethod
    async def reached(cls, context: StepContext, name: str) -> "Kestra":
        """The connection called *name*, with what opens it."""
        connection = context.reach.connection(name, "kestra")
        credentials = await context.reach.credentials(name)
        knowing = replace(context, redact=context.redact.knowing(*credentials.secrets))
        # Steps that have little time, such as those of tests, look more often.
        pace = min(1.0, context.timeout / 60)
        return cls(knowing, name, connection, credentials.headers, min(CALL_SECONDS, context.timeout), pace)

    def unstoppable(self) -> "Kestra":
        """The same for what must be done although the run was stopped."""
        return replace(self, context=replace(self.context, cancelled=asyncio.Event()), seconds=KILL_SECONDS)

    @property
    def _parts(self) -> tuple[str, str]:
        """Where Kestra is, and its API: that of the only tenant there is in the open edition, unless the url says."""
        url = self.connection.url.rstrip("/")
        base, found, rest = url.partition("/api/v1")
        return base, f"{base}/api/v1{rest}" if found else f"{url}/api/v1/main"

    def link(self, execution: Found) -> str:
        """Where people see it: what Kestra says, or what its address comes to."""
        told = str(execution.get("url") or "")
        if re.fullmatch(r"https?://[^\s<>|]{1,1000}", told):
            return told
        base, api = self._parts
        tenant = urlsplit(api).path.partition("/api/v1")[2].strip("/")
        names = [tenant] if tenant else []
        names += ["executions", str(execution.get("namespace")), str(execution.get("flowId")), str(execution["id"])]
        return f"{base}/ui/" + "/".join(quote(name, safe="") for name in names)

    def line(self, text: str) -> str:
        """*text* for people, without secrets."""
        return clip(one_line(self.context.redact.text(text)), LINE)

    def log(self, entry: Found) -> str:
        """A line of an execution's log."""
        level = entry.get("level")
        mark = f"{level} " if level in ("WARN", "ERROR") else ""
        return self.line(f"{entry.get('taskId') or ''}: {mark}{entry.get('message') or ''}".lstrip(": "))

    async def get(self, execution: str) -> Any:
        """An execution as it is; `Missing` if Kestra does not know it."""
        return (await self.call("GET", f"/executions/{_part(execution)}")).json()

    async def kill(self, execution: str) -> None:
        """Ask for the end of an execution and of what it has started. That it has ended already is fine."""
        query = [("isOnKillCascade", "true")]
        await self.call("DELETE", f"/executions/{_part(execution)}/kill", query=query, fine=(409,))

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        inputs: Mapping[str, Any] | None = None,
        fine: tuple[int, ...] = (),
    ) -> Answer:
        """One request to the API. *inputs* are sent as Kestra wants them: each a part of a form."""
        url = self._parts[1] + path + (f"?{urlencode(query)}" if query else "")
        headers, body = dict(self.headers), None
        if inputs is not None:  # without any it is an empty form, as Kestra's own pages send it
            headers["Content-Type"], body = _form(inputs)
        try:
            answer = await fetch(
                method,
                url,
                allow=Guard(self.context.allow_private, self.context.resolve, self.connection.private).addresses,
                headers=headers,
                data=body,
                timeout=self.seconds,
                cancelled=self.context.cancelled,
                ca=None if self.connection.ca is None else self.context.reach.path(self.connection.ca),
            )
        except Stopped:
            raise Cancelled("stopped") from None
        except TemporaryError as error:
            raise TemporaryError(self.line(str(error)), after=error.after) from None
        except PermanentError as error:
            raise PermanentError(self.line(str(error))) from None
        if 200 <= answer.status < 300 or answer.status in fine:
            return answer
        raise self._refusal(answer, path)

    def _refusal(self, answer: Answer, path: str) -> TemporaryError | PermanentError:
        found = answer.json()
        told = found.get("message") if isinstance(found, dict) else None
        why = self.line(str(told or answer.text())) or "without a word"
        if answer.passing:
            after = answer.after(self.context.clock())
            return TemporaryError(f"{self.name} answered {answer.status}: {why}", after=after)
        if answer.status in (401, 403):
            return PermanentError(
                f"{self.name} does not let us in ({answer.status}); check its credentials in targets.yaml"
            )
        if answer.status == 404:
            return Missing(
                f"{self.name} does not know {path}: {why}; check the names, and in targets.yaml the url, which may "
                "end in /api/v1/TENANT, or in /api/v1 for a Kestra before 0.23"
            )
        if 300 <= answer.status < 400:
            return PermanentError(
                f"{self.name} sends us elsewhere ({answer.status}); give targets.yaml the url where it ends"
            )
        return PermanentError(f"{self.name} refused it ({answer.status}): {why}")


def _form(inputs: Mapping[str, Any]) -> tuple[str, bytes]:
    """The type and the body of a multipart form."""
    parts = {name: _written(value) for name, value in inputs.items() if value is not None}
    border = secrets.token_hex(16)
    while any(border in value for value in parts.values()):
        border = secrets.token_hex(16)
    made = "".join(
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    return f"multipart/form-data; boundary={border}", f"{made}--{border}--\r\n".encode()


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _part(name: Any) -> str:
    """A name as a part of a path. It is checked again, since it was filled in."""
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise PermanentError(
            f"{clip(str(name), 60)!r} is not a name of Kestra's: letters, digits, dots, dashes and underscores"
        )
    return name


def _execution(found: Any) -> Found:
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise PermanentError("the answer is not one of Kestra's; check the url of the connection")
    return found


def _state(execution: Found) -> str:
    return str((execution.get("state") or {}).get("current", "UNKNOWN"))


def _rows(found: Any) -> list[dict[str, Any]]:
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _labelled(execution: Found) -> dict[str, str]:
    """The labels, which older versions give as a mapping."""
    found = execution.get("labels")
    if isinstance(found, dict):
        return {str(name): str(value) for name, value in found.items()}
    return {str(one.get("key")): str(one.get("value")) for one in _rows(found)}


def _result(kestra: Kestra, execution: Found, *, ok: bool, told: str, follow: Follow | None = None) -> StepResult:
    outputs = kestra.context.redact.value(execution.get("outputs") or {})
    if len(json.dumps(outputs, ensure_ascii=False)) > OUTPUTS:
        told, outputs = f"{told}; its outputs are larger than {OUTPUTS // 1024} kB and are left out", {}
    link = kestra.link(execution)
    values: dict[str, JsonValue] = {
        "state": _state(execution),
        "execution_id": str(execution["id"]),
        "outputs": outputs,
        "link": link,
    }
    return StepResult(
        ok=ok, summary=kestra.line(f"{told} {link}"), output="\n".join(follow.tail if follow else ()), values=values
    )
