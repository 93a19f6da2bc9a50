"""users and usergroups: who there is."""

from bot.sandbox.methods.method import Method, RefusedError, Request
from bot.sandbox.state import Group, Json
from bot.sandbox.workspace import TEAM


def info(request: Request) -> Json:
    user = request.workspace.users.get(request.text("user"))
    if user is None:
        raise RefusedError("user_not_found")
    return {"user": user.payload(TEAM)}


def listed(request: Request) -> Json:
    page, metadata = request.page(list(request.workspace.users.values()))
    return {"members": [u.payload(TEAM) for u in page], "cache_ts": 0, "response_metadata": metadata}


def by_email(request: Request) -> Json:
    email = request.text("email").lower()
    for user in request.workspace.users.values():
        if email and user.email == email:
            return {"user": user.payload(TEAM)}
    raise RefusedError("users_not_found")


def groups(request: Request) -> Json:
    return {"usergroups": [_shown(request, g) for g in request.workspace.groups.values()]}


def _shown(request: Request, group: Group) -> Json:
    found: Json = {
        "id": group.id,
        "team_id": TEAM,
        "is_usergroup": True,
        "name": group.name,
        "handle": group.handle,
        "description": "",
        "date_update": group.updated,
        "date_delete": 0,
    }
    if request.flag("include_users"):
        found["users"] = list(group.users)
    if request.flag("include_count"):
        found["user_count"] = len(group.users)
    return found


def of_group(request: Request) -> Json:
    group = request.workspace.groups.get(request.text("usergroup"))
    if group is None:
        raise RefusedError("no_such_subteam")
    return {"users": list(group.users)}


def regroup(request: Request) -> Json:
    group = request.workspace.groups.get(request.text("usergroup"))
    users = request.ids("users")
    if group is None:
        # The reference has no better word for a group that is not there.
        raise RefusedError("permission_denied")
    if not users:
        raise RefusedError("no_users_provided")
    known = (request.workspace.users.get(user) for user in users)
    if not all(user and not user.is_bot and not user.is_restricted for user in known):
        raise RefusedError("invalid_users")
    request.workspace.regroup(group, users)
    return {"usergroup": _shown(request, group) | {"users": list(group.users)}}


METHODS = {
    "users.info": Method(info, ("user",), ("include_locale",), "users:read", tier=4),
    "users.list": Method(listed, (), ("cursor", "limit", "include_locale", "team_id"), "users:read", tier=2),
    "users.lookupByEmail": Method(by_email, ("email",), (), "users:read.email", tier=3),
    "usergroups.list": Method(
        groups, (), ("include_count", "include_disabled", "include_users", "team_id"), "usergroups:read", tier=2
    ),
    "usergroups.users.list": Method(
        of_group, ("usergroup",), ("include_disabled", "team_id"), "usergroups:read", tier=2
    ),
    "usergroups.users.update": Method(
        regroup,
        ("usergroup", "users"),
        ("include_count", "team_id", "additional_channels", "is_shared"),
        "usergroups:write",
        tier=2,
    ),
}
