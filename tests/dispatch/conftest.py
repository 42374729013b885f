"""Engines that commit what a dispatcher hands out."""

from __future__ import annotations

from tests.engine.conftest import engine, engines, store, user

__all__ = ["engine", "engines", "store", "user"]
