"""catalog.yaml: what it may hold, who is on call by it, and the names in it that lead nowhere."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalog import config
from bot.catalog.dangling import Known, dangling
from bot.catalog.services import Catalog, Directory, OnCall, Place, Service
from bot.kit.errors import UserError
from bot.kit.yaml import load

WHOLE = """version: 1
services:
  checkout:
    owner: payments
    tier: 1
    dependencies: [ledger]
    dashboards: {Overview: 'https://grafana.example.com/d/checkout'}
    pager:
      pagerduty: {policy: PPAY, key: shop}
    slo: {objective: 99.9, window: 30d, errors: 'sum(rate(e[$window])) / sum(rate(t[$window]))'}
  ledger: {owner: payments}
  search: {owner: web, oncall: primary}
teams:
  payments: {members: [alice@example.com], channel: payments, oncall: database}
  web: {members: [bob@example.com]}
oncall:
  primary: [alice@example.com, UBOB]
  database: {schedule: PSDB}
  everybody: {policy: PALL}
assets:
  db-1: {kind: database, service: ledger, owner: payments}
people:
  alice@example.com: UALICE
  Carol@Example.com: carol@elsewhere.example.com
"""


def read(tmp_path, text: str) -> Catalog:
    (tmp_path / "catalog.yaml").write_text(text)
    return config.load(tmp_path, {}).catalog


def refused(tmp_path, text: str) -> str:
    with pytest.raises(UserError) as told:
        read(tmp_path, text)
    return str(told.value)


def lines(text: str, **known) -> list[str]:
    document = load(text, "catalog.yaml")
    catalog = Catalog.model_validate(document.data)
    usual = {"pagers": ["pagerduty", "log"], "keys": ["shop"], "connections": {"prometheus": "prometheus"}}
    return dangling(document, Directory(catalog, "pagerduty"), Known(**{**usual, **known}))


def test_a_whole_catalog_is_read_and_nothing_in_it_dangles(tmp_path):
    found = read(tmp_path, WHOLE)

    assert found.services["checkout"].slo.window == timedelta(days=30)
    assert found.oncall["primary"] == OnCall(people=("alice@example.com", "UBOB"))
    assert found.assets["db-1"].kind == "database"
    assert lines(WHOLE) == []


def test_files_of_before_are_valid_still(tmp_path):
    text = (
        "version: 1\nservices:\n  checkout: {owner: team-payments, tier: 1, channel: pay, runbooks: [restart]}\n"
        "  search:\nteams:\n  team-payments: {members: [first@example.com], description: money}\n"
        "oncall:\n  primary: [first@example.com]\n"
    )

    assert read(tmp_path, text).services["search"] == Service()
    assert lines(text, runbooks=["restart"]) == []


def test_an_on_call_with_nobody_in_it_is_no_mistake(tmp_path):
    assert read(tmp_path, "version: 1\noncall: {primary: [], other: }\n").oncall["other"] == OnCall()


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("services:\n  a: {dashboards: {x: javascript:alert(1)}}", "3: services.a.dashboards.x: must be an address"),
        ("services:\n  a: {slo: {objective: 100, errors: 'e[$window]'}}", "is a percentage between 0 and 100"),
        ("services:\n  a: {slo: {objective: 99, errors: 'e[5m]'}}", "must hold $window"),
        ("services:\n  a: {slo: {objective: 99, good: 'g[$window]'}}", "give errors (the share that fails), or good"),
        ("services:\n  a: {slo: {objective: 99, window: 5m, errors: 'e[$window]'}}", "must be between 1h and 366d"),
        ("services:\n  a: {pager: {pagerduty: {polcy: P}}}", "unknown key 'polcy'; did you mean 'policy'?"),
        ("oncall: {a: {schedule: P1, policy: P2}}", "give a list of people, or a schedule, or a policy"),
        ("oncall: {a: {schedul: P1}}", "unknown key 'schedul'; did you mean 'schedule'?"),
        ("oncall: {a: [1]}", "2: oncall.a.0: must be text"),
        ("people: {a@example.com: bob}", "must be a user id of Slack"),
        ("people: {bob: U012}", "'bob' cannot be a name here"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path, part, told):
    found = refused(tmp_path, f"version: 1\n{part}\n")

    assert found.startswith("catalog.yaml:")
    assert told in found


def test_who_is_on_call_for_a_service_is_said_by_itself_or_by_its_team(tmp_path):
    directory = Directory(read(tmp_path, WHOLE), "pagerduty")

    assert directory.of_service("checkout") == [Place("policy", "PPAY")]
    assert directory.of_service("ledger") == [Place("schedule", "PSDB")]
    assert directory.of_service("search") == [Place("list", "primary")]
    assert directory.of_service("nothing") == directory.of_team("web") == []
    assert [place.key for place in directory.places()] == [
        "list:primary", "schedule:PSDB", "policy:PALL", "policy:PPAY",
    ]  # fmt: skip
    assert directory.teams_at(Place("policy", "PPAY")) == ["payments"]
    assert directory.teams_at(Place("list", "primary")) == ["web"]
    assert directory.services_at(Place("schedule", "PSDB")) == ["ledger"]


def test_what_another_pager_calls_a_service_says_nothing_here(tmp_path):
    assert Directory(read(tmp_path, WHOLE), "log").of_service("checkout") == [Place("schedule", "PSDB")]


def test_people_are_known_by_another_name_where_the_catalog_says_so(tmp_path):
    directory = Directory(read(tmp_path, WHOLE))

    assert directory.person("Alice@example.com") == "UALICE"
    assert directory.person("carol@example.com") == "carol@elsewhere.example.com"
    assert directory.person("dave@example.com") == "dave@example.com"
    assert directory.owners("checkout") == ("alice@example.com",)
    assert directory.owners(None) == directory.owners("nothing") == ()


def test_a_service_is_paged_with_the_routing_key_that_the_catalog_names(tmp_path):
    (tmp_path / "tocsin.yaml").write_text(
        "version: 1\npager: pagerduty\npagerduty:\n  routing_key: {env: K}\n  services: {shop: {env: S}}\n"
    )
    (tmp_path / "catalog.yaml").write_text(WHOLE)

    access = config.load(tmp_path, {"K": "k" * 32, "S": "s" * 32}).pagerduty

    assert access is not None
    assert access.services["checkout"].get_secret_value() == "s" * 32
    assert "ledger" not in access.services


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "owner: payments\n    tier",
            "owner: paymnts\n    tier",
            "4: service 'checkout': there is no team 'paymnts'; ",
        ),
        ("[ledger]", "[ledgr]", "6: service 'checkout': it needs 'ledgr'; did you mean 'ledger'?"),
        (
            "oncall: primary",
            "oncall: primry",
            "12: service 'search': `oncall` has no 'primry'; did you mean 'primary'?",
        ),
        ("oncall: database}", "oncall: databse}", "14: team 'payments': `oncall` has no 'databse'"),
        ("key: shop", "key: shp", "9: service 'checkout': pagerduty.services of tocsin.yaml has no 'shp'; did you"),
        (
            "pagerduty: {policy",
            "pagerdty: {policy",
            "9: service 'checkout': there is no pager 'pagerdty'; did you mean",
        ),
        (
            "service: ledger,",
            "service: leger,",
            "21: asset 'db-1': there is no service 'leger'; did you mean 'ledger'?",
        ),
        ("tier: 1", "runbooks: [restrat]", "5: service 'checkout': there is no runbook 'restrat'; did you mean"),
        ("objective: 99.9,", "objective: 99.9, connection: promethus,", "10: service 'checkout': targets.yaml has no"),
        ("objective: 99.9,", "objective: 99.9, connection: loki,", "is of kind loki, not prometheus"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_with_its_line_and_the_nearest(old, new, told):
    assert old in WHOLE
    (found,) = lines(
        WHOLE.replace(old, new, 1), runbooks=["restart"], connections={"prometheus": "prometheus", "loki": "loki"}
    )

    assert found.startswith("catalog.yaml:")
    assert told in found


def test_an_owner_is_looked_for_only_where_there_are_teams():
    assert lines("version: 1\nservices:\n  a: {owner: somebody}\n") == []


def test_a_schedule_is_of_no_use_to_a_pager_that_cannot_say_who_is_on_call():
    told = lines(WHOLE, says=False)

    assert [line.partition(": ")[0] for line in told] == ["catalog.yaml:18", "catalog.yaml:19"]
    assert "the pager 'pagerduty' cannot say who is on call there" in told[0]


def test_dependencies_that_go_in_a_circle_are_told_once():
    text = (
        "version: 1\nservices:\n  a: {dependencies: [b]}\n  b: {dependencies: [c]}\n  c: {dependencies: [b, d]}\n"
        "  d: {dependencies: [d]}\n"
    )

    assert lines(text) == [
        "catalog.yaml:4: the dependencies go in a circle: b → c → b",
        "catalog.yaml:6: the dependencies go in a circle: d → d",
    ]


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefghx"), max_size=8)))
def test_any_web_of_dependencies_is_gone_through_and_a_circle_is_found_if_there_is_one(web):
    catalog = Catalog(version=1, services={name: Service(dependencies=tuple(needs)) for name, needs in web.items()})

    told = dangling(load("version: 1\n", "catalog.yaml"), Directory(catalog), Known())

    reach = {name: {need for need in needs if need in web} for name, needs in web.items()}
    for _ in web:
        reach = {name: there.union(*(reach[one] for one in there)) for name, there in reach.items()}
    assert any("in a circle" in line for line in told) == any(name in there for name, there in reach.items())
