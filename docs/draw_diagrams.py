"""Draws the diagrams of docs/architecture.md from the transition tables: `python docs/draw_diagrams.py [--check]`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from orchy.flow.execution import Phase
from orchy.flow.machine import ACTION_LIFE, FLOW_LIFE, ActionEnd
from orchy.rpc.api.session_life import ENDS, SESSION_LIFE, State
from orchy.worker.stream_life import STREAM_LIFE
from orchy.worker.stream_life import State as StreamState

PAGE = Path(__file__).parent / "architecture.md"


def _name(state: Phase | ActionEnd) -> str:
    return state.name


def draw_action_life() -> str:
    """A state diagram of ACTION_LIFE."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {phase.name}: reached" for phase in (Phase.QUEUED, Phase.DELAY, Phase.WAIT, Phase.DEFERRED)]
    lines.append("    [*] --> HELD: reached while paused")
    for row in ACTION_LIFE:
        for target in sorted(row.leads_to, key=_name):
            lines.append(f"    {row.phase.name} --> {_name(target)}: {row.trigger}")
    lines += [f"    {end.name} --> [*]" for end in ActionEnd]
    return "\n".join(lines)


def draw_flow_life() -> str:
    """A state diagram of FLOW_LIFE."""
    lines = ["stateDiagram-v2", "    [*] --> RUNNING"]
    for state, following in FLOW_LIFE.items():
        lines += [f"    {state} --> {target}" for target in sorted(following) if target is not state]
        if not following:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)


def draw_session_life() -> str:
    """A state diagram of SESSION_LIFE; what does not leave its state is left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.OPENING.name}"]
    moves = [row for row in SESSION_LIFE if row.leads_to is not row.state]
    lines += [f"    {row.state.name} --> {row.leads_to.name}: {row.trigger}" for row in moves]
    lines += [f"    {state.name} --> [*]" for state in State if state in ENDS]
    return "\n".join(lines)


def draw_stream_life() -> str:
    """A state diagram of STREAM_LIFE."""
    lines = ["stateDiagram-v2", f"    [*] --> {StreamState.OPENING.name}"]
    lines += [f"    {row.state.name} --> {row.leads_to.name}: {row.trigger}" for row in STREAM_LIFE]
    return "\n".join([*lines, f"    {StreamState.CLOSED.name} --> [*]"])


DIAGRAMS = {
    "ACTION_LIFE": draw_action_life,
    "FLOW_LIFE": draw_flow_life,
    "SESSION_LIFE": draw_session_life,
    "STREAM_LIFE": draw_stream_life,
}


def redraw(page: str) -> str:
    """The page with its diagrams drawn anew."""
    for name, draw in DIAGRAMS.items():
        diagram = draw()
        pattern = rf"(<!-- {name} -->\n```mermaid\n).*?(\n```)"
        page = re.sub(pattern, lambda match: match[1] + diagram + match[2], page, flags=re.DOTALL)  # noqa: B023
    return page


def main(argv: list[str]) -> int:
    """0, or 1 if the page was stale and only to be checked."""
    page = PAGE.read_text("utf-8")
    drawn = redraw(page)
    if argv == ["--check"] and drawn != page:
        print("docs/architecture.md is stale: run nox -s diagrams", file=sys.stderr)
        return 1
    PAGE.write_text(drawn, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
