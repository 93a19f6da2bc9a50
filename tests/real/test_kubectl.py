"""The kubectl step with a real kubectl, against a cluster's API that refuses what the real one does."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from bot.catalog.targets import Connection, Reach, Secret, Targets
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.step import Cancelled, StepResult, prepare
from bot.steps import kubectl as step
from tests.fakes.kubernetes import LOCKED, TOKEN, Cluster, certificates, kubernetes
from tests.steps.conftest import Bench

MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}{more}}}\ndata: {{A: '2'}}\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificates(folder)
    return folder


class Shop:
    """A cluster and one run that works on it."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        self.cluster = cluster
        self.books = home / "runbooks"
        self.books.mkdir()
        self.scratch = home / "run1"
        self.scratch.mkdir(mode=0o700)
        self.bench = Bench()
        self.connection: dict[str, Any] = {
            "kind": "kubernetes",
            "url": cluster.url,
            "token": Secret(env="TOKEN"),
            "ca": cluster.ca,
            "private": True,
        }
        self.environment = {"TOKEN": TOKEN}

    def context(self, params: dict[str, Any] | None = None, **more: Any):
        reach = Reach(Targets(connections={"kubernetes": Connection(**self.connection)}), Path("/"), self.environment)
        given = {"folder": self.books, "scratch": self.scratch, "timeout": 30.0, "reach": reach, **more}
        return self.bench.context(values={"params": params or {}}, **given)

    async def run(
        self,
        *args: str,
        params: dict[str, Any] | None = None,
        dry: bool = False,
        more: dict[str, Any] | None = None,
        **raw: Any,
    ) -> StepResult:
        context = self.context(params, **(more or {}))
        prepared = prepare(step, {"args": list(args), "namespace": "shop", **raw}, context)
        return await (step.dry_run if dry else step.run)(context, prepared)


@pytest.fixture
async def shop(authority: Path, tmp_path: Path) -> AsyncIterator[Shop]:
    async with kubernetes(authority) as cluster:
        made = Shop(cluster, tmp_path)
        yield made
        assert cluster.violations == []
    assert list(made.scratch.iterdir()) == []


async def test_pods_are_listed_for_people(shop):
    result = await shop.run("get", "pods")

    assert result.ok
    assert result.values["stdout"].splitlines()[1].split() == ["web-1", "Running"]
    assert result.summary == "kubectl get: 3 lines"
    assert len(shop.bench.said) == 3


async def test_pods_are_read_as_json_without_asking_for_it_twice(shop):
    for args in (("get", "pods"), ("get", "pods", "-o", "json"), ("get", "pods", "--output=json")):
        result = await shop.run(*args, "-l", "app=web", parse="json")

        items = result.values["json"]["items"]
        assert [(one["metadata"]["name"], one["status"]["phase"]) for one in items] == [
            ("web-1", "Running"),
            ("web-2", "Pending"),
        ]
    assert any("labelSelector=app%3Dweb" in line for line in shop.cluster.asked)
    assert shop.bench.said == []


async def test_a_pod_is_described_with_its_events(shop):
    result = await shop.run("describe", "pod", "{{ params.pod }}", params={"pod": "web-2"})

    assert result.ok
    assert "Restart Count:  7" in result.values["stdout"]
    assert any(
        "events?fieldSelector=involvedObject.name%3Dweb-2" in line or "events?" in line for line in shop.cluster.asked
    )


async def test_logs_are_read(shop):
    result = await shop.run("logs", "web-1", "--tail", "1")

    assert (result.values["stdout"], result.summary) == ("ready\n", "kubectl logs: ready")


async def test_a_flood_of_logs_is_bounded(shop):
    shop.cluster.logs = "x" * 99 + "\n"
    shop.cluster.logs *= 50_000

    result = await shop.run("logs", "web-1")

    assert result.ok
    assert result.truncated > 4_000_000
    assert len(result.output) < 100_000


async def test_more_json_than_can_be_read_is_refused(shop):
    shop.cluster.get("configmaps", "web")["data"]["A"] = "x" * 5_000_000

    with pytest.raises(PermanentError, match="printed more than 4 MiB; ask for less"):
        await shop.run("get", "configmaps", parse="json")


async def test_a_rollout_is_followed_undone_and_begun_anew(shop):
    web = shop.cluster.get("deployments", "web")

    status = await shop.run("rollout", "status", "deployment/web", "--timeout=20s")
    history = await shop.run("rollout", "history", "deployment/web")
    undone = await shop.run("rollout", "undo", "deployment/web")
    image = shop.cluster.get("deployments", "web")["spec"]["template"]["spec"]["containers"][0]["image"]
    restarted = await shop.run("rollout", "restart", "deployment/web")

    assert status.summary == 'kubectl rollout status: deployment "web" successfully rolled out'
    assert [line.split()[0] for line in history.values["stdout"].splitlines()[2:4]] == ["1", "2"]
    assert web["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/web:2"
    assert undone.summary == "kubectl rollout undo: deployment.apps/web rolled back"
    assert image == "registry.example.com/web:1"
    assert restarted.summary == "kubectl rollout restart: deployment.apps/web restarted"
    notes = shop.cluster.get("deployments", "web")["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in notes


async def test_a_rollout_that_does_not_get_on_fails_in_time(shop):
    shop.cluster.get("deployments", "web")["status"]["updatedReplicas"] = 1

    slow = await shop.run("rollout", "status", "deployment/web", "--timeout=1s")
    ended = await shop.run("rollout", "status", "deployment/web", more={"timeout": 1.5})

    assert not slow.ok
    assert "timed out waiting for the condition" in slow.summary
    assert not ended.ok
    assert ended.summary == "kubectl rollout status: was stopped after 1.5 s"


async def test_a_deployment_is_scaled(shop):
    result = await shop.run("scale", "deployment/web", "--replicas={{ params.n }}", params={"n": 5})

    assert result.summary == "kubectl scale: deployment.apps/web scaled"
    assert shop.cluster.get("deployments", "web")["spec"]["replicas"] == 5


@pytest.mark.parametrize(
    "args",
    [
        ("scale", "deployment/web", "--replicas=9"),
        ("rollout", "undo", "deployment/web"),
        ("set", "image", "deployment/web", "web=registry.example.com/web:9"),
        ("delete", "pod", "web-1"),
        ("annotate", "pod", "web-1", "seen=yes"),
        ("label", "pod", "web-1", "seen=yes"),
        ("patch", "configmap", "web", "-p", '{"data":{"A":"9"}}'),
        ("create", "-f", "new.yaml"),
        ("apply", "--filename", "web.yaml"),
        ("replace", "--filename=web.yaml"),
    ],
)
async def test_a_dry_run_asks_the_server_and_changes_nothing(shop, args):
    for name in ("new", "web"):
        (shop.books / f"{name}.yaml").write_text(MANIFEST.format(name=name, more=""))
    before = json.dumps(list(shop.cluster.objects.values()))

    result = await shop.run(*args, dry=True)

    assert result.ok, result.output
    assert result.summary.endswith(" (only asked)")
    assert "dry run" in result.values["stdout"] or args[0] == "patch"
    assert len(shop.cluster.writes()) == 1
    assert "dryRun=All" in shop.cluster.writes()[0] or args[0] == "delete"
    assert json.dumps(list(shop.cluster.objects.values())) == before
    assert (await shop.run(*args)).ok
    assert json.dumps(list(shop.cluster.objects.values())) != before


@pytest.mark.parametrize(
    "args", [("rollout", "restart", "deployment/web"), ("exec", "web-1", "--", "rm", "-r", "/cache")]
)
async def test_what_cannot_be_asked_of_the_server_is_shown(shop, args):
    result = await shop.run(*args, dry=True)

    assert result.ok
    assert result.summary == f"would run: kubectl {' '.join(args)} (cluster kubernetes, namespace shop)"
    assert shop.cluster.asked == []


async def test_a_dry_run_of_what_reads_reads(shop):
    assert "web-1" in (await shop.run("get", "pods", dry=True)).values["stdout"]


async def test_a_manifest_beside_the_runbooks_is_applied_and_no_other_file(shop):
    (shop.books / "manifests").mkdir()
    (shop.books / "manifests/new.yaml").write_text(MANIFEST.format(name="new", more=""))

    assert (await shop.run("create", "-f", "manifests/new.yaml")).summary == "kubectl create: configmap/new created"
    assert shop.cluster.get("configmaps", "new")["data"] == {"A": "2"}
    for file in ("/etc/hostname", "../run1", "nowhere.yaml", "{{ params.f }}", "manifests/new.yaml,/etc/hostname"):
        with pytest.raises(PermanentError, match="folder of the runbooks"):
            await shop.run("apply", "-f", file, params={"f": "/etc/hostname"})


async def test_a_program_is_run_in_a_container(shop):
    result = await shop.run(
        "exec", "web-1", "-c", "web", "--", "printenv", "--server", "{{ params.x }}", params={"x": "A B"}
    )
    failed = await shop.run("exec", "web-1", "--", "exit", "3")

    assert result.ok, result.output
    assert result.values["stdout"] == "printenv --server A B\n"
    assert not failed.ok
    assert failed.values["exit_code"] == 3
    assert failed.summary == "kubectl exec: command terminated with exit code 3"


async def test_what_may_be_done_is_asked(shop):
    yes = await shop.run("auth", "can-i", "list", "pods")
    no = await shop.run("auth", "can-i", "delete", "pods")

    assert (yes.ok, yes.summary) == (True, "kubectl auth can-i: yes")
    assert (no.ok, no.summary, no.values["exit_code"]) == (False, "kubectl auth can-i: no", 1)


@pytest.mark.parametrize("args", [("version",), ("api-resources",), ("explain", "pods"), ("get", "nodes")])
async def test_what_only_looks_works(shop, args):
    assert (await shop.run(*args)).ok


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "namespace", "told"),
    [
        (("get", "pod", "nobody"), "shop", 'Error from server (NotFound): pods "nobody" not found'),
        (("get", "pods"), LOCKED, "Error from server (Forbidden): pods is forbidden"),
        (("create", "-f", "web.yaml"), "shop", "(AlreadyExists)"),
        (("get", "nonsense"), "shop", 'the server doesn\'t have a resource type "nonsense"'),
        (("get", "pods", "--nonsense"), "shop", "unknown flag: --nonsense"),
    ],
)
async def test_what_the_cluster_refuses_is_told_in_its_words(shop, args, namespace, told):
    (shop.books / "web.yaml").write_text(MANIFEST.format(name="web", more=""))

    result = await shop.run(*args, namespace=namespace)

    assert not result.ok
    assert told in result.summary
    assert result.values["exit_code"] == 1


async def test_a_conflict_may_pass(shop):
    (shop.books / "web.yaml").write_text(MANIFEST.format(name="web", more=", resourceVersion: '1'"))

    with pytest.raises(TemporaryError, match=r"kubectl replace: Error from server \(Conflict\)"):
        await shop.run("replace", "-f", "web.yaml")


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_cluster_in_trouble_may_recover(shop, code):
    shop.cluster.trouble["pods"] = code

    with pytest.raises(TemporaryError, match="kubectl get: Error from server"):
        await shop.run("get", "pods")


async def test_a_token_that_is_refused_says_what_to_do_and_not_what_it_is(shop):
    shop.environment["TOKEN"] = "a-token-of-yesterday"

    with pytest.raises(
        PermanentError, match=r"the cluster of kubernetes refuses the token; give targets\.yaml one"
    ) as caught:
        await shop.run("get", "pods")

    assert "yesterday" not in str(caught.value) + repr(shop.bench.said)


async def test_a_certificate_that_is_not_trusted_is_refused(shop):
    shop.connection["ca"] = None

    with pytest.raises(PermanentError, match="has no certificate that we trust; name its authority with ca"):
        await shop.run("get", "pods")


async def test_a_cluster_that_does_not_answer_may_come_back(shop):
    shop.connection["url"] = "https://127.0.0.1:9"

    with pytest.raises(TemporaryError, match=r"kubectl get: The connection to the server 127\.0\.0\.1:9 was refused"):
        await shop.run("get", "pods")


async def test_a_cluster_that_is_slow_is_not_waited_for_longer_than_said(shop):
    shop.cluster.slow.add("pods")

    result = await shop.run("get", "pods", more={"timeout": 2.0})

    assert (result.ok, result.summary) == (False, "kubectl get: was stopped after 2 s")


async def test_a_cancelled_step_is_no_result(shop):
    shop.cluster.slow.add("pods")
    cancelled = asyncio.Event()
    running = spawn(shop.run("get", "pods", more={"cancelled": cancelled}), name="test")
    while not any("pods" in line for line in shop.cluster.asked):
        await asyncio.sleep(0.02)

    cancelled.set()

    with pytest.raises(Cancelled, match="kubectl was stopped"):
        await running


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"private": False}, "is not a public address"),
        ({"url": "https://169.254.169.254"}, "metadata"),
        ({"url": "http://127.0.0.1:1"}, "must be https://host"),
        ({"url": "https://a:b@127.0.0.1:1"}, "must be https://host"),
        ({"url": "https://127.0.0.1:99999"}, "cannot be read"),
        ({"token": None}, "has no token; give it one of a service account"),
        ({"kind": "http"}, "this step needs kubernetes"),
        ({"ca": Path("/nowhere.pem")}, "no certificate authority can be read"),
    ],
)
async def test_a_connection_that_cannot_be_used_says_why(shop, change, told):
    shop.connection |= change

    with pytest.raises(PermanentError, match=told):
        await shop.run("get", "pods")
    assert shop.cluster.asked == []


async def test_another_cluster_is_another_connection(shop):
    with pytest.raises(PermanentError, match=r"targets\.yaml has no connection 'kubernets'; did you mean kubernetes"):
        await shop.run("get", "pods", context="kubernets")


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_the_token_is_in_no_command_line_no_environment_and_no_output(shop):
    shop.cluster.slow.add("pods")
    shop.cluster.logs = f"token {TOKEN}\n"
    running = spawn(shop.run("get", "pods", more={"timeout": 3.0}), name="test")
    while not any("pods" in line for line in shop.cluster.asked):
        await asyncio.sleep(0.02)
    seen = b""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"kubectl" in (line := (entry / "cmdline").read_bytes()):
                seen += line + (entry / "environ").read_bytes()
        except OSError:
            continue
    configs = list(shop.scratch.glob("*/kubeconfig"))
    mode = oct(configs[0].stat().st_mode & 0o777)
    await running
    shop.cluster.slow.clear()

    logs = await shop.run("logs", "web-1")

    assert b"--kubeconfig=" in seen
    assert TOKEN.encode() not in seen
    assert mode == "0o600"
    assert logs.values["stdout"] == f"token {MASK}\n"
    assert TOKEN not in repr(logs) + repr(shop.bench.said)


async def test_what_secrets_hold_is_never_shown(shop):
    read = await shop.run("get", "secret", "db", parse="json")
    listed = await shop.run("get", "secrets", parse="json")
    table = await shop.run("get", "secrets")
    told = await shop.run("describe", "secret", "db")

    assert read.values["json"]["data"] == {"password": MASK}
    assert listed.values["json"]["items"][0]["data"] == {"password": MASK}
    assert "db" in table.values["stdout"]
    assert "password:  " in told.values["stdout"]
    assert "Y29ycmVjdC1ob3JzZQ" not in repr([read, listed, table, told])
    for args in (
        ("get", "secret", "db", "-o", "yaml"),
        ("get", "pods,secrets", "-ojson"),
        ("get", "secret/db", "-o=jsonpath={.data.password}"),
        ("get", "Secrets.v1.", "--output", "go-template={{ params.t }}"),
        ("get", "{{ params.kind }}", "-o", "yaml"),
        ("annotate", "secret", "db", "a=b", "-o", "yaml"),
        ("get", "-f", "x.yaml", "-o", "yaml"),
    ):
        with pytest.raises(PermanentError, match="may show what Secrets hold; use parse: json"):
            await shop.run(*args, params={"t": "x", "kind": "secrets"})


# -- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evil",
    ["--all", "-A", "--server=https://127.0.0.1:9", "-shttps://127.0.0.1:9", "--kubeconfig", "-", "--", "", "a\0b"],
)
async def test_a_value_never_becomes_an_option(shop, evil):
    with pytest.raises(PermanentError, match=r"args: .*cannot (begin|hold)"):
        await shop.run("delete", "pods", "{{ params.pod }}", params={"pod": evil})
    assert shop.cluster.asked == []


@pytest.mark.parametrize(
    "evil", ["web-1 --all", "web-1; id", "$(id)", "web-1\n--all", "../../nodes/x", "web-1/../web-2", "é"]
)
async def test_a_value_stays_one_argument(shop, evil):
    result = await shop.run("delete", "pod", "{{ params.pod }}", params={"pod": evil})

    assert not result.ok
    assert {("pods", "shop", "web-1"), ("pods", "shop", "web-2")} <= set(shop.cluster.objects)


WORDS = st.sampled_from(
    [
        *("pods", "pod", "web-1", "deployment/web", "a=b", "json", "name", "--", "-", "x"),
        *(
            "-o",
            "-ojson",
            "-l",
            "-lapp=web",
            "-A",
            "-R",
            "-As",
            "-oAs",
            "-c",
            "-cs",
            "-L",
            "-p",
            "-w",
            "-f",
            "-k",
            "-q",
            "-As=x",
        ),
        *("--show-labels", "--selector", "--output", "--no-headers", "--chunk-size=5", "--field-selector"),
        *(
            "-s",
            "-shttps://127.0.0.1:9",
            "--server",
            "--server=https://127.0.0.1:9",
            "--Server=x",
            "https://127.0.0.1:9",
        ),
        *("--as=root", "--as", "root", "--as_group=x", "--as-group", "--as_uid=1", "--token=evil", "--token", "evil"),
        *(
            "--kubeconfig=/dev/null",
            "--context",
            "--cluster",
            "--user",
            "-n",
            "-nlocked",
            "--namespace=locked",
            "-n=locked",
        ),
        *(
            "--insecure_skip_tls_verify",
            "--insecure-skip-tls-verify=true",
            "--certificate-authority=/dev/null",
            "-v",
            "-v9",
        ),
        *(
            "--raw",
            "/api/v1/namespaces/locked/pods",
            "--kuberc=x",
            "--cache-dir=/",
            "--profile=cpu",
            "--request-timeout=2s",
        ),
    ]
)


async def test_what_is_let_through_leads_kubectl_nowhere_else(shop):
    lines: list[list[str]] = []

    @settings(max_examples=1500, deadline=None, database=None, derandomize=True)
    @given(verb=st.sampled_from(["get", "logs", "describe"]), words=st.lists(WORDS, min_size=1, max_size=4))
    def collect(verb, words):
        line = [verb, *words]
        try:
            step.command(line)
        except PydanticCustomError:
            return
        if line not in lines:
            lines.append(line)

    collect()
    # Those with most options first: they are the ones that could be misread.
    lines.sort(key=lambda line: -sum(word.startswith("-") for word in line))
    assert len(lines) > 60
    for line in lines[:30]:
        try:
            result = await shop.run(*line)
        except PermanentError:
            continue  # a file that is not there
        assert "127.0.0.1:9" not in result.output, line
    # The cluster would have noted another token, somebody else, and a path or a query that it does not know.
    assert not any("/namespaces/locked/" in asked for asked in shop.cluster.asked)
