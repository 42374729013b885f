"""The partitions that this node holds now, as its loops see them. In memory; the store's epochs decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from orchy.store.leases import Lease


class Holdings:
    """The leases of this node, and who watches them."""

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._watchers: list[Callable[[Mapping[int, Lease]], None]] = []

    @property
    def leases(self) -> Mapping[int, Lease]:
        """By partition."""
        return self._leases

    def watch(self, watcher: Callable[[Mapping[int, Lease]], None]) -> None:
        """Call `watcher` with all leases, now and after each change."""
        self._watchers.append(watcher)
        watcher(self._leases)

    def add(self, leases: Iterable[Lease]) -> None:
        """These are held from now on."""
        added = {lease.partition: lease for lease in leases}
        if added:
            self._leases = {**self._leases, **added}
            self._notify()

    def remove(self, partitions: Iterable[int]) -> None:
        """These are no longer held."""
        gone = set(partitions) & self._leases.keys()
        if gone:
            self._leases = {partition: lease for partition, lease in self._leases.items() if partition not in gone}
            self._notify()

    def _notify(self) -> None:
        for watcher in self._watchers:
            watcher(self._leases)
