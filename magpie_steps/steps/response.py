"""A step that answers rows' instructions."""

from typing import TYPE_CHECKING

from distilabel.steps import Step, StepInput
from pydantic import Field, PrivateAttr

from magpie_steps import columns
from magpie_steps.dataflow import flow
from magpie_steps.engines.base import Engine
from magpie_steps.steps.answers import ResponseWriter, Row
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import Count, ResponseSampling, Seed

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class GenerateResponse(Step):
    """Answers each row's conversation, or its instruction if it has no messages.

    The engine may be another one than the one that wrote the instructions. If a row's messages end
    with an answer, that answer is replaced. A row that is not kept, or has nothing to answer,
    passes through with an empty response and costs no model call; a response that is not accepted,
    such as one that was truncated, drops its row. Unlike the stock `TextGeneration` it keeps finish
    reasons, token counts and settings, and one failing row harms no other.

    Attributes:
        llm: The engine that writes the responses.
        seed: The run's seed, at least 0; without effect while responses are greedy.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        rows_in_flight: Rows that are worked on at once, at least 1. It does not change the rows.
        response_sampling: How responses are sampled, by default greedily.
        max_attempts: Attempts at a response before its row is dropped, at least 1. A greedy
            response is tried once.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `rows_in_flight`: Rows that are worked on at once.
        - `max_attempts`: Attempts at a response before its row is dropped.

    Input columns:
        - instruction (`string`): The instruction, read if there are no messages.
        - messages (`list<struct>`): The conversation so far.
        - keep (`bool`): Whether to answer the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds its response; by default the prompt does.

    Output columns:
        - response (`string`): The answer to the instruction.
        - messages (`list<struct>`): The whole conversation, oldest message first.
        - gen_response_configs (`struct`): How the response was sampled.
        - response_finish_reason (`string`): Why the model ended the response.
        - response_tokens (`int64`): Tokens generated for the response, the stop token included.
        - response_length (`int64`): Length of the response.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - text-generation
        - chat-generation

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Answer an instruction without a model:

        ```python
        from magpie_steps import GenerateResponse, ScriptedEngine

        step = GenerateResponse(llm=ScriptedEngine())
        step.load()
        rows = next(step.process([{"instruction": "Name a prime number."}, {"instruction": ""}]))
        print([(row["keep"], row["drop_reason"]) for row in rows])
        # [(True, ''), (False, 'no_instruction')]
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

    llm: Engine
    seed: Seed = Field(default=0, description="The run's seed.")
    input_batch_size: Count = Field(default=1000, description="Rows per batch between steps.")
    rows_in_flight: Count = Field(default=256, description="Rows that are worked on at once.")
    response_sampling: ResponseSampling = Field(default_factory=ResponseSampling)
    max_attempts: Count = Field(
        default=10, description="Attempts at a response before its row is dropped."
    )

    _writer: ResponseWriter | None = PrivateAttr(default=None)
    _failures: int = PrivateAttr(default=0)

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required, a row needs one of the first two."""
        names = ("instruction", "messages", "keep", "drop_reason", "row")
        return dict.fromkeys(names, False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("GenerateResponse")

    def load(self) -> None:
        """Load the engine and prepare what all rows share."""
        super().load()
        self.llm.load()
        progress = Progress(0, self._logger.info, lambda: self.llm.stats.completion_tokens)
        role = self.response_sampling.role_of_answers(self.llm.template)
        self._writer = ResponseWriter(self.llm, role, self.seed, self.max_attempts, progress)

    def unload(self) -> None:
        """Unload the engine."""
        self._writer = None
        self.llm.unload()
        super().unload()

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their responses, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        writer = self._writer
        if writer is None:
            raise RuntimeError(f"step {self.name!r} is not loaded; call load() before process()")
        yield list(
            flow(inputs, writer.write, window=self.rows_in_flight, on_error=self._failed_row)
        )

    def _failed_row(self, row: Row, error: Exception) -> Row:
        """Return a row that the engine failed to answer; the first failure is told in full."""
        if not self._failures:
            self._logger.error(f"row failed: {type(error).__name__}: {error}")
        self._failures += 1
        assert self._writer is not None
        return self._writer.drop(row, columns.ENGINE_ERROR)
