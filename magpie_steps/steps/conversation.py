"""A generator of whole conversations that one aligned model writes when prompted with nothing."""

from dataclasses import replace

from pydantic import Field

from magpie_steps import columns
from magpie_steps.prompts import multi_turn_prompt
from magpie_steps.steps.instruction import InstructionGenerator
from magpie_steps.steps.rows import Plan
from magpie_steps.steps.settings import Count, KeepReasoning, ResponseSampling, Tunable
from magpie_steps.steps.turns import usable_multi_turn_prompt


class ConversationGenerator(InstructionGenerator):
    """Generates instructions and their responses with one aligned model, for one or more turns.

    After each user turn, which the model writes as in `InstructionGenerator`, the same model
    answers it; the next user turn is elicited with the template's own rendering of the conversation
    so far. A response that is not accepted, such as one that was truncated, rejects its user turn
    too, and both are tried again with another seed. A later turn in which the user speaks as the
    assistant, repeats an earlier turn or says goodbye ends the conversation with that reason, and
    so does a context that is full: the finished turns stay, and `conversation_end` says why there
    are no more. Unlike the stock `MagpieGenerator` it never puts an assistant header or a second
    begin-of-text token before a user's turn.

    Attributes:
        llm: The engine that writes the conversations.
        num_rows: Number of rows to generate, at least 1.
        first_row: Number of the first row, at least 0: the rows of a run can be divided among
            several that begin at different rows.
        seed: The run's seed, at least 0; everything random follows from it and the row's number.
        batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        system_prompts: System prompts by key; each row draws one. Without any the model is prompted
            with nothing at all, the paper's way. An empty text is a share without system prompt.
        system_prompt_weights: How often each key is drawn, relative to the others, at least 0, not
            all 0. A key without a weight counts 1.
        instruction_sampling: How instructions are sampled, by default at temperature 1 and top_p 1.
        instruction_mix: Several ways to sample instructions by key, each with its weight; each row
            draws one. Without any, all rows use `instruction_sampling`.
        early_stop_on_newline: Whether an instruction ends at its first newline, as in the paper's
            scripts. By default it may have several lines.
        ban_markdown_start: Whether an instruction may not begin with a Markdown heading or bold
            text, as models that love Markdown often do; the tokens are looked up in the model's
            vocabulary (the paper's scripts do this for Llama 3.1).
        pre_query_form: Which form of the pre-query template prompts the model: as the chat template
            has it ("rendered"), or without the default system prompt or preamble that it writes on
            its own ("bare"). A system prompt of yours is kept in both.
        max_attempts: Attempts at a turn before its row is dropped, at least 1.
        min_chars: Characters of the shortest accepted instruction, at least 1.
        max_chars: Characters of the longest accepted instruction, at least 1.
        n_turns: User turns, each with a response, per row, at least 1. The columns `instruction`
            and `response` hold the first turn, `messages` all of them.
        multi_turn_prompt: What steers user turns after the first, behind the row's own system
            prompt; by default that the user goes on with related questions. An empty text is
            nothing, as for a model whose template has no place for a system prompt.
        include_system_prompt: Whether responses see what steers the user turns and `messages` hold
            it. By default they do not, and `messages` is exactly what was answered.
        response_sampling: How responses are sampled, by default greedily.
        keep_reasoning: Whether rows say what the model thought before its answers; only for models
            that think. Answers never hold it.

    Runtime parameters:
        - `num_rows`: Number of rows to generate.
        - `first_row`: Number of the first row.
        - `seed`: The run's seed.
        - `batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `early_stop_on_newline`: Whether an instruction ends at its first newline.
        - `ban_markdown_start`: Whether an instruction may not begin with Markdown.
        - `pre_query_form`: Which form of the pre-query template prompts the model.
        - `max_attempts`: Attempts at a turn before its row is dropped.
        - `min_chars`: Characters of the shortest accepted instruction.
        - `max_chars`: Characters of the longest accepted instruction.
        - `n_turns`: User turns, each with a response, per row.
        - `multi_turn_prompt`: What steers user turns after the first.
        - `include_system_prompt`: Whether responses see what steers the user turns.
        - `keep_reasoning`: Whether rows say what the model thought before its answers.

    Output columns:
        - uuid (`string`): The row's id: the same for the same model, settings, seed and row number.
        - row (`int64`): The row's number in its run.
        - model (`string`): The model that wrote the row.
        - system_prompt_key (`string`): The system prompt that steered the instruction, "" for none.
        - instruction (`string`): The first user message, sanitised.
        - response (`string`): The answer to the instruction.
        - reasoning (`string`): What the model thought before the response, "" for nothing.
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
        - gen_input_configs (`struct`): How the instruction was sampled: settings, the attempt's
            seed, the pre-query template.
        - gen_response_configs (`struct`): How the response was sampled.
        - instruction_raw (`string`): The user turn as the model wrote it; of a dropped row, its
            last attempt.
        - instruction_finish_reason (`string`): Why the model ended the user turn.
        - response_finish_reason (`string`): Why the model ended the response.
        - instruction_tokens (`int64`): Tokens generated for the user turn, the stop token included.
        - response_tokens (`int64`): Tokens generated for the response, the stop token included.
        - instruction_attempts (`int64`): User turns that were generated for the row, in all turns
            together.
        - instruction_rejections (`list<string>`): Why each rejected attempt was rejected, in order.
        - instruction_length (`int64`): Length of the instruction.
        - response_length (`int64`): Length of the response.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - text-generation
        - chat-generation
        - load

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Generate two conversations without a model:

        ```python
        from magpie_steps import ConversationGenerator, ScriptedEngine

        step = ConversationGenerator(llm=ScriptedEngine(), num_rows=2)
        step.load()
        rows, last_batch = next(step.process())
        print(len(rows), last_batch, [message["role"] for message in rows[0]["messages"]])
        # 2 True ['user', 'assistant']
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

    n_turns: Count = Field(default=1, description="User turns, each with a response, per row.")
    multi_turn_prompt: Tunable[str] = Field(
        default_factory=multi_turn_prompt, description="What steers user turns after the first."
    )
    include_system_prompt: Tunable[bool] = Field(
        default=False, description="Whether responses see what steers the user turns."
    )
    response_sampling: ResponseSampling = Field(default_factory=ResponseSampling)
    keep_reasoning: KeepReasoning = True

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("ConversationGenerator")

    def _plan(self) -> Plan:
        plan, template = super()._plan(), self.llm.template
        steering = usable_multi_turn_prompt(
            template, self.multi_turn_prompt, self.n_turns, self._logger.warning
        )
        turns = replace(
            plan.turns,
            response=self.response_sampling.role_of_answers(
                template, keep_reasoning=self.keep_reasoning
            ),
            multi_turn_prompt=steering,
            include_system_prompt=self.include_system_prompt,
        )
        return replace(plan, turns=turns, n_turns=self.n_turns)
