"""How is a dataset looked at from a shell?"""

import argparse
from typing import Any

from magpie_steps.cli.paths import expanded, path
from magpie_steps.cli.speech import say


def add_report(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "report",
        help="show what a dataset is like",
        description="Write report.html and its figures for a dataset in the schema of magpie-steps,"
        " Magpie-Align or Magpie Ultra. A dataset is a parquet file, a folder of them, or an id on"
        " the Hub.",
    )
    parser.add_argument("dataset", metavar="DATASET", type=expanded, help="the dataset")
    for flag, metavar, text in (
        ("--compare", "OTHER", "an instruction dataset to put on the same map"),
        ("--decontaminate", "EVAL", "prompts of a benchmark, to look for among the instructions"),
        ("--known", "SFT", "a public dataset, to look for duplicates in"),
    ):
        parser.add_argument(
            flag,
            metavar=metavar,
            type=expanded,
            action="append",
            default=[],
            help=f"{text}; may be given several times",
        )
    parser.add_argument(
        "--output-dir",
        type=path,
        help="default: a run's own folder, for other datasets report- and their name in this one",
    )
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    """Write a report."""
    from magpie_steps.report import default_folder, report  # slow: --help should be quick

    folder = args.output_dir or default_folder(args.dataset)
    report(
        args.dataset,
        folder,
        compare=args.compare,
        decontaminate=args.decontaminate,
        known=args.known,
        say=say,
    )
    say(f"{folder / 'report.html'} shows it")
    return 0
