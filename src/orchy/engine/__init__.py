"""Moves flows: loads them, steps them, commits what comes of it. The only place that writes flows."""
