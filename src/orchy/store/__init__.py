"""Where flows are kept: the port (`base`), the in-memory reference, and Redis."""
