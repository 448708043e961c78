"""A step that answers rows' instructions."""

from pydantic import Field

from magpie_steps import columns
from magpie_steps.steps.answering import AnsweringStep
from magpie_steps.steps.answers import ResponseWriter
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import Count, KeepReasoning, ResponseSampling


class GenerateResponse(AnsweringStep):
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
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        response_sampling: How responses are sampled, by default greedily.
        max_attempts: Attempts at a response before its row is dropped, at least 1. A greedy
            response is tried once.
        keep_reasoning: Whether rows say what the model thought before its answers; only for models
            that think. Answers never hold it.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `max_attempts`: Attempts at a response before its row is dropped.
        - `keep_reasoning`: Whether rows say what the model thought before its answers.

    Input columns:
        - instruction (`string`): The instruction, read if there are no messages.
        - messages (`list<struct>`): The conversation so far.
        - keep (`bool`): Whether to answer the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds its response; by default the prompt does.

    Output columns:
        - response (`string`): The answer to the instruction.
        - reasoning (`string`): What the model thought before the response, "" for nothing.
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

    response_sampling: ResponseSampling = Field(default_factory=ResponseSampling)
    max_attempts: Count = Field(
        default=10, description="Attempts at a response before its row is dropped."
    )
    keep_reasoning: KeepReasoning = True

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("GenerateResponse")

    def _make_writer(self, progress: Progress) -> ResponseWriter:
        role = self.response_sampling.role_of_answers(
            self.llm.template, keep_reasoning=self.keep_reasoning
        )
        return ResponseWriter(self.llm, role, self.seed, self.max_attempts, progress)
