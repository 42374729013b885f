"""Reads for users: flows, histories, listings. Nothing here writes."""
