"""Hands out work: what is known to wait, and the polls and streams that ask for it."""
