"""What a stranger may send to a real node, and what comes of it: `nox -s attacks` prints the table of docs/security.md.

Each attack is a function in one of the files here, registered by `@attack`; `test_attacks` runs all of them.
"""
