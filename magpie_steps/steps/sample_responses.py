"""A step that gives rows several responses to choose between."""

from typing import Annotated

from pydantic import Field

from magpie_steps import columns
from magpie_steps.steps.answering import AnsweringStep
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.sampled_answers import LEAST_RESPONSES, ResponsesWriter
from magpie_steps.steps.settings import KeepReasoning, PreferenceSampling, Tunable


class SampleResponses(AnsweringStep):
    """Answers each row's conversation several times, for preference data.

    If a row's messages end with an answer, the new ones are other answers to the same question. All
    responses of a row are asked for at once and share the work on their prompt; each has its own
    seed, so that it is the same however many there are. A response that is not accepted, such as
    one that was truncated, is left out, and a row with fewer than two responses is dropped. A row
    that is not kept, or has nothing to answer, passes through with no responses and costs no model
    call.

    Attributes:
        llm: The engine that writes the responses.
        seed: The run's seed, at least 0; a response follows from it, its number and the row's.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        num_responses: Responses to generate per row, at least 2; 5 in the paper.
        sampling: How responses are sampled, by default at temperature 0.8 and top_p 1, the paper's
            setting for preference data.
        keep_reasoning: Whether rows say what the model thought before its answers; only for models
            that think. Answers never hold it.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `num_responses`: Responses to generate per row.
        - `keep_reasoning`: Whether rows say what the model thought before its answers.

    Input columns:
        - instruction (`string`): The instruction, read if there are no messages.
        - messages (`list<struct>`): The conversation so far.
        - keep (`bool`): Whether to answer the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds its responses; by default the prompt does.

    Output columns:
        - responses (`list<string>`): The accepted ones of several answers to the same conversation.
        - responses_tokens (`list<int64>`): Tokens generated for each of the responses, the stop
            token included.
        - responses_rejections (`list<string>`): Why each rejected answer was rejected, in order.
        - responses_reasoning (`list<string>`): What the model thought before each of the responses,
            "" for nothing.
        - gen_responses_configs (`struct`): How the responses were sampled; the seed is the first
            answer's.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - text-generation
        - chat-generation

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Answer an instruction three times without a model:

        ```python
        from magpie_steps import SampleResponses, ScriptedEngine

        step = SampleResponses(llm=ScriptedEngine(), num_responses=3)
        step.load()
        (row,) = next(step.process([{"instruction": "Name a prime number."}]))
        print(row["keep"], len(set(row["responses"])))
        # True 3
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

    num_responses: Tunable[Annotated[int, Field(ge=LEAST_RESPONSES)]] = Field(
        default=5, description="Responses to generate per row."
    )
    sampling: PreferenceSampling = Field(default_factory=PreferenceSampling)
    keep_reasoning: KeepReasoning = True

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("SampleResponses")

    def _make_writer(self, progress: Progress) -> ResponsesWriter:
        role = self.sampling.role_of_answers(self.llm.template, keep_reasoning=self.keep_reasoning)
        return ResponsesWriter(self.llm, role, self.seed, self.num_responses, progress)
