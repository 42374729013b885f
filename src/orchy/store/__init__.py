"""Where flows are kept: the port (`ports` joins its parts), the in-memory reference, and Redis."""
