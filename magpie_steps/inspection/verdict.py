"""Does Magpie work with this chat template?"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from magpie_steps.inspection.advice import HAZARDS
from magpie_steps.inspection.findings import Derive, Findings, examine
from magpie_steps.rendering import is_attack
from magpie_steps.templates import ChatTemplateError

_MAY_HELP: tuple[Mapping[str, Any], ...] = (
    {"tools": []},
    {"enable_thinking": False},
    {"thinking": False},
)
"""Options that a template which refuses ordinary conversations may want."""

_FATAL = ("no_user_header", "no_text_after_user")
"""The hazards of a template that can be described but leaves nothing to prompt with."""

_ASKS_FOR_MORE = ("tools_required", "extra_variable_required", "render_error")
"""The errors of such a template."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a template works, and what with.

    Attributes:
        needs: What it works with or without, in a few words each; empty for no condition.
        code: Why it does not work, as the error's code; "" if it works.
        message: The same in words.
    """

    needs: tuple[str, ...] = ()
    code: str = ""
    message: str = ""

    @property
    def works(self) -> bool:
        """Whether Magpie can use it."""
        return not self.code

    def sentence(self) -> str:
        """Return the verdict in words."""
        if not self.works:
            return f"does not work because of {self.code}: {self.message}"
        return f"works with {', '.join(self.needs)}" if self.needs else "works"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and what it was found on.

    Attributes:
        verdict: The verdict.
        kwargs: The options that the template was given in the end.
        findings: What it gives, `None` if it does not work.
    """

    verdict: Verdict
    kwargs: Mapping[str, Any]
    findings: Findings | None = None


def judge(derive: Derive, kwargs: Mapping[str, Any]) -> Judgement:
    """Judge a template.

    Where it refuses, the options that may help are tried.

    Args:
        derive: Derives it with other options.
        kwargs: The options that were asked for.
    """
    try:
        return _judged(examine(derive, kwargs), kwargs)
    except ChatTemplateError as error:
        refused = Judgement(Verdict(code=error.code, message=error.message), kwargs)
        more = _MAY_HELP if _asks_for_more(error) else ()
    for options in ({**each, **kwargs} for each in more):
        try:
            return _judged(examine(derive, options), options)
        except ChatTemplateError:
            continue
    return refused


def _asks_for_more(error: ChatTemplateError) -> bool:
    return error.code in _ASKS_FOR_MORE and not is_attack(error)


def option_flag(kwargs: Mapping[str, Any]) -> str:
    """Return options as they are given in a shell."""
    return f"--chat-template-kwargs {shlex.quote(json.dumps(dict(kwargs)))}"


def _judged(findings: Findings, kwargs: Mapping[str, Any]) -> Judgement:
    for name in findings.template.hazards:
        if name in _FATAL:
            return Judgement(Verdict(code=name, message=HAZARDS[name].meaning), kwargs)
    limits = [HAZARDS[name].limit for name in findings.template.hazards]
    needs = [*([option_flag(kwargs)] if kwargs else []), *filter(None, limits)]
    return Judgement(Verdict(tuple(dict.fromkeys(needs))), kwargs, findings)
