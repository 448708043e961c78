"""How is a dataset written in a published schema from a shell?"""

import argparse
from typing import Any

from magpie_steps.cli.paths import expanded, path
from magpie_steps.cli.speech import fail, say
from magpie_steps.summary import table


def add_export(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "export",
        help="write a dataset in a published schema",
        description="Write the kept rows of a run in the schema of the Magpie-Align or the Magpie"
        " Ultra datasets.",
    )
    parser.add_argument("dataset", metavar="DATASET", type=expanded, help="a run's output folder")
    parser.add_argument("--schema", required=True, help="magpie-align or magpie-ultra")
    parser.add_argument(
        "--output-dir", type=path, help="default: the dataset's name and the schema's, joined"
    )
    parser.add_argument("--all", action="store_true", help="write the removed rows too")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    """Write a dataset in a schema."""
    from magpie_steps.export_schemas import default_folder, export_dataset  # slow

    folder = args.output_dir or default_folder(args.dataset, args.schema)
    counts = export_dataset(args.dataset, args.schema, folder, kept_only=not args.all)
    say(table(counts.lines()))
    if not counts.written:
        return fail("no row was written", code=1)
    say(f"\ndatasets.load_dataset({str(folder)!r}) opens them")
    return 0
