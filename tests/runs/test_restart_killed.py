"""The runbook restart-service, killed between any two commits: no step that changes something runs twice unasked."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.runs import run as runs
from bot.runs.model import RunState
from bot.runs.runbook import load
from bot.runs.step import StepResult
from tests.runs.test_interpreter_crash import DyingEngine, Killed

FILE = Path(__file__).parents[2] / "runbooks/restart-service.yaml"


class Site:
    """The service, its host and its load balancer: what was done to them, in order."""

    def __init__(self, *, healthy: bool) -> None:
        self.healthy = healthy
        self.done: list[str] = []

    def exec(self, params: Any) -> Mapping[str, Any]:
        if params.argv[0] == "readlink":
            return {"stdout": "/srv/checkout/releases/42\n"}
        self.done.append("restart" if "restart" in params.argv else "activate")
        return {"stdout": ""}

    def http(self, params: Any) -> Mapping[str, Any]:
        if params.method == "PUT":
            self.done.append(f"PUT {params.json_['weight']}")
            return {"status": 200}
        return {"status": 200 if self.healthy else 503, "json": {"status": "ok" if self.healthy else "starting"}}


@pytest.fixture
def play(bench):
    """A shelf whose steps act on a site in memory, in no time."""
    real = dict(bench.steps.modules)

    def stand_in(name: str, act: Any) -> None:
        module = real[name]

        async def run(context: Any, params: Any) -> StepResult:
            values = act(params)
            return StepResult(ok=values.pop("ok", True), summary=str(values), values=values)

        about = {key: getattr(module, key) for key in dir(module) if not key.startswith("__")}
        bench.steps.modules[name] = SimpleNamespace(**{**about, "run": run})

    def played(site: Site) -> None:
        stand_in("exec", lambda params: dict(site.exec(params)))
        stand_in("http", lambda params: (found := dict(site.http(params))) | {"ok": found["status"] == 200})
        stand_in("prometheus", lambda params: {"value": 0.01})
        stand_in("wait", lambda params: {"waited": 20})
        stand_in("slack", lambda params: {"ts": "1"})
        stand_in("pagerduty", lambda params: {})

    return played


@pytest.mark.slow
@pytest.mark.parametrize(
    ("healthy", "answer", "state", "order"),
    [
        (True, runs.ACCEPT, RunState.SUCCEEDED, ["PUT 0", "restart", "PUT 100"]),
        (False, runs.REPEAT, RunState.ROLLED_BACK, ["PUT 0", "restart", "activate", "PUT 100"]),
    ],
)
async def test_no_step_of_it_runs_twice_unasked(bench, database, play, healthy, answer, state, order):
    book = load(FILE.read_text(), FILE.name, bench.steps).model_copy(update={"id": bench.book})
    quick = {"retry": {"attempts": 2, "delay": "1ms"}}
    steps = [
        step.model_copy(update={"retry": step.retry and type(step.retry)(**quick["retry"])}) for step in book.steps
    ]
    book = book.model_copy(update={"steps": steps})
    dies_at, killed, total = 0, 0, 0
    while dies_at == 0 or killed:
        site = Site(healthy=healthy)
        play(site)
        run_id = await bench.start(book, {"service": f"checkout-{dies_at}", "host": "web-1"})
        bench.engine = engine = DyingEngine(database)
        engine.dies_at, killed, asked = dies_at, 0, 0
        for _ in range(6):
            try:
                await bench.carry_out(run_id)
            except Killed:
                killed += 1
            run = await bench.run(run_id)
            if run.state == RunState.ASKING:
                asked += 1
                await bench.answer(run_id, answer)
            elif run.ended_at:
                break
        assert run.state == state, (dies_at, run.failure)
        assert len(site.done) <= len(order) + (asked if answer == runs.REPEAT else 0), (dies_at, site.done)
        assert [act for i, act in enumerate(site.done) if act not in site.done[:i]] == [
            act for act in order if act in site.done
        ], dies_at
        if not asked:
            assert site.done == order, dies_at
        total += killed
        dies_at += 1
    assert total >= 20
