"""Flows on a real node: how soon one ends, how many a second, and what they cost."""
