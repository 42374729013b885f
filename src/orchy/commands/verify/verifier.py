"""Walks through all keys of a namespace, applies each rule, and checks again whatever seems wrong.

A cluster at work changes while it is read, so a first check may see parts of two states. What seems wrong is checked
twice more, with pauses, and reported only if it is the same each time. Memory is bounded: queue entries are remembered
as 8 bytes each, and at most SUSPECTS_MAX suspects wait to be checked again.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial

import attrs

from orchy.commands.verify.reader import IsQueued, Key, Reader
from orchy.commands.verify.rules import Entry, flow_problems, is_stale, timer_problem
from orchy.engine.transition import to_listing
from orchy.ring import partition_of
from orchy.store.flows import Listing
from orchy.store.timers import TimerKey

AGAIN_SECONDS = 1.0
#: How often a suspect is checked again before it is reported.
CHECKS_AGAIN = 2
SUSPECTS_MAX = 1_000


@attrs.frozen
class Finding:
    """One thing that is wrong with `about`: a flow, an entry, a key."""

    partition: int
    about: str
    problem: str

    def __str__(self) -> str:
        return f"partition {self.partition}: {self.about}: {self.problem}"


@attrs.define
class Progress:
    """What the walk has covered so far."""

    keys: int = 0
    flows: int = 0
    entries: int = 0
    stale: int = 0
    timers: int = 0
    checked_again: int = 0

    def __str__(self) -> str:
        return (
            f"{self.keys:,} keys: {self.flows:,} flows, {self.entries:,} queue entries"
            f" ({self.stale:,} that the next poll drops), {self.timers:,} timers;"
            f" {self.checked_again:,} looked at again"
        )


_Check = Callable[[], list[Finding]]


class Verifier:
    """One walk. `report` is called now and then."""

    def __init__(
        self,
        reader: Reader,
        report: Callable[[Progress], None] = lambda progress: None,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self._reader = reader
        self._report = report
        self._again_seconds = again_seconds
        self.progress = Progress()
        self._suspects: list[tuple[list[Finding], _Check]] = []
        self._queued = array("Q")
        self._partitions = 0

    def run(self) -> Iterator[Finding]:
        """The findings, as they are confirmed."""
        partitions = self._reader.partitions()
        if partitions is None:
            first = next(self._reader.keys(), None)
            if first is not None:
                yield Finding(first.partition, "settings", "the number of partitions is not there, and flows are")
            return
        self._partitions = partitions
        for key in self._reader.keys("q:"):
            yield from self._queue(key)
        self._queued = array("Q", sorted(self._queued))
        for key in self._reader.keys(""):
            self.progress.keys += 1
            yield from self._key(key)
            self._report(self.progress)
        yield from self._check_again()
        self._report(self.progress)

    # Checks, and their repetition.

    def _suspect(self, check: _Check, again: _Check | None = None) -> Iterator[Finding]:
        """Make a check; what it finds will be confirmed by `again`, or by the same check."""
        found = check()
        if found:
            self._suspects.append((found, again or check))
            if len(self._suspects) >= SUSPECTS_MAX:
                yield from self._check_again()

    def _check_again(self) -> Iterator[Finding]:
        suspects, self._suspects = self._suspects, []
        self.progress.checked_again += len(suspects)
        for _ in range(CHECKS_AGAIN):
            if not suspects:
                return
            time.sleep(self._again_seconds)
            still = []
            for found, check in suspects:
                now = check()
                same = [finding for finding in found if finding in now]
                if same:
                    still.append((same, check))
            suspects = still
        for found, _ in suspects:
            yield from found

    # Keys.

    def _key(self, key: Key) -> Iterator[Finding]:
        if key.partition >= self._partitions:
            problem = f"the namespace has {self._partitions} partitions"
            yield Finding(key.partition, f"key {key.kind}:{key.rest}", problem)
            return
        match key.kind:
            case "f":
                self.progress.flows += 1
                yield from self._suspect(
                    lambda: self._flow(key, self._was_queued), lambda: self._flow(key, self._reader.find_entry)
                )
            case "g":
                pass  # the id of a flow that was removed: the key expires by itself
            case "a" | "h" | "k":
                yield from self._suspect(lambda: self._orphan(key))
            case "q":
                yield from self._suspect(lambda: self._ready(key.partition, key.rest))
            case "t":
                for members in self._reader.timers(key.partition):
                    self.progress.timers += len(members)
                    yield from self._timers(key.partition, members)
            case "x":
                for members in self._reader.retained(key.partition):
                    yield from self._retained(key.partition, members)
            case "i":
                yield from self._index(key)
            case "u":
                for members in self._reader.quarantined(key.partition):
                    for flow_id in members:
                        yield from self._suspect(partial(self._quarantined, key.partition, flow_id))
            case "ready" | "names":
                for name in sorted(self._reader.set_of(key.partition, key.kind)):
                    check = self._ready if key.kind == "ready" else self._name
                    yield from self._suspect(lambda check=check, name=name: check(key.partition, name))  # type: ignore[misc]
            case "own":
                yield from self._suspect(lambda: self._lease(key.partition))
            case _:
                yield Finding(key.partition, f"key {key.kind}:{key.rest}", "Orchy has no such key")

    def _flow(self, key: Key, is_queued: IsQueued) -> list[Finding]:
        scan = self._reader.read(key.partition, key.rest, is_queued)
        if scan is None or scan.facts is None:
            return []  # it moves, or is gone
        place = partition_of(key.rest, self._partitions)
        problems = [] if place == key.partition else [f"it belongs to partition {place}"]
        if scan.flow is None:
            problems.append("its fields make no flow")
        else:
            problems += flow_problems(scan.flow, scan.facts)
        return [Finding(key.partition, f"flow {key.rest}", problem) for problem in problems]

    def _orphan(self, key: Key) -> list[Finding]:
        if self._reader.exists(key.partition, f"f:{key.rest}") or not self._reader.exists(
            key.partition, f"{key.kind}:{key.rest}"
        ):
            return []
        what = {"a": "timers set aside", "h": "a history", "k": "entries set aside"}[key.kind]
        return [Finding(key.partition, f"flow {key.rest}", f"there is no such flow, but {what} of it")]

    # Queues.

    def _queue(self, key: Key) -> Iterator[Finding]:
        """Check each entry of a queue, and remember it."""
        for texts in self._reader.entries(key.partition, key.rest):
            self.progress.entries += len(texts)
            entries = [Entry.parse(text) for text in texts]
            for text, entry in zip(texts, entries, strict=True):
                if entry is None:
                    problem = f"{text[:80]!r} is no entry"
                    yield Finding(key.partition, f"queue {key.rest}", problem)
                elif entry.action_name != key.rest:
                    problem = f"it is an entry of {entry.action_name}"
                    yield Finding(key.partition, f"queue {key.rest}, entry {entry}", problem)
            good = [entry for entry in entries if entry is not None]
            self._queued.extend(_digest(key.partition, entry) for entry in good)
            flows = self._reader.flows(key.partition, [entry.flow_id for entry in good])
            for entry in good:
                # A flow that ends leaves its entries behind: removing them would cost more than dropping them later.
                self.progress.stale += is_stale(entry, flows[entry.flow_id])
            self._report(self.progress)

    def _was_queued(self, partition: int, entry: Entry) -> bool:
        digest = _digest(partition, entry)
        place = bisect_left(self._queued, digest)
        return place < len(self._queued) and self._queued[place] == digest

    def _ready(self, partition: int, name: str) -> list[Finding]:
        has, said = self._reader.exists(partition, f"q:{name}"), name in self._reader.set_of(partition, "ready")
        if has is said:
            return []
        problem = "it has entries, and is not in the set ready" if has else "it is in the set ready, and has no entries"
        return [Finding(partition, f"queue {name}", problem)]

    # Timers.

    def _timers(self, partition: int, members: list[str]) -> Iterator[Finding]:
        keys = {}
        for member in members:
            try:
                keys[member] = TimerKey.parse(member)
            except ValueError:
                yield Finding(partition, f"timer {member!r}", "it is no timer")
        flows = self._reader.flows(partition, [key.flow_id for key in keys.values()])
        for member, key in keys.items():
            if timer_problem(key, flows[key.flow_id]):
                yield from self._suspect(lambda member=member, key=key: self._timer(partition, member, key))  # type: ignore[misc]

    def _timer(self, partition: int, member: str, key: TimerKey) -> list[Finding]:
        problem = timer_problem(key, self._reader.flows(partition, [key.flow_id])[key.flow_id])
        if problem is None or not self._reader.has_timer(partition, member):
            return []
        return [Finding(partition, f"timer {member}", problem)]

    # Indexes.

    def _index(self, key: Key) -> Iterator[Finding]:
        listing, _, workflow = key.rest.partition(":")
        if listing not in list(Listing):
            yield Finding(key.partition, f"key i:{key.rest}", "there is no such listing")
            return
        yield from self._suspect(lambda: self._name(key.partition, workflow))
        for members in self._reader.listed(key.partition, listing, workflow):
            flows = self._reader.flows(key.partition, members)
            for flow_id in members:
                flow = flows[flow_id]
                if flow is None or to_listing(flow.state) != listing or flow.workflow != workflow:
                    yield from self._suspect(partial(self._listed, key.partition, listing, workflow, flow_id))

    def _listed(self, partition: int, listing: str, workflow: str, flow_id: str) -> list[Finding]:
        flow = self._reader.flows(partition, [flow_id])[flow_id]
        if flow is not None and to_listing(flow.state) == listing and flow.workflow == workflow:
            return []
        if not self._reader.has_member(partition, f"i:{listing}:{workflow}", flow_id):
            return []
        problem = "there is no such flow" if flow is None else f"it is a flow of {flow.workflow}, {flow.state}"
        return [Finding(partition, f"index i:{listing}:{workflow}, flow {flow_id}", problem)]

    def _retained(self, partition: int, members: list[str]) -> Iterator[Finding]:
        flows = self._reader.flows(partition, [member.split(":")[1] for member in members if member.count(":") >= 2])
        for member in members:
            listing, _, rest = member.partition(":")
            flow = flows.get(rest.partition(":")[0])
            if flow is None or to_listing(flow.state) != listing:
                yield from self._suspect(lambda member=member: self._planned(partition, member))  # type: ignore[misc]

    def _planned(self, partition: int, member: str) -> list[Finding]:
        listing, _, rest = member.partition(":")
        flow_id = rest.partition(":")[0]
        flow = self._reader.flows(partition, [flow_id])[flow_id]
        if (flow is not None and to_listing(flow.state) == listing) or not self._reader.has_member(
            partition, "x", member
        ):
            return []
        problem = "there is no such flow" if flow is None else f"it is {flow.state}"
        return [Finding(partition, f"planned removal {member}", problem)]

    def _quarantined(self, partition: int, flow_id: str) -> list[Finding]:
        if self._reader.exists(partition, f"f:{flow_id}") or not self._reader.has_member(partition, "u", flow_id):
            return []
        return [Finding(partition, f"index u, flow {flow_id}", "there is no such flow")]

    def _name(self, partition: int, workflow: str) -> list[Finding]:
        has = self._reader.exists(partition, *(f"i:{listing}:{workflow}" for listing in Listing))
        said = workflow in self._reader.set_of(partition, "names")
        if has is said:
            return []
        problem = "it has flows, and is not in the set names" if has else "it is in the set names, and has no flows"
        return [Finding(partition, f"workflow {workflow}", problem)]

    def _lease(self, partition: int) -> list[Finding]:
        lease = self._reader.lease(partition)
        good = lease.keys() == {"node", "epoch", "until"} and lease["epoch"].isdigit() and int(lease["epoch"]) > 0
        return [] if good or not lease else [Finding(partition, "lease", f"it is no lease: {lease}")]


def _digest(partition: int, entry: Entry) -> int:
    text = f"{partition}:{entry.action_name}:{entry}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
