"""How does one see from a shell whether a model works?"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from magpie_steps.cli.paths import expanded
from magpie_steps.cli.speech import say


def add_inspect(commands: Any) -> None:
    """Add the command to a parser's commands."""
    parser = commands.add_parser(
        "inspect",
        help="show whether a model works, from its chat template",
        description="Show what Magpie makes of a model's chat template: prompts, stops, what is"
        " unusual, and whether it works. Only the tokenizer is read, never the weights. The exit"
        " code is 0 if the model works, 1 if not.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=expanded,
        help="a folder with a tokenizer, a hub id, or a .jinja file with a template alone",
    )
    parser.add_argument(
        "--chat-template",
        metavar="FILE_OR_NAME",
        type=expanded,
        help="another template: a file, or the name of one of the tokenizer's",
    )
    parser.add_argument(
        "--chat-template-kwargs",
        metavar="JSON",
        default="{}",
        help="options of the template, such as '{\"enable_thinking\": false}'",
    )
    parser.add_argument(
        "--special-tokens",
        metavar="JSON",
        default="{}",
        help='special tokens that are not in the files, such as \'{"bos_token": "<s>"}\'',
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with the tokenizer",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for programs")
    parser.set_defaults(run=_inspect)


def _inspect(args: argparse.Namespace) -> int:
    """Show a model's template."""
    kwargs = _object(args.chat_template_kwargs, "--chat-template-kwargs")
    special_tokens = _texts(_object(args.special_tokens, "--special-tokens"), "--special-tokens")
    from magpie_steps.inspection import display, judge, read_source, record

    source = read_source(
        args.model,
        chat_template=args.chat_template,
        special_tokens=special_tokens,
        trust_remote_code=args.trust_remote_code,
    )
    judgement = judge(source.derive, kwargs)
    if args.json:
        say(json.dumps(record(source, judgement)))
    else:
        say(_encodable(display(source, judgement, _style())))
    return 0 if judgement.verdict.works else 1


def _object(given: str, flag: str) -> dict[str, Any]:
    """Return the JSON object in a flag.

    Raises:
        ValueError: If there is none.
    """
    try:
        found = json.loads(given)
        json.dumps(found, allow_nan=False)  # Python reads numbers that JSON does not have
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"{flag} is {given!r}, which is no JSON object; give one such as"
            ' \'{"name": "value"}\', in single quotes'
        )
    return found


def _texts(found: Mapping[str, Any], flag: str) -> dict[str, str]:
    """Return an object whose values are texts.

    Raises:
        ValueError: If one is not.
    """
    for name, value in found.items():
        if not isinstance(value, str) or not value:
            raise ValueError(f"{flag}: {name!r} is {value!r}; give the token's text")
    return dict(found)


def _style() -> Any:
    """Return how control tokens stand out: colours on a terminal that wants them, else brackets."""
    from magpie_steps.inspection.marking import BRACKETS, REVERSED

    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return REVERSED if sys.stdout.isatty() and not plain else BRACKETS


def _encodable(text: str) -> str:
    """Return a text that standard output can write, whatever its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
