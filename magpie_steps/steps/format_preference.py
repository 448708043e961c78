"""A step that makes preference pairs of scored answers."""

from typing import TYPE_CHECKING, Any

from distilabel.steps import Step, StepInput
from pydantic import Field

from magpie_steps import columns, reasons
from magpie_steps.preference import SOURCES, Pair, SourceName, find_pair
from magpie_steps.steps.settings import Count, Margin, Tunable

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class FormatPreference(Step):
    """Makes a preference pair of each row's scored answers, in TRL's conversational format.

    The prompt is a list of messages of its own, as `DPOTrainer` wants it, and each answer a list of
    one message. A row that makes no pair is not kept and says why: fewer than two answers, a reward
    missing, equal rewards, equal texts, too small a margin, or a base answer that scores higher.
    Unlike the stock `FormatTextGenerationDPO` it compares an aligned with a base model's answer
    too, refuses ties, equal texts, small margins and missing rewards, and keeps the prompt out of
    the answers and the scores beside them; the stock step may choose and reject one and the same
    answer, and a single bad row costs it the whole batch.

    Attributes:
        source: Which answers are compared. By default `sampled`, the best against the worst of
            `responses`, the first ones among equals; or `instruct_vs_base`, `response` against
            `base_response`.
        min_margin: Least difference of the two rewards, at least 0, by default 0.
        allow_swap: Whether a base answer that scores higher is chosen, by default false, which
            drops its row. Without effect on sampled answers.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.

    Runtime parameters:
        - `min_margin`: Least difference of the two rewards.
        - `allow_swap`: Whether a base answer that scores higher is chosen.
        - `input_batch_size`: Rows per batch between steps.

    Input columns:
        - instruction (`string`): The prompt, read if there are no messages.
        - messages (`list<struct>`): The conversation; the prompt is what precedes its first answer.
        - responses (`list<string>`): The sampled answers, needed by that source.
        - responses_rewards (`list<float64>`): Their rewards, needed by that source.
        - response (`string`): The aligned model's answer, needed by the other source.
        - base_response (`string`): The base model's answer, needed by the other source.
        - instruct_reward (`float64`): The response's reward, needed by the other source.
        - base_reward (`float64`): The base response's reward, needed by the other source.
        - keep (`bool`): Whether to make a pair of the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.

    Output columns:
        - prompt (`list<struct>`): What both answers of a preference pair reply to; the user speaks
            last.
        - chosen (`list<struct>`): The better answer of the pair, one message.
        - rejected (`list<struct>`): The worse answer of the pair, one message.
        - chosen_score (`float64`): The reward of the chosen answer.
        - rejected_score (`float64`): The reward of the rejected answer.
        - score_margin (`float64`): The chosen answer's reward less the rejected one's.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - format
        - filtering

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Make pairs of sampled answers:

        ```python
        from magpie_steps import FormatPreference

        step = FormatPreference(min_margin=0.1)
        step.load()
        ask = {"instruction": "Name a prime number.", "responses": ["Four.", "Seven.", "Nine."]}
        rows = next(
            step.process(
                [
                    {**ask, "responses_rewards": [0.1, 0.9, 0.3]},
                    {**ask, "responses_rewards": [0.5, 0.5, 0.5]},
                ]
            )
        )
        print(rows[0]["prompt"])
        print(rows[0]["chosen"])
        print(rows[0]["rejected"])
        print(rows[1]["keep"], rows[1]["drop_reason"])
        # [{'role': 'user', 'content': 'Name a prime number.'}]
        # [{'role': 'assistant', 'content': 'Seven.'}]
        # [{'role': 'assistant', 'content': 'Four.'}]
        # False preference_tie
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

    source: SourceName = Field(default="sampled", description="Which answers are compared.")
    min_margin: Margin = Field(default=0.0, description="Least difference of the two rewards.")
    allow_swap: Tunable[bool] = Field(
        default=False, description="Whether a base answer that scores higher is chosen."
    )
    input_batch_size: Count = Field(default=1000, description="Rows per batch between steps.")

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; those of its source are required."""
        read = ["instruction", "messages"]
        for where in SOURCES.values():
            read += [*where.answers, *where.scores]
        mine = SOURCES[self.source]
        required = {*mine.answers, *mine.scores}
        return {name: name in required for name in [*read, "keep", "drop_reason"]}

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("FormatPreference")

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their pairs, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        yield [self._with_pair(row) for row in inputs]

    def _with_pair(self, row: dict[str, Any]) -> dict[str, Any]:
        if carried := reasons.carried_by(row):
            pair = Pair(reason=carried)
        else:
            pair = find_pair(row, self.source, self.min_margin, allow_swap=self.allow_swap)
        return {**row, **pair.columns(), "keep": not pair.reason, "drop_reason": pair.reason}
