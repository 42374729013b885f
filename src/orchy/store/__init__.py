"""Storage of flows: the port (`ports` joins its parts), the in-memory reference, and Redis."""
