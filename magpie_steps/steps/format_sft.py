"""A step that makes conversations to imitate."""

from typing import TYPE_CHECKING, Any

from distilabel.steps import Step, StepInput
from pydantic import Field

from magpie_steps import columns, reasons
from magpie_steps.conversation import find_fault
from magpie_steps.preference import answered_messages
from magpie_steps.steps.settings import Count, Tunable

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class FormatSFT(Step):
    """Makes the conversation that each row teaches, in TRL's conversational format.

    It comes from the row's messages, with all their turns, or from its instruction and response. A
    row whose conversation does not end with an answer is not kept. Unlike the stock
    `FormatTextGenerationSFT` and `FormatChatGenerationSFT` it reads the columns of Magpie's
    datasets, takes a conversation whose answers are in it already, can leave the system message
    out, and checks that roles alternate and every message has a text; the stock steps add a missing
    answer as it is.

    Attributes:
        drop_system: Whether to leave the system message out, by default false.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.

    Runtime parameters:
        - `drop_system`: Whether to leave the system message out.
        - `input_batch_size`: Rows per batch between steps.

    Input columns:
        - instruction (`string`): The user message, read if there are no messages.
        - response (`string`): The answer to it, read if there are no messages.
        - messages (`list<struct>`): The conversation.
        - keep (`bool`): Whether to format the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.

    Output columns:
        - messages (`list<struct>`): The whole conversation, oldest message first.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - format
        - chat-generation

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Make conversations of instructions and responses:

        ```python
        from magpie_steps import FormatSFT

        step = FormatSFT()
        step.load()
        ask = {"instruction": "Name a prime number."}
        rows = next(step.process([{**ask, "response": "Seven."}, {**ask, "response": ""}]))
        print([message["content"] for message in rows[0]["messages"]])
        print(rows[1]["keep"], rows[1]["drop_reason"])
        # ['Name a prime number.', 'Seven.']
        # False sft_no_response
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

    drop_system: Tunable[bool] = Field(
        default=False, description="Whether to leave the system message out."
    )
    input_batch_size: Count = Field(default=1000, description="Rows per batch between steps.")

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required, a row needs messages or a text."""
        names = ("instruction", "response", "messages", "keep", "drop_reason")
        return dict.fromkeys(names, False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("FormatSFT")

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their conversations, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        yield [self._with_messages(row) for row in inputs]

    def _with_messages(self, row: dict[str, Any]) -> dict[str, Any]:
        if carried := reasons.carried_by(row):
            messages = [] if find_fault(row.get("messages")) else row["messages"]
            return {**row, "messages": messages, "drop_reason": carried}
        messages, reason = answered_messages(row, drop_system=self.drop_system)
        return {**row, "messages": messages, "keep": not reason, "drop_reason": reason}
