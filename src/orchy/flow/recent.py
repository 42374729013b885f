"""The ids of the last events of a flow, with the answer to each, so that an event that is sent twice counts once.

They are kept in chunks: adding an id copies and writes the newest chunk only, however many ids are remembered.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchy.flow.limits import RECENT_EVENTS_MAX

CHUNK_IDS = 50
#: One more than RECENT_EVENTS_MAX needs, as the newest chunk is mostly not full.
CHUNKS_MAX = RECENT_EVENTS_MAX // CHUNK_IDS + 1


class RecentEvents(Struct, frozen=True):
    """`chunks`, oldest first and numbered from `first`, map an id to whether a wait took the event at once."""

    first: int = 0
    chunks: tuple[Mapping[str, bool], ...] = ()

    def get(self, event_id: str) -> bool | None:
        """Whether a wait took the event at once; None if the id is not known."""
        for chunk in reversed(self.chunks):
            taken = chunk.get(event_id)
            if taken is not None:
                return taken
        return None

    def adding(self, event_id: str, taken: bool) -> tuple[RecentEvents, frozenset[int]]:
        """With one id more, and the numbers of the chunks that were changed or dropped."""
        if self.chunks and len(self.chunks[-1]) < CHUNK_IDS:
            chunks = (*self.chunks[:-1], {**self.chunks[-1], event_id: taken})
            return RecentEvents(self.first, chunks), frozenset({self.first + len(chunks) - 1})
        chunks = (*self.chunks, {event_id: taken})
        changed = {self.first + len(chunks) - 1}
        dropped = max(0, len(chunks) - CHUNKS_MAX)
        changed.update(range(self.first, self.first + dropped))
        return RecentEvents(self.first + dropped, chunks[dropped:]), frozenset(changed)

    def numbers(self) -> range:
        """The numbers of all chunks."""
        return range(self.first, self.first + len(self.chunks))

    def chunk(self, number: int) -> Mapping[str, bool] | None:
        """The chunk with this number; None if it was dropped."""
        return self.chunks[number - self.first] if number in self.numbers() else None
