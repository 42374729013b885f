"""What every store limits: batches, histories, and how many definitions a namespace keeps."""

from __future__ import annotations

from msgspec import Struct

from orchy.errors import LimitReached

#: Most items that one call takes or hands out for one partition.
BATCH_MAX = 100
#: A claim stops when what it hands out is this large: common gRPC clients take no message over 4 MiB.
CLAIM_BYTES_MAX = 3 * 2**20
#: For so long the id of a flow that was removed is remembered: a repeated start starts nothing, and no node still holds
#: the flow that had the id before.
REMEMBERED_MS = 120_000
#: Oldest entries of a history give way beyond this many.
HISTORY_ENTRIES_MAX = 50_000
#: When the long entries that commits wrote come to more bytes, the oldest give way until three quarters are left.
HISTORY_BYTES_MAX = 8 * 2**20
#: Longer ones are long; what others come to is bounded by how many there may be.
LONG_ENTRY_BYTES = 160


class DefinitionLimits(Struct, frozen=True):
    """How many definitions a namespace keeps. Versions are kept for the flows that run on them, also of workflows that
    were deleted."""

    workflows_max: int = 10_000
    versions_max: int = 1_000
    versions_bytes_max: int = 100 * 2**20
    actions_max: int = 5_000

    def too_many_workflows(self, name: str) -> LimitReached:
        """For a workflow of a new name."""
        return LimitReached(
            f"the workflow {name!r} would be one more than {self.workflows_max:,}, with those that were deleted; raise"
            " --workflow-limit on all nodes, or use another namespace"
        )

    def too_many_versions(self, name: str) -> LimitReached:
        """For a new version."""
        return LimitReached(
            f"the workflow {name!r} has {self.versions_max:,} versions already, and each is kept for the flows on it;"
            " raise --workflow-version-limit on all nodes, or save it under another name"
        )

    def too_many_bytes(self, name: str) -> LimitReached:
        """For a new version."""
        return LimitReached(
            f"the versions of workflow {name!r} would take more than {self.versions_bytes_max:,} bytes, and each is"
            " kept for the flows on it; save it under another name"
        )

    def too_many_actions(self, name: str) -> LimitReached:
        """For an action of a new name."""
        return LimitReached(
            f"the action {name!r} would be one more than {self.actions_max:,}; delete some that nobody uses, or raise"
            " --action-limit on all nodes"
        )


USUAL_LIMITS = DefinitionLimits()
