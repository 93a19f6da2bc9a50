"""catalog.yaml out of Backstage's files: what is taken, what is named, and that the outcome always passes the check."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.catalog import backstage
from bot.catalog.dangling import Known, dangling
from bot.catalog.services import Catalog, Directory
from bot.kit.errors import UserError
from bot.kit.yaml import dump, load

FILE = Path(__file__).parents[1] / "payloads/backstage/catalog-info.yaml"


def sound(made: backstage.Imported) -> Catalog:
    """What the bot reads of the text, with nothing in it that leads nowhere."""
    document = load(made.text, "catalog.yaml")
    catalog = Catalog.model_validate(document.data)
    assert catalog == backstage.checked(made)
    assert dangling(document, Directory(catalog), Known()) == []
    return catalog


def test_components_groups_and_resources_become_services_teams_and_assets():
    found = sound(backstage.read([FILE]))

    checkout = found.services["Checkout"]
    assert (checkout.owner, checkout.description) == ("payments", "Takes the customers' money")
    assert checkout.dependencies == ("ledger", "search")
    assert checkout.dashboards == {"grafana": "https://grafana.example.com/d/checkout"}
    assert checkout.links == {"Wiki notes": "https://wiki.example.com/checkout"}
    assert found.services["ledger"].dependencies == ()
    assert found.teams["payments"].members == ("alice@example.com", "carol@example.com")
    assert found.teams["unknown-team"].members == ()
    assert found.assets["orders-db"].model_dump(exclude_defaults=True) == {
        "kind": "postgresql-database", "service": "Checkout", "owner": "payments", "description": "Orders",
    }  # fmt: skip


def test_what_has_no_place_is_named_with_its_line_and_no_key_is_repeated():
    notes = "\n".join(backstage.read([FILE]).notes)

    for told in (
        "catalog-info.yaml:1: Component Checkout: a link is left out: 'javascript:alert(1)' is no address",
        "Component Checkout: annotations that mean nothing here: 'pagerduty.com/integration-key'",
        "Component Checkout: its system 'shop' is left out",
        "Component Checkout: it depends on 'component:nowhere', which is described nowhere",
        "Component Checkout: it consumes the API 'lost-api', which nobody provides",
        "Component ledger: its need of Checkout is left out: it would go in a circle",
        "Component search: its owner 'user:alice' is no group",
        "Component batch: its owner unknown-team is described nowhere; the team is made without members",
        "Group payments: its member bob has no e-mail address and is left out",
        "Group payments: its member nobody is described nowhere",
        "Group payments: parent are left out",
        "User bob: has no e-mail address",
        "Resource orders-db: ledger need it too; it is part of Checkout here",
        "System shop: there are no systems here",
        "Location more: is not followed",
    ):
        assert told in notes, told
    assert "0123456789abcdef" not in notes


def test_what_is_written_can_be_read_and_imported_into_again_without_a_change():
    made = backstage.read([FILE])
    again = backstage.read([FILE], load(made.text, "catalog.yaml").data)

    assert again.data == made.data
    assert dump(again.data) == made.text


def test_what_was_there_before_stays_as_it_is_and_the_rest_is_added():
    before = {
        "version": 1,
        "services": {
            "Checkout": {"owner": "shop", "tier": 1, "runbooks": ["restart"]},
            "ledger": {"dependencies": ["Checkout"]},
            "mine": None,
        },
        "teams": {"shop": {"members": ["dave@example.com"]}, "unknown-team": {"members": ["erin@example.com"]}},
        "oncall": {"primary": ["dave@example.com"]},
    }
    made = backstage.read([FILE], before)

    found = made.data["services"]
    assert found["Checkout"] | {"links": {}} == {
        **before["services"]["Checkout"],
        "description": "Takes the customers' money",
        "dashboards": {"grafana": "https://grafana.example.com/d/checkout"},
        "dependencies": ["search"],
        "links": {},
    }
    assert found["mine"] is None
    assert made.data["oncall"] == before["oncall"]
    assert made.data["teams"]["unknown-team"] == {"members": ["erin@example.com"]}
    notes = "\n".join(made.notes)
    assert "unknown-team" not in notes
    assert "service Checkout: its need of ledger is left out: it would go in a circle" in notes


def test_folders_are_looked_through_but_links_out_of_them_are_not(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/catalog-info.yaml").write_text("kind: Component\nmetadata: {name: deep}\n")
    (tmp_path / "a/other.yaml").write_text("kind: Component\nmetadata: {name: other}\n")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/catalog-info.yaml").write_text("kind: Component\nmetadata: {name: foreign}\n")
    (tmp_path / "a/round").symlink_to(tmp_path)

    assert list(backstage.read([tmp_path]).data["services"]) == ["deep"]
    assert list(backstage.read([tmp_path / "a/other.yaml"]).data["services"]) == ["other"]
    with pytest.raises(UserError, match="does not exist"):
        backstage.read([tmp_path / "none"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &b 1\nc: *b", "aliases"),
        ("kind: Component\nkind: API\n", "stands here twice"),
        ("kind: Component\nmetadata: {name: '../x'}\n", "is no entity of Backstage"),
        ("kind: [Component]\n", "is no entity of Backstage"),
        ("- 1", "is no entity of Backstage"),
        ("kind: ${{ values.kind }}\nmetadata: {{name: x}}", "catalog-info.yaml:"),
        ("a: [", "not valid YAML"),
        ("\x00", "not valid YAML"),
        ("x: " + "[" * 3000, "catalog-info.yaml:1: n"),
        ("# " + "x" * 300_000, "larger than 256 kB"),
    ],
    ids=["alias", "twice", "name", "kind", "list", "template", "open", "nul", "deep", "large"],
)
def test_what_cannot_be_read_is_named_and_does_not_stop_the_rest(tmp_path, text, told):
    (tmp_path / "catalog-info.yaml").write_text(text)
    (tmp_path / "z").mkdir()
    (tmp_path / "z/catalog-info.yaml").write_text("kind: Component\nmetadata: {name: fine}\n")

    made = backstage.read([tmp_path])

    assert list(made.data["services"]) == ["fine"]
    assert any(told in note for note in made.notes), made.notes


def test_a_document_that_is_wrong_does_not_stop_those_after_it(tmp_path):
    (tmp_path / "catalog-info.yaml").write_text(
        "kind: Component\nmetadata: {name: a, name: b}\n---\nkind: Component\nmetadata: {name: c}\n---\n"
    )
    made = backstage.read([tmp_path])

    assert list(made.data["services"]) == ["c"]
    assert "catalog-info.yaml:2: the key 'name' stands here twice" in made.notes[0]


def test_of_two_of_one_name_the_first_counts(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "catalog-info.yaml").write_text(
            f"kind: Component\nmetadata: {{name: same, description: {name}}}\n"
        )
    made = backstage.read([tmp_path])

    assert made.data["services"] == {"same": {"description": "a"}}
    assert "there is a Component same already" in made.notes[0]


WORDS = st.sampled_from(
    ["a", "b", "A", "group:default/a", "component:b", "resource:c", "user:x", "api:a", "no such", ""]
)
WILD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), WORDS, st.text(max_size=20), st.emails()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
MANY = st.one_of(st.lists(WORDS, max_size=5), WILD)
ENTITIES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["Component", "API", "Resource", "Group", "User", "System", "Template", "component"]),
        "metadata": st.fixed_dictionaries(
            {"name": st.sampled_from(["a", "b", "c", "A.b", "x-1", "_", "a/b"])},
            optional={"description": WILD, "title": WILD, "links": WILD, "annotations": WILD},
        ),
    },
    optional={
        "spec": st.one_of(
            WILD,
            st.fixed_dictionaries(
                {},
                optional={
                    **dict.fromkeys(("dependsOn", "dependencyOf", "consumesApis", "providesApis", "members"), MANY),
                    **dict.fromkeys(("owner", "type", "system", "profile", "memberOf"), st.one_of(WORDS, WILD)),
                },
            ),
        )
    },
)


@settings(max_examples=25, deadline=None)
@given(st.lists(ENTITIES, max_size=6))
def test_whatever_is_in_the_files_what_comes_out_passes_the_check(tmp_path_factory, entities):
    folder = tmp_path_factory.mktemp("wild")
    text = "".join("---\n" + dump(entity) for entity in entities)
    (folder / "catalog-info.yaml").write_text(text, encoding="utf-8", errors="replace")

    made = backstage.read([folder])

    sound(made)
    sound(backstage.read([folder], made.data))
