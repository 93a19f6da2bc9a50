"""What people call a service, a team or an on-call of the catalog, found even where it is misspelt a little."""

from bot.catalog.services import Directory, Place
from bot.kit.errors import UserError
from bot.kit.text import nearest
from bot.slack.views.blocks import quoted


def service(directory: Directory, text: str) -> str:
    """The service called *text*; UserError with the nearest name."""
    names = list(directory.catalog.services)
    found = _among(names, text)
    if found is None:
        raise UserError(f"There is no service {quoted(text)}.{_hint(text, names)}")
    return found


def places(directory: Directory, text: str) -> list[Place]:
    """Where people are on call for what is called *text*: an on-call, a service, a team, or a pager's id."""
    catalog = directory.catalog
    wanted = text.strip().removeprefix("@").removeprefix("oncall:")
    if (name := _among(list(catalog.oncall), wanted)) is not None:
        return [directory.named(name)]
    if (name := _among(list(catalog.services), wanted)) is not None:
        return directory.of_service(name)
    if (name := _among(list(catalog.teams), wanted)) is not None:
        return directory.of_team(name)
    if found := [place for place in directory.places() if place.id.lower() == wanted.lower()]:
        return found
    names = list(dict.fromkeys([*catalog.oncall, *catalog.services, *catalog.teams]))
    raise UserError(f"Neither an on-call nor a service nor a team is called {quoted(wanted)}.{_hint(wanted, names)}")


def address(directory: Directory, user: str, email: str | None) -> str | None:
    """The e-mail address that the pager has for somebody: `people` of catalog.yaml says where it is another one."""
    for mail, known in directory.catalog.people.items():
        if known == user or (email is not None and known.lower() == email.lower()):
            return mail
    return email


def _among(names: list[str], text: str) -> str | None:
    return next((name for name in names if name.lower() == text.strip().lower()), None)


def _hint(text: str, names: list[str]) -> str:
    near = nearest(text.strip().lower(), names)
    near = near or next((name for name in names if len(text) > 2 and text.lower() in name.lower()), None)
    if near:
        return f" Did you mean `{near}`?"
    shown = ", ".join(f"`{name}`" for name in sorted(names)[:20])
    return f" There is: {shown}." if shown else " catalog.yaml names none yet."
