"""Everything an operator sets by environment; read once, then passed on as values."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Secrets and addresses. How the bot behaves is in the YAML files of the folder `config`."""

    model_config = SettingsConfigDict(env_prefix="TOCSIN_", frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///tocsin.db"),
        description="sqlite:///file.db or postgresql://user:password@host/name",
    )
    config: Path = Field(default=Path("config"), description="folder with tocsin.yaml, connections.yaml, routes.yaml …")
    slack_api_url: str = Field(default="https://slack.com/api/", description="where Slack's Web API is")
    slack_mode: Literal["socket", "http"] = Field(
        default="socket", description="how Slack's requests come: by Socket Mode, or by signed HTTP to a public address"
    )
    slack_bot_token: SecretStr | None = Field(default=None, description="xoxb-…, from OAuth & Permissions")
    slack_app_token: SecretStr | None = Field(
        default=None, description="xapp-…, with connections:write; for Socket Mode"
    )
    slack_signing_secret: SecretStr | None = Field(default=None, description="from Basic Information; for HTTP mode")
    host: str = Field(default="127.0.0.1", description="address the web server listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="port the web server listens on; 0 picks a free one")
    metrics_token: SecretStr | None = Field(
        default=None, min_length=16, description="bearer token that /metrics asks for; without it the page is open"
    )
    scratch: Path | None = Field(
        default=None, description="folder where each run has one of its own; without it, in the system's temporary one"
    )
    log: Literal["auto", "json", "text"] = Field(default="auto", description="how logs are written to stderr")

    @field_validator("slack_api_url")
    @classmethod
    def _slash(cls, found: str) -> str:
        return found if found.endswith("/") else found + "/"


def environment() -> Mapping[str, str]:
    """The process's environment, for what names a variable: connections' tokens, runbooks' secrets."""
    return dict(os.environ)  # noqa: TID251 - the one place
