"""Tocsin: alert in, incident channel open, runbook run, timeline kept, blameless post-mortem out."""

__version__ = "0.1.0"
