"""How is a recipe applied from a shell?"""

import argparse
import textwrap
from typing import Any

from magpie_steps.cli.paths import expanded, path
from magpie_steps.cli.speech import fail, say
from magpie_steps.recipe_files import recipe_given
from magpie_steps.recipes import RECIPES, Recipe
from magpie_steps.summary import table


def add_filter(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "filter",
        help="apply a recipe to a dataset",
        description="Apply a recipe to a dataset of parquet files in the schema of magpie-steps,"
        " Magpie-Align or Magpie Ultra; write the kept and the removed rows to a folder.",
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="?",
        type=expanded,
        help="a parquet file, a folder of them, or a dataset's id on the Hub",
    )
    parser.add_argument("--recipe", type=expanded, help="a recipe's name or a YAML file")
    parser.add_argument(
        "--output-dir", type=path, help="default: the dataset's name and the recipe's, joined"
    )
    parser.add_argument(
        "--longest", type=int, help="how many of the longest responses to keep (default: recipe's)"
    )
    parser.add_argument("--list", action="store_true", help="show every recipe and leave")
    parser.set_defaults(run=_filter)


def _filter(args: argparse.Namespace) -> int:
    """Apply a recipe to a dataset."""
    if args.list:
        say("\n\n".join(map(_described, RECIPES.values())))
        return 0
    if args.dataset is None or args.recipe is None:
        missing = "DATASET" if args.dataset is None else "--recipe"
        raise ValueError(f"{missing} is missing; magpie-steps filter --help shows what it takes")
    # Arrow is slow to import: a wrong recipe should be told at once.
    recipe = recipe_given(args.recipe).with_longest(args.longest)
    from magpie_steps.filtering.repository import default_folder, filter_dataset

    folder = args.output_dir or default_folder(args.dataset, recipe)
    counts = filter_dataset(args.dataset, recipe, folder)
    say(table(counts.lines()))
    if not counts.kept:
        return fail("no row was kept", code=1)
    say(f"\ndatasets.load_dataset({str(folder)!r}) opens what is kept")
    return 0


def _described(recipe: Recipe) -> str:
    """Return a recipe in words."""
    return "\n".join(
        [
            f"{recipe.name}: {recipe.source}",
            *(f"  - {demand}" for demand in recipe.demands()),
            *textwrap.wrap(recipe.description, 96, initial_indent="  ", subsequent_indent="  "),
        ]
    )
