"""A step that continues conversations, whoever wrote them."""

from pydantic import Field

from magpie_steps import columns
from magpie_steps.prompts import multi_turn_prompt
from magpie_steps.steps.answering import AnsweringStep
from magpie_steps.steps.continuations import ContinuationWriter
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import (
    Count,
    KeepReasoning,
    ResponseSampling,
    SamplingSettings,
    Tunable,
)
from magpie_steps.steps.turns import TurnPlan, usable_multi_turn_prompt


class ContinueConversation(AnsweringStep):
    """Adds turns to each row's conversation: the model writes the next user turn, then answers it.

    Any rows with `messages` will do, ours or those of a dataset from the Hub. The next user turn is
    elicited with the template's own rendering of the conversation. A conversation that waits for an
    answer is answered first. A turn in which the user speaks as the assistant, repeats an earlier
    turn or says goodbye ends the conversation, and so does a context that is full: the finished
    turns stay, and `conversation_end` says why there are no more. A row whose messages are no
    conversation is dropped with its reason and harms no other.

    Attributes:
        llm: The engine that writes both sides.
        n_turns: User turns to add, each with a response, at least 1.
        seed: The run's seed, at least 0; everything random follows from it and the row.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        instruction_sampling: How user turns are sampled, by default at temperature 1 and top_p 1.
        early_stop_on_newline: Whether a user turn ends at its first newline, as in the paper's
            scripts. By default it may have several lines.
        response_sampling: How responses are sampled, by default greedily.
        max_attempts: Attempts at a turn before the conversation ends, at least 1.
        min_chars: Characters of the shortest accepted user turn, at least 1.
        max_chars: Characters of the longest accepted user turn, at least 1.
        multi_turn_prompt: What steers user turns, behind the conversation's own system prompt. An
            empty text is nothing, as for a model whose template has no place for a system prompt.
        include_system_prompt: Whether responses see what steers the user turns and `messages` hold
            it. The conversation's own system prompt they always see.
        keep_reasoning: Whether rows say what the model thought before its answers; only for models
            that think. Answers never hold it.

    Runtime parameters:
        - `n_turns`: User turns to add, each with a response.
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `early_stop_on_newline`: Whether a user turn ends at its first newline.
        - `max_attempts`: Attempts at a turn before the conversation ends.
        - `min_chars`: Characters of the shortest accepted user turn.
        - `max_chars`: Characters of the longest accepted user turn.
        - `multi_turn_prompt`: What steers the user turns.
        - `include_system_prompt`: Whether responses see what steers the user turns.
        - `keep_reasoning`: Whether rows say what the model thought before its answers.

    Input columns:
        - messages (`list<struct>`): The conversation so far, oldest message first.
        - keep (`bool`): Whether to continue the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds its turns; by default the messages do.

    Output columns:
        - messages (`list<struct>`): The whole conversation, oldest message first.
        - turns (`int64`): Finished turns of the conversation: a user message and its answer each.
        - conversation_end (`string`): Why the conversation has fewer turns than asked for, "" when
            it has them all.
        - follow_up_similarity (`list<float64>`): For each later turn that was generated,
            its similarity to what was said before.
        - follow_up_related (`list<bool>`): For each later turn that was generated, whether it
            belongs to what was said before.
        - follow_up_reasoning (`list<string>`): For each later answer that was generated, what the
            model thought before it, "" for nothing.
        - gen_continuation_configs (`struct`): How the added user turns were sampled: settings, the
            step's seed, the model.
        - instruction_attempts (`int64`): User turns that were generated for the row, in all turns
            together.
        - instruction_rejections (`list<string>`): Why each rejected attempt was rejected, in order.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - chat-generation
        - text-generation

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Add a turn to a conversation without a model:

        ```python
        from magpie_steps import ContinueConversation, ScriptedEngine

        step = ContinueConversation(llm=ScriptedEngine())
        step.load()
        said = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi!"}]
        rows = next(step.process([{"messages": said}, {"messages": None}]))
        print([(row["turns"], row["drop_reason"]) for row in rows])
        # [(2, ''), (0, 'messages_missing')]
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

    n_turns: Count = Field(default=1, description="User turns to add, each with a response.")
    instruction_sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    early_stop_on_newline: Tunable[bool] = Field(
        default=False, description="Whether a user turn ends at its first newline."
    )
    response_sampling: ResponseSampling = Field(default_factory=ResponseSampling)
    max_attempts: Count = Field(
        default=10, description="Attempts at a turn before the conversation ends."
    )
    min_chars: Count = Field(
        default=3, description="Characters of the shortest accepted user turn."
    )
    max_chars: Count = Field(
        default=8000, description="Characters of the longest accepted user turn."
    )
    multi_turn_prompt: Tunable[str] = Field(
        default_factory=multi_turn_prompt, description="What steers the user turns."
    )
    include_system_prompt: Tunable[bool] = Field(
        default=False, description="Whether responses see what steers the user turns."
    )
    keep_reasoning: KeepReasoning = True

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads."""
        return {"messages": True, "keep": False, "drop_reason": False, "row": False}

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("ContinueConversation")

    def _make_writer(self, progress: Progress) -> ContinuationWriter:
        template = self.llm.template
        steering = usable_multi_turn_prompt(
            template, self.multi_turn_prompt, self.n_turns + 1, self._logger.warning
        )
        plan = TurnPlan(
            seed=self.seed,
            response=self.response_sampling.role_of_answers(
                template, keep_reasoning=self.keep_reasoning
            ),
            max_attempts=self.max_attempts,
            multi_turn_prompt=steering,
            include_system_prompt=self.include_system_prompt,
            min_chars=self.min_chars,
            max_chars=self.max_chars,
        )
        users = self.instruction_sampling.role_of_users(
            template, stop_on_newline=self.early_stop_on_newline
        )
        return ContinuationWriter(self.llm, plan, users, self.n_turns, progress)
