"""Figures, beside their goals if they have one, and the series that plots are drawn from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypeAlias

import attrs


@attrs.frozen
class Figure:
    """One measurement: the median of `runs`, which lay between `low` and `high`.

    `ratio` is the value over its goal: None without a goal, or with a goal of 0. `good` is None without a goal.
    """

    what: str
    value: float
    unit: str = ""
    goal: str = ""
    good: bool | None = None
    ratio: float | None = None
    runs: int = 1
    low: float | None = None
    high: float | None = None

    def line(self) -> str:
        """As it is printed."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        spread = ""
        if self.low is not None and self.high is not None:
            spread = f"{format_number(self.low)} .. {format_number(self.high)}"
        missed = "MISSED" if self.good is False else ""
        value = format_number(self.value)
        line = f"{self.what:60} {value:>9} {self.unit:12} {self.goal:10} {ratio:>6} {missed:6} {spread}"
        return line.rstrip()


@attrs.frozen
class Series:
    """Points of a plot. They are kept in the results, not printed."""

    name: str
    points: Sequence[tuple[float, float]]


Measured: TypeAlias = Figure | Series
HEADING = f"{'what (median)':60} {'figure':>9} {'':12} {'goal':10} {'ratio':>6} {'':6} lowest .. highest"


def format_number(value: float) -> str:
    """Three significant digits, or whole thousands with commas."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def figure(what: str, values: float | Sequence[float], unit: str = "") -> Figure:
    """One value, or the median of several."""
    if isinstance(values, int | float):
        return Figure(what, values, unit)
    return Figure(what, statistics.median(values), unit, runs=len(values), low=min(values), high=max(values))


def at_most(what: str, values: float | Sequence[float], unit: str, most: float) -> Figure:
    """A figure that should be small."""
    one = figure(what, values, unit)
    return attrs.evolve(one, goal=f"<= {most:,g}", good=one.value <= most, ratio=one.value / most if most else None)


def at_least(what: str, values: float | Sequence[float], unit: str, least: float) -> Figure:
    """A figure that should be large."""
    one = figure(what, values, unit)
    return attrs.evolve(one, goal=f">= {least:,g}", good=one.value >= least, ratio=one.value / least if least else None)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]
