"""Which settings do the steps share?

The types below are runtime parameters: their values can also be given to ``Pipeline.run``. Unlike
distilabel's own ``RuntimeParameter`` they carry their bounds and take no None, so that a wrong
value is refused where it is given.
"""

from dataclasses import replace
from typing import Annotated, TypeVar

from distilabel.mixins.runtime_parameters import (
    _RUNTIME_PARAMETER_ANNOTATION as RUNTIME,  # the mark that distilabel looks for in a field
)
from distilabel.mixins.runtime_parameters import RuntimeParametersMixin
from pydantic import BaseModel, ConfigDict, Field

from magpie_steps.engines.base import Sampling
from magpie_steps.steps.answers import Role
from magpie_steps.templates import Form, PreQueryTemplate

T = TypeVar("T")
Tunable = Annotated[T, RUNTIME]
Count = Annotated[int, Field(ge=1), RUNTIME]
KeepReasoning = Annotated[
    bool, Field(description="Whether rows say what the model thought before its answers."), RUNTIME
]
MaxInFlight = Count | None  # distilabel sees that it may be left out by the None beside the mark
Seed = Annotated[int, Field(ge=0), RUNTIME]
Margin = Annotated[float, Field(ge=0.0, allow_inf_nan=False), RUNTIME]


class SamplingSettings(RuntimeParametersMixin, BaseModel):
    """How one role's text is sampled: by default from the model's whole distribution.

    Temperature 1 and top_p 1 are the paper's first setting for instructions (Table 7).

    Attributes:
        temperature: 0 to 10, 0 is greedy.
        top_p: Share of probability that is sampled from, above 0, at most 1; 1 is all of it.
        top_k: Number of tokens that are sampled from, 0 is all of them.
        min_p: Least probability of a token relative to the likeliest one, 0 to 1; 0 is off.
        max_new_tokens: Most tokens that are generated; a text that needs more is truncated.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)

    temperature: Annotated[float, Field(ge=0.0, le=10.0), RUNTIME] = Field(
        default=1.0, description="Sampling temperature, 0 to 10; 0 is greedy."
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0), RUNTIME] = Field(
        default=1.0, description="Share of probability to sample from, above 0, at most 1."
    )
    top_k: Annotated[int, Field(ge=0), RUNTIME] = Field(
        default=0, description="Number of tokens to sample from; 0 is all of them."
    )
    min_p: Annotated[float, Field(ge=0.0, le=1.0), RUNTIME] = Field(
        default=0.0, description="Least probability relative to the likeliest token; 0 is off."
    )
    max_new_tokens: Count = Field(default=512, description="Most tokens to generate.")

    def sampling(
        self, stop_token_ids: tuple[int, ...], stop_strings: tuple[str, ...]
    ) -> "Sampling":
        """Return the settings as an engine takes them, with the seed 0."""
        return Sampling(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            stop_token_ids=stop_token_ids,
            stop_strings=stop_strings,
        )

    def columns(self) -> dict[str, float | int]:
        """Return the settings as rows carry them, without the seed."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "top_k": self.top_k,
            "max_new_tokens": self.max_new_tokens,
        }

    def role_of_users(
        self,
        template: PreQueryTemplate,
        *,
        stop_on_newline: bool,
        first_token_not: tuple[int, ...] = (),
        form: Form = "rendered",
    ) -> Role:
        """Return how a model with this template writes user turns."""
        stops = tuple(template.stop_strings) + (("\n",) if stop_on_newline else ())
        sampling = self.sampling(tuple(template.stop_token_ids), stops)
        columns = {**self.columns(), **_prompted(template), "pre_query_form": form}
        return Role(replace(sampling, first_token_not=first_token_not), columns)


def _prompted(template: PreQueryTemplate) -> dict[str, str]:
    """Return what rows say of the chat template that made their prompts."""
    return {"chat_template_sha256": template.template_sha256}


class WeightedSampling(SamplingSettings):
    """One of several ways to sample a role's text.

    Attributes:
        temperature: 0 to 10, 0 is greedy.
        top_p: Share of probability that is sampled from, above 0, at most 1; 1 is all of it.
        top_k: Number of tokens that are sampled from, 0 is all of them.
        min_p: Least probability of a token relative to the likeliest one, 0 to 1; 0 is off.
        max_new_tokens: Most tokens that are generated; a text that needs more is truncated.
        weight: How often it is drawn, relative to the others, above 0.
    """

    weight: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)


class ResponseSampling(SamplingSettings):
    """How responses are sampled: by default greedily, as in the paper."""

    temperature: Annotated[float, Field(ge=0.0, le=10.0), RUNTIME] = Field(
        default=0.0, description="Sampling temperature, 0 to 10; 0 is greedy."
    )
    max_new_tokens: Count = Field(default=2048, description="Most tokens to generate.")

    def role_of_answers(self, template: PreQueryTemplate, *, keep_reasoning: bool = True) -> Role:
        """Return how a model with this template answers."""
        ids, texts = template.assistant_stop_token_ids, template.assistant_stop_strings
        columns = {**self.columns(), **_prompted(template)}
        return Role(self.sampling(tuple(ids), tuple(texts)), columns, keep_reasoning)


class BaseSampling(SamplingSettings):
    """How base responses are sampled: by default greedily, and not without end."""

    temperature: Annotated[float, Field(ge=0.0, le=10.0), RUNTIME] = Field(
        default=0.0, description="Sampling temperature, 0 to 10; 0 is greedy."
    )
    max_new_tokens: Count = Field(default=1024, description="Most tokens to generate.")


class PreferenceSampling(ResponseSampling):
    """How several responses are sampled: by default at temperature 0.8, the paper's setting.

    Greedy responses would all be the same one.
    """

    temperature: Annotated[float, Field(gt=0.0, le=10.0), RUNTIME] = Field(
        default=0.8, description="Sampling temperature, above 0, at most 10."
    )


class TaggerSampling(ResponseSampling):
    """How labels are sampled: greedily, and briefly."""

    max_new_tokens: Count = Field(default=512, description="Most tokens to generate.")


class GuardSampling(ResponseSampling):
    """How verdicts are sampled: greedily; a verdict is a word and some codes."""

    max_new_tokens: Count = Field(default=64, description="Most tokens to generate.")
