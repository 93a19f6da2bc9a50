"""The kubectl step: which command lines it lets through, and what it reads from what kubectl prints."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from bot.kit.errors import PermanentError, TemporaryError
from bot.runs.process import Outcome
from bot.runs.redact import MASK, Redactor
from bot.runs.runbook import LintError, load
from bot.runs.step import StepContext, effect, prepare
from bot.steps import kubectl as step


def params(*args: str, **raw: Any) -> step.Params:
    return step.Params.model_validate({"args": list(args), **raw})


@pytest.mark.parametrize(
    "args",
    [
        ("get", "pods"),
        ("get", "pods", "-A", "-l", "app=web", "-o", "wide"),
        ("get", "pods", "-owide", "--sort-by=.metadata.name", "--field-selector", "status.phase=Failed"),
        ("describe", "pod", "web-1"),
        ("logs", "web-1", "-c", "web", "--tail=100", "-p", "--since", "10m"),
        ("top", "pods"),
        ("version",),
        ("explain", "pods.spec"),
        ("api-resources",),
        ("rollout", "status", "deployment/web", "--timeout=60s", "--watch=false"),
        ("rollout", "history", "deployment/web"),
        ("auth", "can-i", "list", "pods"),
        ("scale", "deployment/web", "--replicas=3", "--dry-run=server"),
        ("apply", "-f", "web.yaml", "--dry-run=client"),
        ("diff", "-f", "web.yaml"),
    ],
)
def test_what_looks_is_a_read(args):
    assert effect(step, params(*args)) == "read"


@pytest.mark.parametrize(
    "args",
    [
        ("scale", "deployment/web", "--replicas=3"),
        ("rollout", "restart", "deployment/web"),
        ("rollout", "undo", "deployment/web", "--to-revision=3"),
        ("rollout", "pause", "deployment/web"),
        ("delete", "pod", "web-1", "--wait=false"),
        ("delete", "pod", "web-1", "--dry-run=none"),
        ("exec", "deploy/web", "-c", "web", "--", "ls", "-s", "--server=x", "--", "-n"),
        ("exec", "deploy/web", "--stdin=false", "--", "ls"),
        ("run", "probe", "--image=registry.example.com/probe", "--restart=Never", "--", "curl", "-v"),
        ("create", "job", "again", "--from=cronjob/nightly"),
        ("create", "-f", "web.yaml"),
        ("apply", "-f", "web.yaml"),
        ("apply", "-k", "overlays/prod"),
        ("patch", "deployment/web", "-p", '{"spec": {}}', "--type=merge"),
        ("set", "image", "deployment/web", "web=registry.example.com/web:2"),
        ("cordon", "node-1"),
        ("drain", "node-1", "--ignore-daemonsets"),
        ("annotate", "pod", "web-1", "seen=yes"),
        ("wait", "--for=condition=Ready", "pod/web-1"),
        ("auth", "whoami"),
        ("certificate", "approve", "x"),
    ],
)
def test_everything_else_is_a_write(args):
    assert effect(step, params(*args)) == "write"


TARGETS = ["server", "token", "kubeconfig", "context", "cluster", "user", "as", "as-group", "as-uid", "client-key"]
TARGETS += [
    "client-certificate",
    "certificate-authority",
    "insecure-skip-tls-verify",
    "tls-server-name",
    "username",
    "password",
]


@pytest.mark.parametrize("name", [*TARGETS, "kuberc"])
@pytest.mark.parametrize("shape", ["--{0}=x", "--{0}", "--{1}=x", "--{2}=x"])
@pytest.mark.parametrize(
    "before", [("get", "pods"), ("scale", "deploy/web"), ("exec", "web-1", "-c"), ("get", "pods", "-l")]
)
def test_which_cluster_and_as_whom_is_not_for_an_argument_to_say(name, shape, before):
    flag = shape.format(name, name.replace("-", "_"), name.upper())

    for line in ((*before, flag, "x"), (*before, "--", flag), (before[0], flag, "x", *before[1:])):
        if line[0] == "exec" and line[-2] == "--" and "-c" not in line:
            continue
        with pytest.raises(ValidationError):
            params(*line)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("get", "pods", "-s", "https://x"), "-s cannot be given: which cluster"),
        (("get", "pods", "-shttps://x"), "-s cannot be given: which cluster"),
        (("get", "pods", "-s=https://x"), "-s cannot be given: which cluster"),
        (("get", "pods", "-As", "https://x"), "'-As' cannot be told apart"),
        (("logs", "web-1", "-ps", "https://x"), "'-ps' cannot be told apart"),
        (("get", "pods", "-n", "x"), "-n cannot be given: say it with namespace"),
        (("get", "pods", "-nx"), "-n cannot be given: say it with namespace"),
        (("get", "pods", "--namespace=x"), "--namespace cannot be given: say it with namespace"),
        (("get", "pods", "-v=9"), "-v cannot be given: it reaches the bot's own machine"),
        (("get", "--raw=/api/v1/secrets"), "--raw cannot be given"),
        (("get", "pods", "--template={{x}}"), "--template cannot be given"),
        (("get", "pods", "-o", "go-template-file=/etc/passwd"), "no file is read for it"),
        (("get", "pods", "-ojsonpath-file=/etc/passwd"), "no file is read for it"),
        (("get", "pods", "-o"), "-o needs a value after it"),
        (("get", "pods", "-l", "--", "--server=x"), "-l needs a value after it"),
        (("get", "pods", "--", "x"), "-- is for the program of exec, run or create"),
        (("exec", "web-1", "-q", "--", "--token=x"), "--token cannot be given"),
        (("get", "pods", "-w"), "does not end by itself"),
        (("get", "pods", "--watch"), "does not end by itself"),
        (("get", "pods", "--watch-only=true"), "does not end by itself"),
        (("logs", "web-1", "-f"), "logs does not end by itself with -f"),
        (("logs", "-f", "web-1"), "logs does not end by itself with -f"),
        (("logs", "web-1", "--follow"), "does not end by itself"),
        (("exec", "web-1", "-it", "--", "sh"), "'-it' cannot be told apart"),
        (("exec", "web-1", "-i", "-t", "--", "sh"), "exec cannot have a terminal or an input"),
        (("exec", "web-1", "--tty", "--", "sh"), "exec cannot have a terminal or an input"),
        (("exec", "web-1", "ls"), "exec needs -- and the program behind it"),
        (("exec", "web-1", "--"), "exec needs -- and the program behind it"),
        (("run", "x", "--image=x", "-i"), "run cannot have a terminal or an input"),
        (("run", "x", "--image=x", "--attach"), "run cannot have a terminal or an input"),
        (("delete", "pod", "x", "-i"), "delete cannot have a terminal or an input"),
        (("attach", "web-1"), "attach has no place in a runbook: it needs a person"),
        (("edit", "pod", "x"), "use patch, apply or set"),
        (("cp", "a", "b"), "cp has no place in a runbook"),
        (("port-forward", "x", "1"), "does not end by itself"),
        (("proxy",), "opens the cluster to the bot's machine"),
        (("debug", "x"), "rights that a runbook should not have"),
        (("config", "view", "--raw"), "the kubeconfig is made from"),
        (("krew", "install"), "'krew' is not one of kubectl's verbs"),
        (("-n", "x", "get", "pods"), "'-n' is not one of kubectl's verbs"),
        (("--server=x", "get", "pods"), "is not one of kubectl's verbs"),
        (("rollout", "deployment/web"), "after rollout comes one of status, history"),
        (("rollout",), "after rollout comes one of"),
        (("rollout", "--to-revision=1", "undo", "x"), "after rollout comes one of"),
        (("top",), "after top comes one of"),
        (("create", "token", "admin"), "would show a token"),
        (("create", "--field-manager", "x", "token", "admin"), "'x' has no place after create"),
        (("create", "--save-config", "token", "admin"), "would show a token"),
        (("apply", "view-last-applied", "secret/db"), "'view-last-applied' has no place after apply"),
        (("apply", "--validate", "edit-last-applied", "x"), "has no place after apply"),
        (("apply", "-f", "-"), "-f needs a value after it"),
        (("apply", "--filename=-"), "there is no input to read from"),
        (("apply", "-f", "https://example.com/x.yaml"), "not from the net"),
        (("apply", "-fhttps://example.com/x.yaml"), "not from the net"),
        (("apply", "-k", "git::https://example.com/x"), "not from the net"),
        (("create", "secret", "generic", "x", "--from-file=/etc/shadow"), "--from-file cannot be given"),
        (("create", "secret", "tls", "x", "--cert", "/x", "--key", "/y"), "--cert cannot be given"),
        (("scale", "deploy/x", "--dry-run"), "write --dry-run=server"),
        (("scale", "deploy/x", "--dry-run=server", "--dry-run=none"), "--dry-run can be given once"),
        (("get", "pods", "---x"), "cannot be told apart"),
    ],
)
def test_what_has_no_place_in_a_runbook_is_refused_with_a_word(args, told):
    with pytest.raises(ValidationError) as caught:
        params(*args)

    assert told in str(caught.value)


# How kubectl reads `get` (pflag): what takes the next word as its value, and what is there at all.
VALUES = {"o", "l", "L", "f", "k", "s", "n", "v"}
LONG_VALUES = {
    *TARGETS,
    "namespace",
    "output",
    "selector",
    "filename",
    "kustomize",
    "raw",
    "template",
    "v",
    "cache-dir",
}
LONG_VALUES -= {"insecure-skip-tls-verify"}
NAMES = {"s": "server", "n": "namespace", "v": "v", "o": "output", "l": "selector", "f": "filename", "k": "kustomize"}


def as_kubectl_reads(words: list[str]) -> set[str]:
    """The flags that *words* set, by pflag's rules."""
    found: set[str] = set()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, _ = word[2:].partition("=")
            name = name.replace("_", "-")
            found.add(name)
            if not equals and name in LONG_VALUES and rest:
                rest.pop(0)
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                found.add(NAMES.get(letter, letter))
                if letters.startswith("="):
                    break
                if letter in VALUES:
                    if not letters and rest:
                        rest.pop(0)
                    break
    return found


PIECES = [f"--{name}" for name in (*TARGETS, "raw", "namespace", "output", "selector", "no-headers", "as_group", "v")]
PIECES += ["-A", "-R", "-w", "-o", "-l", "-L", "-s", "-n", "-v", "-f", "-k", "-", "--", "x", "pods", "a=b"]
WORD = st.one_of(
    st.sampled_from(PIECES),
    st.tuples(st.sampled_from(PIECES), st.sampled_from(["=x", "=", "s", "As", "x", "=--server"])).map("".join),
    st.text(alphabet="-=AsnovlLfkx_", max_size=5),
)


@settings(max_examples=1500)
@given(st.lists(WORD, max_size=6))
def test_no_line_that_is_let_through_says_which_cluster_as_whom_or_where(words):
    try:
        step.command(["get", *words])
    except PydanticCustomError:
        return
    closed = step.TARGET | step.PLACE | step.MACHINE

    assert not as_kubectl_reads(words) & closed


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["get", "{{ params.x }}"], None),
        (["scale", "deployment/{{ params.x }}", "--replicas={{ params.x }}"], None),
        (["{{ params.x }}", "pods"], "what kubectl is to do must be written out"),
        (["rollout", "{{ params.x }}", "deployment/web"], "what kubectl is to do must be written out"),
        ("get pods", "must be a list, one item per argument"),
        (["get", "pods", "--server={{ params.x }}"], "--server cannot be given"),
    ],
)
def test_the_linter_knows_what_is_written_out(shelf_of_steps, args, told):
    text = (
        "version: 1\nid: demo\nname: x\nowner: x\nparams: {x: {default: a}}\nsteps:\n"
        f"  - kubectl: {json.dumps({'args': args})}\n"
    )
    if told is None:
        assert load(text, "demo.yaml", shelf_of_steps).id == "demo"
    else:
        with pytest.raises(LintError, match=told):
            load(text, "demo.yaml", shelf_of_steps)


@pytest.mark.parametrize("value", ["-x", "--all", "", None, ["a"], {"a": 1}, "a\0b"])
def test_a_value_is_never_an_option_or_nothing(bench, value):
    context = bench.context(values={"params": {"x": value}})

    with pytest.raises(PermanentError, match=r"args: .* cannot (be an argument|begin an argument|hold a NUL)"):
        prepare(step, {"args": ["delete", "pods", "{{ params.x }}"]}, context)


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (True, "true"), ("a b", "a b"), (0.5, "0.5"), ("a,b;$(x)", "a,b;$(x)")]
)
def test_a_value_stays_one_argument(bench, value, text):
    context = bench.context(values={"params": {"x": value}})

    found = prepare(step, {"args": ["get", "pods", "--x={{ params.x }}", "{{ params.x }}"]}, context)

    assert found.args == ["get", "pods", f"--x={text}", text]


def test_arguments_do_not_come_as_a_whole(bench):
    context = bench.context(values={"params": {"x": ["delete", "pods", "--all"]}})

    with pytest.raises(PermanentError, match="args: "):
        prepare(step, {"args": "{{ params.x }}"}, context)


@pytest.mark.parametrize("namespace", ["", None, "-x", "a b", "A", "a/b", "a\n", "x" * 64, "*"])
def test_a_namespace_is_a_name_or_left_out(bench, namespace):
    context = bench.context(values={"params": {"x": namespace}})

    with pytest.raises(PermanentError, match="namespace: "):
        prepare(step, {"args": ["get", "pods"], "namespace": "{{ params.x }}"}, context)


def test_json_does_not_go_with_another_output():
    with pytest.raises(ValidationError, match="parse: json does not go with the output 'wide'"):
        params("get", "pods", "-o", "wide", parse="json")
    assert params("get", "pods", "-ojson", parse="json").parse == "json"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["get", "secret", "db", "-o", "yaml"], True),
        (["get", "-L=", "secrets", "-oyaml"], True),
        (["get", "-l", "a=b", "configmaps,secrets", "--output=json"], True),
        (["get", "secrets.v1./db", "-o=name"], False),
        (["get", "secrets", "-o", "wide"], False),
        (["get", "secrets"], False),
        (["get", "sealedsecrets", "-o", "yaml"], False),
        (["apply", "-f", "x.yaml", "-o", "yaml"], True),
        (["apply", "-f", "x.yaml", "-o", "name"], False),
    ],
)
def test_it_is_known_which_lines_may_show_what_secrets_hold(line, told):
    assert step._shows_secrets(step.command(line)) == told


def test_the_preview_is_the_command_line():
    assert step.preview(params("scale", "deployment/web", "--replicas=3", namespace="shop")) == (
        "would run: kubectl scale deployment/web --replicas=3 (cluster kubernetes, namespace shop)"
    )


def test_an_approval_is_bound_to_the_connection_and_the_manifests():
    found = params("apply", "-f", "a.yaml", "--filename=b.yaml", "-fc.yaml", context="prod")

    assert step.needs(found) == [("connection", "prod"), ("file", "a.yaml"), ("file", "b.yaml"), ("file", "c.yaml")]


def test_files_are_named_as_they_lie_on_this_machine(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    context = StepContext("run1", "step", folder=tmp_path)
    line = [
        "-f",
        "a.yaml",
        "--filename=a.yaml",
        "-fa.yaml",
        "--kustomize",
        "a.yaml",
        "--patch_file=a.yaml",
        "--x=a.yaml",
        "y",
    ]
    file = str(tmp_path / "a.yaml")

    assert list(step._placed(context, line)) == [
        *("-f", file, f"--filename={file}", f"-f{file}", "--kustomize", file, f"--patch_file={file}", "--x=a.yaml", "y")
    ]
    behind = ["web-1", "--", "cat", "-f", "a.yaml"]
    assert list(step._placed(context, behind)) == behind


# -- what it prints --------------------------------------------------------------------------------------------------

SECRET = {
    "kind": "Secret",
    "metadata": {
        "name": "db",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"data": "hunter22"}', "a": "b"},
    },
    "data": {"password": base64.b64encode(b"hunter22").decode()},
    "stringData": {"password": "hunter22"},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "data", "items", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=100)
@given(
    around=st.sampled_from([lambda x: x, lambda x: [x], lambda x: {"items": [1, x]}, lambda x: {"a": {"b": [[x]]}}]),
    other=JSON,
)
def test_what_a_secret_holds_is_left_out_wherever_it_stands(around, other):
    told = json.dumps(step.hidden({"other": other, "found": around(SECRET)}))

    assert "hunter22" not in told
    assert base64.b64encode(b"hunter22").decode() not in told
    assert MASK in told
    assert '"a": "b"' in told


def test_rows_of_a_list_of_secrets_need_not_say_what_they_are():
    bare = {key: value for key, value in SECRET.items() if key != "kind"}

    assert "hunter22" not in json.dumps(step.hidden({"kind": "SecretList", "items": [bare, "x"]}))


@settings(max_examples=150)
@given(JSON)
def test_any_json_is_read_and_only_secrets_are_left_out(value):
    found, text = step.read(json.dumps(value), Redactor())

    json.dumps(found)
    assert len(text) <= step.SHOWN
    if '"Secret' not in json.dumps(value):
        assert step.hidden(value) == value


@pytest.mark.parametrize("text", ["", "{", "no", "[" * 100_000, '{"a": 1}\n{"b": 2}'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(PermanentError, match="did not print JSON"):
        step.read(text, Redactor())


@given(st.text(max_size=500))
def test_any_text_can_be_looked_through(text):
    for told in (text, f"error: {text}", f'E1125 09:22:25.836809 1 x.go:1] "x"\n{text}'):
        assert "\n" not in step.told_by(told)
        assert len(step.told_by(told)) <= 400


NOISE = 'E1125 09:22:25.836809    9507 memcache.go:265] "Unhandled Error" err="dial tcp: connection refused"\n'


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        (NOISE + "Error from server (NotFound): pods not found\n", "Error from server (NotFound): pods not found"),
        ("Warning: x\nerror: unknown flag: --x\nSee help\n", "unknown flag: --x"),
        ('The Deployment "web" is invalid: spec\n* a\n', 'The Deployment "web" is invalid: spec'),
        ("something\nelse\n", "else"),
        (NOISE, ""),
    ],
)
def test_the_line_that_says_what_is_wrong_is_found(stderr, told):
    assert step.told_by(stderr) == told


async def judged(stderr: str, code: int = 1, args: tuple[str, ...] = ("get", "pods"), stdout: str = ""):
    outcome = Outcome(code, False, False, stdout, stderr, 0, 0.1)
    found = params(*args)
    return await step._judged(StepContext("run1", "step"), found, step.command(found.args), outcome, Redactor())


@pytest.mark.parametrize(
    "stderr",
    [
        "Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout",
        "Unable to connect to the server: net/http: TLS handshake timeout",
        "The connection to the server 10.0.0.1:443 was refused - did you specify the right host or port?",
        "Error from server (ServiceUnavailable): the server is currently unable to handle the request",
        "Error from server (TooManyRequests): busy",
        'Error from server (Conflict): Operation cannot be fulfilled on deployments.apps "web"',
        "Error from server: etcdserver: request timed out",
    ],
)
async def test_what_may_pass_is_told_from_what_will_not(stderr):
    with pytest.raises(TemporaryError, match="kubectl get: "):
        await judged(stderr)


@pytest.mark.parametrize(
    "stderr",
    [
        "Error from server (NotFound): x",
        "Error from server (Forbidden): x",
        "Error from server (AlreadyExists): x",
        "Error from server (BadRequest): x",
        "error: timed out waiting for the condition",
    ],
)
async def test_what_will_not_pass_is_a_result_that_is_not_ok(stderr):
    result = await judged(stderr)

    assert (result.ok, result.values["exit_code"]) == (False, 1)


async def test_the_words_of_a_program_in_a_container_are_not_those_of_the_cluster():
    told = "psql: connection refused\ncommand terminated with exit code 2"

    assert not (await judged(told, 2, ("exec", "web-1", "--", "psql"))).ok


async def test_a_difference_is_no_failure_and_a_fault_of_diff_is():
    differs = await judged("", 1, ("diff", "-f", "x.yaml"), "-a\n+b\n")

    assert (differs.ok, differs.summary) == (True, "kubectl diff: 2 lines")
    assert not (await judged("error: no", 1, ("diff", "-f", "x.yaml"))).ok


def test_a_missing_program_is_named_with_what_to_install():
    with pytest.raises(
        PermanentError, match=r"is not installed \(looked in .*\); install kubectl \(the package kubern"
    ):
        step.need("kubectl-of-nobody", step.INSTALL)


async def test_the_environment_says_nothing_of_the_cluster(run):
    with pytest.raises(PermanentError, match="KUBECONFIG cannot be handed over"):
        await run(step, {"args": ["get", "pods"]}, env={"KUBECONFIG": "/x"})
