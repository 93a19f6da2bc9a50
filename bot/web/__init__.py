"""Machines talk to us: alerts come in here, and whoever watches the bot asks how it is."""
