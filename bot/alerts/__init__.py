"""Decides what an alert means: the same, new, stale, silenced; which incident it belongs to. No I/O."""
