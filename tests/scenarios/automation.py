"""What stories about things that happen by themselves are played with."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlmodel import col

from bot.incidents.model import TimelineEvent
from bot.kit.clock import utc_now
from bot.runs.model import Decision, Run
from tests.scenarios.conftest import QUICK, Stage, alertmanager, write_config

LONG = "a-token-that-nobody-guesses-0123456789"
TEMPO = replace(QUICK, schedule_seconds=0.2)

RESTART = """version: 1
id: restart
name: Restart the service
owner: team
risk: low
offer:
  - match: {labels: ['alertname="Stuck"']}
    mode: auto
    cooldown: 15m
    max_per_hour: 2
params:
  service: {source: alert.labels.service, pattern: '[a-z]+'}
concurrency: {key: 'restart:{{ params.service }}'}
steps:
  - id: restart
    name: Restart {{ params.service }}
    http: {method: POST, url: 'URL/restart/{{ params.service }}'}
  - id: healthy
    name: Is it well?
    http: {url: 'URL/health/{{ params.service }}', expect: status == 200}
    retry: {attempts: 2, delay: 50ms}
  - note: {kind: action, text: '{{ params.service }} was restarted because of {{ alert.title }}'}
"""
DRIFT = """version: 1
id: drift
name: Look for drift
owner: team
schedule: {cron: '30 2 * * *', timezone: Europe/Berlin, params: {stack: prod}}
params: {stack: {}}
steps:
  - id: plan
    name: Compare {{ params.stack }}
    http: {url: 'URL/plan/{{ params.stack }}'}
    retry: 1
    outputs: {drifted: json.drifted}
raises:
  - id: drift
    each: steps.plan.drifted
    key: '{{ params.stack }}'
    title: '{{ item }} is not as it is written'
    severity: high
    labels: {service: infra}
  - {id: broken, when: failed, title: 'Looking for drift fails: {{ failure.message }}', into: timeline}
"""


class Service:
    """What is watched and mended: HTTP, as the runbooks see it."""

    def __init__(self) -> None:
        self.restarts: list[str] = []
        self.well: set[str] = set()
        self.stubborn = False
        self.drifted: list[str] = []
        self.plans = 0
        self.broken = False
        app = web.Application()
        app.add_routes(
            [
                web.post("/restart/{name}", self._restart),
                web.get("/health/{name}", self._health),
                web.get("/plan/{stack}", self._plan),
            ]
        )
        self.server = TestServer(app, host="127.0.0.1")

    async def _restart(self, request: web.Request) -> web.Response:
        self.restarts.append(request.match_info["name"])
        if not self.stubborn:
            self.well.add(request.match_info["name"])
        return web.json_response({})

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({}, status=200 if request.match_info["name"] in self.well else 503)

    async def _plan(self, request: web.Request) -> web.Response:
        self.plans += 1
        return web.json_response({"drifted": self.drifted}, status=500 if self.broken else 200)


class Hands:
    """The hands of the bot's clock, which a test may put."""

    def __init__(self, at: datetime | None = None) -> None:
        self.offset = timedelta() if at is None else at - utc_now()

    def __call__(self) -> datetime:
        return utc_now() + self.offset

    def forward(self, **by: float) -> None:
        self.offset += timedelta(**by)

    def put(self, at: datetime) -> None:
        self.offset = at - utc_now()


def configured(
    folder: Path, service: Service, *, tocsin: str = "auto_runbooks: true\nschedules: true\n", **books: str
) -> Path:
    (folder / "config").mkdir()
    (folder / "config/token").write_text(LONG)
    made = write_config(
        folder / "config",
        tocsin="version: 1\nannouncement_channel: incidents\nprivate_networks: [127.0.0.0/8]\n" + tocsin,
        connections=(
            "version: 1\nconnections:\n"
            "  monitoring: {source: alertmanager, token: {file: token}}\n"
            "  prometheus: {source: alertmanager, token: {env: ALERTS_TOKEN}}\n"
            "  anything: {source: generic, token: {file: token}}\n"
        ),
        routes="version: 1\nroutes: [{name: all, open: always, group_by: [alertname]}]\n",
    )
    (made / "runbooks").mkdir()
    url = str(service.server.make_url("")).rstrip("/")
    for name, text in books.items():
        (made / f"runbooks/{name}.yaml").write_text(text.replace("URL", url))
    return made


async def stuck(stage: Stage, name: str = "checkout", *, connection: str = "monitoring", **more: str) -> None:
    """The alert that the runbook is for."""
    body = alertmanager("Stuck", service=name, instance=f"{name}.example.com", summary=f"{name} is stuck", **more)
    answer = await stage.alert(body, connection, headers={"Authorization": f"Bearer {LONG}"})
    assert answer.status == 202, await answer.text()


async def over(stage: Stage, name: str = "checkout", **more: str) -> None:
    await stuck(stage, name, status="resolved", **more)


async def runs(stage: Stage) -> list[Run]:
    async with stage.bot.db.read() as session:
        return list(await session.scalars(sa.select(Run).order_by(col(Run.requested_at), col(Run.id))))


async def events(stage: Stage, kind: str) -> list[TimelineEvent]:
    return [event for event in await stage.timeline() if event.kind == kind]


async def decisions(stage: Stage) -> list[str]:
    async with stage.bot.db.read() as session:
        rows = await session.scalars(sa.select(Decision).order_by(col(Decision.at), col(Decision.episode_id)))
        return [row.decision for row in rows]
