"""A report as one HTML file that loads nothing: style, charts and plotly.js are within.

All text of a trace is escaped: in HTML here, in charts by ``page.js``; and the page's own policy (CSP) forbids it to
load anything from anywhere.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from fedmpi import __version__
from fedmpi.analysis.looks import COLOURS, WAIT
from fedmpi.analysis.report.content import Chart, Report, Section, Table, capital
from fedmpi.trace import Status
from fedmpi.trace.schema import names

MOST_BYTES = 3_000_000
"""Of a page."""

_DARK = {"#000000": "#F0E442", "#0072B2": "#4DA3E0"}
"""Colours that are not seen well on a dark page -> what is taken there, also of Okabe and Ito's palette or lighter."""
_KEY = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)+")
_BREAKS = re.compile(r"([._])")
_DARK_WAIT = "#4A4F57"


def html(report: Report, now: datetime | None = None) -> str:
    """The page. ``now`` is when it was made, in UTC (None: now)."""
    made = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    place = 0
    parts = []
    for section in report.sections:
        parts.append(_section(section, place))
        place += len(section.charts)
    charts = [chart for section in report.sections for chart in section.charts]
    data = {
        "charts": [_plain(chart) for chart in charts],
        "statuses": names(Status),
        "colours": {"light": list(COLOURS), "dark": [_DARK.get(colour, colour) for colour in COLOURS]},
        "wait": {"light": WAIT, "dark": _DARK_WAIT},
    }
    return Template(_text("template.html")).substitute(
        title=escape(report.title),
        subtitle=escape(report.subtitle),
        style=_text("page.css"),
        script=_text("page.js"),
        contents="".join(f'<a href="#{one.name}">{escape(one.title)}</a>' for one in report.sections),
        headlines="".join(
            f"<div><dt>{escape(one.label)}</dt><dd>{escape(one.value)}<small>{escape(one.remark)}</small></dd></div>"
            for one in report.headlines
        ),
        remarks="".join(f'<p class="remark">{escape(remark)}</p>' for remark in report.remarks),
        choice=_choice(report.runs),
        sections="".join(parts),
        made=escape(f"Made by fedmpi {__version__} on {made}."),
        data=_packed(json.dumps(data, allow_nan=False, separators=(",", ":")).encode()),
        plotly=_plotly(),
    )


def _section(section: Section, first_chart: int) -> str:
    text = "".join(f"<p>{escape(line)}</p>" for line in section.text)
    charts = "".join(_chart(chart, first_chart + place) for place, chart in enumerate(section.charts))
    legend = f'<div class="legend" data-section="{section.name}"></div>' if section.charts else ""
    tables = f'<div class="tables">{"".join(map(_table, section.tables))}</div>' if section.tables else ""
    return (
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>{text}{legend}'
        f'<div class="charts">{charts}</div>{tables}</section>'
    )


def _chart(chart: Chart, place: int) -> str:
    run = "" if chart.run is None else f' data-run="{chart.run}"'
    wide = " wide" if chart.kind == "gantt" else ""
    controls = ""
    if chart.kind == "gantt":
        last = len(chart.rounds) - 1
        controls = (
            '<div class="rounds"><button type="button" data-step="-1" aria-label="round before">&#9664;</button>'
            f'<input type="range" min="0" max="{last}" value="{last}" aria-label="round">'
            '<button type="button" data-step="1" aria-label="next round">&#9654;</button>'
            '<button type="button" data-longest>longest round</button><output></output></div>'
        )
    note = f"<figcaption>{escape(chart.note)}</figcaption>" if chart.note else ""
    title = escape(capital(chart.title))
    return (
        f'<figure class="{chart.kind}{wide}" data-chart="{place}"{run}><h3>{title}</h3>{controls}'
        f'<div class="plot" role="img" aria-label="{title}"></div>{note}</figure>'
    )


def _table(table: Table) -> str:
    def cells(row: Iterable[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if place >= table.numbers_from else ''}>{_breakable(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    text = " text" if table.numbers_from >= len(table.header) else ""
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    rows = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows)
    return (
        f'<div class="scroll{text}" tabindex="0"><table>{caption}<thead><tr>{cells(table.header, "th")}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _breakable(cell: str) -> str:
    """A cell; a dotted key may be broken behind its dots and underscores."""
    text = escape(cell)
    return _BREAKS.sub(r"\1<wbr>", text) if _KEY.fullmatch(cell) else text


def _choice(runs: tuple[str, ...]) -> str:
    """A list to choose a run from, where there are several."""
    if len(runs) < 2:
        return ""
    options = "".join(f'<option value="{place}">{escape(name)}</option>' for place, name in enumerate(runs))
    return f'<label class="choice">Charts of a single run show <select id="run">{options}</select></label>'


def _plain(chart: Chart) -> dict[str, Any]:
    """What ``page.js`` needs of a chart."""
    return {name: value for name, value in asdict(chart).items() if name != "note"}


def _packed(content: bytes) -> str:
    """Compressed, as text that can stand in a page."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


@cache
def _plotly() -> str:
    return _packed((files("plotly") / "package_data" / "plotly.min.js").read_bytes())


def _text(name: str) -> str:
    return (files("fedmpi.analysis.report") / name).read_text(encoding="utf-8")
