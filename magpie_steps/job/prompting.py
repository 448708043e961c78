"""How are the model's prompts made, as far as a command line says it?"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from magpie_steps.engines.variables import check_variables


@dataclass(frozen=True, slots=True)
class Prompting:
    """What is set about prompts and thoughts.

    Attributes:
        chat_template: Jinja text to use instead of the model's own, "" for that.
        chat_template_kwargs: Variables of the chat template.
        response_template_kwargs: Variables for the prompts of responses alone.
        keep_reasoning: Whether rows say what the model thought before its answers.
    """

    chat_template: str = ""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    response_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    keep_reasoning: bool = True

    @property
    def engine_fields(self) -> dict[str, Any]:
        """What is set, as an engine takes it."""
        fields = {
            "chat_template": self.chat_template,
            "chat_template_kwargs": dict(self.chat_template_kwargs),
            "response_template_kwargs": dict(self.response_template_kwargs),
        }
        return {name: value for name, value in fields.items() if value}

    @property
    def template_options(self) -> dict[str, Any]:
        """What is set, as `PreQueryTemplate.from_tokenizer` takes it."""
        names = {"response_template_kwargs": "response_kwargs"}
        return {names.get(name, name): value for name, value in self.engine_fields.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """What is set, as a work folder and a card say it: a template by its hash."""
        fields = self.engine_fields
        template = str(fields.pop("chat_template", ""))
        digest = {"chat_template_sha256": sha256(template.encode()).hexdigest()} if template else {}
        dropped = {} if self.keep_reasoning else {"keep_reasoning": False}
        return {**digest, **fields, **dropped}


def add_prompting(parser: argparse.ArgumentParser) -> None:
    """Add the flags about prompts and thoughts."""
    parser.add_argument(
        "--chat-template",
        default="",
        metavar="FILE",
        help="a Jinja chat template to use instead of the model's own",
    )
    parser.add_argument(
        "--chat-template-kwargs",
        default="",
        metavar="JSON",
        help="variables of the chat template, such as '{\"enable_thinking\": false}'",
    )
    parser.add_argument(
        "--response-template-kwargs",
        default="",
        metavar="JSON",
        help="variables for the prompts of responses alone",
    )
    parser.add_argument(
        "--keep-reasoning",
        dest="drop_reasoning",
        action="store_false",
        default=False,
        help="keep what the model thought in a column of its own (default)",
    )
    parser.add_argument(
        "--drop-reasoning", action="store_true", help="leave what the model thought out of the rows"
    )


def prompting_asked_for(args: argparse.Namespace) -> Prompting:
    """Return what the flags of `add_prompting` say.

    Raises:
        ValueError: The file holds no text or cannot be read, or a text is no JSON object.
    """
    return Prompting(
        chat_template=_template_in(args.chat_template) if args.chat_template else "",
        chat_template_kwargs=_variables("chat-template-kwargs", args.chat_template_kwargs),
        response_template_kwargs=_variables(
            "response-template-kwargs", args.response_template_kwargs
        ),
        keep_reasoning=not args.drop_reasoning,
    )


def _template_in(file: str) -> str:
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
        fault = "" if text.strip() else "it is empty"
    except OSError as error:
        text, fault = "", error.strerror or str(error)
    except ValueError:
        text, fault = "", "it is no text in UTF-8"
    if fault:
        raise ValueError(
            f"--chat-template {file!r} cannot be used: {fault}; give a file with a Jinja template,"
            " such as a model's chat_template.jinja"
        )
    return text


def _variables(flag: str, given: str) -> dict[str, Any]:
    if not given:
        return {}
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"--{flag} is {given[:80]!r}, which is no JSON object; give names and values such as"
            " '{\"enable_thinking\": false}'"
        )
    check_variables(f"--{flag}", found)
    return found
