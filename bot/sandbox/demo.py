"""The bot against the sandbox on this machine: to click around in, with one incident open already."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from bot.kit.clock import utc_now
from bot.kit.errors import UserError
from bot.sandbox.server import Sandbox

CONNECTION = "prometheus"
FILES = {
    "tocsin.yaml": "version: 1\nannouncement_channel: incidents\npager: log\n",
    "connections.yaml": (
        f"version: 1\nconnections:\n  {CONNECTION}: {{source: alertmanager, token: {{env: DEMO_ALERT_TOKEN}}}}\n"
    ),
    "routes.yaml": (
        "version: 1\nroutes:\n"
        "  - name: checkout\n    match: ['service=\"checkout\"']\n    open: always\n"
        "    severity: {critical: SEV1, high: SEV2, medium: SEV3}\n    runbooks: [high-error-rate]\n"
        "    group_by: [service]\n"
    ),
    "catalog.yaml": (
        "version: 1\nservices:\n  checkout:\n    owner: team-payments\n    description: Takes the customers' money\n"
        "    tier: 1\n"
    ),
}


@dataclass
class Process:
    """A bot in a process of its own, told everything by its environment."""

    folder: Path
    environment: Mapping[str, str]
    port: int
    log: BinaryIO
    process: asyncio.subprocess.Process | None = None
    starts: int = field(default=0)

    @property
    def url(self) -> str:
        """Where its web server is."""
        return f"http://127.0.0.1:{self.port}"

    async def command(self, *arguments: str) -> str:
        """Run one tocsin command to its end; its standard output. UserError when it fails."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", *arguments,
            env=dict(self.environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        self.log.write(err)
        if process.returncode:
            told = err.decode(errors="replace").strip().splitlines()
            raise UserError(f"tocsin {' '.join(arguments)} failed: {told[-1] if told else process.returncode}")
        return out.decode()

    async def start(self) -> None:
        """Start the bot and wait until it is ready."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "run", env=dict(self.environment), stdout=self.log, stderr=self.log
        )
        self.starts += 1
        await self._ready()

    async def _ready(self, within: float = 60.0) -> None:
        last = "it does not answer"
        end = time.monotonic() + within
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            while time.monotonic() < end:
                if self.process and self.process.returncode is not None:
                    raise UserError(f"The bot ended at once; see {self.log.name}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(f"{self.url}/readyz") as answer:
                        last = await answer.text()
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)
        raise UserError(f"The bot was not ready within {within:.0f} s ({last}); see {self.log.name}")

    async def kill(self) -> int:
        """End it as a power cut would; its process id."""
        if self.process is None:
            raise UserError("There is no bot to kill")
        pid = self.process.pid
        self.process.kill()
        await self.process.wait()
        return pid

    async def stop(self) -> None:
        """Ask it to end, and see that it does."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), 20)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def alert(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send alerts as Alertmanager does; what the bot answered."""
        headers = {"Authorization": f"Bearer {self.environment['DEMO_ALERT_TOKEN']}"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/alerts/{CONNECTION}", json=body, headers=headers) as answer,
        ):
            told: dict[str, Any] = await answer.json()
            if answer.status != 202:
                raise UserError(f"The bot did not take the alert: HTTP {answer.status} {told}")
            return told


@dataclass
class Scene:
    """A sandbox and a bot that is joined to it."""

    sandbox: Sandbox
    bot: Process


@asynccontextmanager
async def scene(manifest: Mapping[str, Any], folder: Path, *, page_port: int = 0) -> AsyncIterator[Scene]:
    """Sandbox and bot, both running, on an empty SQLite file in *folder*."""
    await asyncio.to_thread(_prepare, folder)
    port, token = _free_port(), secrets.token_hex(16)
    address = f"http://127.0.0.1:{port}/alerts/{CONNECTION}"
    try:
        sandbox = await Sandbox(manifest, port=page_port, alert_url=address, alert_token=token).start()
    except OSError as error:
        raise UserError(f"Cannot listen on 127.0.0.1:{page_port} ({error.strerror}); choose another --port") from None
    environment = {
        **_inherited(),
        "TOCSIN_DATABASE_URL": f"sqlite:///{folder / 'tocsin.db'}",
        "TOCSIN_CONFIG": str(folder / "config"),
        "TOCSIN_SLACK_API_URL": sandbox.api_url,
        "TOCSIN_SLACK_BOT_TOKEN": sandbox.bot_token,
        "TOCSIN_SLACK_APP_TOKEN": sandbox.app_token,
        "TOCSIN_SLACK_SIGNING_SECRET": sandbox.signing_secret,
        "TOCSIN_PORT": str(port),
        "TOCSIN_LOG": "json",
        "DEMO_ALERT_TOKEN": token,
    }
    with await asyncio.to_thread((folder / "bot.log").open, "wb", 0) as log:
        bot = Process(folder, environment, port, log)
        try:
            await bot.command("migrate")
            await bot.start()
            yield Scene(sandbox, bot)
        finally:
            await bot.stop()
            await sandbox.stop()


def sample(*, resolved: bool = False, **labels: str) -> dict[str, Any]:
    """What Alertmanager would send now: the sample body with a fresh start, or its end."""
    text = resources.files("bot.sandbox").joinpath("samples/alertmanager.json").read_text(encoding="utf-8")
    body: dict[str, Any] = json.loads(text)
    now = utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for alert in body["alerts"]:
        alert["labels"].update(labels)
        alert["startsAt"] = now
        if resolved:
            alert["status"], alert["endsAt"] = "resolved", now
    if resolved:
        body["status"] = "resolved"
    return body


async def demo(
    manifest: Mapping[str, Any], folder: Path, say: Callable[[str], None], *, port: int, seconds: float | None = None
) -> None:
    """Open one incident, say what to try, and stay until interrupted (or for *seconds*)."""
    say("Starting a Slack stand-in and the bot …")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    async with scene(manifest, folder, page_port=port) as made:
        told = await made.bot.alert(sample())
        channel = await made.sandbox.expect_channel("inc-1-*", within=20)
        opened = told["alerts"][0]["incident"]
        say("")
        say(f"  {opened} is open in #{channel.name}. Look at it here:")
        say("")
        say(f"      {made.sandbox.url}/")
        say("")
        say("  Try:")
        say("   1. choose the channel, press [Take command], then the runbook button; submit its form")
        say("   2. type   /inc note Rolled back the last deployment   and   /inc sev 2")
        say("   3. bottom left: [Resolve it] ends the alert; then press [Resolve] under the bot's question")
        say("   4. the post-mortem draft arrives in the channel as a file")
        say("   5. switch the user, bottom left, to see who may do what;   /inc help   shows the rest")
        say("")
        say(f"  Alerts go to {made.bot.url}/alerts/{CONNECTION}; the bot's log is {folder / 'bot.log'}")
        say("  Ctrl-C ends both.")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), seconds)
        say("Stopping …")


def _prepare(folder: Path) -> None:
    """An empty database and a configuration. Only files of this demo are replaced."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    for name in ("tocsin.db", "tocsin.db-wal", "tocsin.db-shm", "tocsin.db.lock"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "config" / "__pycache__", ignore_errors=True)
    for name, text in FILES.items():
        (folder / "config" / name).write_text(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _inherited() -> dict[str, str]:
    """This process's environment without settings of a real installation, which a demo must not touch."""
    return {key: value for key, value in os.environ.items() if not key.startswith("TOCSIN_")}  # noqa: TID251
