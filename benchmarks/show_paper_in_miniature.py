"""Do the documents show what `paper_in_miniature.py` found?

Draws both figures and writes what comes from the committed result into the README and
`docs/paper_in_miniature.md`. With ``--check`` it only says what is stale (exit code 1).

    python benchmarks/show_paper_in_miniature.py
    python benchmarks/show_paper_in_miniature.py --check
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from figures import quiet
from paper.result import RESULT, read


def main() -> int:
    """Write, or check, figures and documents; return 1 if one is stale."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--result", type=Path, default=RESULT, help="default: the committed one")
    args = parser.parse_args()
    quiet()
    wanted = everything(read(args.result))
    if args.check:
        stale = [path for path, text in wanted.items() if is_stale(path, text)]
        for path in stale:
            print(f"{path} is stale: run python benchmarks/{Path(__file__).name}", file=sys.stderr)
        return int(bool(stale))
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"{path} is up to date now")
    return 0


def everything(result: dict[str, Any]) -> dict[Path, str]:
    """Return what documents and figures should be, by their paths."""
    from paper.document import DOCUMENT, IMAGES, README, renewed  # torch takes seconds
    from paper.drawing import DRAWINGS, drawn

    documents = {path: renewed(path, result) for path in (DOCUMENT, README)}
    return {**documents, **{IMAGES / name: drawn(name, result) for name in DRAWINGS}}


def is_stale(path: Path, text: str) -> bool:
    """Say whether a file is not there or says something else.

    Of figures only the texts are compared: another release of matplotlib draws other bytes.
    """
    from paper.drawing import texts

    if not path.exists():
        return True
    there = path.read_text(encoding="utf-8")
    return texts(there) != texts(text) if path.suffix == ".svg" else there != text


if __name__ == "__main__":
    sys.exit(main())
