"""Runbooks and what happens when one is started."""
