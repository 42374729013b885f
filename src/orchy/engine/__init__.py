"""Moves flows: loads them, steps them, commits what comes of it. The only place that writes flows."""

from orchy.engine.opening import Engine, EngineSettings, open  # noqa: A004

__all__ = ["Engine", "EngineSettings", "open"]
