"""What `{{ … }}` in a runbook may compute: values and simple filters, within hard limits on size and time.

Jinja's sandbox stops code from breaking out; it does not stop `'a' * 10**9`. So: an allow-list of filters, of
methods and of operators, a budget for all text one evaluation makes, and a watchdog. Values are data and are
never rendered themselves, whatever braces they hold.
"""

import functools
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, TypeVar
from urllib.parse import quote

from jinja2 import StrictUndefined, Template, TemplateError, Undefined, nodes
from jinja2.filters import do_default
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from bot.kit.clock import parse_duration, parse_time
from bot.kit.errors import PermanentError
from bot.kit.text import clip

SOURCE_LIMIT = 8 * 1024
OUTPUT_LIMIT = 64 * 1024
BUDGET = 4 * 1024 * 1024  # letters and items one evaluation may make on its way
SECONDS = 2.0
DEPTH = 60

Names = frozenset[tuple[str, ...]]
T = TypeVar("T")

_FILTERS = (
    *("abs", "max", "min", "float", "string", "length", "count", "default", "d"),
    *("first", "last", "list", "sort", "unique", "reverse", "items", "dictsort"),
    *("map", "select", "selectattr", "reject", "rejectattr"),
    *("lower", "upper", "capitalize", "title", "trim", "truncate", "wordcount"),
)
_STRING_METHODS = frozenset(
    {
        *("capitalize", "lower", "title", "upper", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix"),
        *("split", "rsplit", "splitlines", "partition", "rpartition"),
        *("count", "find", "rfind", "startswith", "endswith"),
        *("isalnum", "isalpha", "isdigit", "isnumeric", "isspace"),
    }
)
_MAPPING_METHODS = frozenset({"items", "keys", "values", "get"})
_LIST_METHODS = frozenset({"index", "count"})
_NUMBER_BITS = 256
_HOLE = re.compile(r"\{\{[-+]?\s*(.*?)\s*[-+]?\}\}", re.DOTALL)
_NO_CALLS = "only simple methods of texts, lists and mappings can be called; for the rest there are filters"

# What a template may raise on the values it is given; anything else is a fault of ours and must be seen.
_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

_spent: ContextVar[list[int]] = ContextVar("spent")


class ExpressionError(PermanentError):
    """An expression that cannot be read or cannot be computed."""


class Unknown(StrictUndefined):
    """A value of which nothing is known, with a word on why. Whoever computes with it gets that word as an error."""

    def __init__(self, why: str) -> None:
        super().__init__(hint=why)

    @property
    def why(self) -> str:
        """What the error would say."""
        return self._undefined_message


def render(text: str, context: Mapping[str, Any]) -> str:
    """*text* with every `{{ … }}` filled in."""
    return _watched(lambda: _render(text, context))


def evaluate(expression: str, context: Mapping[str, Any]) -> Any:
    """The value of a bare *expression*, type kept: plain JSON values only."""
    return _watched(lambda: _evaluate(expression, context))


def render_value(value: Any, context: Mapping[str, Any]) -> Any:
    """*value* with every text in it filled in; a text that is exactly one `{{ … }}` keeps the type of its value."""
    if not _has_text(value):
        return value
    return _watched(lambda: _render_value(value, context))


def fill(value: Any, context: Mapping[str, Any]) -> Any:
    """*value* with every text in it filled in as far as it can be; the rest is marked: ``‹steps.a.stdout›``."""
    if isinstance(value, Mapping):
        return {key: fill(item, context) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, context) for item in value]
    if not templated(value):
        return value
    try:
        return render_value(value, context)
    except ExpressionError:
        return _HOLE.sub(lambda found: _hole(found, context), value)


def _hole(found: re.Match[str], context: Mapping[str, Any]) -> str:
    try:
        return render(found[0], context)
    except ExpressionError:
        return f"‹{found[1]}›"


def render_quoted(text: str, context: Mapping[str, Any], quote: Callable[[str, Any], str]) -> str:
    """*text* with every `{{ … }}` filled in as *quote* writes it, which is given all that stands before and the value.

    For languages with rules of their own, such as queries: *quote* raises PermanentError on a value that has no place
    there.
    """
    return _watched(lambda: _render_quoted(text, context, quote))


def names(source: str, *, expression: bool = False) -> Names:
    """What *source* refers to, as paths: ``("params", "service")``; raise `ExpressionError` if it cannot be read.

    A part that is only known when it runs (``steps[x]``) ends its path early.
    """
    found: set[tuple[str, ...]] = set()
    todo: list[nodes.Node] = [_expression_tree(source) if expression else _text_tree(source)]
    while todo:
        node = todo.pop()
        path, inner = _path(node)
        if path:
            found.add(path)
        todo.extend(inner if path else node.iter_child_nodes())
    return frozenset(found)


def templated(value: object) -> bool:
    """Whether there is anything to fill in."""
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))


def _has_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_text, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_text, value))
    return templated(value)


def _path(node: nodes.Node) -> tuple[tuple[str, ...], list[nodes.Node]]:
    """The dotted path that *node* is, and the parts of it that must be looked at on their own."""
    inner: list[nodes.Node] = []
    parts: list[str] = []
    while True:
        if isinstance(node, nodes.Name):
            return (node.name, *reversed(parts)), inner
        if isinstance(node, nodes.Getattr):
            parts.append(node.attr)
        elif isinstance(node, nodes.Getitem):
            if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
                parts.append(node.arg.value)
            else:
                inner.append(node.arg)
                parts.clear()
        else:
            return (), []
        node = node.node


def _watched(work: Callable[[], T]) -> T:
    """Run *work* in a thread of its own and give up on it after two seconds.

    A thread cannot be stopped from outside. It ends by itself: there are no loops to write, and all it makes
    is charged to a budget.
    """
    future: Future[T] = Future()

    def run() -> None:
        _spent.set([0])
        try:
            future.set_result(work())
        except PermanentError as error:
            future.set_exception(error)
        except _FAILURES as error:
            future.set_exception(ExpressionError(_reason(error)))

    threading.Thread(target=run, name="expression", daemon=True).start()
    try:
        return future.result(timeout=SECONDS)
    except TimeoutError:
        raise ExpressionError(f"took longer than {SECONDS:g} s to compute; make the expression simpler") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError | RecursionError):
        return "the expression is too large to compute"
    return re.sub(r"\A'dict object' has no attribute", "there is no", str(error)) or type(error).__name__


def _render(text: str, context: Mapping[str, Any]) -> str:
    if not templated(text):
        return text
    made: list[str] = []
    size = 0
    for part in _text_template(text).generate(dict(context)):
        size += len(part)
        if size > OUTPUT_LIMIT:
            raise ExpressionError(f"the filled-in text is longer than {OUTPUT_LIMIT // 1024} kB")
        made.append(part)
    return "".join(made)


def _render_quoted(text: str, context: Mapping[str, Any], quote: Callable[[str, Any], str]) -> str:
    made = ""
    for part in _parts(text):
        made += part if isinstance(part, str) else quote(made, _value(part, context))
        if len(made) > OUTPUT_LIMIT:
            raise ExpressionError(f"the filled-in text is longer than {OUTPUT_LIMIT // 1024} kB")
    return made


def _evaluate(expression: str, context: Mapping[str, Any]) -> Any:
    return _value(_expression_template(expression), context)


def _value(template: Template, context: Mapping[str, Any]) -> Any:
    values = template.new_context(dict(context))
    for _ in template.root_render_func(values):
        pass
    return _plain(values.vars["result"])


def _render_value(value: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _render_value(item, context) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_render_value(item, context) for item in value]
    if not templated(value):
        return value
    alone = _alone(value)
    return _render(value, context) if alone is None else _evaluate(alone, context)


def _alone(text: str) -> str | None:
    """The expression, if *text* is exactly one `{{ expression }}`."""
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    body = _text_tree(text).body
    if len(body) != 1 or not isinstance(body[0], nodes.Output) or len(body[0].nodes) != 1:
        return None
    if isinstance(body[0].nodes[0], nodes.TemplateData):
        return None
    return re.sub(r"\A[-+]|[-+]\Z", "", text[2:-2]).strip()


def _plain(value: Any) -> Any:
    """*value* as plain data, counted."""
    _there(value)
    if value is None or isinstance(value, bool | int | float):
        _charge(1)
        return value
    if isinstance(value, str):
        _charge(len(value))
        return str(value)
    if isinstance(value, Mapping):
        _charge(len(value))
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item) for item in _counted(value)]
    raise ExpressionError(f"gives {type(value).__name__}, which is not a plain value")


def _there(value: T) -> T:
    """*value*; where there is none, StrictUndefined says what is missing, which not every operation does by itself."""
    if isinstance(value, Undefined):
        str(value)
    return value


def _charge(amount: int) -> None:
    spent = _spent.get()
    spent[0] += amount
    if spent[0] > BUDGET:
        raise ExpressionError("the expression makes too much text or too many items")


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        _charge(1)
        yield item


class _Tame(NodeTransformer):
    """Refuses what is not a value, and turns `~` into a join that is counted."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None, lineno=node.lineno)


def _tame(tree: nodes.Node) -> Any:
    row: list[nodes.Node] = [tree]
    for _ in range(DEPTH):
        row = [child for node in row for child in node.iter_child_nodes()]
        for node in row:
            if isinstance(node, nodes.Stmt) and not isinstance(node, nodes.Output):
                raise ExpressionError("only {{ … }} is allowed, no {% … %}; write {{ a if b else c }} for a choice")
            if isinstance(node, nodes.Filter) and node.name not in _environment().filters:
                known = ", ".join(sorted(_environment().filters))
                raise ExpressionError(f"there is no filter {node.name!r} here; there is: {known}")
            if isinstance(node, nodes.Test) and node.name not in _environment().tests:
                raise ExpressionError(f"there is no test {node.name!r} here")
            if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name):
                raise ExpressionError(f"there is no function {node.node.name!r}; {_NO_CALLS}")
        if not row:
            return _Tame().visit(tree)
    raise ExpressionError("nested too deeply")


def _check_size(source: str) -> None:
    if len(source) > SOURCE_LIMIT:
        raise ExpressionError(f"longer than {SOURCE_LIMIT // 1024} kB")


def _text_tree(text: str) -> nodes.Template:
    _check_size(text)
    try:
        tree: nodes.Template = _tame(_environment().parse(text))
    except (TemplateError, RecursionError, ValueError) as error:
        raise ExpressionError(f"cannot be read: {_reason(error)}") from None
    return tree


def _expression_tree(source: str) -> nodes.Expr:
    _check_size(source)
    if source.lstrip().startswith("{{"):
        raise ExpressionError("write the expression bare, without {{ }}")
    try:
        parser = Parser(_environment(), source, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise ExpressionError(f"cannot be read: {parser.stream.current.value!r} is not expected there")
        # A holder, so that the tree's own root is looked at as well.
        output: nodes.Output = _tame(nodes.Output([tree], lineno=1))
    except (TemplateError, RecursionError, ValueError) as error:
        raise ExpressionError(f"cannot be read: {_reason(error)}") from None
    return output.nodes[0]


@functools.lru_cache(maxsize=512)
def _text_template(text: str) -> Template:
    return _compiled(_text_tree(text))


@functools.lru_cache(maxsize=512)
def _expression_template(source: str) -> Template:
    return _assigned(_expression_tree(source))


@functools.lru_cache(maxsize=128)
def _parts(text: str) -> tuple[str | Template, ...]:
    """*text* taken apart: what is written out, and what is to be filled in."""
    if not templated(text):
        return (text,)
    outputs = [node for output in _text_tree(text).find_all(nodes.Output) for node in output.nodes]
    return tuple(node.data if isinstance(node, nodes.TemplateData) else _assigned(node) for node in outputs)


def _assigned(tree: nodes.Expr) -> Template:
    """A template that gives the value of *tree* as `result`."""
    body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), tree, lineno=1)]
    return _compiled(nodes.Template(body, lineno=1))


def _compiled(tree: nodes.Template) -> Template:
    try:
        return _environment().from_string(tree)
    except (SyntaxError, TemplateError) as error:
        raise ExpressionError(f"cannot be read: {_reason(error)}") from None


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _there(left), _there(right)
        if operator == "+":
            if isinstance(left, str | list | tuple):
                _charge(len(left) + (len(right) if isinstance(right, str | list | tuple) else 0))
            return left + right
        if not all(isinstance(side, int | float) for side in (left, right)):
            raise ExpressionError(f"{operator} is for numbers only")
        if operator == "**" and abs(right) > _NUMBER_BITS:
            raise ExpressionError("the number is too large")
        if sum(side.bit_length() for side in (left, right) if isinstance(side, int)) > _NUMBER_BITS:
            raise ExpressionError("the number is too large")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        # `answer.json.items` means the key, if there is one, and not the method of the same name.
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _STRING_METHODS
        if isinstance(obj, Mapping):
            return attr in _MAPPING_METHODS
        return isinstance(obj, list | tuple) and attr in _LIST_METHODS

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.is_safe_callable(obj):
            raise ExpressionError(_NO_CALLS)
        _charge(len(obj.__self__))
        return super().call(context, obj, *args, **kwargs)

    def is_safe_callable(self, obj: Any) -> bool:
        owner = getattr(obj, "__self__", None)
        return isinstance(owner, str | Mapping | list | tuple)


@functools.cache
def _environment() -> _Sandbox:
    # Not optimized: the optimizer computes constant parts while it compiles, outside the intercepted operators.
    sandbox = _Sandbox(undefined=StrictUndefined, optimized=False, keep_trailing_newline=True, cache_size=0)
    known = sandbox.filters
    sandbox.filters = {name: _charged(known[name]) for name in _FILTERS}
    sandbox.filters |= {
        "epoch": _epoch,
        "filesize": _filesize,
        "host": _host,
        "int": _int,
        "join": _join,
        "percent": _percent,
        "re": _re,
        "replace": _replace,
        "round": _round,
        "seconds": _seconds,
        "split": _split,
        "sum": _sum,
        "tojson": _tojson,
        "urlencode": _urlencode,
    }
    sandbox.globals = {}
    return sandbox


def _charged(work: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja's whose input is charged to the budget."""

    # wraps() also carries over the mark by which Jinja knows that a filter wants the environment first.
    @functools.wraps(work)
    def charged(*args: Any, **kwargs: Any) -> Any:
        value = args[1 if hasattr(work, "jinja_pass_arg") else 0]
        if work is not do_default:
            _there(value)
        _charge(len(value) if isinstance(value, str | Mapping | list | tuple) else 1)
        return work(*args, **kwargs)

    return charged


def _text(value: Any) -> str:
    text = str(value)
    _charge(len(text))
    return text


def _join(items: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
    made: list[str] = []
    for item in _counted(items):
        part = item if attribute is None else item[attribute]
        made.append(_text(part))
        _charge(len(between))
    return between.join(made)


def _replace(value: Any, old: str, new: str) -> str:
    text = _text(value)
    _charge(text.count(old) * len(new))
    return text.replace(old, new)


def _split(value: str, by: str | None = None) -> list[str]:
    """The parts of a text; by white space if nothing else is said."""
    return [*_counted(str(value).split(by))]


def _sum(items: Iterable[Any], attribute: str | None = None, start: float = 0) -> float:
    total = start
    for item in _counted(items):
        number = _there(item if attribute is None else item[attribute])
        if not isinstance(number, int | float):
            raise ExpressionError(f"sum is for numbers only, not for {type(number).__name__}; map('int') makes them")
        total += number
    return total


def _int(value: Any, default: int = 0) -> int:
    """A whole number; *default* where there is none in the value."""
    try:
        return int(value) if isinstance(value, int | float) else int(str(value).strip()[:100])
    except (ValueError, OverflowError):
        return default


def _round(value: float, places: int = 0) -> float:
    return round(_there(value), max(0, min(places, 10)))


def _percent(value: float, places: int = 1) -> str:
    """0.0345 as `3.5 %`."""
    return f"{float(value) * 100:.{max(0, min(places, 10))}f} %"


def _filesize(value: float) -> str:
    """Bytes for people: `1.5 GB`."""
    size = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} PB"


def _host(value: str) -> str:
    """The host of `web-1:9100`, `[::1]:9100` or `http://web-1:8080/path`."""
    rest = re.sub(r"\A[A-Za-z][A-Za-z0-9+.-]{0,20}://", "", str(value))
    rest = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    return rest if rest.count(":") > 1 else rest.partition(":")[0]


def _re(value: Any) -> str:
    """A text as a regular expression that matches just that text."""
    return _text(re.escape(_text(value)))


def _seconds(value: str) -> float:
    """A duration such as `1m30s` in seconds."""
    length = parse_duration(str(value)).total_seconds()
    return int(length) if length == int(length) else length


def _epoch(value: str) -> int:
    """A moment such as `2025-01-06T09:00:00Z` in seconds since 1970."""
    moment = parse_time(str(value))
    if moment is None:
        raise ExpressionError(f"{clip(str(value), 60)!r} is no moment such as 2025-01-06T09:00:00Z")
    return int(moment.timestamp())


def _tojson(value: Any) -> str:
    return _text(json.dumps(_plain(value), ensure_ascii=False))


def _urlencode(value: Any) -> str:
    """A text as one part of a path or of a query."""
    return _text(quote(_text(value), safe=""))
