"""How does a report become one HTML page that needs nothing else?

The page has no script, loads nothing and says so to the browser in its content security policy.
Whatever the data hold is escaped on its way into the page.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from magpie_steps import __version__
from magpie_steps.markup import visible
from magpie_steps.report import theme
from magpie_steps.report.sections import Findings, glance, sections


def render(findings: Findings, figures: Mapping[str, Markup]) -> str:
    """Return the page.

    Args:
        findings: What it tells.
        figures: Its figures as SVG, by name.
    """
    page: str = _template().render(
        name=findings.statistics.name,
        subtitle=_subtitle(findings),
        version=__version__,
        glance=glance(findings.statistics),
        sections=sections(findings),
        charts=findings.charts,
        figures=figures,
        light=theme.LIGHT,
        dark=theme.DARK,
        colours=_colours,
    )
    return page


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    text = files("magpie_steps.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text)


def _shown(value: Any) -> Any:
    """Return a value with what cannot be seen in it written as escapes; markup is left alone."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _colours(names: Mapping[str, str]) -> Markup:
    rules = " ".join(f"--{name}: {colour};" for name, colour in names.items())
    return Markup(rules)  # nosec B704


def _subtitle(findings: Findings) -> str:
    statistics = findings.statistics
    writer = f" written by {findings.cost.model}" if findings.cost.model else ""
    return f"A Magpie dataset{writer}, in the schema of {statistics.schema}."
