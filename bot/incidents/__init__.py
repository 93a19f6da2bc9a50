"""Incidents: from alert or declaration to resolution, and the timeline that remembers it."""
