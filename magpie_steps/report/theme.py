"""How does one drawing suit a card on white paper as well as a page in light or dark?

Figures are drawn in the colours of the light theme. In a page's SVG each of them is replaced by the
page's own variable of that name, so that the drawing follows the page.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup, escape

from magpie_steps.markup import visible

LIGHT: Mapping[str, str] = {
    "paper": "#fffffe",
    "ink": "#1b2027",
    "muted": "#56606b",
    "rule": "#d8dee6",
    "first": "#1763a8",
    "second": "#b6520d",
    "third": "#0e7a5d",
    "fourth": "#8a4bb0",
}
"""The colours by their names. Blue and orange are told apart with any colour vision."""

DARK: Mapping[str, str] = {
    "paper": "#14181d",
    "ink": "#e8ebef",
    "muted": "#a3adb8",
    "rule": "#333c46",
    "first": "#6cb4f5",
    "second": "#f3a35c",
    "third": "#4fcfa6",
    "fourth": "#cf9bf0",
}
"""The same in the dark theme."""

SERIES = ("first", "second", "third", "fourth")
"""The names of the colours of data, in the order in which they are used."""

SIZE = (4.4, 3.1)
"""Width and height of a figure in inches; at 72 points to the inch it is as wide as a phone."""

FONT_SIZE = 9
DPI = 150
LABEL_CHARACTERS = 28
FAMILY = "DejaVu Sans"  # comes with matplotlib, so that figures are the same everywhere

_STYLE: Mapping[str, Any] = {
    "font.family": FAMILY,
    "font.size": FONT_SIZE,
    "figure.titlesize": FONT_SIZE + 1,
    "figure.titleweight": "bold",
    "axes.labelsize": FONT_SIZE,
    "axes.labelcolor": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "figure.facecolor": LIGHT["paper"],
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.8,
    "legend.fontsize": FONT_SIZE,
    "legend.frameon": False,
    "legend.labelcolor": LIGHT["ink"],
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # data may hold dollar signs
    "xtick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "xtick.labelsize": FONT_SIZE,
    "ytick.color": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["ink"],
    "ytick.labelsize": FONT_SIZE,
    "svg.fonttype": "none",
    "svg.hashsalt": "magpie-steps",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the theme's style inside the `with` block."""
    import matplotlib

    with matplotlib.rc_context(dict(_STYLE)):
        yield


def label(text: str, most: int = LABEL_CHARACTERS) -> str:
    """Return a text as it can stand in a figure.

    It is on one line and short, what cannot be seen is written as an escape, and a character that
    the figures' font lacks is replaced.
    """
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont(FAMILY)).get_charmap()
    line = visible(" ".join(text[: 4 * most].split()))
    short = line if len(line) <= most else f"{line[: most - 1]}…"
    return "".join(each if ord(each) in known else "\ufffd" for each in short)


def png(figure: Any) -> bytes:
    """Return a figure as a PNG file."""
    file = io.BytesIO()
    with style():
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def svg(figure: Any, name: str, description: str) -> Markup:
    """Return a figure as an SVG element whose colours are variables of the page.

    Args:
        figure: The figure.
        name: A name that no other figure of the page has; its ids begin with it.
        description: What it shows, for those who do not see it.
    """
    file = io.StringIO()
    with style():
        figure.savefig(file, format="svg", facecolor="none", metadata={"Date": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r"<[^>]*>", lambda tag: _of_page(tag[0], name), drawing)
    box = re.search(r'viewBox="[^"]*"', drawing)
    assert box is not None, "matplotlib writes the size of its drawings"
    head = f'<svg {box[0]} role="img" aria-label="{escape(visible(description))}"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink" class="figure">'
    sized = re.sub(r"<svg\b[^>]*>", lambda _: head, drawing, count=1).rstrip()
    # It is matplotlib's own, which escapes the texts in it.
    return Markup(sized)  # nosec B704


def _of_page(tag: str, name: str) -> str:
    """Return a tag with ids, colours and fonts that suit the page; texts are not in tags."""
    tag = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    tag = tag.replace(f"'{FAMILY}'", f"'{FAMILY}', Verdana, sans-serif")
    return _COLOUR.sub(lambda found: f"var(--{_NAMES[found[0]]})", tag)


_NAMES = {colour: name for name, colour in LIGHT.items()}
_COLOUR = re.compile("|".join(_NAMES))
