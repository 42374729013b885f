"""The reference store: plain dictionaries, for tests and the simulation."""
