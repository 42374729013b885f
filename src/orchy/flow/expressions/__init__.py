"""Expressions: templates in parameters and switches, the paths in them, and how their cost is bounded."""
