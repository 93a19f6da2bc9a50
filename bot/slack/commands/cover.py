"""Stand in for whoever is on call, or have somebody stand in."""

import re

from bot.catalog.services import Place
from bot.engine import Work
from bot.incidents import oncall, shifts
from bot.incidents.oncall import DONE, WAITING, Cover, Standing
from bot.kit.errors import UserError
from bot.slack import naming, when
from bot.slack.context import Context, Reply, words
from bot.slack.views.blocks import moment, quoted

USAGE = "cover <on-call> <@person> [from <time>] until <time>"

_PERSON = re.compile(r"<@([UW][A-Z0-9]{2,20})>|(me)", re.IGNORECASE)


async def run(context: Context, text: str) -> Reply:
    """Who is on call there, or belongs to its team, may ask for it."""
    name, rest = words(text)
    who, rest = words(rest)
    found = _PERSON.fullmatch(who)
    span = re.fullmatch(r"(?:from\s+(.+?)\s+)?(?:until|till|to|for)\s+(.+)", rest.strip(), re.IGNORECASE | re.DOTALL)
    if not name or not found or not span:
        example = f"`{context.word} cover primary @bob until 18:00`"
        raise UserError(f"Say who stands in, where and until when: {example}, or `me` for yourself.")
    zone = when.zone(context.person.zone)
    start = when.moment(span[1], context.now, zone) if span[1] else context.now.replace(microsecond=0)
    end = when.moment(span[2], context.now, zone, after=start)
    standing = await _place(context, name)
    _may(context, standing)
    person, email = _person(context, found[1] or context.person.id, paged=standing.place.kind != "list")
    place = _covered(standing)
    cover = Cover(
        id=context.derived("cover"),
        place=place.key,
        person=person,
        email=email,
        name=standing.name,
        starts_at=start,
        ends_at=end,
        by=context.person.id,
        made_at=context.now,
        state=DONE if place.kind == "list" else WAITING,
    )
    context.tx.session.add(cover)
    await context.tx.session.flush()
    span_told = f"from {moment(start)} until {moment(end)}" if span[1] else f"until {moment(end)}"
    if cover.state == DONE:
        log = await context.log(context.tx, now=context.now)
        await shifts.note(context.tx, context.react, log, cover, now=context.now)
        return Reply(f"<@{person}> stands in at {quoted(standing.name)} {span_told}.")
    context.tx.enqueue(Work("cover", f"cover:{cover.id}", (cover.id,)))
    return Reply(
        f"The pager is asked to put <@{person}> on call at {quoted(standing.name)} {span_told}. You will hear."
    )


async def _place(context: Context, name: str) -> Standing:
    directory = context.site.directory
    places = naming.places(directory, name)
    if not places:
        raise UserError(f"Nobody is on call for {quoted(name)}: catalog.yaml does not say who.")
    (found,) = await oncall.known(context.tx.session, directory, places[:1], context.now)
    if found.place.kind != "list" and not context.site.says:
        raise UserError(f"The pager {quoted(directory.pager)} cannot put anybody on call; do it where the schedule is.")
    return found


def _may(context: Context, standing: Standing) -> None:
    """Whoever is on call may approve and may be woken, so not everybody may hand that to anybody."""
    directory = context.site.directory
    me = {context.person.id.lower(), *([context.person.email.lower()] if context.person.email else [])}
    listed = directory.catalog.oncall[standing.place.id].people if standing.place.kind == "list" else ()
    on_call = [name for duty in standing.duties if duty.at(context.now) for name in (duty.email, duty.ref) if name]
    teams = directory.teams_at(standing.place)
    members = [member for team in teams for member in directory.catalog.teams[team].members]
    allowed = {name.lower() for one in (*listed, *on_call, *members) for name in (one, directory.person(one))}
    if not me & allowed:
        who = " or the members of " + " and ".join(f"`{team}`" for team in teams) if teams else ""
        raise UserError(f"Only who is on call at {quoted(standing.name)}{who} may say who stands in there.")


def _person(context: Context, user: str, *, paged: bool) -> tuple[str, str | None]:
    """Who stands in, by the chat's id and, where the pager must know them, the address that it knows."""
    user = user.upper()
    person = context.person if user == context.person.id else context.site.known(user)
    if person is not None and (person.bot or person.gone or person.guest or person.stranger):
        raise UserError(f"<@{user}> cannot be on call: only full members of this workspace can.")
    email = naming.address(context.site.directory, user, person.email if person is not None else None)
    if paged and email is None:
        raise UserError(f"The e-mail address of <@{user}> is not known, so the pager cannot be told who that is.")
    return user, email


def _covered(standing: Standing) -> Place:
    """What is covered: a list, or a schedule. Of a policy, the one schedule that says who is woken first."""
    if standing.place.kind != "policy":
        return standing.place
    schedules = {duty.schedule for duty in standing.first if duty.schedule}
    if len(schedules) == 1:
        return Place("schedule", schedules.pop())
    told = "several schedules say" if schedules else "no schedule says"
    raise UserError(
        f"{quoted(standing.name)} is an escalation policy, and {told} who is woken first. Name the schedule: give it a "
        "name under `oncall` in catalog.yaml."
    )
