"""A figure beside its goal."""

from __future__ import annotations

import attrs


@attrs.frozen
class Figure:
    """One measurement. `good` is None where there is no goal."""

    what: str
    value: float
    unit: str = ""
    goal: str = ""
    good: bool | None = None

    def line(self) -> str:
        """For people."""
        shown = (
            f"{self.value:,.0f}"
            if self.value >= 1_000
            else f"{self.value:.3g}"
            if self.value < 10
            else f"{self.value:.1f}"
        )
        return f"{self.what:58} {shown:>9} {self.unit:10} {self.goal:12} {'MISSED' if self.good is False else ''}"


def at_most(what: str, value: float, unit: str, most: float) -> Figure:
    """A figure that should be small."""
    return Figure(what, value, unit, f"<= {most:,g}", value <= most)


def at_least(what: str, value: float, unit: str, least: float) -> Figure:
    """A figure that should be large."""
    return Figure(what, value, unit, f">= {least:,g}", value >= least)


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of them are not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
