"""Runbooks of the library with the real kubectl, against a strict Kubernetes API of this machine."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.catalog.targets import Connection, Reach, Secret, Targets
from bot.runs.model import RunState
from tests.fakes.kubernetes import TOKEN, Cluster, certificates, kubernetes
from tests.runbooks.services import Services, services
from tests.runbooks.test_on_services import quick

WEB = {"namespace": "shop", "deployment": "web"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificates(folder)
    return folder


@pytest.fixture
def world() -> Iterator[Services]:
    with services() as made:
        yield made


@pytest.fixture
async def cluster(library, authority: Path, world: Services) -> AsyncIterator[Cluster]:
    """A deployment at its second revision, of which one of two pods is not ready."""
    async with kubernetes(authority) as made:
        connections = {
            "kubernetes": Connection(
                kind="kubernetes", url=made.url, token=Secret(env="TOKEN"), ca=made.ca, private=True
            ),
            "prometheus": Connection(kind="prometheus", url=world.url, private=True),
        }
        library.reach = Reach(Targets(connections=connections), Path("/"), {"TOKEN": TOKEN})
        yield made
        assert made.violations == []


def stuck(cluster: Cluster) -> None:
    web = cluster.get("deployments", "web")
    web["status"] |= {"updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    web["status"]["conditions"] = [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "It timed out."}
    ]


def controlled(cluster: Cluster, ready: Callable[[dict[str, Any]], bool]) -> None:
    """After each change, the deployment becomes what a controller would make of it."""
    put = cluster.put

    def put_and_act(resource: str, value: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
        if resource == "deployments":
            wanted = value["spec"]["replicas"]
            good = wanted if ready(value) else wanted - 1
            value["status"] = {
                "observedGeneration": value["metadata"]["generation"],
                **dict.fromkeys(("replicas", "updatedReplicas"), wanted),
                **dict.fromkeys(("readyReplicas", "availableReplicas"), good),
                "conditions": [{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}],
            }
        return put(resource, value, namespace)

    cluster.put = put_and_act  # type: ignore[method-assign]


def image(cluster: Cluster) -> str:
    found: str = cluster.get("deployments", "web")["spec"]["template"]["spec"]["containers"][0]["image"]
    return found.rpartition(":")[2]


async def test_a_rollout_that_is_stuck_goes_back_to_the_revision_before(library, cluster):
    stuck(cluster)
    controlled(cluster, lambda value: True)

    run = await library.play("kubernetes-rollout-stuck", WEB, quick)

    assert run.state == RunState.SUCCEEDED, run.failure
    assert image(cluster) == "1"
    assert run.outputs == {"stuck": True, "revision": 2}
    assert "1 of 2 replicas are ready, 1 are new. It timed out." in await library.said()
    assert "Took shop/web back from revision 2 to the one before" in await library.said()


async def test_a_revision_that_does_not_become_ready_either_is_taken_back(library, cluster):
    stuck(cluster)
    controlled(cluster, lambda value: False)

    run = await library.play(
        "kubernetes-rollout-stuck", WEB, lambda text: quick(text).replace("--timeout=300s", "--timeout=1s")
    )

    assert run.state == RunState.ROLLED_BACK
    assert image(cluster) == "2"
    assert len(cluster.writes()) == 2


async def test_after_a_no_the_cluster_is_as_it_was(library, cluster):
    stuck(cluster)

    run = await library.play("kubernetes-rollout-stuck", WEB, quick, yes=False)

    assert run.state == RunState.REJECTED
    assert cluster.writes() == []


async def test_a_rollout_that_is_through_is_left_alone(library, cluster):
    run = await library.play("kubernetes-rollout-stuck", WEB, quick)

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs["stuck"] is False
    assert cluster.writes() == []


async def test_consumers_are_scaled_up_until_the_backlog_shrinks(library, cluster, world):
    replicas = lambda: cluster.get("deployments", "web")["spec"]["replicas"]  # noqa: E731 - two words
    world.number = lambda query: 9000.0 if "deriv" not in query else -30.0 if replicas() > 2 else 5.0

    run = await library.play("queue-backlog", {**WEB, "queue": "orders", "replicas": 4}, quick)

    assert run.state == RunState.SUCCEEDED, run.failure
    assert replicas() == 4
    assert world.queries[0] == 'sum(rabbitmq_queue_messages_ready{ queue="orders" })'
    assert "9000 messages wait in orders; it grows by 300.0 messages a minute." in await library.said()


async def test_a_backlog_that_does_not_shrink_gives_the_consumers_their_size_back(library, cluster, world):
    world.number = lambda query: 5.0

    run = await library.play("queue-backlog", {**WEB, "queue": "orders", "replicas": 4}, quick)

    assert run.state == RunState.ROLLED_BACK
    assert cluster.get("deployments", "web")["spec"]["replicas"] == 2
    assert len([line for line in cluster.writes() if "/scale" in line]) == 2
