"""Settings of Hypothesis: no deadline, which a busy machine would miss, and the seed of failures is printed."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("orchy", deadline=None, print_blob=True)
settings.load_profile("orchy")
