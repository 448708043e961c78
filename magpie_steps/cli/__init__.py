"""What can be done from a shell?

``magpie-steps COMMAND``: each command has a file with a function that adds it to the parser and one
that runs it.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from magpie_steps.cli.export import add_export
from magpie_steps.cli.filter import add_filter
from magpie_steps.cli.inspect import add_inspect
from magpie_steps.cli.merge import add_merge
from magpie_steps.cli.plan import add_plan
from magpie_steps.cli.push import add_push
from magpie_steps.cli.report import add_report
from magpie_steps.cli.review import add_review
from magpie_steps.cli.speech import fail

COMMANDS: tuple[Callable[[Any], None], ...] = (
    add_inspect,
    add_plan,
    add_merge,
    add_filter,
    add_report,
    add_review,
    add_export,
    add_push,
)
"""Every command, as the function that adds it to the parser."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are said like all others, in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; {self.prog} --help shows what it takes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, 1 if it got to no good end, 2 if it cannot run."""
    parser = _Parser(prog="magpie-steps", description="Magpie datasets from a shell.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    try:
        args = parser.parse_args(arguments)
        code: int = args.run(args)
    except (OSError, ValueError) as error:
        return fail(error, code=2)
    except KeyboardInterrupt:
        return fail("interrupted; the same command starts again", code=130)
    return code
