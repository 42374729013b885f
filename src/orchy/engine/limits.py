"""How much one node does in one go, and keeps at hand."""

from __future__ import annotations

import attrs

from orchy.flow.budget import COMMIT_WORK_MAX, SMALL_WORK_MAX


@attrs.frozen
class EngineLimits:
    """None of these changes what comes of a flow, only when, and at what cost."""

    #: The most deferred work that is done before one commit.
    deferred_per_commit: int = 20
    #: What a flow may evaluate while others wait to be moved with it, in units of work (see `flow.budget`).
    small_step_work: int = SMALL_WORK_MAX
    #: What one commit may evaluate before the rest waits for the next one.
    commit_work: int = COMMIT_WORK_MAX
    #: How many flows are kept at hand as they were last seen.
    cached_flows: int = 10_000
    #: How many names of workflows are kept to be compared with one that is not there.
    remembered_names: int = 500


DEFAULT_LIMITS = EngineLimits()
