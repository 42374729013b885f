"""Attacks on real nodes, and how they come out: `nox -s attacks` prints the table of docs/security.md.

Each attack is a function in one of the files here, registered by `@attack`; `test_attacks` runs all of them.
"""
