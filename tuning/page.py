"""The report of a search as one HTML document that stands alone, plotly.js inlined.

It looks as the other reports do: their templates are the shell and the marks of this one.
"""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from jobs import report
from tuning import shares
from tuning.overview import Overview
from tuning.view import duration, view


def search_html(found: Overview, *, title: str) -> str:
    """Shows a search to a person; nothing is loaded when it is read."""
    from plotly.offline import get_plotlyjs

    values = view(found)
    drawn = [asdict(chart) for charts in values["charts"].values() for chart in charts]
    template = _environment().get_template("search.html.j2")
    return template.render(title=title, drawn=drawn, plotly=Markup(get_plotlyjs()), **values)


@cache
def _environment() -> Environment:
    environment = report.environment(Path(__file__).with_name("templates"))
    environment.filters |= {"duration": duration}
    environment.globals |= {"draws": shares.RESAMPLES}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment
