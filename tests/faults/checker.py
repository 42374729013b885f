"""Finds the promises that a run broke, and its figures. Pure: logs and histories in, a verdict out.

The logs of clients and workers are compared with what the cluster says about its flows. Where the store itself may
have lost accepted data (`Seen.store_may_lose`), what that explains is counted, but breaks no rule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

import attrs

from tests.faults import shapes
from tests.faults.observations import Line, Noted, Seen

HEAL_SECONDS_MAX = 60.0
#: Histories have whole milliseconds.
ROUNDING_SECONDS = 0.0015
#: Between two processes that read the same clock one after the other on a busy machine.
CLOCK_SECONDS = 0.05

_ATTEMPT_ENDS = ("completed", "failed", "timedOut")
_FLOW_ENDS = ("flowCompleted", "flowFailed", "flowCancelled")
_Attempt = tuple[str, int, int]


@attrs.frozen
class Figures:
    """One row: counts, seconds, milliseconds, percent. None: there was nothing to measure.

    `lost`: accepted flows that do not exist or have not ended. `store_lost`: what Redis itself forgot, counted only
    where it may. `re_executions`: attempts beyond those that the flows are meant to have. `heal`: how much longer than
    usual flows took that were under way when recovery could begin, counted from then.
    """

    accepted: int
    ended: int
    lost: int
    store_lost: int
    recorded_twice: int
    re_executions: int
    late_results: int
    heal_p50_seconds: float | None
    heal_max_seconds: float | None
    throughput_kept_percent: float | None
    lateness_p50_ms: float | None
    lateness_p99_ms: float | None
    lateness_max_ms: float | None


@attrs.frozen
class Verdict:
    """`broken` has a line for each broken rule: the rule, then where it was broken."""

    broken: Sequence[str]
    figures: Figures


def check(seen: Seen) -> Verdict:
    """Check a run."""
    checker = _Checker(seen)
    checker.check_flows()
    checker.check_workers()
    checker.check_answered_results()
    checker.check_events()
    checker.check_pauses()
    checker.check_epochs()
    for leftover in seen.leftovers:
        if not any(flow in leftover for flow in checker.cut_off & checker.lost_flows):
            checker.broken.append(f"nothing is left of flows that are over: {leftover}")
    return Verdict(checker.broken, _figures(seen, checker))


class _Checker:
    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.broken: list[str] = []
        self.lost_flows: set[str] = set()
        self.store_lost: Counter[str] = Counter()
        self.recorded_twice = 0
        self.cut_off = _cut_off(seen)
        self.shape_of = {noted.flow: noted.details["shape"] for noted in seen.client if noted.what == "start"}
        self.accepted_at: dict[str, float] = {}
        for noted in seen.client:
            if noted.what == "accepted":
                self.accepted_at.setdefault(noted.flow, noted.at)
        self.started_at: dict[str, float] = {}
        for noted in seen.client:
            if noted.what == "start":
                self.started_at.setdefault(noted.flow, noted.at)
        self.ended_at = {
            flow: line.at
            for flow, lines in seen.histories.items()
            for line in lines
            if line.type in _FLOW_ENDS and seen.flows.get(flow)
        }

    def require(self, holds: bool, rule: str, where: object) -> None:
        """Record a rule that does not hold."""
        if not holds:
            self.broken.append(f"{rule}: {where}")

    def require_unless_lost(self, holds: bool, rule: str, where: object) -> None:
        """The same for a rule that the store may break by losing data."""
        if not holds and self._seen.store_may_lose:
            self.store_lost[rule] += 1
        else:
            self.require(holds, rule, where)

    # Flows and their histories.

    def check_flows(self) -> None:
        """Each accepted flow exists, has ended, and has a possible history."""
        for flow, accepted_at in self.accepted_at.items():
            view = self._seen.flows.get(flow)
            if view is None:
                self.lost_flows.add(flow)
                if self._seen.loses_from is not None and accepted_at < self._seen.loses_from:
                    self.require(False, "what the store did not lose is there", flow)
                else:
                    self.require_unless_lost(False, "an accepted flow is there", flow)
                continue
            ended_at = self.ended_at.get(flow)
            if ended_at is None:
                self.lost_flows.add(flow)
                state = f"{flow} ({self.shape_of[flow]}) is {view['state']}, running {view.get('runningActions')}"
                if self._seen.loses_from is not None and flow not in self.cut_off:
                    self.require(False, "what the store did not lose goes on", state)
                else:
                    self.require_unless_lost(False, "an accepted flow ends", state)
                continue
            healed_at = max(self._seen.ended, accepted_at)
            late = ended_at - healed_at
            self.require(late <= HEAL_SECONDS_MAX, "a flow ends in time", f"{flow} ended {late:.1f} s after healing")
            self.require(view["state"] == "COMPLETED", "a flow ends as its workers say", f"{flow}: {view}")
        for flow, lines in self._seen.histories.items():
            if self._seen.flows.get(flow) is not None:
                self._check_history(flow, lines)

    def _check_history(self, flow: str, lines: Sequence[Line]) -> None:
        shape = self.shape_of[flow]
        for before, after in pairwise(lines):
            self.require(after.at >= before.at, "a history is in order", f"{flow}: {before} {after}")
        counts = Counter((line.type, line.action, line.attempt) for line in lines)
        ends: Counter[tuple[int | None, int | None]] = Counter()
        for (kind, action, attempt), count in counts.items():
            where = f"{flow} ({shape}), action {action}, attempt {attempt}: {count} x {kind}"
            if kind in ("scheduled", "handedOut"):
                again = counts["givenBack", action, attempt] if kind == "handedOut" else 0
                self.require(count <= 1 + again, "an attempt happens once", where)
            if kind in _ATTEMPT_ENDS:
                ends[action, attempt] += count
        for (action, attempt), count in ends.items():
            self.require(count == 1, "an attempt ends once", f"{flow}, action {action}, attempt {attempt}: {count}")
        completed = Counter(line.action for line in lines if line.type == "completed")
        for action, count in completed.items():
            self.recorded_twice += count - 1
            self.require(count == 1, "an action completes once", f"{flow}, action {action}: {count} times")
        over = [index for index, line in enumerate(lines) if line.type in _FLOW_ENDS]
        if over:
            after_end = [line.type for line in lines[over[0] + 1 :] if line.type != "late"]
            self.require(not after_end, "nothing happens to a flow that is over", f"{flow}: {after_end}")
            if lines[over[0]].type == "flowCompleted":
                wanted = {action["id"] for action in shapes.WORKFLOWS[shape]["actions"]}
                self.require(set(completed) == wanted, "what is reached runs", f"{flow}: {sorted(completed)}")
        self._check_timers(flow, shape, lines)

    def _check_timers(self, flow: str, shape: str, lines: Sequence[Line]) -> None:
        actions = {action["id"]: action for action in shapes.WORKFLOWS[shape]["actions"]}
        at = {(line.type, line.action, line.attempt): line.at for line in lines}
        for line in lines:
            if line.action is None or line.attempt is None:
                continue
            action = actions[line.action]
            least = since = None
            if line.type == "completed" and action["name"] == "delay":
                least, since = action["delaySeconds"], at.get(("scheduled", line.action, line.attempt))
            elif line.type == "completed" and action["name"] == "wait" and line.detail is None:
                least, since = action["timeoutSeconds"], at.get(("scheduled", line.action, line.attempt))
            elif line.type == "timedOut":
                least, since = shapes.ACTIONS[action["name"]][2], at.get(("handedOut", line.action, line.attempt))
            elif line.type == "scheduled" and line.attempt > 1:
                least, since = shapes.ACTIONS[action["name"]][1], at.get(("retry", line.action, line.attempt))
            if least is not None:
                where = f"{flow}, {line.type} of action {line.action}, attempt {line.attempt}"
                self.require(since is not None, "a timer belongs to something", where)
                if since is not None:
                    took = line.at - since
                    self.require(took >= least - ROUNDING_SECONDS, "no timer is early", f"{where}: {took:.3f} s")

    # Workers.

    def check_workers(self) -> None:
        """Workers got what was handed out, once, and only of flows that were not over."""
        handed_out: dict[_Attempt, float] = {}
        for flow, lines in self._seen.histories.items():
            for line in lines:
                if line.type == "handedOut" and line.action is not None and line.attempt is not None:
                    handed_out.setdefault((flow, line.action, line.attempt), line.at)
        received: Counter[_Attempt] = Counter()
        for noted in self._seen.workers:
            if noted.what != "received":
                continue
            received[noted.attempt] += 1
            where = f"{noted.attempt} at {noted.at:.3f}"
            handed_at = handed_out.get(noted.attempt)
            self.require_unless_lost(handed_at is not None, "what a worker gets was handed out", where)
            if handed_at is not None and not self._seen.store_may_lose:
                self.require(noted.at >= handed_at - CLOCK_SECONDS, "what a worker gets was handed out", where)
            ended_at = self.ended_at.get(noted.flow)
            if ended_at is not None:
                late = noted.at - ended_at
                good = late <= self._seen.delivery_seconds
                self.require(good, "nothing is handed out of a flow that is over", f"{where}, {late:.2f} s after")
        for attempt, count in received.items():
            self.require_unless_lost(count == 1, "an attempt is handed out once", f"{attempt}: {count} times")

    def check_answered_results(self) -> None:
        """Each result that counted was pushed by a worker; each result that was answered has ended its attempt."""
        pushed: defaultdict[_Attempt, set[str | None]] = defaultdict(set)
        answered: dict[_Attempt, float] = {}
        for noted in self._seen.workers:
            if noted.what == "push":
                pushed[noted.attempt].add(noted.details["token"])
            elif noted.what == "pushed":
                answered.setdefault(noted.attempt, noted.at)
        for flow, lines in self._seen.histories.items():
            view = self._seen.flows.get(flow)
            if view is None:
                continue
            for line in lines:
                if line.type == "completed" and line.action is not None and line.attempt is not None:
                    output = (view["data"].get(str(line.action)) or {}).get("output")
                    if isinstance(output, dict) and "token" in output:
                        said = pushed[flow, line.action, line.attempt]
                        where = f"{flow}, action {line.action}, attempt {line.attempt}: {output['token']}, {said}"
                        self.require(output["token"] in said, "a result is what a worker said", where)
        over = {
            (flow, line.action, line.attempt)
            for flow, lines in self._seen.histories.items()
            for line in lines
            if line.type in _ATTEMPT_ENDS
        }
        for attempt in answered:
            if self._seen.flows.get(attempt[0]) is not None:
                self.require_unless_lost(attempt in over, "a result that was answered has ended its attempt", attempt)

    # Clients.

    def check_events(self) -> None:
        """Each accepted event reaches a wait, in order; it counts twice only if it was sent twice."""
        sent: Counter[tuple[str, int]] = Counter()
        for noted in self._seen.client:
            if noted.what == "event":
                sent[noted.flow, noted.details["number"]] += 1
            elif noted.what == "eventRefused":
                self.require_unless_lost(False, "an event is accepted", f"{noted.flow}: {noted.details}")
        for flow, view in self._seen.flows.items():
            if view is None or self.shape_of[flow] != "wait" or view["state"] != "COMPLETED":
                continue
            got = []
            for wait in ("2", "3"):
                output = view["data"][wait]["output"]
                got.append(output["number"] if isinstance(output, dict) else None)
            allowed = [[1, 2], [1, 1]] if sent[flow, 1] > 1 else [[1, 2]]
            self.require_unless_lost(got in allowed, "events are kept in order", f"{flow}: {got}")

    def check_pauses(self) -> None:
        """Between the answer to a pause and the resumption nothing starts and nothing is handed out."""
        times: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        received: defaultdict[str, list[Noted]] = defaultdict(list)
        for noted in self._seen.workers:
            if noted.what == "received":
                received[noted.flow].append(noted)
        for noted in self._seen.client:
            if "ause" in noted.what or "esume" in noted.what:
                times[noted.flow][noted.what].append(noted.at)
        for flow, lines in self._seen.histories.items():
            paused = False
            for line in lines:
                if line.type in ("paused", "resumed"):
                    paused = line.type == "paused"
                good = not (paused and line.type in ("handedOut", "scheduled"))
                self.require(good, "nothing starts in a paused flow", f"{flow}: {line}")
        for flow, its in times.items():
            if self._seen.flows.get(flow) is None or not its["pauseAccepted"] or not its["resume"]:
                continue
            held = (its["pauseAccepted"][0], its["resume"][0])
            kinds = [line.type for line in self._seen.histories[flow]]
            self.require_unless_lost("paused" in kinds, "a pause that was answered holds", flow)
            for line in self._seen.histories[flow]:
                if line.type == "handedOut":
                    inside = held[0] + ROUNDING_SECONDS < line.at < held[1] - ROUNDING_SECONDS
                    self.require_unless_lost(not inside, "nothing starts in a paused flow", f"{flow}: {line}, {held}")
            for noted in received[flow]:
                inside = held[0] + self._seen.delivery_seconds < noted.at < held[1]
                self.require(not inside, "nothing is handed out of a paused flow", f"{noted.attempt}, {held}")

    def check_epochs(self) -> None:
        """Epochs rise."""
        highest: dict[int, int] = {}
        for sample in self._seen.epochs:
            for partition, epoch in sample.items():
                good = epoch >= highest.get(partition, 0)
                where = f"partition {partition}: {epoch} after {highest.get(partition)}"
                self.require_unless_lost(good, "epochs rise", where)
                highest[partition] = epoch


def _cut_off(seen: Seen) -> set[str]:
    """Flows that wait for an event or a resumption that the store accepted and then lost."""
    if seen.loses_from is None:
        return set()
    told = ("eventAccepted", "pauseAccepted", "resumeAccepted")
    return {noted.flow for noted in seen.client if noted.what in told and seen.loses_from <= noted.at <= seen.ended}


# Figures.


def _figures(seen: Seen, checker: _Checker) -> Figures:
    lateness = sorted(_lateness(seen, checker.shape_of))
    heal = sorted(_heal(seen, checker))
    return Figures(
        accepted=len(checker.accepted_at),
        ended=sum(flow in checker.ended_at for flow in checker.accepted_at),
        lost=len(checker.lost_flows),
        store_lost=sum(checker.store_lost.values()),
        recorded_twice=checker.recorded_twice,
        re_executions=_re_executions(seen.workers),
        late_results=sum(line.type == "late" for lines in seen.histories.values() for line in lines),
        heal_p50_seconds=_rank(heal, 0.5),
        heal_max_seconds=_rank(heal, 1.0),
        throughput_kept_percent=_kept(seen, checker.ended_at),
        lateness_p50_ms=_rank(lateness, 0.5),
        lateness_p99_ms=_rank(lateness, 0.99),
        lateness_max_ms=_rank(lateness, 1.0),
    )


def _rank(values: Sequence[float], share: float) -> float | None:
    """The nearest rank of sorted values, to three digits after the point."""
    return round(values[min(len(values) - 1, int(share * len(values)))], 3) if values else None


def _lateness(seen: Seen, shape_of: Mapping[str, str]) -> list[float]:
    """How many ms after its due time each delay ended."""
    late = []
    for flow, lines in seen.histories.items():
        if shape_of[flow] == "delay":
            at = {line.type: line.at for line in lines if line.action == 2}
            if "completed" in at and "scheduled" in at:
                late.append((at["completed"] - at["scheduled"] - shapes.DELAY_SECONDS) * 1000)
    return late


def _heal(seen: Seen, checker: _Checker) -> list[float]:
    usual = _usual_seconds(seen, checker)
    return [
        max(0.0, ended_at - seen.heal_from - usual.get(checker.shape_of[flow], 0.0))
        for flow, ended_at in checker.ended_at.items()
        if checker.started_at[flow] <= seen.heal_from < ended_at
    ]


def _usual_seconds(seen: Seen, checker: _Checker) -> dict[str, float]:
    """The median duration of the flows of each shape before the fault."""
    took: defaultdict[str, list[float]] = defaultdict(list)
    for flow, ended_at in checker.ended_at.items():
        if ended_at < seen.began:
            took[checker.shape_of[flow]].append(ended_at - checker.started_at[flow])
    return {shape: median(values) for shape, values in took.items()}


def _kept(seen: Seen, ended_at: Mapping[str, float]) -> float | None:
    """Flows that ended per second during the fault, as a percentage of those before it."""

    def rate(begin: float, end: float) -> float:
        return sum(begin <= at < end for at in ended_at.values()) / (end - begin) if end > begin else 0.0

    before = rate(*seen.baseline)
    return round(100 * rate(seen.began, seen.ended) / before, 1) if before and seen.ended > seen.began else None


def _re_executions(workers: Sequence[Noted]) -> int:
    """Attempts beyond one for each action, and one for each attempt that was meant to fail or to be late."""
    received: Counter[tuple[str, int]] = Counter()
    meant: Counter[tuple[str, int]] = Counter()
    for noted in workers:
        if noted.what == "received":
            key = (noted.flow, noted.details["action"])
            received[key] += 1
            meant[key] += bool(noted.details["meant"])
    return sum(max(0, count - 1 - meant[key]) for key, count in received.items())
