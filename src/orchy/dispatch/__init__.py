"""Hands out work: which partitions are known to have some, and the polls and streams that ask for it."""
