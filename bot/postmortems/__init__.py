"""Blameless post-mortem drafts, from the timeline."""
