"""A call of another system's API: what is an answer, what is tried again, what is final, and what is never said."""

import pytest
from aiohttp import web

from bot.kit.api import Api, Refused
from bot.kit.errors import PermanentError, TemporaryError
from tests.fakes.receiver import Receiver

TOKEN = "a-token-of-the-tests-0123456789"


def api(server, **more):
    return Api(
        "The shop", server.url, {"Authorization": f"Bearer {TOKEN}"}, lambda text: text.replace(TOKEN, "***"), **more
    )


async def test_it_sends_its_headers_and_reads_the_object():
    async with Receiver(answers=[web.json_response({"id": 7})]) as server:
        found = await api(server).ask("POST", "/things", json={"a": 1}, params=[("tag", "x y"), ("tag", "z")])

    (got,) = server.got
    assert (found, got.path, got.json) == ({"id": 7}, "/things", {"a": 1})
    assert got.headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_what_may_pass_is_tried_again_not_before_the_time_that_was_asked_for(status):
    async with Receiver(answers=[web.Response(status=status, headers={"Retry-After": "40"})]) as server:
        with pytest.raises(TemporaryError) as caught:
            await api(server).call("GET", "/")

    assert caught.value.after == 40


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 422])
async def test_everything_else_is_a_refusal_with_its_status(status):
    async with Receiver(answers=[web.Response(status=status, text=f"no: {TOKEN}")]) as server:
        with pytest.raises(Refused) as caught:
            await api(server, hint="look at the key").call("GET", "/")

    assert caught.value.status == status
    assert TOKEN not in str(caught.value)
    assert ("look at the key" in str(caught.value)) == (status in (401, 403))


async def test_an_answer_that_is_no_json_comes_from_something_in_between():
    async with Receiver(answers=[web.Response(text="<html>")]) as server:
        with pytest.raises(TemporaryError, match="in between"):
            await api(server).ask("GET", "/")


async def test_no_answer_in_time_is_tried_again():
    async with Receiver(slow=2) as server:
        with pytest.raises(TemporaryError, match="cannot be reached"):
            await api(server, seconds=0.1).call("GET", "/")


async def test_metadata_services_are_never_called():
    with pytest.raises(PermanentError, match="metadata"):
        await Api("Anything", "http://169.254.169.254").call("GET", "/")
