"""api, auth, apps, team, bots and blocks: who am I, and is this all right."""

import urllib.parse

from bot.sandbox import blocks
from bot.sandbox.methods.method import Method, RefusedError, Request
from bot.sandbox.rates import SPECIAL
from bot.sandbox.state import Json
from bot.sandbox.workspace import BOT_ID, DOMAIN, TEAM


def api_test(request: Request) -> Json:
    if error := request.text("error"):
        raise RefusedError(error, args=request.args)
    return {"args": request.args}


def auth_test(request: Request) -> Json:
    return {
        "url": f"{request.workspace.url}/",
        "team": "Sandbox",
        "user": request.workspace.bot.name,
        "team_id": TEAM,
        "user_id": request.me,
        "bot_id": BOT_ID,
        "app_id": request.workspace.app.id,
        "is_enterprise_install": False,
    }


def connections_open(request: Request) -> Json:
    host = urllib.parse.urlsplit(request.workspace.url).netloc
    return {"url": f"ws://{host}/link?ticket={request.sockets.issue()}"}


def team_info(request: Request) -> Json:
    return {"team": {"id": TEAM, "name": "Sandbox", "domain": DOMAIN, "email_domain": "example.com", "icon": {}}}


def bots_info(request: Request) -> Json:
    if (asked := request.text("bot")) and asked != BOT_ID:
        raise RefusedError("bot_not_found")
    return {"bot": {k: v for k, v in request.workspace.bot_profile().items() if k != "team"}}


def blocks_validate(request: Request) -> Json:
    if (view := request.json("view", "invalid_view")) is not None:
        problems, error = blocks.validate_view(view), "invalid_view"
    elif (message := request.json("message", "invalid_message")) is not None:
        body = message.get("blocks") if isinstance(message, dict) else None
        problems, error = blocks.validate_blocks(body or []), "invalid_message"
    else:
        problems, error = blocks.validate_blocks(request.json("blocks", "invalid_blocks")), "invalid_blocks"
    if problems:
        found = [{"code": p.code, "message": p.message, "pointer": p.pointer} for p in problems]
        raise RefusedError(error, errors=found)
    return {}


METHODS = {
    "api.test": Method(api_test, takes=("error", "foo"), caller="anyone", tier=4),
    "auth.test": Method(auth_test, tier=SPECIAL),
    "apps.connections.open": Method(connections_open, caller="app", tier=3),
    "team.info": Method(team_info, takes=("team", "domain"), scopes="team:read", tier=3),
    "bots.info": Method(bots_info, takes=("bot", "team_id"), scopes="users:read", tier=3),
    "blocks.validate": Method(blocks_validate, takes=("blocks", "message", "view"), caller="anyone"),
}
