"""Grafana OnCall (and IRM) by its integration "Formatted webhook", or whatever else understands that.

https://grafana.com/docs/oncall/latest/configure/integrations/references/webhook/: `alert_uid` groups, `state` is
alerting or ok. Nothing comes back but that it was taken.
"""

import re
from typing import Literal
from urllib.parse import urlsplit

from bot.catalog.config import Config
from bot.catalog.pagers import Secrets
from bot.incidents.pager import Action, ActResult, Pager, PageRequest, PageResult
from bot.kit.api import Api
from bot.kit.errors import PermanentError, UserError
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor

State = Literal["alerting", "ok"]
# A shorter part of an address is a word of it, such as `integrations`, and no key.
LONG = 16


def make(config: Config) -> Pager:
    """The pager that `oncall_webhook:` in tocsin.yaml describes; UserError if it does not."""
    if config.pagers.oncall_webhook is None:
        raise UserError(
            "tocsin.yaml: the pager 'oncall_webhook' needs a section oncall_webhook: with url, "
            "for example {env: ONCALL_WEBHOOK_URL}"
        )
    return OnCall(config.pagers.oncall_webhook[1])


class OnCall:
    """One integration for everything, others for single services. Their addresses are their keys."""

    def __init__(self, urls: Secrets, *, seconds: float = 15.0) -> None:
        """Nothing is opened before it is needed."""
        self._urls, self._seconds = urls, seconds
        self._redact = Redactor([part for url in urls.all() for part in _secret(url)])

    async def page(self, request: PageRequest) -> PageResult:
        """An alert under our key: what has that key already is the same group there."""
        proof = await self._post(request, "alerting")
        return PageResult("sent", "Grafana OnCall has taken the page", proof)

    async def act(self, action: Action) -> ActResult:
        """It can be paged and resolved; the rest is done in Grafana OnCall itself."""
        if action.kind not in ("page", "resolve"):
            raise PermanentError(f"the webhook of Grafana OnCall cannot {action.kind.replace('_', ' ')}: do it there")
        state: State = "ok" if action.kind == "resolve" else "alerting"
        proof = await self._post(action.page, state, action.message)
        return ActResult("done", f"Grafana OnCall has taken it: {state}", "accepted", proof=proof)

    async def close(self) -> None:
        """Nothing is open."""

    async def _post(self, page: PageRequest, state: State, message: str = "") -> str:
        content = {
            "alert_uid": page.dedup_key,
            "title": clip(one_line(clean(f"{page.reference} {page.title}")), 500),
            "message": clean(message)[:3000] or f"{page.severity}{f', {page.service}' if page.service else ''}",
            "state": state,
            **({"link_to_upstream_details": page.url} if page.url else {}),
        }
        api = Api(
            "Grafana OnCall", self._urls.of(page.service), hide=self._redact.text, seconds=self._seconds,
            hint="is the address of the integration right?",
        )  # fmt: skip
        answer = await api.call("POST", "", json=content)
        return f"HTTP {answer.status} for {page.dedup_key}"


def _secret(url: str) -> list[str]:
    """What must not be read of an address that is a key: all of it, its path and each long part, as servers repeat
    them in their errors.
    """
    split = urlsplit(url)
    place = split.path + (f"?{split.query}" if split.query else "")
    parts = [part for part in re.split(r"[/?&=]", place) if len(part) >= LONG]
    return [url, url.partition("?")[0], *(one for one in (place, split.path) if len(one) >= LONG), *parts]
