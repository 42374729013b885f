"""The limits of every store: batches, histories, and how many definitions a namespace keeps."""

from __future__ import annotations

from msgspec import Struct

from orchy.errors import LimitReached

#: The most items that one call takes or hands out for one partition.
BATCH_MAX = 100
#: A claim stops when its bodies come to this: by default, gRPC clients accept no message over 4 MiB.
CLAIM_BYTES_MAX = 3 * 2**20
#: How long the id of a removed flow is remembered: a repeated start starts nothing until then, and no node still caches
#: the flow of that id afterwards.
REMEMBERED_MS = 120_000
#: A history with more entries loses its oldest ones.
HISTORY_ENTRIES_MAX = 50_000
#: When the long entries of commits come to more bytes, the oldest entries go until three quarters are left.
HISTORY_BYTES_MAX = 8 * 2**20
#: An entry with more bytes is long; the bytes of all others are bounded by their number.
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
