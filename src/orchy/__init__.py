"""Orchy: a distributed, fault-tolerant workflow orchestrator on Trio and Redis."""

__version__ = "0.1.0"
