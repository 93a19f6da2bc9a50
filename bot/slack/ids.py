"""Names that views and listeners share, so that neither imports the other."""

# Buttons, named by noun and verb
TAKE_COMMAND = "incident.take_command"
RESOLVE = "incident.resolve"
KEEP_OPEN = "incident.keep_open"
ACCEPT = "incident.accept"
DECLINE = "incident.decline"
RETRY = "part.retry"
START_RUN = "runbook.start"
CANCEL_RUN = "run.cancel"
REPEAT_STEP = "run.repeat"
ACCEPT_STEP = "run.accept"
ABANDON_RUN = "run.abandon"
POSTMORTEM = "postmortem.draft"
OPEN_LINK = "link.open"

# Forms
DECLARE_FORM = "incident.declare"
RESOLVE_FORM = "incident.resolve_form"
RUN_FORM = "run.form"

# Shortcuts
DECLARE_SHORTCUT = "declare_incident"
NOTE_SHORTCUT = "add_to_timeline"

# Metadata of every message of ours
EVENT_TYPE = "tocsin_message"
