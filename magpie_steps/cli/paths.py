"""How is a path taken from a shell?"""

import os
from argparse import ArgumentTypeError
from pathlib import Path

from magpie_steps.shards import check_name


def expanded(given: str) -> str:
    """Return a path with its ``~`` expanded, which a shell does not do after ``--flag=``.

    Anything else, as a dataset's id on the Hub, is what it was.

    Raises:
        ArgumentTypeError: If it is no text.
    """
    path = os.path.expanduser(given)
    try:
        check_name(Path(path))
    except ValueError as error:
        raise ArgumentTypeError(error) from None
    return path


def path(given: str) -> Path:
    """Return a path with its ``~`` expanded.

    Raises:
        ArgumentTypeError: If it is no text.
    """
    return Path(expanded(given))
