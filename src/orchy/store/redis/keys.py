"""Every Redis key of Orchy is made here, or by a script from a prefix that is made here.

Keys of a partition carry the hash tag ``{namespace:partition}``, so that each script touches one slot of a Redis
Cluster; definitions and settings carry ``{namespace}``.
"""

from __future__ import annotations

import re

from orchy.errors import ConfigurationError

# Braces would move the hash tag; characters that mean something to a glob pattern or a shell are excluded as well.
_NAMESPACE = re.compile(r"[A-Za-z0-9._:/-]{1,64}")


class Keys:
    """The keys of one namespace. Raises ConfigurationError for a name that can't be one."""

    def __init__(self, namespace: str) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                f"{namespace!r} can't be a namespace: 1 to 64 letters, digits and the characters . _ : / - can"
            )
        self._namespace = namespace
        self._prefixes: dict[int, bytes] = {}

    def partition(self, partition: int) -> bytes:
        """The prefix of all keys of a partition; scripts add the rest (see `lua/`)."""
        prefix = self._prefixes.get(partition)
        if prefix is None:
            prefix = self._prefixes[partition] = f"{{{self._namespace}:{partition}}}:".encode()
        return prefix

    def flow(self, partition: int, flow_id: str) -> bytes:
        """Hash: a flow's fields, and the store's own `v` (version), `c` (created) and `z` (ended)."""
        return self.partition(partition) + b"f:" + flow_id.encode()

    def history(self, partition: int, flow_id: str) -> bytes:
        """List: ``<ms> <JSON array>`` for each transition."""
        return self.partition(partition) + b"h:" + flow_id.encode()

    def timers(self, partition: int) -> bytes:
        """Sorted set: timers by due time (ms)."""
        return self.partition(partition) + b"t"

    def owner(self, partition: int) -> bytes:
        """Hash: `node`, `epoch`, `until` (ms)."""
        return self.partition(partition) + b"own"

    def settings(self) -> bytes:
        """Hash: what is fixed when the namespace is first used, the identity of its data and their last place."""
        return f"{{{self._namespace}}}:settings".encode()

    def nodes(self) -> bytes:
        """Hash: ``<until ms> <instance> <gossip address>`` of each process that serves the namespace, by its name."""
        return f"{{{self._namespace}}}:nodes".encode()

    def actions(self) -> bytes:
        """Hash: action definitions by name."""
        return f"{{{self._namespace}}}:actions".encode()

    def workflow_names(self) -> bytes:
        """Set: names of the workflows that are not deleted."""
        return f"{{{self._namespace}}}:workflows".encode()

    def workflow_names_ever(self) -> bytes:
        """Set: names of all workflows that there ever were."""
        return f"{{{self._namespace}}}:workflows-ever".encode()

    def workflow(self, name: str) -> bytes:
        """Hash: `last` (the highest version ever), `latest` (the newest one, unless it was deleted), each
        version's text, and `bytes` (of all texts)."""
        return f"{{{self._namespace}}}:workflow:{name}".encode()
