"""Layouts of the store, as spikes: the same work over each, and what it costs Redis. See docs/decisions/0020."""
