"""How do people's verdicts come into a dataset, from a shell?"""

import argparse
from typing import Any

from magpie_steps.cli.paths import path
from magpie_steps.cli.speech import say
from magpie_steps.summary import table


def add_review(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "review",
        help="let people judge rows in Argilla",
        description="Send a sample of a dataset's rows to Argilla, see how far its reviewers are,"
        " and bring their verdicts back.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    push = verbs.add_parser("push", help="send a sample, or what is missing of it")
    push.add_argument("folder", metavar="FOLDER", type=path, help="a run's output folder")
    _add_server(push)
    push.add_argument("--sample", type=int, default=1000, help="rows (default: %(default)s)")
    push.add_argument(
        "--removed-share",
        type=float,
        default=0.2,
        help="part of them that the filter removed (default: %(default)s)",
    )
    push.add_argument(
        "--uncertain",
        type=float,
        default=0.0,
        help="part of them that the machine is least sure of (default: %(default)s)",
    )
    push.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    push.add_argument(
        "--min-submitted",
        type=int,
        help="reviewers that a record needs (default: 1 for a new dataset, else as it is)",
    )
    push.set_defaults(run=_push)
    status = verbs.add_parser("status", help="say how far reviewers are")
    _add_server(status)
    status.set_defaults(run=_status)
    pull = verbs.add_parser("pull", help="write verdicts into the dataset's folder")
    pull.add_argument("folder", metavar="FOLDER", type=path, help="the run's output folder")
    _add_server(pull)
    pull.set_defaults(run=_pull)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the dataset's name in Argilla")
    parser.add_argument("--argilla-workspace", help="default: the only one, else default")
    parser.add_argument("--argilla-api-url", help="default: ARGILLA_API_URL")
    parser.add_argument("--argilla-api-key", help="default: ARGILLA_API_KEY")


def _server(args: argparse.Namespace) -> dict[str, str | None]:
    return {
        "workspace": args.argilla_workspace,
        "api_url": args.argilla_api_url,
        "api_key": args.argilla_api_key,
    }


def _push(args: argparse.Namespace) -> int:
    """Send a sample."""
    from magpie_steps.review.push import push  # slow: --help should be quick

    pushed = push(
        args.folder,
        args.name,
        args.sample,
        uncertain=args.uncertain,
        removed_share=args.removed_share,
        seed=args.seed,
        min_submitted=args.min_submitted,
        say=say,
        **_server(args),
    )
    say(f"{table(pushed.lines())}\n\n{pushed.url}")
    return 0


def _status(args: argparse.Namespace) -> int:
    """Say how far reviewers are."""
    from magpie_steps.review.status import status

    found = status(args.name, **_server(args))
    say(f"{table(found.lines())}\n\n{found.url}")
    return 0


def _pull(args: argparse.Namespace) -> int:
    """Write verdicts."""
    from magpie_steps.review.pull import pull

    pulled = pull(args.folder, args.name, say=say, **_server(args))
    say(table(pulled.lines()))
    return 0
