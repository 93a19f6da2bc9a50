"""Names that views and listeners share, so that neither imports the other."""

# Buttons, named by noun and verb
TAKE_COMMAND = "incident.take_command"
RESOLVE = "incident.resolve"
KEEP_OPEN = "incident.keep_open"
ACCEPT = "incident.accept"
DECLINE = "incident.decline"
RETRY = "part.retry"
ACKNOWLEDGE = "page.acknowledge"
PAGE = "page.ask"
START_RUN = "runbook.start"
DRY_RUN = "runbook.dry_run"
MORE_RUNBOOKS = "runbook.more"
CANCEL_RUN = "run.cancel"
ROLL_BACK_RUN = "run.roll_back"
REPEAT_STEP = "run.repeat"
ACCEPT_STEP = "run.accept"
ABANDON_RUN = "run.abandon"
APPROVE = "approval.approve"
REJECT = "approval.reject"
# The same where the answer needs more than a press: they open a form.
APPROVE_WITH = "approval.approve_with"
REJECT_WITH = "approval.reject_with"
TASK_DONE = "task.done"
EXPORT = "followup.export"
POSTMORTEM = "postmortem.draft"
EXPORT_DOCUMENT = "postmortem.export"
REVIEW = "postmortem.review"
OPEN_LINK = "link.open"

# Forms
DECLARE_FORM = "incident.declare"
RESOLVE_FORM = "incident.resolve_form"
PAGE_FORM = "page.form"
RUN_FORM = "run.form"
APPROVAL_FORM = "approval.form"
STATUSPAGE_FORM = "statuspage.form"
SECTION_FORM = "postmortem.section_form"
REVIEW_FORM = "postmortem.review_form"
# What only tells something has a name as well, or Slack would send it to nobody.
NOTE_VIEW = "note"

# Shortcuts
DECLARE_SHORTCUT = "declare_incident"
NOTE_SHORTCUT = "add_to_timeline"

# Metadata of every message of ours
EVENT_TYPE = "tocsin_message"
