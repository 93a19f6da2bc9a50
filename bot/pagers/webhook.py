"""Any system that takes JSON over HTTPS: each page and each act is one signed request, and a 2xx is the proof.

https://www.standardwebhooks.com: the receiver knows by `webhook-id` what it has had already.
"""

import json
from typing import Any

from bot.catalog.config import Config
from bot.catalog.pagers import Webhook
from bot.incidents.pager import Action, ActResult, Pager, PageRequest, PageResult
from bot.kit import signature
from bot.kit.api import Api
from bot.kit.clock import Clock, utc_now
from bot.kit.errors import UserError
from bot.kit.ids import derived_id
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor


def make(config: Config) -> Pager:
    """The pager that `webhook:` in tocsin.yaml describes; UserError if it does not."""
    if config.pagers.webhook is None:
        raise UserError(
            "tocsin.yaml: the pager 'webhook' needs a section webhook: with url and secret, "
            "for example {env: PAGE_WEBHOOK_SECRET}"
        )
    settings, secrets = config.pagers.webhook
    return Requests(settings, secrets.all())


class Requests:
    """One receiver; *secrets* sign, the first one for good, a second while they change."""

    def __init__(self, settings: Webhook, secrets: list[str], *, clock: Clock = utc_now, seconds: float = 15.0) -> None:
        """Nothing is opened before it is needed."""
        self._settings, self._secrets, self._clock, self._seconds = settings, secrets, clock, seconds
        self._redact = Redactor(secrets)

    async def page(self, request: PageRequest) -> PageResult:
        """Send it. Sent again, it carries the same `webhook-id`."""
        proof = await self._post("page", request, key="")
        return PageResult("sent", "the webhook took the page", proof)

    async def act(self, action: Action) -> ActResult:
        """Send what shall be done; the receiver does it, or answers with an error."""
        user = {"user": action.user} if action.user else {}
        proof = await self._post(action.kind, action.page, key=action.key, message=clean(action.message)[:3000], **user)
        return ActResult("done", f"the webhook took the wish: {action.kind.replace('_', ' ')}", "accepted", proof=proof)

    async def close(self) -> None:
        """Nothing is open."""

    async def _post(self, kind: str, page: PageRequest, *, key: str, **more: Any) -> str:
        """What the receiver calls it, or under what id it took it."""
        now = self._clock()
        id_ = f"msg_{derived_id('page', kind, page.dedup_key, key)}"
        content = {
            "type": f"tocsin.{kind}",
            "timestamp": now.isoformat(),
            "data": {
                "key": page.dedup_key,
                "incident": page.reference,
                "title": clip(one_line(clean(page.title)), 500),
                "severity": page.severity,
                "service": page.service,
                "url": page.url,
                **{name: value for name, value in more.items() if value},
            },
        }
        body = json.dumps(content, ensure_ascii=False).encode()
        signed = signature.headers(self._secrets, id_, int(now.timestamp()), body)
        url = self._settings.services.get(page.service or "", self._settings.url)
        api = Api(
            "the pager's webhook", url, hide=self._redact.text, hint="does it know the secret?",
            seconds=self._seconds, clock=self._clock,
        )  # fmt: skip
        answer = await api.call("POST", "", body=body, headers={"Content-Type": "application/json", **signed})
        told = answer.json()
        named = told.get("id") if isinstance(told, dict) else None
        return clip(one_line(clean(str(named))), 200) if isinstance(named, str | int) and named else id_
