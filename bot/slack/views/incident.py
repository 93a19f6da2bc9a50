"""How an incident looks: its card, its announcement, lists of it, and what is said in its channel."""

import re
from collections.abc import Sequence

from bot.alerts.model import AlertRow, AlertState
from bot.incidents.chat import Announcement, Card, Cleared, Closing, Notice, Remark, Unfurnished
from bot.incidents.model import Incident, Page, Status, Ticket
from bot.kit.clock import duration_text
from bot.kit.text import one_line
from bot.slack import ids
from bot.slack.views.blocks import (
    SECTION,
    Block,
    actions,
    button,
    context,
    cut,
    divider,
    header,
    link,
    modal,
    moment,
    paragraphs,
    people,
    safe,
    section,
)
from bot.slack.views.runbook import offered
from bot.slack.views.service import label as service_label
from bot.slack.views.service import on_card

Drawn = tuple[str, list[Block]]

MARK = {
    "SEV1": ":red_circle:",
    "SEV2": ":large_orange_circle:",
    "SEV3": ":large_yellow_circle:",
    "SEV4": ":large_blue_circle:",
    "SEV5": ":white_circle:",
}
SHOWN_ALERTS = 5
ROOM = 2800
MOST_BLOCKS = 50


def card(noun: Card) -> Drawn:
    """The pinned message of an incident channel."""
    incident = noun.incident
    blocks = [
        header(f"{incident.reference} · {incident.title}"),
        section("", fields=_facts(noun)),
    ]
    if incident.summary:
        blocks.append(section(safe(incident.summary, 1500)))
    if noun.alerts:
        blocks.append(section(_alerts(noun)))
    if noun.about is not None:
        blocks += on_card(noun.about)
    blocks += _troubles(noun)
    blocks += _buttons(noun)
    if noun.tickets:
        blocks.insert(2, context(*(_ticket(one) for one in noun.tickets[:5])))
    if noun.todo:
        blocks.append(context(f":ballot_box_with_check: {noun.todo} to do: `/inc task list` shows it"))
    blocks.append(context("`/inc help` shows what else can be done here."))
    return _headline(incident), blocks


def announcement(noun: Announcement) -> Drawn:
    """The message in the announcement channel."""
    shown = noun.card
    incident = shown.incident
    if incident.status == Status.TRIAGE:
        return _suggestion(shown)
    if incident.status == Status.DECLINED:
        text = f":heavy_minus_sign: {incident.reference} {safe(incident.title, 250)}"
        return _headline(incident), [section(text), context("Not an incident. The alert stays on record.")]
    where = f"<#{incident.channel}>" if incident.channel else "_no channel yet_"
    blocks = [
        section(f"{MARK.get(incident.severity, '')} *{incident.reference}* {safe(incident.title, 250)}"),
        context(
            f"{incident.severity} · {incident.status} · {where}",
            f"Commander: {_commander(shown)}",
            f"Opened {moment(incident.opened_at)}",
        ),
    ]
    blocks += [block for block in _troubles(shown) if not incident.channel]
    return _headline(incident), blocks


def _suggestion(shown: Card) -> Drawn:
    incident = shown.incident
    blocks = [
        section(f":bell: *{safe(incident.title, 250)}*\nIs this an incident? Nothing has been opened yet."),
        context(f"{incident.reference} · suggested as {incident.severity}", f"Since {moment(incident.detected_at)}"),
    ]
    if shown.alerts:
        blocks.append(section(_alerts(shown)))
    blocks.append(
        actions(
            button("Open incident", ids.ACCEPT, incident.id, style="primary"),
            button("Not an incident", ids.DECLINE, incident.id),
        )
    )
    return f"Is this an incident? {safe(incident.title, 250)}", blocks


def notice(noun: Notice) -> Drawn:
    """One line in the channel."""
    text = f"{noun.mark} {people(noun.text)}".strip()
    return text, [section(text)]


def cleared(noun: Cleared) -> Drawn:
    """No alert fires any more."""
    incident = noun.incident
    text = f":large_green_circle: Every alert of {incident.reference} has resolved. Is the incident over?"
    if noun.silent:
        whom = "1 alert" if noun.silent == 1 else f"{noun.silent} alerts"
        text = (
            f":white_circle: No alert of {incident.reference} fires any more, but of {whom} nothing was heard for "
            "long, not even the end. Is the incident over?"
        )
    if noun.said:
        text = f":pager: {people(noun.said)}. Is {incident.reference} over?"
    return text, [
        section(text),
        actions(
            button("Resolve", ids.RESOLVE, incident.id, style="primary"),
            button("Keep open", ids.KEEP_OPEN, incident.id),
        ),
    ]


def closing(noun: Closing) -> Drawn:
    """The incident is resolved."""
    incident = noun.incident
    took = duration_text(incident.resolved_at - incident.detected_at) if incident.resolved_at else "an unknown time"
    text = f":white_check_mark: {incident.reference} is resolved after {took}."
    blocks = [section(text + (f"\n>{people(noun.note, 1500)}" if noun.note else ""))]
    blocks.append(context("A post-mortem draft follows. `/inc reopen` if it is not over after all."))
    return text, blocks


def overview(noun: Card) -> Drawn:
    """What `/inc` shows in an incident's own channel."""
    text, blocks = card(noun)
    return text, blocks


def listing(incidents: Sequence[Incident], *, open_only: bool) -> Drawn:
    """Incidents, one to a line."""
    what = "open" if open_only else "recent"
    if not incidents:
        text = f"There are no {what} incidents. `/inc declare` opens one."
        return text, [section(text)]
    lines = [
        f"{MARK.get(i.severity, '')} *{i.reference}* {safe(i.title, 200)} · {i.severity} · {i.status}"
        + (f" · <#{i.channel}>" if i.channel else "")
        for i in incidents[:30]
    ]
    blocks: list[Block] = [section(f"*{len(incidents)} {what} incident{'s' if len(incidents) != 1 else ''}*")]
    blocks += paragraphs(lines)
    if len(incidents) > len(lines):
        blocks.append(context(f"and {len(incidents) - len(lines)} more"))
    return f"{len(incidents)} {what} incidents", blocks


def _headline(incident: Incident) -> str:
    return f"{incident.reference} {incident.severity} {incident.status}: {safe(incident.title, 250)}"


def _commander(noun: Card) -> str:
    return f"<@{noun.commander}>" if noun.commander else "nobody yet"


def _facts(noun: Card) -> list[str]:
    incident = noun.incident
    facts = [
        f"*Severity*\n{MARK.get(incident.severity, '')} {incident.severity}",
        f"*Status*\n{incident.status}",
        f"*Commander*\n{_commander(noun)}",
        f"*Since*\n{moment(incident.detected_at)}",
    ]
    if incident.service:
        facts.append(f"*Service*\n{service_label(noun.about) if noun.about else safe(incident.service, 100)}")
    if noun.pages:
        facts.append(f"*Paging*\n{_paging(noun)}")
    others = [f"<@{role.person}>" for role in noun.roles if role.name == "responder"]
    if others:
        facts.append(f"*Responders*\n{', '.join(others[:10])}")
    if incident.private:
        facts.append("*Private*\n:lock: only for members of this channel")
    if incident.resolved_at:
        facts.append(f"*Resolved*\n{moment(incident.resolved_at)}")
    return facts


def _ticket(ticket: Ticket) -> str:
    if ticket.reference is None:
        word = "not opened" if ticket.error else "being opened"
        return f":ticket: {safe(ticket.tracker, 60)}: {word}"
    where = link(ticket.url, ticket.reference) if ticket.url else safe(ticket.reference, 60)
    said = "gone" if ticket.state == "gone" else safe(ticket.status or "", 60)
    return f":ticket: {where} {said}" + (" :warning: not up to date" if ticket.error and said != "gone" else "")


def _paging(noun: Card) -> str:
    """The page of the incident's own on-call as it stands, and what of the others somebody should know."""
    lines = [page_line(page) for page in _shown(noun.pages)[:3]]
    return "\n".join(lines)


def _shown(pages: Sequence[Page]) -> list[Page]:
    """The newest page of each service by each pager; those that wait for somebody first."""
    newest = {(page.service, page.pager): page for page in pages}
    order = {"sending": 0, "failed": 0, "sent": 0, "nobody": 1, "acknowledged": 2, "resolved": 3}
    return sorted(newest.values(), key=lambda page: (order[page.state], page.number))


def page_line(page: Page) -> str:
    """A page as it stands: whose it is, with whom, and who has acknowledged it."""
    by = f" (by {safe(page.pager, 50)})" if page.pager else ""
    name = link(page.url, page.external_id or "page") if page.url else ""
    where = f"{safe(page.service, 60)}: " if page.service else ""
    match page.state:
        case "sending":
            said = f":hourglass_flowing_sand: not sent yet{by}"
        case "failed":
            said = f":x: failed{by}"
        case "nobody":
            said = f":warning: nobody was paged{by}"
        case "sent":
            whom = f", with {safe(page.assigned, 100)}" if page.assigned else ""
            said = f":pager: sent{by}{whom}, not acknowledged"
        case "acknowledged":
            at = f" {moment(page.acknowledged_at)}" if page.acknowledged_at else ""
            said = f":ok_hand: acknowledged by {_person(page.acknowledged_by)}{at}{by}"
        case _:
            said = f":white_check_mark: resolved{by}"
    return f"{where}{said}" + (f" · {name}" if name else "")


def _person(who: str | None) -> str:
    """A person of the chat as such; whoever is known by name alone by that."""
    if who and re.fullmatch(r"[UW][A-Z0-9]{2,20}", who):
        return f"<@{who}>"
    return safe(who or "somebody", 100)


def _alerts(noun: Card) -> str:
    total = max(noun.total, len(noun.alerts), noun.firing)
    over = total - noun.firing - noun.silent
    head = f"*Alerts:* {noun.firing} firing" + (f", {noun.silent} silent for a day" if noun.silent else "")
    head += f", {over} resolved" if over > 0 else ""
    lines = [_alert(alert) for alert in noun.alerts[:SHOWN_ALERTS]]
    while sum(map(len, lines)) > ROOM:
        lines.pop()
    if total > len(lines):
        lines.append(f"_and {total - len(lines)} more_")
    return "\n".join([head, *lines])


def _alert(alert: AlertRow) -> str:
    marks = {AlertState.FIRING: ":red_circle:", AlertState.STALE: ":grey_question:"}
    mark = marks.get(AlertState(alert.state), ":large_green_circle:")
    title = link(alert.url, alert.title) if alert.url else safe(one_line(alert.title), 250)
    where = alert.labels.get("instance") or alert.labels.get("host")
    runbook = alert.annotations.get("runbook_url")
    return (
        f"{mark} {title}"
        + (f" · {safe(one_line(where), 100)}" if where else "")
        + (f" · {link(runbook, 'runbook')}" if runbook else "")
    )


def _troubles(noun: Card) -> list[Block]:
    if not noun.failed:
        return []
    lines = [f"• {part.name}: {safe(part.error or 'unknown', 300)}" for part in noun.failed[:8]]
    return [
        section(":warning: *Not everything could be set up*\n" + "\n".join(lines)),
        actions(button("Retry", ids.RETRY, noun.incident.id)),
    ]


def _buttons(noun: Card) -> list[Block]:
    incident = noun.incident
    if not incident.is_open:
        return [actions(button("Post-mortem draft", ids.POSTMORTEM, incident.id))]
    main = []
    if noun.commander is None:
        main.append(button("Take command", ids.TAKE_COMMAND, incident.id, style="primary"))
    else:
        main.append(
            button(
                "Take command",
                ids.TAKE_COMMAND,
                incident.id,
                confirm=("Somebody else is in command. Take it over from them?", "Take over"),
            )
        )
    if any(page.state in ("sending", "sent") and page.acknowledged_at is None for page in noun.pages):
        main.append(button("Acknowledge", ids.ACKNOWLEDGE, incident.id))
    main.append(button("Resolve", ids.RESOLVE, incident.id))
    if incident.channel:
        main.append(button("Page…", ids.PAGE, incident.id))
    rows = [actions(*main)]
    rows += [divider(), section("*Runbooks that may help*" if noun.offers else "*Runbooks*")]
    rows.append(offered(incident, noun.offers))
    return rows


def remark(noun: Remark) -> Drawn:
    """What a runbook says. Its own mentions are meant; whatever was filled in has been made harmless."""
    blocks = [section(noun.text)] if len(noun.text) <= SECTION else paragraphs(noun.text.split("\n"))
    return cut(noun.text, SECTION), blocks[:MOST_BLOCKS]


def failing(noun: Unfurnished) -> Drawn:
    """There is no channel, and this person is the one to know."""
    text = f":warning: {noun.card.incident.reference} {safe(noun.card.incident.title, 250)} has no channel yet"
    return text, [section(text), *_troubles(noun.card)]


def here(incident: Incident) -> Block:
    """The form of `/inc` turns into this in a channel that proves to be an incident's."""
    text = f"This is the channel of *{incident.reference}* {safe(incident.title, 250)}"
    small = f"{incident.severity} · {incident.status} · since {moment(incident.detected_at)}"
    return modal("", incident.reference, [section(text), context(small, "`/inc status` shows all of it.")])
