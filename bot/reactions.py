"""What follows from what: each kind of timeline event, and the work it starts, in order."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from bot.engine import LINES, RUNS, Work
from bot.incidents import paging
from bot.incidents.model import TimelineEvent
from bot.runs.alarm import GLASS, ROLLBACK

Follow = Callable[[TimelineEvent], Work | None]


def open_channel(event: TimelineEvent) -> Work:
    """Make the channel and what belongs in it, or the question whether this is an incident."""
    return _line("open", event)


def page(event: TimelineEvent) -> Work:
    """Wake somebody: the first page of an incident."""
    return Work("page", f"page:{event.incident_id}:1", (event.incident_id, 1))


def wake(event: TimelineEvent) -> Work:
    """Wake somebody: a further page of an incident."""
    number = event.data["number"]
    return Work("page", f"page:{event.incident_id}:{number}", (event.incident_id, number))


def sync_pages(event: TimelineEvent) -> Work:
    """Have the pager know what is known here: acknowledged, resolved."""
    return paging.synced(event.incident_id, event.id)


def press(event: TimelineEvent) -> Work:
    """Call more people to a page, or have the pager know of a change."""
    partition = f"pages:{event.incident_id}"
    return Work("press", f"press:{event.id}", (event.incident_id, event.id), queue=LINES, partition=partition)


def page_again(event: TimelineEvent) -> Work:
    """Wake somebody for an incident that is not over after all."""
    partition = f"pages:{event.incident_id}"  # after the pager was told of the end
    return Work("page_again", f"page_again:{event.id}", (event.incident_id, event.id), queue=LINES, partition=partition)


def refresh(event: TimelineEvent) -> Work:
    """Draw card, announcement and topic anew; a burst of changes makes one edit."""
    return replace(_line("refresh", event), merges=True)


def notify(event: TimelineEvent) -> Work:
    """Tell the channel."""
    return Work("notify", f"notify:{event.id}", (event.incident_id, event.id))


def draft(event: TimelineEvent) -> Work:
    """Write the post-mortem draft and share it."""
    template = event.data.get("template")
    return _draft(event, None, template) if template else _draft(event)


def conclude(event: TimelineEvent) -> Work:
    """Tell the channel that it is over; the draft comes after that, not before."""
    return _draft(event, event.id)


def export(event: TimelineEvent) -> Work:
    """Write the post-mortem in the format that was asked for, after the draft that is being written, and share it."""
    return replace(_draft(event, event.id), workflow="export", id=f"export:{event.id}")


def run(event: TimelineEvent) -> Work:
    """Carry out a runbook, or go on with it after a person's answer."""
    key, number = event.data["key"], event.data["round"]
    return Work("run", f"run:{event.data['run']}:{number}", (event.data["run"], number), queue=RUNS, partition=key)


def automate(event: TimelineEvent) -> Work:
    """See which runbooks start by themselves; several alerts that come together are looked at once."""
    partition = f"automate:{event.incident_id}"
    return Work("automate", f"automate:{event.id}", (event.incident_id,), queue=LINES, partition=partition, merges=True)


def aftermath(event: TimelineEvent) -> Work:
    """What follows from how a run ended: alerts that it raises, and whether its runbook goes on by itself."""
    return Work("aftermath", f"aftermath:{event.id}", (event.data["run"],))


def alarm(event: TimelineEvent) -> Work | None:
    """Wake the owner of a runbook where nothing was taken back that had to be, or nobody was asked who had to be."""
    why = event.data.get("state") if event.kind == "run.ended" else event.kind.removeprefix("run.")
    if why not in (ROLLBACK, GLASS):
        return None
    args = (event.incident_id, event.data["run"], str(why))
    return Work("alarm", f"alarm:{event.data['run']}:{why}", args)


def show_run(event: TimelineEvent) -> Work:
    """Draw a run's message anew."""
    run_id = event.data["run"]
    return Work("show_run", f"show_run:{event.id}", (run_id,), queue=LINES, partition=f"run:{run_id}", merges=True)


def show_approval(event: TimelineEvent) -> Work:
    """Ask people, or draw their question as it stands now."""
    args = (event.data["approval"],)
    partition = f"run:{event.data['run']}"
    return Work("show_approval", f"show_approval:{event.id}", args, queue=LINES, partition=partition)


def share_file(event: TimelineEvent) -> Work:
    """Share what a step made; a line of its own, since a file takes longer than an edit."""
    args, partition = (event.data["file"],), f"files:{event.data['run']}"
    return Work("share_file", f"share_file:{event.id}", args, queue=LINES, partition=partition)


def show_runs(event: TimelineEvent) -> Work:
    """There is a channel at last: show what was begun before it was there."""
    return Work("show_runs", f"show_runs:{event.id}", (event.incident_id,))


def track(event: TimelineEvent) -> Work:
    """Bring the incident's tickets up to date, and open those that it should have by now."""
    args, partition = (event.incident_id,), f"tickets:{event.incident_id}"
    return Work("tickets", f"tickets:{event.id}", args, queue=LINES, partition=partition, merges=True)


def export_followups(event: TimelineEvent) -> Work:
    """Follow-ups go to the tracker where they are worked on."""
    return Work("followups", f"followups:{event.id}", (event.incident_id,))


def _line(workflow: str, event: TimelineEvent) -> Work:
    """Work on an incident's channel: one at a time, whichever process does it, so nothing is made or drawn twice."""
    return Work(workflow, f"{workflow}:{event.id}", (event.incident_id,), queue=LINES, partition=event.incident_id)


def _draft(event: TimelineEvent, *more: str | None) -> Work:
    """A line of its own: a file that cannot be shared for an hour must not keep the card from being drawn."""
    args = (event.incident_id, *more)
    return Work("draft", f"draft:{event.id}", args, queue=LINES, partition=f"draft:{event.incident_id}")


REACTIONS: dict[str, tuple[Follow, ...]] = {
    "incident.opened": (open_channel, page, automate, track),
    "incident.suggested": (open_channel,),
    "incident.accepted": (open_channel, page, refresh, automate, track),
    "incident.declined": (refresh, track),
    "incident.resolved": (refresh, conclude, track, sync_pages),
    "incident.reopened": (refresh, notify, track, page_again),
    "alert.attached": (refresh, automate),
    "alert.resolved": (refresh,),
    "alert.stale": (refresh,),
    "alerts.cleared": (notify,),
    "alerts.quiet": (notify,),
    "role.assigned": (refresh, notify),
    "severity.changed": (refresh, notify, track, press),
    "status.changed": (refresh, notify, track, press),
    "note.added": (notify,),
    "task.added": (refresh, notify),
    "task.done": (refresh, notify),
    "task.dropped": (refresh, notify),
    "task.reopened": (refresh, notify),
    "followup.added": (refresh, notify),
    "followup.done": (refresh, notify, track),
    "followup.dropped": (refresh, notify, track),
    "followup.reopened": (refresh, notify, track),
    "ticket.opened": (refresh, notify),
    "ticket.linked": (refresh, notify),
    "ticket.moved": (refresh,),
    "ticket.heard": (refresh, notify),
    "ticket.failed": (refresh, notify),
    "change.opened": (notify,),
    "change.approved": (notify,),
    "change.refused": (notify,),
    "page.sent": (refresh, notify),
    "page.failed": (refresh, notify),
    "page.nobody": (refresh, notify),
    "page.asked": (wake, refresh, notify),
    "page.delayed": (refresh, notify),
    "page.acknowledged": (refresh, notify, sync_pages),
    "page.unacknowledged": (refresh, notify),
    "page.unanswered": (refresh, notify, press),
    "page.escalated": (refresh, notify),
    "page.reassigned": (refresh, notify),
    "page.resolved": (refresh, notify),
    "page.reopened": (refresh, notify),
    "page.responder_asked": (notify,),
    "page.responder_answered": (notify,),
    "page.noted": (notify,),
    "page.updated": (refresh, notify),
    "page.refused": (notify,),
    "help.asked": (notify, press),
    "pager.troubled": (notify,),
    "pager.mended": (notify,),
    "part.retried": (open_channel,),
    "part.failed": (refresh,),
    "part.mended": (refresh,),
    "work.parked": (notify,),
    "channel.opened": (show_runs,),
    "run.started": (run, show_run),
    "run.held": (show_run,),
    "run.answered": (run, show_run),
    "run.step_answered": (show_run,),
    "run.resumed": (run, show_run),
    "run.phase_changed": (show_run,),
    "run.glass_broken": (notify, alarm),
    "run.file_made": (share_file,),
    "run.file_refused": (notify,),
    "run.cancelled": (show_run,),
    "run.step_started": (show_run,),
    "run.step_succeeded": (show_run,),
    "run.step_failed": (show_run,),
    "run.step_skipped": (show_run,),
    "run.step_unknown": (show_run,),
    "run.ended": (show_run, aftermath, alarm),
    "run.raised": (notify,),
    "run.unjudged": (notify,),
    "runbook.withheld": (notify,),
    "automation.stopped": (notify,),
    "automation.resumed": (notify,),
    "schedule.missed": (notify,),
    "approval.asked": (show_approval, show_run),
    "approval.given": (show_approval,),
    "approval.closed": (show_approval, show_run),
    "postmortem.requested": (draft,),
    "postmortem.edited": (notify, draft),
    "postmortem.owned": (notify,),
    "postmortem.planned": (notify,),
    "postmortem.reminded": (notify,),
    "postmortem.review_asked": (notify,),
    "postmortem.review_returned": (notify,),
    "postmortem.completed": (notify,),
    "postmortem.waived": (notify,),
    "postmortem.reopened": (notify,),
    "postmortem.export_requested": (export,),
    "statuspage.published": (notify,),
    "delivery.given_up": (notify,),
    "postmortem.drafted": (export_followups,),
    "oncall.changed": (notify,),
    "oncall.covered": (notify,),
    "oncall.not_covered": (notify,),
}


def react(event: TimelineEvent) -> Sequence[Work]:
    """The work that follows from *event*."""
    works = (follow(event) for follow in REACTIONS.get(event.kind, ()))
    return [work for work in works if work is not None]


def leaving_out(*workflows: str) -> Callable[[TimelineEvent], Sequence[Work]]:
    """`react` without the work of *workflows*, which this installation has no use for."""
    return lambda event: [work for work in react(event) if work.workflow not in workflows]
