"""The store without a node."""
