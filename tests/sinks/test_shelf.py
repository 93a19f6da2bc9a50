"""What every sink on the shelf promises."""

from pathlib import Path

import pytest

from bot.catalog.sinks import Configured, Named, SinkSettings
from bot.kit.errors import TemporaryError
from tests.fakes.receiver import Receiver
from tests.sinks.conftest import SECRET, SHELF, configured, said

NAMES = list(SHELF)
KEYS = {
    "webhook": "    url: {url}\n    secret: {{env: SECRET}}\n",
    "grafana": "    url: {url}\n    token: {{env: SECRET}}\n",
    "datadog": "    api_url: {url}\n    api_key: {{env: SECRET}}\n",
    "statuspage": "    api_url: {url}\n    api_key: {{env: SECRET}}\n    page_id: abcdef123456\n    auto: true\n",
}


def made(name: str, folder: Path, url: str) -> Configured:
    return configured(folder, f"    kind: {name}\n" + KEYS[name].format(url=url))


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_does_and_has_a_twin_test(name):
    assert (SHELF[name].__doc__ or "").splitlines()[0].endswith(".")
    assert (Path(__file__).parent / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_are_strict_and_its_secrets_are_only_named(name):
    settings = SHELF[name].Settings
    secret = {
        field for field, info in settings.model_fields.items() if any(isinstance(m, Named) for m in info.metadata)
    }

    assert issubclass(settings, SinkSettings)
    assert settings.model_config["extra"] == "forbid"
    assert secret
    assert not {field for field in settings.model_fields if field.endswith(("key", "token", "secret"))} - secret


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("name", NAMES)
async def test_a_fault_of_the_other_side_is_tried_again(name, status, tmp_path):
    async with Receiver(usual=status) as server:
        with pytest.raises(TemporaryError):
            await SHELF[name].make(made(name, tmp_path, server.url)).send(said())
        assert server.got


@pytest.mark.parametrize("name", NAMES)
async def test_one_that_is_away_is_tried_again_and_no_word_of_it_holds_a_secret(name, tmp_path):
    async with Receiver() as server:
        url = server.url
    with pytest.raises(TemporaryError) as caught:
        await SHELF[name].make(made(name, tmp_path, url)).send(said())
    assert SECRET not in str(caught.value)


# Of a webhook, any 2xx of any receiver is what is asked for.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "webhook"])
async def test_an_answer_that_is_not_the_other_sides_is_not_taken_for_proof(name, tmp_path):
    async with Receiver(usual=200) as server:
        with pytest.raises(TemporaryError, match=r"in between|does not say"):
            await SHELF[name].make(made(name, tmp_path, server.url)).send(said())
