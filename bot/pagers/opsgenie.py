"""Opsgenie's Alert API, and the same of Jira Service Management's operations: alerts under an alias of our own.

Requests are taken first and carried out afterwards (202), so a page is sent when the request proves to have succeeded.
https://docs.opsgenie.com/docs/alert-api, https://developer.atlassian.com/cloud/jira/service-desk-ops/rest/v1/.
"""

import asyncio
import base64
from typing import Any
from urllib.parse import quote

from bot.catalog.config import Config
from bot.catalog.pagers import Opsgenie, Secrets
from bot.incidents.pager import Action, ActResult, Pager, PageRequest, PageResult
from bot.kit.api import Api, Refused
from bot.kit.clock import Clock, utc_now
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor

# https://docs.opsgenie.com/docs/alert-api#create-alert
MESSAGE, ALIAS, DESCRIPTION, ENTITY, NOTE = 130, 512, 15_000, 512, 25_000
LOOKS, LOOK_SECONDS = 6, 1.0
PRIORITY = {"SEV1": "P1", "SEV2": "P2", "SEV3": "P3", "SEV4": "P4", "SEV5": "P5"}
CLOUD = "https://api.atlassian.com"
DONE = {"ack": "acknowledged", "resolve": "closed", "note": "written down", "escalate": "escalated"}


def make(config: Config) -> Pager:
    """The pager that `opsgenie:` in tocsin.yaml describes; UserError if it does not."""
    if config.pagers.opsgenie is None:
        raise UserError(
            "tocsin.yaml: the pager 'opsgenie' needs a section opsgenie: with api_key, "
            "for example {env: OPSGENIE_API_KEY}"
        )
    return Alerts(*config.pagers.opsgenie)


class Alerts:
    """One account of it; with `cloud_id`, of Jira Service Management."""

    def __init__(
        self,
        settings: Opsgenie,
        keys: Secrets,
        *,
        clock: Clock = utc_now,
        seconds: float = 15.0,
        look: float = LOOK_SECONDS,
    ) -> None:
        """Nothing is opened before it is needed. *look* is the time between two looks at what came of a request."""
        self._settings, self._keys, self._clock, self._seconds = settings, keys, clock, seconds
        self._look = look
        self._redact = Redactor(keys.all())
        self.name = "Opsgenie" if settings.cloud_id is None else "Jira Service Management"

    # -- the port -----------------------------------------------------------------------------------------------

    async def page(self, request: PageRequest) -> PageResult:
        """Create an alert; an open one under the same alias only counts up, and wakes nobody again."""
        alert = await self._created(request)
        return PageResult("sent", f"{self.name} has an alert for it", alert)

    async def act(self, action: Action) -> ActResult:
        """Do it, to the alert under our alias."""
        if action.kind == "page":
            alert = await self._created(action.page, action.message)
            return ActResult("done", f"{self.name} has an alert for it", "open", alert, alert)
        path, content = self._asked(action)
        done = await self._request(action.page, f"{await self._alert(action.page)}/{path}", content, named=True)
        alert = str(done.get("alertId") or "")
        detail = f"the alert in {self.name} is {DONE.get(action.kind, 'changed')}"
        return ActResult("done", detail, DONE.get(action.kind), alert or None, alert or action.page.dedup_key)

    async def close(self) -> None:
        """Nothing is open."""

    # -- requests -----------------------------------------------------------------------------------------------

    def _asked(self, action: Action) -> tuple[str, dict[str, Any]]:
        note = {"note": clip(clean(action.message), NOTE)} if action.message else {}
        said = {"source": "Tocsin", **note}
        match action.kind:
            case "ack":
                return "acknowledge", said
            case "resolve":
                return "close", said
            case "note":
                if not note:
                    raise PermanentError("a note needs some text")
                return "notes", said
            case "escalate":
                if self._settings.escalation is None:
                    raise PermanentError("to escalate, set opsgenie.escalation in tocsin.yaml to the escalation's name")
                return "escalate", {"escalation": {"name": self._settings.escalation}, **said}
            case "add_responder":
                if not action.user:
                    raise PermanentError("nobody is named who could be added")
                return "responders", {"responder": {"type": "user", "username": action.user}, **said}
        raise PermanentError(f"{self.name} cannot {action.kind.replace('_', ' ')}: do it there")

    async def _created(self, page: PageRequest, message: str = "") -> str:
        if len(page.dedup_key) > ALIAS:
            raise PermanentError(f"the name of the service is too long for an alias of {self.name}'s")
        told = clip(one_line(clean(f"{page.reference} {message or page.title}")), MESSAGE)
        more = "extraProperties" if self._settings.cloud_id else "details"
        content: dict[str, Any] = {
            "message": told,
            "alias": page.dedup_key,
            "description": clip("\n".join(filter(None, (clean(page.title), clean(message), page.url))), DESCRIPTION),
            "priority": PRIORITY.get(page.severity, "P3"),
            "source": "Tocsin",
            "tags": ["tocsin", page.reference, page.severity],
            more: {"incident": page.reference, "severity": page.severity},
        }
        if page.service:
            content["entity"] = clip(page.service, ENTITY)
        done = await self._request(page, "", content)
        alert = str(done.get("alertId") or "")
        if not alert:
            raise TemporaryError(f"{self.name} does not say which alert it made")
        return alert

    async def _request(
        self, page: PageRequest, path: str, content: dict[str, Any], *, named: bool = False
    ) -> dict[str, Any]:
        """Hand it in, and wait until it is carried out; what came of it."""
        api = self._api(page)
        by = [("identifierType", "alias")] if named and self._settings.cloud_id is None else []
        taken = await api.ask("POST", path, json=content, params=by)
        id_ = str(taken.get("requestId") or "")
        if not id_:
            raise TemporaryError(f"{self.name} took it and gave no request to ask for")
        for _ in range(LOOKS):
            await asyncio.sleep(self._look)
            try:
                told = await api.ask("GET", f"/requests/{quote(id_, safe='')}")
            except Refused as error:
                if error.status == 404:  # not yet
                    continue
                raise
            found = told.get("data", told)
            if isinstance(found, dict) and ("isSuccess" in found or "success" in found):
                if found.get("isSuccess", found.get("success")) is not True:
                    why = clip(one_line(self._redact.text(str(found.get("status") or "no reason given"))), 200)
                    raise PermanentError(f"{self.name} took it and could not do it: {why}")
                return found
        raise TemporaryError(f"{self.name} took it, and does not say what came of it", after=10.0)

    async def _alert(self, page: PageRequest) -> str:
        """How the alert is called in an address: by our alias, or in Jira Service Management by its own id."""
        if self._settings.cloud_id is None:
            return f"/{quote(page.dedup_key, safe='')}"
        try:
            found = await self._api(page).ask("GET", "/alias", params=[("alias", page.dedup_key)])
        except Refused as error:
            if error.status == 404:
                raise PermanentError(f"{self.name} has no alert for {page.reference}") from None
            raise
        return f"/{quote(str(found.get('id') or ''), safe='')}"

    def _api(self, page: PageRequest) -> Api:
        key = self._keys.of(page.service)
        if self._settings.cloud_id is not None:
            base = (
                CLOUD if self._settings.api_url == Opsgenie.model_fields["api_url"].default else self._settings.api_url
            )
            url = f"{base.rstrip('/')}/jsm/ops/api/{self._settings.cloud_id}/v1/alerts"
            pair = base64.standard_b64encode(f"{self._settings.user}:{key}".encode()).decode()
            opens = f"Basic {pair}"
        else:
            url, opens = f"{self._settings.api_url.rstrip('/')}/v2/alerts", f"GenieKey {key}"
        return Api(
            self.name, url, {"Authorization": opens}, self._redact.text,
            hint="check api_key in tocsin.yaml", seconds=self._seconds, clock=self._clock,
        )  # fmt: skip
