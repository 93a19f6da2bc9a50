"""People talk to us: Slack's commands, buttons and forms come in here, and what they see goes out."""
