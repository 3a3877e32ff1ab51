"""The charts: Vega-Lite specifications, drawn as SVG whose colours are variables of the page.

Their numbers stand in tables beside them, so that to a reader by voice each is one picture with one sentence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import vl_convert
from markupsafe import Markup, escape

from mmlu_pipe.records import Calibration, Interval, PositionBias, SubScore
from mmlu_pipe.reporting.html.page import signed
from mmlu_pipe.scoring.compare import PairedSubject
from mmlu_pipe.scoring.positions import letter

__all__ = ["differences", "histogram", "intervals", "positions", "reliability"]

_VERSION = "6.4"
_WIDTH = 360
_BINS = 24
_LONGEST_NAME = 40
_SURE = 0.05
_NAME = re.compile(r">name(\d+)<")
_AXIS = {
    "domain": False,
    "gridColor": "var(--grid)",
    "labelColor": "var(--muted)",
    "labelFontSize": 12,
    "tickColor": "var(--grid)",
    "titleColor": "var(--muted)",
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "titlePadding": 8,
}
_CONFIG = {
    "aria": False,
    "axis": _AXIS,
    "background": None,
    "legend": {"labelColor": "var(--text)", "labelFontSize": 12, "orient": "top", "symbolType": "square"},
    "text": {"color": "var(--text)", "fontSize": 12},
    "view": {"stroke": None},
}
_PERCENT = {"format": ".0%", "values": [0, 0.2, 0.4, 0.6, 0.8, 1]}


def intervals(parts: Mapping[str, SubScore], average: float | None, label: str) -> Markup:
    """Accuracies with their 95 % intervals, in the order of `parts`; the average is a thin stroke."""
    rows = [
        {
            "name": name,
            "value": part.accuracy,
            "low": part.ci95 and part.ci95.low,
            "high": part.ci95 and part.ci95.high,
            "told": f"{100 * part.accuracy:.0f} % of {part.count:,}",
            "sure": True,
        }
        for name, part in parts.items()
        if part.accuracy is not None
    ]
    return _forest(rows, (0, 1), _PERCENT, label, stroke=average)


def differences(parts: Mapping[str, tuple[PairedSubject, Interval]], reach: float, label: str) -> Markup:
    """Differences with their 95 % intervals, in the order of `parts`; filled where the adjusted p-value is below 5 %.

    Args:
        parts: name → the difference and its interval.
        reach: the axis goes from -reach to reach.
        label: what the picture tells.
    """
    rows = [
        {
            "name": name,
            "value": part.cells.delta,
            "low": interval.low,
            "high": interval.high,
            "told": f"{signed(part.cells.delta)}, p = {part.p_holm:.2g}",
            "sure": part.p_holm < _SURE,
        }
        for name, (part, interval) in parts.items()
    ]
    step = _nice(reach / 3)
    ticks = [place * step for place in range(-3, 4) if abs(place * step) <= 0.92 * reach]  # whose words have room
    digits = max(0, -math.floor(math.log10(100 * step)))
    shown = f"(datum.value > 0 ? '+' : datum.value < 0 ? '\u2212' : '') + format(abs(100 * datum.value), '.{digits}f')"
    return _forest(rows, (-reach, reach), {"values": ticks, "labelExpr": shown}, label, stroke=0)


def _forest(
    rows: list[dict[str, Any]], ends: tuple[float, float], axis: dict[str, Any], label: str, *, stroke: float | None
) -> Markup:
    """One row each: name and what is told above, below them the value as a dot on its interval.

    Names come from datasets. They are written into the picture afterwards: some characters abort the process in Vega.
    """
    names = [row["name"] for row in rows]
    values = [row | {"name": f"name{place}"} for place, row in enumerate(rows)]
    y = {"field": "name", "type": "nominal", "sort": None, "axis": None}
    scale = {"domain": ends, "nice": False}
    x = {"type": "quantitative", "scale": scale, "title": None, "axis": axis}
    at = {"yOffset": 8}  # below the name
    bar = {"type": "rule", "strokeCap": "round", "strokeWidth": 6, **at}
    dot = {"type": "point", "stroke": "var(--accent)", "strokeWidth": 2, "size": 70, "opacity": 1, **at}
    fill = {"condition": {"test": "datum.sure", "value": "var(--accent)"}, "value": "var(--card)"}
    word = {"type": "text", "yOffset": -7}
    layers: list[dict[str, Any]] = [
        {
            "mark": {**bar, "color": "var(--track)"},
            "encoding": {"x": {"datum": ends[0]}, "x2": {"datum": ends[1]}},
        },
        {
            "mark": {**bar, "color": "var(--interval)"},
            "encoding": {"x": {"field": "low"} | x, "x2": {"field": "high"}},
        },
        {"mark": dot, "encoding": {"x": {"field": "value"} | x, "fill": fill}},
        {"mark": {**word, "align": "left"}, "encoding": {"x": {"datum": ends[0]}, "text": {"field": "name"}}},
        {
            "mark": {**word, "align": "right", "color": "var(--muted)"},
            "encoding": {"x": {"datum": ends[1]}, "text": {"field": "told"}},
        },
    ]
    if stroke is not None:
        tick = {"type": "tick", "color": "var(--muted)", "thickness": 1.5, "size": 14, "orient": "vertical", **at}
        layers.insert(2, {"mark": tick, "encoding": {"x": {"datum": stroke}}})
    spec = {"data": {"values": values}, "encoding": {"y": y}, "layer": layers, "width": _WIDTH, "height": {"step": 36}}
    picture = _drawn(spec | {"padding": {"left": 6, "right": 6, "top": 4, "bottom": 20}, "autosize": "none"}, label)
    short = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names]
    return Markup(_NAME.sub(lambda found: f">{escape(short[int(found[1])])}<", picture))  # noqa: S704 - escaped here


def reliability(found: Calibration, label: str) -> Markup:
    """Accuracy against confidence, bin by bin, and below how many lines are in each bin."""
    bins = [
        {
            "low": each.low,
            "high": each.high,
            "confidence": each.confidence,
            "accuracy": each.accuracy,
            "ci_low": each.ci95 and each.ci95.low,
            "ci_high": each.ci95 and each.ci95.high,
            "count": each.count,
        }
        for each in found.bins
    ]
    x = {"scale": {"domain": [0, 1]}, "type": "quantitative"}
    y = {"type": "quantitative", "scale": {"domain": [0, 1]}, "title": "accuracy", "axis": _PERCENT}
    ends = [{"at": 0}, {"at": 1}]
    above = {
        "width": 310,
        "height": 220,
        "layer": [
            {
                "data": {"values": ends},
                "mark": {"type": "line", "color": "var(--muted)", "strokeDash": [3, 3], "strokeWidth": 1},
                "encoding": {"x": {"field": "at"} | x, "y": {"field": "at"} | y},
            },
            {
                "transform": [{"filter": "datum.count > 0"}],
                "mark": {"type": "rule", "color": "var(--interval)", "strokeWidth": 5, "strokeCap": "round"},
                "encoding": {
                    "x": {"field": "confidence", "title": None, "axis": {"labels": False}} | x,
                    "y": {"field": "ci_low"} | y,
                    "y2": {"field": "ci_high"},
                },
            },
            {
                "transform": [{"filter": "datum.count > 0"}],
                "mark": {"type": "point", "color": "var(--accent)", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"x": {"field": "confidence"} | x, "y": {"field": "accuracy"} | y},
            },
        ],
    }
    below = {
        "width": 310,
        "height": 70,
        "mark": {"type": "bar", "color": "var(--bar)"},
        "encoding": {
            "x": {"field": "low", "bin": "binned", "title": "confidence", "axis": _PERCENT} | x,
            "x2": {"field": "high"},
            "y": {"field": "count", "type": "quantitative", "title": "lines", "axis": {"tickCount": 3, "format": ",d"}},
        },
    }
    return _drawn({"data": {"values": bins}, "vconcat": [above, below], "spacing": 8}, label)


def positions(bias: PositionBias, label: str) -> Markup:
    """How often each position was chosen, beside how often it was right."""
    rows = [
        {"position": letter(place), "what": what, "lines": count}
        for what, counts in (("chosen", bias.chosen), ("correct", bias.correct))
        for place, count in enumerate(counts)
    ]
    encoding = {
        "x": {"field": "position", "title": "position", "sort": None, "axis": {"labelAngle": 0, "ticks": False}},
        "xOffset": {"field": "what"},
        "y": {"field": "lines", "type": "quantitative", "axis": {"tickCount": 5, "format": ",d"}},
    }
    colours = {"domain": ["chosen", "correct"], "range": ["var(--accent)", "var(--second)"]}
    layers = [
        {"mark": "bar", "encoding": {"color": {"field": "what", "title": None, "scale": colours}}},
        {
            "mark": {"type": "text", "dy": -7, "fontSize": 11 if max(*bias.chosen, *bias.correct) < 1000 else 9},
            "encoding": {"text": {"field": "lines", "format": ".3~s"}},
        },
    ]
    spec = {"data": {"values": rows}, "encoding": encoding, "layer": layers, "width": _WIDTH, "height": 240}
    return _drawn(spec, label)


def histogram(values: Sequence[float], title: str, label: str, *, whole: bool = False) -> tuple[Markup, int] | None:
    """How values are spread; a few that are far larger than the 99th percentile are left out.

    Args:
        values: one or more, none negative.
        title: what they are, with the unit.
        label: what the picture tells.
        whole: whether they are integers.

    Returns:
        The chart, and how many values lie beyond its end; None where all values are the same.
    """
    ordered = sorted(values)
    low, high = ordered[0], ordered[math.ceil(0.99 * len(ordered)) - 1]
    if ordered[-1] <= 2 * high or low == high:
        high = ordered[-1]
    if low == high:
        return None
    step = _nice((high - low) / _BINS)
    step = max(1, round(step)) if whole else step
    first = math.floor(low / step)
    counts: dict[int, int] = {}
    for value in ordered:
        if value <= high:
            place = math.floor(value / step)
            counts[place] = counts.get(place, 0) + 1
    last = max(counts)
    rows = [
        {"low": place * step, "high": (place + 1) * step, "calls": counts.get(place, 0)}
        for place in range(first, last + 1)
    ]
    axis = {"tickCount": 6, "grid": False, **({"format": ",d"} if whole else {})}
    spec = {
        "data": {"values": rows},
        "mark": {"type": "bar", "color": "var(--accent)"},
        "encoding": {
            "x": {"field": "low", "bin": {"binned": True, "step": step}, "title": title, "axis": axis},
            "x2": {"field": "high"},
            "y": {"field": "calls", "type": "quantitative", "axis": {"tickCount": 4, "format": ",d"}},
        },
        "width": _WIDTH,
        "height": 150,
    }
    return _drawn(spec, label), sum(value > high for value in ordered)


def _nice(step: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _drawn(spec: dict[str, Any], label: str) -> Markup:
    whole = {"config": _CONFIG, "padding": 6, **spec}
    if "vconcat" not in spec:
        whole = {"width": _WIDTH, "autosize": {"type": "fit-x", "contains": "padding"}, **whole}
    svg = vl_convert.vegalite_to_svg(whole, vl_version=_VERSION, allowed_base_urls=[])
    picture = Markup(svg.replace("<svg ", '<svg aria-hidden="true" ', 1))  # noqa: S704 - no text of others is in it
    return Markup('<div role="img" aria-label="{}">{}</div>').format(label, picture)
