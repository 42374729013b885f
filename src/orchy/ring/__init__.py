"""Which partition a key belongs to, and which member owns a partition. Pure."""

from orchy.ring.owners import owners, successors
from orchy.ring.partition import partition_of

__all__ = ["owners", "partition_of", "successors"]
