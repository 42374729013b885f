"""javascript: the port, two engines, and the pool of worker processes that run scripts."""
