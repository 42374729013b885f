"""Definitions as they come in: read, checked, and either sound or with every problem they have."""
