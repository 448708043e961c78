"""How does a dataset get to the Hub from a shell?"""

import argparse
from typing import Any

from magpie_steps.cli.paths import path
from magpie_steps.cli.speech import fail, say


def add_push(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "push",
        help="bring a dataset to the Hub",
        description="Bring the output folder of a run, a filter or an export to the Hugging Face"
        " Hub, or what is there up to date. A push that ends early goes on where it stopped.",
    )
    parser.add_argument("folder", metavar="FOLDER", type=path, help="the dataset's folder")
    parser.add_argument(
        "repo_id", metavar="REPO_ID", help="OWNER/NAME, or NAME for a repository of your own"
    )
    parser.add_argument("--public", action="store_true", help="let everyone see it")
    parser.add_argument(
        "--replace", action="store_true", help="delete whatever else the repository holds"
    )
    parser.set_defaults(run=_push)


def _push(args: argparse.Namespace) -> int:
    """Push a folder."""
    from magpie_steps.publish import PublishError, push  # slow: --help should be quick

    try:
        push(args.folder, args.repo_id, public=args.public, replace=args.replace, say=say)
    except PublishError as error:
        return fail(error, code=1)
    return 0
