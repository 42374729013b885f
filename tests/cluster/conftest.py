"""The in-memory store on a virtual clock."""

from __future__ import annotations

from tests.engine.conftest import store

__all__ = ["store"]
