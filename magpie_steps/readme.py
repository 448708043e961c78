"""Are the README's generated parts up to date?

``python -m magpie_steps.readme`` writes them, with ``--check`` it only says whether they are stale
(exit code 1). A part stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import magpie_steps
from magpie_steps import columns
from magpie_steps.markup import table

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "README.md"


def parts() -> dict[str, str]:
    """Return every generated part by name."""
    return {
        "models": models_table(),
        "columns": columns.markdown_table(),
        "components": components_table(),
    }


def models_table() -> str:
    """Return which families of models work as a Markdown table, as their templates were counted."""
    stored = ROOT / "benchmarks" / "results" / "templates.json"
    found = json.loads(stored.read_text(encoding="utf-8"))["figures"]["families"]
    header = ["family", "templates that work", "of which think", "what some of them need"]
    return table(header, map(_family, found))


def components_table() -> str:
    """Return the public names as a Markdown table: what each is, in its docstring's first line."""
    lines = []
    for name in magpie_steps.__all__:
        found = getattr(magpie_steps, name)
        summary = (inspect.getdoc(found) or "").partition("\n")[0]
        lines.append([f"`{name}`", f"`{found.__module__}`", summary])
    return table(["name", "module", "what it does"], lines)


def _family(found: Mapping[str, Any]) -> list[str]:
    """Return a family's line: its counts, the options for thinking, conditions, refusals."""
    switches = ", ".join(f"`{name}`" for name in found["switches"])
    thinking = [str(found["thinks"] or ""), f"({switches})" if switches else ""]
    needs = [
        f"`{need}` ({number})" if need.startswith("--") else f"{need} ({number})"
        for need, number in found["needs"].items()
    ]
    refused = [f"`{code}` ({number})" for code, number in found["refused"].items()]
    conditions = "; ".join([*needs, *([f"not: {', '.join(refused)}"] if refused else [])])
    works = f"{found['works']} of {found['templates']}"
    return [found["family"], works, " ".join(filter(None, thinking)), conditions]


def filled(text: str, contents: Mapping[str, str]) -> str:
    """Return a text with its generated parts replaced.

    Raises:
        ValueError: If the text lacks the markers of a part.
    """
    for name, content in contents.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise ValueError(f"the text lacks {begin} ... {end}")
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text


def main() -> int:
    """Write or check the README; return 1 if it is stale."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--file", type=Path, default=DEFAULT, help="default: the repository's")
    args = parser.parse_args()
    found = args.file.read_text(encoding="utf-8")
    wanted = filled(found, parts())
    if wanted == found:
        return 0
    if args.check:
        print(f"{args.file} is stale: run python -m magpie_steps.readme", file=sys.stderr)
        return 1
    args.file.write_text(wanted, encoding="utf-8")
    print(f"{args.file} is up to date now")
    return 0


if __name__ == "__main__":
    sys.exit(main())
