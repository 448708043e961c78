"""Render a probe in a user's place, cut at it, and find the control tokens around it."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from magpie_steps.rendering import ChatRenderer, ChatTemplateError

Messages = Sequence[Mapping[str, Any]]

# What stands in a user's place in every rendering that is cut: unlike anything a template writes.
SENTINEL = "Zq7kMagpieProbe3xw"

# What a control token looks like where no tokenizer can be asked.
_MARKERS = (
    r"<\|[^<>|\s]{1,40}\|?>|<[^<>|\s]{1,40}\|>|</?[^<>|\s]{1,40}>|<\uff5c[^<>\n]{1,40}\uff5c>"
    r"|\[\|[^\[\]|\s]{1,40}\|\]|\[/?[A-Za-z_]{2,30}\]"
)
# They open and close a thought, which is content: never a stop of the assistant's turn.
REASONING_TAGS = frozenset({"<think>", "</think>", "[THINK]", "[/THINK]"})


@dataclass(frozen=True)
class Split:
    """A rendering cut at a user's text: what stands before it and after it."""

    before: str
    after: str


class TokenFinder:
    """Finds control tokens in rendered text.

    Args:
        known: The tokenizer's added tokens. What looks like one counts as well: it marks a turn,
            token or not.
        named: The special tokens that the template is given.
    """

    def __init__(self, known: Collection[str], named: Collection[str]) -> None:
        # An added token that is a plain word or white space is text, not scaffold.
        exact = {token for token in {*known, *named} if token.strip() and not token.isalnum()}
        parts = [
            re.escape(token) for token in sorted(exact, key=lambda token: (-len(token), token))
        ]
        self.looks = re.compile("|".join([*parts, _MARKERS]))

    def first(self, text: str) -> re.Match[str] | None:
        """Return the first thing in `text` that is a control token or looks like one."""
        return self.looks.search(text)

    def markers(self, *texts: str) -> set[str]:
        """Return everything in `texts` that is a control token or looks like one."""
        return {match.group() for text in texts for match in self.looks.finditer(text)}

    def last(self, text: str) -> set[str]:
        """Return the last control token in `text`, or nothing."""
        return set([match.group() for match in self.looks.finditer(text)][-1:])

    def snap(self, text: str, cut: int, *, forward: bool) -> int:
        """Move a cut that falls inside a control token to that token's end or start."""
        for match in self.looks.finditer(text):
            if match.start() < cut < match.end():
                return match.end() if forward else match.start()
        return cut

    def erase(self, text: str) -> str:
        """Return `text` without its control tokens."""
        return self.looks.sub("", text)


def user_message(text: str) -> dict[str, str]:
    """Return a user message."""
    return {"role": "user", "content": text}


def split(
    renderer: ChatRenderer,
    before: Messages,
    probe: str = SENTINEL,
    *,
    prefix: str = "",
    add_generation_prompt: bool = True,
) -> Split:
    """Render `before` and a user message `prefix + probe`, and cut at the probe.

    Raises:
        ChatTemplateError: `content_dropped` or `content_repeated`, or what the renderer raises.
    """
    text = renderer.render(
        [*before, user_message(prefix + probe)], add_generation_prompt=add_generation_prompt
    )
    pieces = text.split(probe)
    if len(pieces) == 2:
        return Split(pieces[0], pieces[1])
    if len(pieces) == 1:
        raise ChatTemplateError(
            "content_dropped",
            f"The chat template does not print the user's text as it is (probe {probe!r} is not in"
            f" {text[:120]!r}). Give another template with chat_template=.",
        )
    raise ChatTemplateError(
        "content_repeated",
        f"The chat template prints the user's text {len(pieces) - 1} times, so there is no single"
        " place for a model to write it. Give another template with chat_template=.",
    )


def require_user_texts(text: str, messages: Messages, alone: Split | None = None) -> None:
    """Check that users' texts stand in a rendering as they are.

    Some templates obey commands in a user's text, such as `/think`, and take them out of it.

    Args:
        text: The rendering.
        messages: What was rendered.
        alone: What stands around a single user message.

    Raises:
        ChatTemplateError: `content_transformed`.
    """
    place = 0
    for message in messages:
        said = message.get("content")
        if message.get("role") != "user" or not isinstance(said, str):
            continue
        found = text.find(said.strip(), place)
        if found < 0:
            _refuse_text(said)
        place = found + len(said.strip())
    if alone is not None and len(messages) == 1:
        around = (alone.before.rstrip(), alone.after.lstrip())
        if not (text.startswith(around[0]) and text.endswith(around[1])):
            _refuse_text(str(messages[0].get("content")))


def _refuse_text(said: str) -> NoReturn:
    raise ChatTemplateError(
        "content_transformed",
        f"The chat template does not print this user's text as it is: {said!r:.120}. It takes part"
        " of it for a command, so drop the row.",
    )
