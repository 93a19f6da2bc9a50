import textwrap

import pytest

from bot.alerts import routing
from bot.alerts.grouping import group_key
from bot.alerts.model import Alert, AlertStatus, Severity
from bot.alerts.routing import Open, Routes
from bot.kit import yaml
from bot.kit.errors import UserError


def alert(level=Severity.CRITICAL, fingerprint="f", **labels):
    return Alert(AlertStatus.FIRING, "A", fingerprint, fingerprint, severity=level, labels=labels)


def routes(text):
    return routing.read(yaml.load(textwrap.dedent(text), "routes.yaml"))


@pytest.mark.parametrize(
    ("level", "opening", "sev"),
    [
        (Severity.CRITICAL, Open.ALWAYS, "SEV1"),
        (Severity.HIGH, Open.ALWAYS, "SEV2"),
        (Severity.MEDIUM, Open.SUGGEST, "SEV3"),
        (Severity.LOW, Open.NEVER, "SEV4"),
        (Severity.INFO, Open.NEVER, "SEV5"),
    ],
)
def test_without_a_file_severity_decides(level, opening, sev):
    found = routing.route(alert(level, service="checkout"), Routes())

    assert (found.open, found.severity, found.service, found.route) == (opening, sev, "checkout", "default")
    assert "no route matches" in found.reason


def test_the_first_route_that_matches_decides():
    table = routes("""
        version: 1
        routes:
          - {name: quiet, match: ['alertname=~"Watchdog|InfoInhibitor"'], open: never}
          - name: checkout
            match: ['service="checkout"', 'severity=~"critical|high"', connection=prod-am]
            open: suggest
            severity: {critical: SEV2}
            runbooks: [restart-service]
            private: true
          - {name: rest, open: never}
        """)

    found = routing.route(alert(service="checkout"), table, connection="prod-am")

    assert (found.route, found.open, found.severity, found.private) == ("checkout", Open.SUGGEST, "SEV2", True)
    assert found.runbooks == ("restart-service",)
    assert routing.route(alert(service="checkout"), table, connection="other").route == "rest"
    assert routing.route(alert(alertname="Watchdog"), table).open is Open.NEVER


def test_continue_lays_one_route_over_another():
    table = routes("""
        version: 1
        routes:
          - {name: prod, match: env=prod, continue: true, runbooks: [look], open: suggest, service: everything}
          - {name: checkout, match: service=checkout, runbooks: [look, restart], open: always}
          - {name: never-reached, open: never}
        """)

    found = routing.route(alert(service="checkout", env="prod"), table)

    assert (found.route, found.open, found.service) == ("checkout", Open.ALWAYS, "everything")
    assert found.runbooks == ("look", "restart")


def test_the_severity_map_knows_the_senders_words():
    table = routes("""
        version: 1
        defaults: {severity: {high: SEV1}}
        severity_map: {Wake-Me: high, 5: info}
        """)

    assert routing.route(alert(Severity.MEDIUM, severity="wake-me"), table).severity == "SEV1"
    assert routing.route(alert(Severity.MEDIUM, severity="5"), table).open is Open.NEVER


def test_the_service_is_the_first_label_that_names_one():
    table = routes("version: 1\ndefaults: {service_from: [labels.team_service, job]}\n")

    assert routing.route(alert(job="node", team_service="pay"), table).service == "pay"
    assert routing.route(alert(job="node"), table).service == "node"
    assert routing.route(alert(), table).service is None


def test_the_group_is_the_route_and_the_values_of_group_by():
    table = routes("""
        version: 1
        routes:
          - {name: db, match: alertname=~"Postgres.*", group_by: [labels.cluster]}
        """)
    one = routing.route(alert(alertname="PostgresDown", cluster="a", service="x"), table)
    two = routing.route(alert(alertname="PostgresSlow", cluster="a", service="y"), table)
    other = routing.route(alert(alertname="PostgresSlow", cluster="b"), table)

    assert one.group_key == two.group_key == group_key("db", ["a"])
    assert other.group_key != one.group_key


def test_alerts_without_any_value_to_group_by_do_not_all_fall_together():
    keys = {
        routing.route(found, Routes()).group_key
        for found in (alert(alertname="A"), alert(alertname="B"), alert(fingerprint="1"), alert(fingerprint="2"))
    }

    assert len(keys) == 4


def test_a_missing_value_is_not_an_empty_one_nor_the_sign_for_it():
    assert len({group_key("r", [value]) for value in (None, "", "∅", "none")}) == 4
    assert group_key("r", ["a", "b"]) != group_key("r", ["b", "a"])


def test_every_problem_of_the_file_is_told_with_its_line():
    with pytest.raises(UserError) as refused:
        routes("""\
            version: 1
            defaults: {open: sometimes, groupby: [a]}
            routes:
              - name: a
                match: ['alertname=~"("']
                window: 10m
                continu: true
              - name: a
              - {name: default}
            inhibit: []
            """)

    told = str(refused.value)
    assert "routes.yaml:2: defaults.open: must be 'always', 'suggest' or 'never'" in told
    assert "routes.yaml:2: unknown key 'groupby'; did you mean 'group_by'?" in told
    assert "routes.yaml:5: routes.0.match.0:" in told
    assert "routes.yaml:6: 'window' is not supported in this version" in told
    assert "routes.yaml:7: unknown key 'continu'; did you mean 'continue'?" in told
    assert "routes.yaml:8: two routes are called 'a'" in told
    assert "routes.yaml:9: 'default' is the name" in told
    assert "routes.yaml:10: 'inhibit' is not supported in this version" in told


@pytest.mark.parametrize(
    "text", ["", "[]", "version: 2", "routes: []", "version: 1\nroutes: {}", "version: 1\nroutes: [x]"]
)
def test_a_file_of_another_shape_is_refused(text):
    with pytest.raises(UserError, match=r"routes\.yaml:\d+: "):
        routing.read(yaml.load(text, "routes.yaml"))


def test_no_file_means_the_defaults(tmp_path):
    assert routing.load(tmp_path / "routes.yaml") == Routes()
