"""PagerDuty: pages are events under a key of our own; what is more goes through its REST API, in somebody's name.

The client blocks, so it works in threads of its own, few of them. It retries nothing here: whoever asked tries again,
and remembers that over a restart.
"""

import asyncio
import functools
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import httpx2
import pagerduty
import structlog
from pydantic import SecretStr

from bot.alerts.source import link
from bot.catalog.config import Config, PagerDutyAccess
from bot.catalog.services import Place
from bot.incidents.oncall import Contact, Duty, Shift
from bot.incidents.pager import Action, ActResult, Kind, Pager, PageRequest, PageResult, Said, Seen, Word, incident_of
from bot.kit.clock import Clock, parse_time, utc_now
from bot.kit.errors import BotError, PermanentError, TemporaryError, UserError
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor

log = structlog.get_logger()

LINES = 4
# For one connection or one piece of an answer, and for all of a call with its wait for a thread.
PIECE_SECONDS, CALL_SECONDS = 5, 15.0
LIMIT = 1024 * 1024
# https://developer.pagerduty.com/docs/send-alert-event
SUMMARY, KEY = 1024, 255
NOTE = 20_000
# An event is taken before it is worked on; how often and how far apart we look for what came of it.
LOOKS, LOOK_SECONDS = 4, 1.0
SEVERITY = {"SEV1": "critical", "SEV2": "error", "SEV3": "warning"}
OPEN = ("triggered", "acknowledged")
# On-call entries on one page, and in all.
ONCALLS, MOST_ONCALLS = 100, 1000
EVENTS = {"page": "trigger", "ack": "acknowledge", "resolve": "resolve"}
# What accounts call the priority of each severity: https://support.pagerduty.com/main/docs/incident-priority
PRIORITIES = {f"SEV{n}": (f"SEV{n}", f"SEV-{n}", f"P{n}") for n in range(1, 6)}
SIGNATURE = "X-PagerDuty-Signature"
# https://developer.pagerduty.com/docs/webhooks-overview
SAID: Mapping[str, Said] = {
    "incident.triggered": "triggered",
    "incident.acknowledged": "acknowledged",
    "incident.unacknowledged": "unacknowledged",
    "incident.resolved": "resolved",
    "incident.reopened": "reopened",
    "incident.escalated": "escalated",
    "incident.reassigned": "reassigned",
    "incident.delegated": "delegated",
    "incident.responder.added": "responder_asked",
    "incident.responder.replied": "responder_answered",
    "incident.annotated": "noted",
    "incident.priority_updated": "priority",
    "incident.status_update_published": "status_update",
}

Found = Mapping[str, Any]
Client = Callable[[], pagerduty.ApiClient]


def make(config: Config) -> Pager:
    """The pager that `pagerduty:` in tocsin.yaml describes; UserError if it does not."""
    if config.pagerduty is None:
        raise UserError(
            "tocsin.yaml: the pager 'pagerduty' needs a section pagerduty: with routing_key, "
            "for example {env: PAGERDUTY_ROUTING_KEY}"
        )
    return PagerDuty(config.pagerduty)


class PagerDuty:
    """One account of it."""

    def __init__(
        self,
        access: PagerDutyAccess,
        *,
        clock: Clock = utc_now,
        seconds: float = CALL_SECONDS,
        look: float = LOOK_SECONDS,
    ) -> None:
        """Nothing is opened before it is needed. *seconds* is for one call, *look* between looks at what came of it."""
        self._access, self._clock, self._seconds, self._look = access, clock, seconds, look
        self._threads = ThreadPoolExecutor(LINES, thread_name_prefix="pagerduty")
        keys = [access.routing_key, *access.services.values(), *([access.api_token] if access.api_token else [])]
        self._redact = Redactor(key.get_secret_value() for key in keys)
        self._clients: dict[str, pagerduty.ApiClient] = {}
        self._making = threading.Lock()
        self._requester: str | None = None
        self._addresses: dict[str, str | None] = {}

    # -- the port -----------------------------------------------------------------------------------------------

    async def page(self, request: PageRequest) -> PageResult:
        """Trigger an alert. The proof is the key that PagerDuty confirms, with its incident if that can be seen."""
        proof, seen = await self._triggered(request, self._routing(request.service))
        return PageResult(
            "sent", _taken(seen, self._access.api_token is not None), proof, None if seen is None else _seen(seen)
        )

    async def act(self, action: Action) -> ActResult:
        """Do it, after a look whether it has been done."""
        acts: dict[str, Callable[[Action], Any]] = {
            "page": self._paged,
            "ack": self._moved,
            "resolve": self._moved,
            "escalate": self._escalated,
            "note": self._noted,
            "add_responder": self._called,
            "change_event": self._changed,
            "severity": self._severed,
            "status_update": self._updated,
        }
        result: ActResult = await acts[action.kind](action)
        return result

    @property
    def follows(self) -> frozenset[Kind]:
        """Severities always; status updates through the REST API."""
        more: tuple[Kind, ...] = ("status_update",) if self._access.api_token is not None else ()
        return frozenset(("severity", *more))

    @property
    def sees(self) -> bool:
        """By webhooks, or by looking through the REST API."""
        return bool(self._access.webhook_secrets) or self._access.api_token is not None

    async def look(self, page: PageRequest) -> Seen | None:
        """The incident of a page as it stands."""
        if self._access.api_token is None:
            return None
        found = await self._incident(page, (*OPEN, "resolved"))
        return None if found is None else _seen(found)

    async def probe(self) -> None:
        """Whether the REST API lets us in. Nothing but a page shows whether a routing key is right."""
        if self._access.api_token is not None:
            await self._rest("probe", "GET", "/abilities")

    async def close(self) -> None:
        """Calls under way end by themselves; what waits for a thread does not begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    # -- events -------------------------------------------------------------------------------------------------

    async def _paged(self, action: Action) -> ActResult:
        proof, seen = await self._triggered(action.page, self._route(action), action.message)
        return _done(_taken(seen, self._access.api_token is not None), seen, proof=proof)

    async def _triggered(self, page: PageRequest, key: SecretStr, message: str = "") -> tuple[str, Found | None]:
        details = {"incident": page.reference, "severity": page.severity, "message": message or None}
        event: dict[str, Any] = {
            "payload": {
                "summary": clip(one_line(f"{page.reference} {message or page.title}"), SUMMARY),
                "source": page.service or "tocsin",
                "severity": SEVERITY.get(page.severity, "info"),
                "component": page.service,
                "custom_details": {name: value for name, value in details.items() if value},
            },
            "client": "Tocsin",
        }
        event["payload"] = {name: value for name, value in event["payload"].items() if value}
        if page.url:
            event |= {"client_url": page.url, "links": [{"href": page.url, "text": page.reference}]}
        proof = await self._event("page", page.dedup_key, key, event)
        return proof, await self._settled(page, OPEN)

    async def _moved(self, action: Action) -> ActResult:
        """Acknowledge or resolve. Without the REST API nobody can say whether there was anything to move."""
        wanted = {"ack": "acknowledged", "resolve": "resolved"}[action.kind]
        key = self._route(action)
        foreign = incident_of(action.page.dedup_key) is None  # PagerDuty raised it: no key of ours moves it
        if self._access.api_token is None and foreign:
            raise PermanentError("PagerDuty raised it itself; that it be moved there needs pagerduty.api_token")
        if self._access.api_token is not None:
            before = await self._incident(action.page, (*OPEN, "resolved"))
            if before is None or (action.kind == "ack" and before["status"] == "resolved"):
                raise PermanentError(
                    f"PagerDuty has no open incident for {action.page.reference}: nothing was {wanted}"
                )
            if before["status"] == wanted:
                return _done(f"{_name(before)} was {wanted} already", before)
            if foreign:
                change = {"incident": {"type": "incident_reference", "status": wanted}}
                answer = await self._rest(action.kind, "PUT", f"/incidents/{before['id']}", json=change)
                return _done(f"{_name(before)} is {wanted}", _part(answer, "incident"))
        proof = await self._event(action.kind, action.page.dedup_key, key, {})
        seen = await self._settled(action.page, (wanted,))
        if seen is None:
            return _done(
                f"PagerDuty took the wish that the page of {action.page.reference} be {wanted}", None, proof=proof
            )
        return _done(f"{_name(seen)} is {wanted}", seen, proof=proof)

    async def _changed(self, action: Action) -> ActResult:
        """A change event has no key: asked for twice, it is there twice, and wakes nobody."""
        event: dict[str, Any] = {
            "payload": {
                "summary": clip(one_line(action.message), SUMMARY),
                "source": "tocsin",
                "timestamp": self._clock().isoformat(),
                "custom_details": {"incident": action.page.reference},
            }
        }
        if action.page.url:
            event["links"] = [{"href": action.page.url, "text": action.page.reference}]
        client = self._events(self._route(action))
        answer = await self._call("change_event", client, "POST", "/v2/change/enqueue", json=event)
        said = str(answer.get("message") or answer.get("status") or "")
        return ActResult("done", f"PagerDuty took the change event: {said}", status="accepted", proof=said)

    async def _event(self, what: str, dedup_key: str, key: SecretStr, more: Found) -> str:
        """Send an event; the key under which PagerDuty says it has it."""
        if len(dedup_key) > KEY:
            raise PermanentError("the name of the service is too long for a key of PagerDuty's")
        event = {"event_action": EVENTS[what], "dedup_key": dedup_key, **more}
        answer = await self._call(what, self._events(key), "POST", "/v2/enqueue", json=event)
        if answer.get("status") != "success" or answer.get("dedup_key") != dedup_key:
            told = clip(one_line(self._redact.text(str(dict(answer)))), 200)
            raise PermanentError(f"PagerDuty answered the {what} with something else than its key: {told}")
        return dedup_key

    def _route(self, action: Action) -> SecretStr:
        """The routing key for an act; a service that somebody named must have one of its own."""
        service = action.page.service
        if action.named and service not in self._access.services:
            known = ", ".join(sorted(self._access.services)) or "none"
            raise PermanentError(
                f"tocsin.yaml: pagerduty.services has no routing key for {service!r}, so its on-call cannot be "
                f"reached; there is: {known}"
            )
        return self._routing(service)

    def _routing(self, service: str | None) -> SecretStr:
        return self._access.services.get(service or "", self._access.routing_key)

    async def _severed(self, action: Action) -> ActResult:
        """Tell of another severity: as a note and, where the account has one by that name, as the priority."""
        if self._access.api_token is None:  # under its key an open alert takes note of it and wakes nobody
            proof, _ = await self._triggered(action.page, self._route(action), action.message)
            return _done("PagerDuty was told of the severity", None, proof=proof)
        incident = await self._opened(action)
        rows = _rows(await self._rest("severity", "GET", "/priorities"), "priorities")
        named = {str(row.get("name", "")).upper(): row for row in rows if row.get("id")}
        found = next((named[name] for name in PRIORITIES[action.page.severity] if name in named), None)
        done = f"{_name(incident)} was told of the severity"
        if found is not None and (incident.get("priority") or {}).get("id") != found["id"]:
            priority = {"id": found["id"], "type": "priority_reference"}
            change = {"incident": {"type": "incident_reference", "priority": priority}}
            answer = await self._rest("severity", "PUT", f"/incidents/{incident['id']}", json=change)
            incident = _part(answer, "incident")
            done = f"{_name(incident)} has priority {clip(str(found['name']), 40)} now"
        if action.message and await self._written(incident, action.key) is None:
            await self._write(incident, action.message, action.key)
        return _done(done, incident)

    async def _updated(self, action: Action) -> ActResult:
        """A status update for whoever follows the incident there; it cannot be looked up, so it may come twice."""
        incident = await self._opened(action)
        path = f"/incidents/{incident['id']}/status_updates"
        answer = await self._rest("status_update", "POST", path, json={"message": clip(action.message, SUMMARY)})
        return replace(
            _done(f"told those who follow {_name(incident)}", incident),
            proof=str(_part(answer, "status_update").get("id")),
        )

    # -- the REST API -------------------------------------------------------------------------------------------

    async def _noted(self, action: Action) -> ActResult:
        incident = await self._opened(action)
        note = await self._written(incident, action.key)
        if note is None:
            note = await self._write(incident, action.message, action.key)
        return replace(_done(f"noted on {_name(incident)}", incident), proof=str(note.get("id")))

    async def _written(self, incident: Found, key: str) -> Found | None:
        """The note that was written under *key* already."""
        notes = _rows(await self._rest("note", "GET", f"/incidents/{incident['id']}/notes"), "notes")
        return next((note for note in notes if str(note.get("content", "")).endswith(f"[{key}]")), None)

    async def _write(self, incident: Found, message: str, key: str) -> Found:
        content = f"{clip(message, NOTE)}\n\n[{key}]"
        path = f"/incidents/{incident['id']}/notes"
        return _part(await self._rest("note", "POST", path, json={"note": {"content": content}}), "note")

    async def _escalated(self, action: Action) -> ActResult:
        """One level up. The level is written in a note first, so asking again after a lost answer asks for the same."""
        incident = await self._opened(action)
        levels = await self._levels(incident)
        now = min((levels[who] for who in _assigned(incident) if who in levels), default=1)
        note = await self._written(incident, action.key)
        if note is None:
            if now >= max(levels.values(), default=1):
                told = f"{_name(incident)} is on the last level of its escalation policy{_with(incident)}"
                raise PermanentError(f"{told}; nobody is above it")
            note = await self._write(incident, f"Escalating to level {now + 1}. {action.message}".strip(), action.key)
        said = re.match(r"Escalating to level (\d{1,3})\.", str(note.get("content", "")))
        level = int(said[1]) if said else now + 1
        if level > now:
            change = {"incident": {"type": "incident_reference", "escalation_level": level}}
            answer = await self._rest("escalate", "PUT", f"/incidents/{incident['id']}", json=change)
            incident = _part(answer, "incident")
        return _done(f"{_name(incident)} is escalated to level {level}{_with(incident)}", incident)

    async def _levels(self, incident: Found) -> dict[str, int]:
        """Who is on call in the escalation policy of *incident*, and on which level; the lowest, if on several."""
        policy = str((incident.get("escalation_policy") or {}).get("id", ""))
        params = {"escalation_policy_ids[]": policy, "limit": "100"}
        found: dict[str, int] = {}
        for duty in _rows(await self._rest("escalate", "GET", "/oncalls", params=params), "oncalls"):
            who, level = str((duty.get("user") or {}).get("id", "")), int(duty.get("escalation_level") or 1)
            found[who] = min(level, found.get(who, level))
        return found

    async def _called(self, action: Action) -> ActResult:
        incident, target = await self._opened(action), await self._target(action.user or "")
        whole = _part(await self._rest("add_responder", "GET", f"/incidents/{incident['id']}"), "incident")
        asked = [
            str((one.get("user") or one.get("escalation_policy") or {}).get("id"))
            for one in _rows(whole, "incidents_responders")
        ]
        if target["id"] in asked:
            return _done(f"{action.user} was asked to join {_name(incident)} already", incident)
        if self._requester is None:
            self._requester = await self._user(self._access.from_email or "")
        wish = {
            "requester_id": self._requester,
            "message": clip(action.message or f"Please help with {action.page.reference}", SUMMARY),
            "responder_request_targets": [{"responder_request_target": target}],
        }
        path = f"/incidents/{incident['id']}/responder_requests"
        _part(await self._rest("add_responder", "POST", path, json=wish), "responder_request")
        return _done(f"{action.user} is asked to join {_name(incident)}", incident)

    async def _target(self, who: str) -> dict[str, str]:
        """A user by e-mail address or id; or `policy:` and the name or the id of an escalation policy."""
        kind, colon, name = who.partition(":")
        if not colon or kind.lower() != "policy":
            return {"id": await self._user(who), "type": "user_reference"}
        answer = await self._rest("add_responder", "GET", "/escalation_policies", params={"query": name})
        for policy in _rows(answer, "escalation_policies"):
            if name.lower() == str(policy.get("name", "")).lower():
                return {"id": str(policy["id"]), "type": "escalation_policy_reference"}
        if re.fullmatch(r"P[A-Z0-9]{3,20}", name):
            return {"id": name, "type": "escalation_policy_reference"}
        raise PermanentError(f"PagerDuty has no escalation policy called {name!r}")

    async def _user(self, who: str) -> str:
        """The id of a user by e-mail address; an id stays itself."""
        if "@" not in who:
            if not re.fullmatch(r"P[A-Z0-9]{3,20}", who):
                raise PermanentError(
                    f"{who!r} is no user of PagerDuty's: write an e-mail address or an id such as PABC123"
                )
            return who
        for user in _rows(await self._rest("add_responder", "GET", "/users", params={"query": who}), "users"):
            if str(user.get("email", "")).lower() == who.lower():
                return str(user["id"])
        raise PermanentError(f"PagerDuty has no user with the address {who}")

    async def _opened(self, action: Action) -> Found:
        """The open incident that an act is about."""
        if self._access.api_token is None:
            raise PermanentError(
                f"{action.kind} needs PagerDuty's REST API: set pagerduty.api_token and from_email in tocsin.yaml"
            )
        self._route(action)
        found = await self._incident(action.page, OPEN)
        if found is None:
            raise PermanentError(f"PagerDuty has no open incident for {action.page.reference}; page first")
        return found

    async def _incident(self, page: PageRequest, statuses: tuple[str, ...]) -> Found | None:
        """The incident that a page has become, if that is known; else the newest under its key."""
        if page.external_id is not None and re.fullmatch(r"[A-Z0-9]{1,30}", page.external_id):
            found = _part(await self._rest("look-up", "GET", f"/incidents/{page.external_id}"), "incident")
            return found if {"id", "status"} <= set(found) and found["status"] in statuses else None
        params = {"incident_key": page.dedup_key, "statuses[]": list(statuses), "date_range": "all"}
        answer = await self._rest("look-up", "GET", "/incidents", params={**params, "sort_by": "created_at:desc"})
        return next((one for one in _rows(answer, "incidents") if {"id", "status"} <= set(one)), None)

    async def _settled(self, page: PageRequest, statuses: tuple[str, ...]) -> Found | None:
        """The incident once it is as wished; None if that cannot be seen in time, or at all."""
        if self._access.api_token is None:
            return None
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(self._look)
            try:
                found = await self._incident(page, statuses)
            except BotError as error:  # the event is taken; that it cannot be looked at does not undo it
                log.warning("pagerduty.not_seen", reason=str(error))
                return None
            if found is not None:
                return found
        return None

    # -- what it tells by itself ----------------------------------------------------------------------------------

    def genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether one of the signatures is by one of the secrets; every pair is compared."""
        given = [sign[3:] for part in headers.get(SIGNATURE, "").split(",")[:8] if (sign := part.strip())[:3] == "v1="]
        ours = [
            hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
            for secret in self._access.webhook_secrets
        ]
        # Not any(): the time must not tell which one fitted.
        return sum(hmac.compare_digest(one.encode(), known.encode()) for one in given for known in ours) > 0

    def name_of(self, payload: Any) -> str:
        """The id of the event, the same each time it is sent."""
        event = payload.get("event") if isinstance(payload, dict) else None
        name = event.get("id") if isinstance(event, dict) else None
        if not isinstance(name, str) or not name:
            raise PermanentError("this is no event of PagerDuty's webhooks (V3): it has no event.id")
        return name

    async def word(self, payload: Any) -> Word | None:
        """An event of an incident, in our words."""
        name = self.name_of(payload)
        event = payload["event"]
        kind = str(event.get("event_type"))
        if not kind.startswith("incident."):
            return None
        data = event.get("data")
        about = data if isinstance(data, dict) else {}
        incident = about if about.get("type") == "incident" else about.get("incident")
        at = parse_time(str(event.get("occurred_at")))
        if not isinstance(incident, dict) or not incident.get("id") or at is None:
            return None if kind not in SAID else _unread(kind)
        key = incident.get("incident_key")
        agent = event.get("agent") if isinstance(event.get("agent"), dict) else None
        who, by = await self._person(agent, about), _summary(agent)
        if kind.startswith("incident.responder."):
            by = _summary(about.get("user")) or _summary(about.get("escalation_policy")) or by
        return Word(
            id=name,
            said=SAID.get(kind, "other"),
            at=at,
            dedup_key=key if isinstance(key, str) else None,
            external_id=str(incident["id"]),
            url=link(incident.get("html_url")),
            by=by,
            address=who,
            assigned=_names(about.get("assignees")),
            text=_text(about),
            ours=await self._ours(kind, agent, event.get("client"), key),
        )

    async def _person(self, agent: Found | None, about: Found) -> str | None:
        """The e-mail address of whom a word is about, if they are a person and PagerDuty tells."""
        user = about.get("user") if isinstance(about.get("user"), dict) else agent
        if not user or not str(user.get("type", "")).startswith("user"):
            return None
        who = str(user.get("id"))
        if self._access.api_token is None or not re.fullmatch(r"P[A-Z0-9]{3,20}", who):
            return None
        if who not in self._addresses:
            try:
                found = _part(await self._rest("user", "GET", f"/users/{who}"), "user")
            except BotError as error:  # their name will do
                log.info("pagerduty.user_unknown", reason=str(error))
                return None
            self._addresses[who] = str(found["email"]) if found.get("email") else None
        return self._addresses[who]

    async def _ours(self, kind: str, agent: Found | None, client: Any, key: Any) -> bool:
        """Whether an event is the echo of what we did: by our integration, or in the name that we act in."""
        if incident_of(key if isinstance(key, str) else None) is None and agent is None:
            return False
        if agent is None:
            return kind == "incident.triggered" or (isinstance(client, dict) and client.get("name") == "Tocsin")
        if "integration" in str(agent.get("type")):
            return incident_of(key if isinstance(key, str) else None) is not None
        address = await self._person(agent, {})
        return address is not None and address.lower() == (self._access.from_email or "").lower()

    async def _rest(self, what: str, method: str, path: str, **more: Any) -> Found:
        token = self._access.api_token
        make = functools.partial(
            pagerduty.RestApiV2Client,
            token.get_secret_value() if token else "",
            default_from=self._access.from_email,
            headers=_PLAIN,
        )
        return await self._call(what, lambda: self._client("rest", make, self._access.api_url), method, path, **more)

    # -- who is on call -----------------------------------------------------------------------------------------

    async def duties(self, places: Sequence[Place]) -> Mapping[Place, Shift]:
        """One call for all schedules and one for all policies: asked for both at once, each would narrow the other."""
        found: dict[Place, list[Duty]] = {place: [] for place in places}
        titles: dict[Place, str] = {}
        for kind, part, asked in _ONCALL:
            ids = [place.id for place in places if place.kind == kind]
            for row in await self._oncalls({asked: ids}) if ids else ():
                there = row.get(part)
                named: Found = there if isinstance(there, dict) else {}
                place = Place(kind, str(named.get("id")))
                duty = _duty(row, by_level=kind == "policy")
                # A schedule is told of once for each policy that uses it.
                if place in found and duty is not None and duty not in found[place]:
                    found[place].append(duty)
                    titles[place] = clip(one_line(str(named.get("summary") or "")), 200)
        return {
            place: Shift(titles.get(place, ""), tuple(sorted(duties, key=lambda duty: (duty.level, duty.name))))
            for place, duties in found.items()
        }

    async def contacts(self, ref: str) -> Sequence[Contact]:
        """How PagerDuty reaches a user; what only its own app can do is left out."""
        answer = await self._known("on-call", f"/users/{ref}/contact_methods")
        found = [(str(row.get("type", "")).partition("_")[0], row) for row in _rows(answer, "contact_methods")]
        return [
            Contact(kind=kind, address=_number(row), label=clip(one_line(str(row.get("label") or "")), 60))
            for kind, row in found
            if kind in ("email", "phone", "sms") and row.get("address")
        ]

    async def cover(self, schedule: str, email: str, start: datetime, end: datetime) -> str:
        """An override of a schedule, unless there is one of that person for that time."""
        path, span = f"/schedules/{schedule}/overrides", {"since": start.isoformat(), "until": end.isoformat()}
        who = await self._user(email)
        for row in _rows(await self._known("cover", path, **span), "overrides"):
            there = (
                (row.get("user") or {}).get("id"),
                parse_time(str(row.get("start"))),
                parse_time(str(row.get("end"))),
            )
            if there == (who, start, end):
                return f"PagerDuty has the override {row.get('id')} already"
        wish = {
            "start": start.isoformat(),
            "end": end.isoformat(),
            "user": {"id": who, "type": "user_reference"},
        }
        answer = await self._rest("cover", "POST", path, json={"overrides": [wish]})
        made: Found = next(iter(_rows(answer, "rows")), answer)
        if made.get("status", 201) != 201 or not isinstance(made.get("override"), dict):
            errors = clip(one_line(self._redact.text(str(made.get("errors") or dict(made)))), 200)
            raise PermanentError(f"PagerDuty did not make the override: {errors}")
        return f"PagerDuty made the override {made['override'].get('id')}"

    async def _oncalls(self, asked: Mapping[str, Sequence[str]]) -> list[Found]:
        """Every page, as far as anybody could read."""
        rows: list[Found] = []
        while len(rows) < MOST_ONCALLS:
            page = {**asked, "include[]": ["users"], "limit": ONCALLS, "offset": len(rows)}
            answer = await self._known("on-call", "/oncalls", **page)
            found = _rows(answer, "oncalls")
            rows += found
            if not answer.get("more") or not found:
                break
        return rows

    async def _known(self, what: str, path: str, **params: Any) -> Found:
        """What the REST API tells, if we may ask it."""
        if self._access.api_token is None:
            raise PermanentError(
                "who is on call is known to PagerDuty's REST API alone: set pagerduty.api_token and from_email in "
                "tocsin.yaml"
            )
        return await self._rest(what, "GET", path, params=params)

    # -- one call -----------------------------------------------------------------------------------------------

    def _events(self, key: SecretStr) -> Client:
        secret = key.get_secret_value()
        make = functools.partial(pagerduty.EventsApiV2Client, secret, headers=_PLAIN)
        return lambda: self._client(secret, make, self._access.events_url)

    def _client(self, name: str, make: Callable[..., pagerduty.ApiClient], url: str) -> pagerduty.ApiClient:
        """The one client called *name*; made in a thread, since it reads the system's certificates."""
        with self._making:
            if name not in self._clients:
                self._clients[name] = _ours(make(transport=_Bounded(self._seconds)), url)
            return self._clients[name]

    async def _call(self, what: str, client: Client, method: str, path: str, **more: Any) -> Found:
        """One request, in a thread; what PagerDuty answers if it did it."""
        work = functools.partial(_said, client, method, path, more)
        try:
            async with asyncio.timeout(self._seconds):
                response = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise TemporaryError(f"PagerDuty gave no answer to the {what} within {self._seconds:g} s") from None
        status = response.status_code
        if status >= 500 or status in (408, 425):
            raise TemporaryError(f"PagerDuty failed at the {what} (HTTP {status})", after=2.0)
        said = _json(response)
        if not response.is_success:
            raise PermanentError(f"PagerDuty refused the {what} (HTTP {status}): {self._why(what, status, said)}")
        if isinstance(said, list):  # of what was made several at once
            said = {"rows": said}
        if not isinstance(said, dict):
            raise TemporaryError(f"PagerDuty answered the {what} with no JSON; does something stand in between?")
        return said

    def _why(self, what: str, status: int, said: Any) -> str:
        if status == 401 and what not in (*EVENTS, "change_event"):
            return "the api_token is not valid (any more); make a new one and put it where tocsin.yaml says"
        told = said.get("error", said) if isinstance(said, dict) else {}
        words: list[Any] = []
        if isinstance(told, dict):
            errors = told.get("errors")
            words = [told.get("message"), *(errors if isinstance(errors, list) else [errors])]
        elif told:
            words = [told]
        reason = "; ".join(str(word) for word in words if word) or "no reason given"
        hint = "; the token may only read" if status == 403 else ""
        return clip(one_line(self._redact.text(reason)), 300) + hint


_PLAIN = {"Accept-Encoding": "identity"}


class _Limited(Exception):  # noqa: N818 - the client would wait for it by itself, without an end
    """Too many requests."""

    def __init__(self, after: float) -> None:
        super().__init__(after)
        self.after = after


class _Bounded(httpx2.HTTPTransport):
    """Reads an answer within bounds of size and time; a 429 never reaches the client, which would sleep on it."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        until = time.monotonic() + self._seconds
        response = super().handle_request(request)
        body = bytearray()
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise httpx2.ReadError("the answer is compressed although we asked for plain", request=request)
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > LIMIT or time.monotonic() > until:
                    raise httpx2.ReadError("the answer has no end", request=request)
        finally:
            response.close()
        if response.status_code == 429:
            raise _Limited(_after(response.headers))
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=httpx2.ByteStream(bytes(body)), request=request
        )


def _ours(client: pagerduty.ApiClient, url: str) -> pagerduty.ApiClient:
    """A client that tries once. Its own check of the address takes https alone, which a stand-in here does not have."""
    client.retry, client.max_network_attempts, client.timeout = {}, 0, PIECE_SECONDS
    client._url = url
    return client


def _said(client: Client, method: str, path: str, more: Mapping[str, Any]) -> httpx2.Response:
    try:
        response: httpx2.Response = client().request(method, path, **more)
        return response
    except _Limited as error:
        raise TemporaryError("PagerDuty asks us to wait: too many requests (HTTP 429)", after=error.after) from None
    except pagerduty.Error as error:
        refused: httpx2.Response | None = error.response
        if refused is not None:  # a 401, or a redirect
            return refused
        told = clip(one_line(str(error.__cause__)), 200) or type(error.__cause__).__name__
        raise TemporaryError(f"PagerDuty cannot be reached: {told}", after=2.0) from None


def _after(headers: Mapping[str, str]) -> float:
    """How long PagerDuty asks us to wait; its documentation speaks of minutes where it does not say."""
    for name in ("ratelimit-reset", "retry-after"):
        if re.fullmatch(r"\d{1,4}", headers.get(name, "")):
            return max(1.0, min(float(headers[name]), 300.0))
    return 60.0


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _part(answer: Found, name: str) -> Found:
    """A part of an answer that must be there."""
    found = answer.get(name)
    if not isinstance(found, dict):
        raise TemporaryError(f"PagerDuty answered without the {name} that it should tell of")
    return found


def _rows(answer: Found, name: str) -> list[Found]:
    found = answer.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _summary(found: Any) -> str | None:
    return clip(one_line(str(found["summary"])), 100) if isinstance(found, dict) and found.get("summary") else None


def _names(found: Any) -> str | None:
    """Several people or policies by name; None if nothing is said of them."""
    if not isinstance(found, list):
        return None
    return ", ".join(name for one in found[:5] if (name := _summary(one)))


def _text(about: Found) -> str:
    """What was written in a note or a status update, or the name of a priority."""
    said = about.get("content") or about.get("message") or ""
    if about.get("type") == "incident_responder" and about.get("state") != "pending":
        said = about.get("state") or ""  # whether they join; the message is ours
    if about.get("type") == "incident":
        said = _summary(about.get("priority")) or ""
    return clip(str(said), 2000) if isinstance(said, str) else ""


def _unread(kind: str) -> Word:
    raise PermanentError(f"the event {kind} of PagerDuty's says neither which incident it is about nor when")


def _seen(incident: Found) -> Seen:
    """How an incident stands."""
    acks = _rows(incident, "acknowledgements")
    by = _summary((acks[-1].get("acknowledger") if acks else None) or incident.get("last_status_change_by"))
    return Seen(
        status=str(incident["status"]),
        external_id=str(incident["id"]),
        url=link(incident.get("html_url")),
        assigned=_names([one.get("assignee") for one in _rows(incident, "assignments")]),
        by=by if incident["status"] != "triggered" else None,
    )


# Kind of a place, where an on-call entry names it, and what asks for it.
_ONCALL: tuple[tuple[Literal["schedule", "policy"], str, str], ...] = (
    ("schedule", "schedule", "schedule_ids[]"),
    ("policy", "escalation_policy", "escalation_policy_ids[]"),
)


def _duty(row: Found, *, by_level: bool) -> Duty | None:
    """An on-call entry; None if it names nobody."""
    user, schedule, level = row.get("user"), row.get("schedule"), row.get("escalation_level")
    if not isinstance(user, dict) or not user.get("id"):
        return None
    email = str(user.get("email") or "")
    return Duty(
        name=clip(one_line(clean(str(user.get("name") or user.get("summary") or user["id"]))), 100),
        email=clean(email) if re.fullmatch(r"[^@\s]+@[^@\s]+", email) else None,
        level=level if by_level and isinstance(level, int) and level > 0 else 1,
        since=parse_time(str(row.get("start") or "")),
        until=parse_time(str(row.get("end") or "")),
        schedule=str(schedule["id"]) if isinstance(schedule, dict) and schedule.get("id") else None,
        ref=str(user["id"]),
    )


def _number(row: Found) -> str:
    address, country = clip(one_line(clean(str(row["address"]))), 200), row.get("country_code")
    return f"+{country} {address}" if isinstance(country, int) and "@" not in address else address


def _assigned(incident: Found) -> list[str]:
    return [str((one.get("assignee") or {}).get("id", "")) for one in _rows(incident, "assignments")]


def _with(incident: Found) -> str:
    names = [str((one.get("assignee") or {}).get("summary", "")) for one in _rows(incident, "assignments")]
    told = ", ".join(clip(name, 60) for name in names[:5] if name)
    return f", with {told}" if told else ""


def _name(incident: Found) -> str:
    return f"PagerDuty's incident {incident.get('incident_number') or incident['id']}"


def _taken(seen: Found | None, looked: bool) -> str:
    if seen is None:
        return "PagerDuty has taken the page" + (", but no incident of it is to be seen; is anybody on call?" * looked)
    whom = _with(seen) or ", with nobody; is anybody on call?"
    return f"{_name(seen)} is {seen['status']}{whom}"


def _done(detail: str, incident: Found | None, *, proof: str | None = None) -> ActResult:
    if incident is None:
        return ActResult("done", detail, status="accepted", proof=proof)
    found = str(incident["id"])
    return ActResult("done", detail, str(incident["status"]), found, proof or found, _seen(incident))
