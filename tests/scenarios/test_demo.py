"""What a newcomer runs first: the demo, and the story it tells by itself."""

import asyncio
import json
import re
import sqlite3
import sys

import aiohttp

TOCSIN = [sys.executable, "-m", "bot"]


async def test_the_story_of_the_demo_really_happens(tmp_path):
    out = tmp_path / "out"
    process = await asyncio.create_subprocess_exec(
        *TOCSIN, "demo", "--story", "--out", str(out), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await asyncio.wait_for(process.communicate(), 150)

    assert process.returncode == 0, told.decode()
    events = json.loads((out / "timeline.json").read_text())
    assert {"kind", "at"} <= set(events[0])
    draft = (out / "postmortem.md").read_text()
    assert "INC-1" in draft
    (alert,) = [line for line in draft.splitlines() if "alertname=CheckoutErrorRate" in line]
    assert "not recorded" not in alert
    assert alert.endswith("| 1 | [#1](#event-1) |")
    assert "Take command" not in (out / "transcript.md").read_text()  # resolved at the end
    with sqlite3.connect(out / "tocsin.db") as database:
        assert database.execute("select count(*) from timeline").fetchone()[0] >= len(events)
        assert database.execute("select state from run").fetchall() == [("succeeded",)]
    database.close()


async def test_the_demo_opens_an_incident_and_shows_its_page(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *TOCSIN, "demo", "--port", "0", "--dir", str(tmp_path), "--seconds", "3",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    told = ""
    async with asyncio.timeout(90):
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/\n", told)):
            line = await process.stderr.readline()
            assert line, told
            told += line.decode()
        async with aiohttp.ClientSession() as http, http.get(found[0].strip()) as page:
            html = await page.text()
        await process.communicate()

    assert process.returncode == 0
    assert "INC-1 is open" in told
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "<script" in html
