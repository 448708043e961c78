"""How are the shards of a run joined from a shell?"""

import argparse
import os
from pathlib import Path
from typing import Any

import magpie_steps
from magpie_steps.cli.paths import expanded, path
from magpie_steps.cli.speech import fail, say
from magpie_steps.summary import counted, table, timed


def add_merge(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "merge",
        help="join the shards of a run",
        description="Join the output folders of a run's shards, made with --shard I/N, into the"
        " dataset that the whole run would have written. Neighbours are searched and the recipe is"
        " applied again, over all rows.",
    )
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=path, help="a shard's output folder"
    )
    parser.add_argument("--output-dir", required=True, type=path, help="the folder to write")
    parser.add_argument(
        "--embedding-model",
        type=expanded,
        default="",
        help="the embedding model, if it is a folder (default: what the shards name)",
    )
    parser.set_defaults(run=_merge)


def _merge(args: argparse.Namespace) -> int:
    """Join shards."""
    # First of all this, as it imports distilabel without its warnings.
    _ = magpie_steps.NeighbourDistance
    from magpie_steps.merging import merge  # slow: --help should be quick
    from magpie_steps.supervision.errors import PipelineRunError

    # "." and ".." have a name only in their place. Path.resolve fails at links in a circle.
    given = args.output_dir
    folder = given if given.name not in ("", "..") else Path(os.path.realpath(given))
    try:
        summary, effort = merge(args.folders, folder, embedding_model=args.embedding_model, say=say)
    except PipelineRunError as error:
        return fail(error, code=2)
    say(f"\n{table([*counted(summary), *timed(summary, effort)])}")
    if not summary.kept:
        return fail("no row was kept", code=1)
    say(f"\ndatasets.load_dataset({str(folder)!r}) opens them")
    return 0
