"""The charts of the page as Vega-Lite specifications, in colors that are CSS variables of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

THEME: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": "var(--rule)",
        "gridColor": "var(--rule)",
        "labelColor": "var(--muted)",
        "tickColor": "var(--rule)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
    },
}
"""Configuration of every chart. SVG takes CSS variables, so a chart follows the theme of the page."""
_HEIGHT = 170


def forecast_chart(dated: bool, has_base: bool) -> dict[str, Any]:
    """Return the chart of one forecast, without data.

    The page adds the data set `rows`: `x, actual, base, median, low, high`, missing where they are not defined, and
    `tip`, an object that is shown at the pointer; and sets the parameters `n_rows` and `dot`, the area of a point.

    Args:
        dated: whether x is a time in milliseconds of UTC, not a number of steps.
        has_base: whether the rows have the column `base`.
    """
    import altair as alt

    scale = alt.Scale(type="utc") if dated else alt.Scale(zero=False, nice=False)
    x = alt.X("x", type="temporal" if dated else "quantitative", scale=scale, axis=alt.Axis(tickCount=5, grid=False))
    rows = alt.Chart(alt.NamedData("rows")).encode(x=x.title(None if dated else "step"))

    def line(name: str, color: str, **style: Any) -> alt.Chart:
        # Points show a value without a known neighbor.
        point = alt.OverlayMarkDef(color=color, size=alt.ExprRef("dot"))
        return rows.mark_line(color=color, point=point, **style).encode(y=alt.Y(name, type="quantitative"))

    band = rows.mark_area(color="var(--tuned)", opacity=0.22)
    # Invisible stripes over the whole height react to the pointer.
    width = alt.ExprRef("max(2, width / n_rows)")
    stripes = rows.mark_rule(color="var(--muted)", opacity=0, strokeWidth=width, tooltip=alt.ExprRef("datum.tip"))
    chart = alt.layer(
        band.encode(
            y=alt.Y("low", type="quantitative", title=None, scale=alt.Scale(zero=False)),
            y2="high",
        ),
        line("actual", "var(--ink)", strokeWidth=1.2),
        *([line("base", "var(--base)", strokeWidth=1.5, strokeDash=[4, 2])] if has_base else []),
        line("median", "var(--tuned)", strokeWidth=1.8),
        stripes.properties(name="stripes"),
    )
    return _specification(chart.add_params(alt.param(name="n_rows", value=100), alt.param(name="dot", value=5)))


def line_chart(
    rows: Sequence[Mapping[str, Any]], x: str, y: str, colors: Mapping[str, str], diagonal: bool = False
) -> dict[str, Any]:
    """Return a chart with one line for each model.

    Args:
        rows: `model` and the columns `x` and `y`, whose names are the titles of the axes.
        colors: color of each model.
        diagonal: whether both axes go from 0 to 1, with a line where they are equal.
    """
    import altair as alt

    scale = alt.Scale(domain=[0, 1]) if diagonal else alt.Scale(zero=False)
    color = alt.Color("model:N", scale=alt.Scale(domain=list(colors), range=list(colors.values())), legend=None)
    known = [{"model": row["model"], x: row[x], y: row[y]} for row in rows]
    chart = (
        alt.Chart(alt.InlineData(known))
        .mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X(x, type="quantitative", scale=scale, axis=alt.Axis(grid=False, tickCount=5)),
            y=alt.Y(y, type="quantitative", scale=scale),
            color=color,
            tooltip=[
                alt.Tooltip("model:N"),
                alt.Tooltip(x, type="quantitative"),
                alt.Tooltip(y, type="quantitative", format=".4f"),
            ],
        )
    )
    if not diagonal:
        return _specification(chart)
    ends = alt.Chart(alt.InlineData([{x: 0, y: 0}, {x: 1, y: 1}])).mark_line(color="var(--muted)", strokeDash=[2, 2])
    return _specification(
        alt.layer(ends.encode(x=alt.X(x, type="quantitative"), y=alt.Y(y, type="quantitative")), chart)
    )


def _specification(chart: Any) -> dict[str, Any]:
    specification = chart.properties(width="container", height=_HEIGHT).to_dict(validate=False)
    del specification["config"], specification["$schema"]
    return specification
