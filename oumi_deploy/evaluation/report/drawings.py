# Copyright 2026 - The oumi_deploy authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The charts of a report, drawn from its contents."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from oumi_deploy.evaluation.figures.units import metric_label
from oumi_deploy.evaluation.report.charts import Point, chart

_BARS = 15

_ENDS = {"ROLLBACK": "rolled back", "PAUSE": "held for a person", "CONTINUE": "the end"}


def reliability_diagram(held: Mapping[str, Any]) -> str:
    """Draws stated risk against what came of it."""
    dots = [
        ("first", b["risk"], b["bad"], _or(b["low"], b["bad"]), _or(b["high"], b["bad"]))
        for b in held["bins"]
    ]
    return chart(
        f"Stated risk against the share of bad releases, in {len(dots)} bins of equal filling",
        "stated risk where the rollout ended",
        "share of bad releases",
        x_range=(0, 1),
        y_range=(0, 1),
        lines=[("even", [(0, 0), (1, 1)])],
        dots=dots,
        height=270,
    )


def risk_histogram(histogram: Mapping[str, Any]) -> str:
    """Draws which risks were stated of good releases (upwards) and of bad ones (downwards)."""
    edges, bars, reach = histogram["edges"], [], {}
    for label, sign in (("good", 1), ("bad", -1)):
        counts = histogram[label]
        shares = [n / max(sum(counts), 1) for n in counts]
        reach[label] = max(shares)
        bars += [
            (label, begin, end, sign * share)
            for begin, end, share in zip(edges, edges[1:], shares, strict=False)
            if share
        ]
    return chart(
        "Stated risk of good releases, upwards, and of bad releases, downwards",
        "stated risk where the rollout ended",
        "share of the good, and of the bad",
        x_range=(0, 1),
        y_range=(-max(reach["bad"], 0.1), max(reach["good"], 0.1)),
        bars=bars,
        lines=[("zero", [(0, 0), (1, 0)])],
        notes=[(0.5, 0.6 * reach["good"], "good"), (0.5, -0.6 * reach["bad"], "bad")],
        height=270,
        tell_y=abs,
    )


def risk_coverage(told_of: Mapping[str, Any]) -> str:
    """Draws the share of wrong decisions against the share that is decided."""
    curve, own = told_of["curve"], told_of["own"]
    dots = [
        ("first", c["share"], c["error"], _or(c["low"], c["error"]), _or(c["high"], c["error"]))
        for c in curve
    ]
    highest = max(most for *_, most in dots)
    if own["error"] is not None:
        dots.append(("pause", own["share"], own["error"], own["error"], own["error"]))
    return chart(
        "Share of wrong decisions, by the share of releases that is decided",
        "share of releases decided, the surest first",
        "share of these decided wrongly",
        x_range=(0, 1),
        y_range=(0, max(highest, 0.01)),
        lines=[("first", [(c["share"], c["error"]) for c in curve])],
        dots=dots,
        height=270,
    )


def caught_within(delay: Mapping[str, Any]) -> str:
    """Draws the share of bad releases rolled back within each delay."""
    points, share = [(0.0, 0.0)], 0.0
    for at, reached in zip(delay["delays"], delay["share"], strict=True):
        points += [(at, share), (at, reached)]
        share = reached
    return chart(
        f"Share of bad releases rolled back within so many {delay['unit']}",
        f"{delay['unit']} since the first canary observation",
        "share of bad releases rolled back",
        x_range=(0, max(delay["delays"][-1], 1.0)),
        y_range=(0, 1),
        lines=[("first", points)],
    )


def delay_histogram(delay: Mapping[str, Any]) -> str:
    """Draws how many bad releases were rolled back after each delay."""
    width = _round_width(max(delay["delays"][-1], 1.0) / _BARS)
    counts: dict[int, int] = {}
    for at, n in zip(delay["delays"], delay["n"], strict=True):
        counts[int(at / width)] = counts.get(int(at / width), 0) + n
    return chart(
        f"Bad releases by {delay['unit']} until their rollback",
        f"{delay['unit']} until the rollback, in bins of {width:g}",
        "bad releases",
        x_range=(0, (max(counts) + 1) * width),
        y_range=(0, max(counts.values())),
        bars=[("first", i * width, (i + 1) * width, n) for i, n in sorted(counts.items())],
    )


def timelines(case: Mapping[str, Any]) -> list[str]:
    """Draws one decision: first what the policy made of it, then the metrics of its state."""
    times, n_baseline = case["times"], case["n_baseline"]
    end = times[n_baseline + case["at"]]
    shared = {
        "x_range": (times[0], times[-1]),
        "marks": [(end, _ENDS[case["decision"]])],
        "shaded_until": (times[n_baseline - 1] + times[n_baseline]) / 2 if n_baseline else None,
        "height": 168,
    }
    x_label = f"{case['unit']} since the canary began"
    drawn = [_draw_answers(case, x_label, shared)]
    for metric, values in case["metrics"].items():
        old = case["old_version"].get(metric)
        lines = [("first", _points(times, values))]
        lines += [("second", _points(times, old))] if old else []
        known = [y for _, points in lines for _, y in points if y is not None]
        title = f"{metric_label(metric)} over time" + ", the old version dashed" * (old is not None)
        drawn.append(
            chart(
                title,
                x_label,
                metric_label(metric) + ("" if known else ": never reported"),
                y_range=(min(known, default=0), max(known, default=1)),
                lines=lines,
                **shared,
            )
        )
    return drawn


def _draw_answers(case: Mapping[str, Any], x_label: str, shared: Mapping[str, Any]) -> str:
    """Draws the risk, or without calibration how far ROLLBACK leads, and where it said PAUSE."""
    is_risk = case["risk"][0] is not None
    values = case["risk"] if is_risk else case["q_difference"]
    times = case["times"][case["n_baseline"] :][: len(values)]
    paused = [
        ("pause", t, y, y, y)
        for t, y, answer in zip(times, values, case["answers"], strict=True)
        if answer == "PAUSE"
    ]
    return chart(
        f"{'Risk' if is_risk else 'Lead of ROLLBACK'} over time; dots where it said PAUSE",
        x_label,
        "risk, 0 to 1" if is_risk else "lead of ROLLBACK (reward)",
        y_range=(0, 1) if is_risk else (min([0.0, *values]), max([0.0, *values])),
        lines=[("first", _points(times, values))],
        dots=paused,
        **shared,
    )


def _points(times: Sequence[float], values: Sequence[float | None]) -> list[Point]:
    return list(zip(times, values, strict=True))


def _round_width(width: float) -> float:
    """Returns a width of bins that reads well: a whole number of 1 or more."""
    return float(max(ceil(width), 1))


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
