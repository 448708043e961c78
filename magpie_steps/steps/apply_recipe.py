"""A step that marks the rows that a filter recipe keeps."""

from typing import TYPE_CHECKING, Any

from distilabel.steps import GlobalStep, StepInput
from pydantic import Field, field_validator

from magpie_steps import columns
from magpie_steps.recipes import Recipe, recipe_from_dict, recipe_named
from magpie_steps.selection import select
from magpie_steps.steps.settings import Count
from magpie_steps.summary import table

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class ApplyRecipe(GlobalStep):
    """Marks the rows that a filter recipe keeps.

    It drops none: a row that is not kept gets the word of the first rule that it fails as its drop
    reason, or recipe_longest if its response is not among the longest. How many rows each rule
    alone would remove is logged. A row without a value that a rule reads fails the rule. A row that
    is not kept already stays as it is. It sees all rows at once, as the longest responses can be
    chosen only then. No stock step of distilabel filters by a published recipe.

    Attributes:
        recipe: The name of a published recipe in `magpie_steps.recipes`, or a `Recipe` of one's
            own, also as a dict as its `as_dict` writes it; by default "pro", the paper's filter for
            Magpie-Pro.
        longest: How many of the longest responses to keep, at least 1; None, the default, for the
            recipe's own number.
        input_batch_size: Rows per batch that the step is sent, at least 1. It does not change the
            rows, as the step waits for all of them.

    Runtime parameters:
        - `longest`: How many of the longest responses to keep.
        - `input_batch_size`: Rows per batch that the step is sent.

    Input columns:
        - keep (`bool`): Whether to look at the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.

    Output columns:
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - filtering

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Keep good instructions only, and of these the longest response:

        ```python
        from magpie_steps import ApplyRecipe

        good = {"kind": "level_at_least", "column": "input_quality", "least": "good"}
        step = ApplyRecipe(recipe={"name": "mine", "rules": [good], "longest": 1})
        step.load()
        rows = [
            {"input_quality": "excellent", "response": "Yes."},
            {"input_quality": "good", "response": "Yes, it is."},
            {"input_quality": "poor", "response": "Yes, as far as I know."},
        ]
        for row in next(step.process(rows)):
            print(row["drop_reason"] or "kept")
        # recipe_longest
        # kept
        # recipe_quality
        ```

    Citations:
        ```
        @misc{xu2024magpie,
            title={Magpie: Alignment Data Synthesis from Scratch by Prompting Aligned LLMs with
                Nothing},
            author={Zhangchen Xu and Fengqing Jiang and Luyao Niu and Yuntian Deng and
                Radha Poovendran and Yejin Choi and Bill Yuchen Lin},
            year={2024},
            eprint={2406.08464},
            archivePrefix={arXiv},
            primaryClass={cs.CL}
        }
        ```
    """

    recipe: str | dict[str, Any] = "pro"
    longest: Count | None = Field(
        default=None, description="How many of the longest responses to keep."
    )
    input_batch_size: Count = Field(
        default=1000, description="Rows per batch that the step is sent."
    )

    @field_validator("recipe", mode="before")
    @classmethod
    def _as_data(cls, given: object) -> object:
        """Return a recipe as YAML can hold it."""
        return given.as_dict() if isinstance(given, Recipe) else given

    @field_validator("recipe")
    @classmethod
    def _is_a_recipe(cls, given: str | dict[str, Any]) -> str | dict[str, Any]:
        _recipe_of(given)
        return given

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads for every recipe; none is required."""
        return {"keep": False, "drop_reason": False}

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("ApplyRecipe")

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their marks, in order.

        Args:
            inputs: All rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        recipe = _recipe_of(self.recipe).with_longest(self.longest)
        for warning in _warnings(recipe, inputs):
            self._logger.warning(warning)
        selection = select(recipe, inputs)
        self._logger.info(f"recipe {recipe.name}\n{table(selection.counts.lines())}")
        yield [
            {**row, "keep": not reason, "drop_reason": reason}
            for row, reason in zip(inputs, selection.reasons, strict=True)
        ]


def _warnings(recipe: Recipe, rows: list[dict[str, Any]]) -> list[str]:
    """Return what is missing from all rows, in words."""
    there = {name for row in rows for name in row}
    absent = [name for name in recipe.columns if rows and name not in there]
    warnings = []
    if absent:
        warnings.append(
            f"no row has the columns {', '.join(absent)}, so every row fails the rules of the"
            f" recipe {recipe.name} that read them; add the steps that write them, or leave the"
            " rules out"
        )
    if rows and recipe.longest is not None and there.isdisjoint(("response_length", "response")):
        warnings.append(
            "no row has a response, so all are equally long and the first ones are kept; add a step"
            " that writes responses"
        )
    return warnings


def _recipe_of(given: str | dict[str, Any]) -> Recipe:
    return recipe_named(given) if isinstance(given, str) else recipe_from_dict(given)
