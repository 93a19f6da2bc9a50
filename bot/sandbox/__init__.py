"""A Slack-compatible server on this machine, for the demo, for drills and for tests."""
