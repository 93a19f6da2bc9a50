from datetime import timedelta

import pytest

from bot.catalog import config
from bot.catalog.services import Service
from bot.kit.errors import UserError

TOKEN = "correct-horse-battery-staple"


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def told(folder, env=None):
    with pytest.raises(UserError) as refused:
        config.load(folder, env or {})
    return str(refused.value)


def test_nothing_written_means_the_defaults(tmp_path):
    assert config.load(tmp_path / "none", {}) == config.load(tmp_path, {}) == config.Config()


def test_a_whole_folder_is_read(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}2\n")
    write(
        tmp_path,
        tocsin="version: 1\nannouncement_channel: incidents\nprivate_networks: [10.0.0.0/8]\n",
        connections="version: 1\nconnections:\n  prod-am:\n    source: alertmanager\n"
        "    token: [{env: AM_TOKEN}, {file: token}]\n    labels: {env: prod}\n",
        catalog="version: 1\nservices:\n  checkout: {owner: payments, tier: 1, runbooks: [restart]}\n  search:\n",
    )

    found = config.load(tmp_path, {"AM_TOKEN": TOKEN})

    assert found.general.announcement_channel == "incidents"
    connection = found.connections["prod-am"]
    assert [token.get_secret_value() for token in connection.tokens] == [TOKEN, f"{TOKEN}2"]
    assert (connection.source, connection.labels) == ("alertmanager", {"env": "prod"})
    assert found.services["checkout"].owner == "payments"
    assert found.services["search"] == Service()
    assert TOKEN not in repr(found)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (TOKEN, "a token is never written here"),
        ("{env: " + TOKEN + "}", "env names an environment variable"),
        ("{value: " + TOKEN + "}", "say where the token is"),
        ("{env: A, file: B}", "say where the token is"),
        ("{env: MISSING}", "the environment variable MISSING is not set"),
        ("{env: SHORT}", "has 5 characters; use at least 16"),
        ("{file: /no/such/file}", "cannot be read (No such file or directory)"),
        ("{file: .}", "cannot be read"),
        ("[]", "give one token, or two"),
        ("3", "a token is never written here"),
        ("~", "a token is never written here"),
    ],
)
def test_a_token_that_is_no_good_reference_is_refused_and_not_repeated(tmp_path, token, message):
    write(tmp_path, connections=f"version: 1\nconnections:\n  am:\n    source: alertmanager\n    token: {token}\n")

    found = told(tmp_path, {"SHORT": "abcde"})

    assert found.startswith("connections.yaml:5: connection 'am': ")
    assert message in found
    assert TOKEN not in found


def test_every_problem_of_every_file_is_told_at_once(tmp_path):
    (tmp_path / "routes.yml").write_text("version: 1\n")
    write(
        tmp_path,
        tocsin="version: 1\nanouncement_channel: x\nprivate_networks: [here]\nrunbook_secrets: [A B]\n",
        catalog="version: 3\n",
        connections="version: 1\nconnections:\n  a: {source: generic, token: {env: T}}\n"
        "  b: {token: {env: T}, sauce: x}\n",
    )

    found = told(tmp_path).splitlines()

    assert "routes.yml:1: this file is not read; call it routes.yaml" in found
    assert "tocsin.yaml:2: unknown key 'anouncement_channel'; did you mean 'announcement_channel'?" in found
    assert "tocsin.yaml:3: private_networks: 'here' is not a network; write for example 10.0.0.0/8" in found
    assert "tocsin.yaml:4: runbook_secrets: 'A B' is not the name of a variable; write for example CHECKOUT_*" in found
    assert "catalog.yaml:1: version: must be 1, the only version there is" in found
    assert "connections.yaml:4: 'source' is missing" in found
    assert "connections.yaml:4: unknown key 'sauce'; did you mean 'source'?" in found


def test_a_connection_name_must_fit_an_address(tmp_path):
    write(tmp_path, connections="version: 1\nconnections:\n  Prod AM: {source: generic, token: {env: T}}\n")

    assert "lower-case letters, digits and dashes" in told(tmp_path, {"T": TOKEN})


def test_how_long_things_are_kept_can_be_said_one_by_one(tmp_path):
    write(tmp_path, tocsin="version: 1\nretention:\n  deliveries: 1d12h\n  requests: forever\n")

    kept = config.load(tmp_path, {}).general.retention

    assert (kept.workflows, kept.deliveries, kept.requests) == (timedelta(days=7), timedelta(hours=36), None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("90", "write how long to keep it, such as 7d or 36h, or forever"),
        ("ninety days", "write how long to keep it"),
        ("~", "write how long to keep it"),
        ("[7d]", "write how long to keep it"),
        ("-7d", "write how long to keep it"),
        ("999999999d999999999d", "write how long to keep it"),
        ("0d", "keep it for at least 1d and at most 36500d, or forever"),
        ("23h", "keep it for at least 1d"),
        ("36501d", "keep it for at least 1d"),
    ],
)
def test_a_time_that_is_none_or_too_short_or_endless_is_refused_where_it_stands(tmp_path, value, message):
    write(tmp_path, tocsin=f"version: 1\nretention:\n  requests: {value}\n")

    found = told(tmp_path)

    assert found.startswith("tocsin.yaml:3: retention.requests: ")
    assert message in found


def test_the_record_cannot_be_given_an_age(tmp_path):
    write(tmp_path, tocsin="version: 1\nretention: {timeline: 90d}\n")

    assert "unknown key 'timeline'; there is: deliveries, requests, workflows" in told(tmp_path)


PAGERDUTY = """version: 1
pager: pagerduty
pagerduty:
  routing_key: {env: PD_KEY}
  services:
    search: {file: search.key}
  api_token: {env: PD_TOKEN}
  from_email: bot@example.com
"""
KEYS = {"PD_KEY": "r" * 32, "PD_TOKEN": "t" * 20}


def test_what_opens_pagerduty_is_read_from_where_it_is_kept(tmp_path):
    (tmp_path / "search.key").write_text("s" * 32 + "\n")

    found = config.load(write(tmp_path, tocsin=PAGERDUTY), KEYS)

    access = found.pagerduty
    assert (access.routing_key.get_secret_value(), access.api_token.get_secret_value()) == ("r" * 32, "t" * 20)
    assert {name: key.get_secret_value() for name, key in access.services.items()} == {"search": "s" * 32}
    assert (access.events_url, access.api_url) == ("https://events.pagerduty.com", "https://api.pagerduty.com")
    assert "r" * 32 not in repr(found)
    assert "t" * 20 not in repr(found)


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("{env: PD_KEY}", "r" * 32, "tocsin.yaml:4: pagerduty.routing_key: a token is never written here"),
        ("{env: PD_KEY}", "{env: NONE}", "tocsin.yaml:4: pagerduty.routing_key: the environment variable NONE is not"),
        ("{env: PD_KEY}", "{env: SHORT}", "has 3 characters; use at least 16 (PagerDuty makes no key that short)"),
        ("{env: PD_KEY}", "{env: BLANK}", "holds white space, so it is no key"),
        ("{file: search.key}", "{file: none.key}", "tocsin.yaml:6: pagerduty.services.search: the token file"),
        ("  api_token: {env: PD_TOKEN}\n", "", "tocsin.yaml:3: pagerduty: api_token is missing"),
        ("  from_email: bot@example.com\n", "", "tocsin.yaml:3: pagerduty: from_email is missing"),
        ("bot@example.com", "somebody", "from_email"),
        ("bot@example.com", "bot@example.com\n  api_url: http://pd.example.com", "api_url"),
        ("bot@example.com", "bot@example.com\n  api_url: https://pd.example.com/x", "api_url"),
        ("routing_key", "routingkey", "unknown key 'routingkey'; did you mean 'routing_key'?"),
        (
            "bot@example.com",
            "bot@example.com\n  webhook_secrets: secret",
            "tocsin.yaml:9: pagerduty.webhook_secrets: a t",
        ),
        ("bot@example.com", "bot@example.com\n  webhook_secrets: [1, 2, 3, 4]", "give one secret, or two while you"),
        ("bot@example.com", "bot@example.com\n  alerts: true", "tocsin.yaml:9: pagerduty.alerts: what PagerDuty tells"),
        ("pager: pagerduty", "page_ack_minutes: {SEV9: 5}", "page_ack_minutes"),
        ("pager: pagerduty", "page_ack_minutes: {SEV1: 0}", "page_ack_minutes.SEV1"),
        ("pager: pagerduty", "page_on_severity: shout", "page_on_severity"),
    ],
)
def test_a_mistake_in_the_section_of_pagerduty_is_shown_where_it_stands(tmp_path, line, instead, message):
    (tmp_path / "search.key").write_text("s" * 32)
    assert line in PAGERDUTY

    text = PAGERDUTY.replace(line, instead, 1)
    found = told(write(tmp_path, tocsin=text), {**KEYS, "SHORT": "abc", "BLANK": "a b" * 10})

    assert message in found
    assert "r" * 32 not in found


def test_a_stand_in_for_pagerduty_on_this_machine_may_be_plain_http(tmp_path):
    (tmp_path / "search.key").write_text("s" * 32)
    text = PAGERDUTY + "  events_url: http://127.0.0.1:8090\n  api_url: https://api.eu.pagerduty.com\n"

    access = config.load(write(tmp_path, tocsin=text), KEYS).pagerduty

    assert (access.events_url, access.api_url) == ("http://127.0.0.1:8090", "https://api.eu.pagerduty.com")


def test_webhooks_of_pagerduty_may_have_two_secrets_while_they_are_changed(tmp_path):
    (tmp_path / "search.key").write_text("s" * 32)
    text = PAGERDUTY + "  webhook_secrets: [{env: PD_KEY}, {env: PD_TOKEN}]\n  alerts: true\n"

    access = config.load(write(tmp_path, tocsin=text), KEYS).pagerduty

    assert [secret.get_secret_value() for secret in access.webhook_secrets] == ["r" * 32, "t" * 20]
    assert access.alerts


def test_nothing_starts_by_itself_unless_somebody_says_so(tmp_path):
    quiet = "quiet_hours: {from: '22:00', to: 06:00, days: [sat, sun]}\n"
    write(tmp_path, tocsin=f"version: 1\nauto_runbooks: true\nauto_failures: 2\n{quiet}operations_channel: ops\n")

    found = config.load(tmp_path, {}).general

    assert not config.General().auto_runbooks
    assert not config.General().schedules
    assert (found.auto_runbooks, found.auto_failures, found.operations_channel) == (True, 2, "ops")
    assert [(one.begin.hour, one.end.hour, one.days) for one in found.quiet_hours] == [(22, 6, ("sat", "sun"))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("auto_runbooks: yes", "tocsin.yaml:2: auto_runbooks: must be true or false"),
        ("auto_failures: 0", "tocsin.yaml:2: auto_failures: must be greater than or equal to 1"),
        ("quiet_hours: {from: 22, to: '06:00'}", "tocsin.yaml:2: quiet_hours.from: write a time of day as 22:00"),
        ("quiet_hours: {from: '22:00', till: '06:00'}", "unknown key 'till'"),
        ("quiet_hours: {from: '22:00', to: '06:00', timezone: Berlin}", "is not a time zone; write for example"),
    ],
)
def test_what_is_wrong_about_automation_is_named_with_its_line(tmp_path, line, message):
    write(tmp_path, tocsin=f"version: 1\n{line}\n")

    assert message in told(tmp_path)


@pytest.mark.parametrize(
    ("source", "tokens", "doubt"),
    [
        ("alertmanager", {"A": "x" * 32}, None),
        ("alertmanager", {"A": "x" * 31}, "a token of am is shorter than 32 characters"),
        ("alertmanager", {"A": "x" * 32, "B": "y" * 16}, "a token of am is shorter than 32 characters"),
        ("generic", {"A": "x" * 64}, "what comes by am is not signed, and anything can send it (source: generic)"),
    ],
)
def test_a_runbook_starts_by_itself_for_senders_alone_that_have_proved_who_they_are(tmp_path, source, tokens, doubt):
    listed = ", ".join(f"{{env: {name}}}" for name in tokens)
    write(tmp_path, connections=f"version: 1\nconnections:\n  am: {{source: {source}, token: [{listed}]}}\n")

    assert config.load(tmp_path, tokens).connections["am"].doubt == doubt


def test_nobody_can_send_what_only_runbooks_raise(tmp_path):
    write(tmp_path, connections="version: 1\nconnections:\n  runbook: {source: generic, token: {env: A}}\n")

    assert "this is the name of the alerts that runbooks raise" in told(tmp_path, {"A": TOKEN})
