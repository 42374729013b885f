"""How much work a node does in one go, and how much it caches."""

from __future__ import annotations

import attrs

from orchy.flow.budget import COMMIT_WORK_MAX, SMALL_WORK_MAX

#: How often a commit is tried, if others are first or the store's answer is lost.
TRIES_MAX = 10
#: How many flows are stepped in one go. More would gain little and delay everything else on the node.
FLOWS_AT_ONCE = 32
#: How many such groups are in flight: one is stepped while the store commits the other.
GROUPS_AT_ONCE = 2


@attrs.frozen
class EngineLimits:
    """None of these changes what a flow does, only when and at what cost."""

    #: How many pieces of deferred work are done before one commit.
    deferred_per_commit: int = 20
    #: What a flow may evaluate on the fast path, in units of work (see `flow.budget`).
    small_step_work: int = SMALL_WORK_MAX
    #: What one commit may evaluate before the rest waits for the next one, in units of work.
    commit_work: int = COMMIT_WORK_MAX
    #: How many flows are cached.
    cached_flows: int = 10_000
    #: How many names of workflows are remembered as suggestions for an unknown one.
    remembered_names: int = 500


DEFAULT_LIMITS = EngineLimits()
