"""What the calls of the worker API mean."""
