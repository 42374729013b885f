"""Expressions: templates in parameters and switches, the paths in them, and what they may cost."""
