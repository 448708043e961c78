"""A step that labels rows' instructions by rules, without a model."""

from typing import TYPE_CHECKING

from distilabel.steps import Step, StepInput
from pydantic import Field

from magpie_steps import columns
from magpie_steps.rule_tags import rule_tags
from magpie_steps.steps.settings import Count
from magpie_steps.steps.tags import failures_of, instruction_of, untagged
from magpie_steps.tagging import TAGS, no_tags

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class RuleTagger(Step):
    """Labels each row's instruction by rules of words and form, without a model.

    It writes the same columns as `InstructionTagger`, so that a pipeline can be tried out on the
    miniature models that ship with the package. Its labels are no judgement of a real dataset, and
    rows say so: their labels' generator is "rules". A row that is not kept passes through without
    labels; one without an instruction says so in its failures.

    Attributes:
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.

    Runtime parameters:
        - `input_batch_size`: Rows per batch between steps.

    Input columns:
        - instruction (`string`): The instruction to label.
        - messages (`list<struct>`): The conversation, whose first user message is labelled if there
            is no instruction.
        - keep (`bool`): Whether to label the row; true if there is no such column.
        - tag_failures (`list<struct>`): Which labels other taggers could not give.

    Output columns:
        - task_category (`string`): What kind of task the instruction is.
        - other_task_category (`list<string>`): Which other kinds of task it is as well.
        - task_category_generator (`string`): What chose the categories.
        - difficulty (`string`): How hard the instruction is to answer.
        - intent (`string`): What the user wants, in the tagger's words.
        - knowledge (`string`): What one must know to answer, in the tagger's words.
        - difficulty_generator (`string`): What chose the difficulty.
        - input_quality (`string`): How clear, specific and coherent the instruction is.
        - quality_explanation (`string`): Why, in the tagger's words.
        - quality_generator (`string`): What chose the quality.
        - tag_failures (`list<struct>`): Which labels the row has not got and why; with what the
            tagger wrote if that is kept.

    Categories:
        - labelling

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Label two instructions by rules:

        ```python
        from magpie_steps import RuleTagger

        step = RuleTagger()
        step.load()
        rows = next(step.process([{"instruction": "What is 2 + 3?"}, {"instruction": "hm"}]))
        print([(row["task_category"], row["difficulty"], row["input_quality"]) for row in rows])
        # [('Math', 'very easy', 'excellent'), ('Others', 'very easy', 'poor')]
        step.unload()
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

    input_batch_size: Count = Field(default=10_000, description="Rows per batch between steps.")

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required."""
        return dict.fromkeys(("instruction", "messages", "keep", "tag_failures"), False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("RuleTagger")

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their labels, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        rows = []
        for row in inputs:
            instruction, reason = instruction_of(row)
            if reason:
                rows.append(untagged(row, TAGS, reason))
            else:
                rows.append(
                    {
                        **row,
                        **no_tags(TAGS),
                        **rule_tags(instruction),
                        "tag_failures": failures_of(row),
                    }
                )
        yield rows
