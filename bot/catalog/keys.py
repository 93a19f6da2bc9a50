"""Keys, tokens and passwords: a file of the configuration says where one is, never what it is."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot.kit.errors import UserError

TOKEN_LENGTH = 16

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def look_up(
    folder: Path,
    reference: Any,
    env: Mapping[str, str],
    hint: str = "openssl rand -hex 24",
    *,
    least: int = TOKEN_LENGTH,
) -> str:
    """The token that *reference* points at; UserError, without a word of its content, when there is none."""
    if not isinstance(reference, dict):
        raise UserError("a token is never written here; say where it is: {env: NAME} or {file: /path}")
    if set(reference) not in ({"env"}, {"file"}) or not all(isinstance(value, str) for value in reference.values()):
        raise UserError("say where the token is: {env: NAME} or {file: /path}")
    if "env" in reference:
        where, token = _from_env(reference["env"], env)
    else:
        where, token = _from_file(folder / reference["file"])
    if len(token) < least:
        raise UserError(f"the token in {where} has {len(token)} characters; use at least {least} ({hint})")
    return token


def _from_env(name: str, env: Mapping[str, str]) -> tuple[str, str]:
    # A name that is none is not repeated: somebody may have written the token itself.
    if not _ENV_NAME.fullmatch(name) or (name not in env and not name.isupper()):
        raise UserError("env names an environment variable, in capitals: {env: CHECKOUT_TOKEN}")
    if not env.get(name, "").strip():
        raise UserError(f"the environment variable {name} is not set")
    return name, env[name].strip()


def _from_file(path: Path) -> tuple[str, str]:
    try:
        with path.open(encoding="utf-8") as file:
            token = file.read(4097).strip()
    except OSError as error:
        raise UserError(f"the token file {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"the token file {path} is not UTF-8 text") from None
    if len(token) > 4096:
        raise UserError(f"the token file {path} holds more than 4096 characters")
    return str(path), token
