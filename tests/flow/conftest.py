"""Hypothesis for this folder: no deadline, which a busy machine would miss, and the seed of what fails."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("orchy", deadline=None, print_blob=True)
settings.load_profile("orchy")
