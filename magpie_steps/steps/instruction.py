"""A generator of instructions that an aligned model writes when prompted with nothing."""

from collections.abc import Generator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

from distilabel.steps import GeneratorStep
from pydantic import Field, PrivateAttr

from magpie_steps import columns
from magpie_steps.dataflow import flow
from magpie_steps.decoding import MARKDOWN_OPENER
from magpie_steps.engines.base import Engine
from magpie_steps.steps.answers import Row
from magpie_steps.steps.engine_work import Failures, load_engine, window_for, work_of
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.rows import Plan, RowWriter
from magpie_steps.steps.settings import (
    Count,
    MaxInFlight,
    SamplingSettings,
    Seed,
    Tunable,
    WeightedSampling,
)
from magpie_steps.steps.turns import TurnPlan
from magpie_steps.templates import Form

if TYPE_CHECKING:
    from distilabel.typing import GeneratorStepOutput


class InstructionGenerator(GeneratorStep):
    """Generates instructions with an aligned model, prompted with its pre-query template alone.

    The engine continues the part of the model's chat template that stands before a user's text, so
    the model writes the user's turn itself. A turn that is not a clean instruction is rejected and
    tried again with another seed; after the last attempt the row stays, without text, with `keep`
    false and its reason. Rows move freely into the engine, and a row's content depends on the seed
    and its number alone. Unlike the stock `MagpieGenerator` it takes the template from the
    tokenizer, ends for every number of rows and keeps no truncated or empty instruction.

    Attributes:
        llm: The engine that writes the instructions.
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
        max_attempts: Attempts at an instruction before its row is dropped, at least 1.
        min_chars: Characters of the shortest accepted instruction, at least 1.
        max_chars: Characters of the longest accepted instruction, at least 1.

    Runtime parameters:
        - `num_rows`: Number of rows to generate.
        - `first_row`: Number of the first row.
        - `seed`: The run's seed.
        - `batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `early_stop_on_newline`: Whether an instruction ends at its first newline.
        - `ban_markdown_start`: Whether an instruction may not begin with Markdown.
        - `pre_query_form`: Which form of the pre-query template prompts the model.
        - `max_attempts`: Attempts at an instruction before its row is dropped.
        - `min_chars`: Characters of the shortest accepted instruction.
        - `max_chars`: Characters of the longest accepted instruction.

    Output columns:
        - uuid (`string`): The row's id: the same for the same model, settings, seed and row number.
        - row (`int64`): The row's number in its run.
        - model (`string`): The model that wrote the row.
        - system_prompt_key (`string`): The system prompt that steered the instruction, "" for none.
        - instruction (`string`): The first user message, sanitised.
        - gen_input_configs (`struct`): How the instruction was sampled: settings, the attempt's
            seed, the pre-query template.
        - instruction_raw (`string`): The user turn as the model wrote it; of a dropped row, its
            last attempt.
        - instruction_finish_reason (`string`): Why the model ended the user turn.
        - instruction_tokens (`int64`): Tokens generated for the user turn, the stop token included.
        - instruction_attempts (`int64`): User turns that were generated for the row, in all turns
            together.
        - instruction_rejections (`list<string>`): Why each rejected attempt was rejected, in order.
        - instruction_length (`int64`): Length of the instruction.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - text-generation
        - load

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Generate two instructions without a model:

        ```python
        from magpie_steps import InstructionGenerator, ScriptedEngine

        step = InstructionGenerator(llm=ScriptedEngine(), num_rows=2)
        step.load()
        rows, last_batch = next(step.process())
        print(len(rows), last_batch, [row["keep"] for row in rows])
        # 2 True [True, True]
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
    num_rows: Count = Field(default=100, description="Number of rows to generate.")
    first_row: Tunable[int] = Field(default=0, ge=0, description="Number of the first row.")
    seed: Seed = Field(default=0, description="The run's seed.")
    batch_size: Count = Field(default=1000, description="Rows per batch between steps.")
    max_in_flight: MaxInFlight = Field(
        default=None, description="Rows that are worked on at once; None follows the engine."
    )
    system_prompts: dict[str, str] = Field(default_factory=dict)
    system_prompt_weights: dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    instruction_sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    instruction_mix: dict[str, WeightedSampling] = Field(default_factory=dict)
    early_stop_on_newline: Tunable[bool] = Field(
        default=False, description="Whether an instruction ends at its first newline."
    )
    ban_markdown_start: Tunable[bool] = Field(
        default=False, description="Whether an instruction may not begin with Markdown."
    )
    pre_query_form: Tunable[Form] = Field(
        default="rendered",
        description="Which form of the pre-query template prompts the model.",
    )
    max_attempts: Count = Field(
        default=10, description="Attempts at an instruction before its row is dropped."
    )
    min_chars: Count = Field(
        default=3, description="Characters of the shortest accepted instruction."
    )
    max_chars: Count = Field(
        default=8000, description="Characters of the longest accepted instruction."
    )

    _writer: RowWriter | None = PrivateAttr(default=None)
    _failures: Failures | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        """Check what concerns more than one field."""
        unknown = sorted(self.system_prompt_weights.keys() - self.system_prompts.keys())
        if unknown:
            raise ValueError(
                f"system_prompt_weights names {unknown}, which system_prompts does not have;"
                f" its keys are {sorted(self.system_prompts)}"
            )
        weights = [self.system_prompt_weights.get(key, 1.0) for key in self.system_prompts]
        if weights and sum(weights) <= 0:
            raise ValueError(
                f"system_prompt_weights is {self.system_prompt_weights}: all weights are 0, so no"
                " system prompt can be drawn; give at least one a weight above 0"
            )
        super().model_post_init(context)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("InstructionGenerator")

    def load(self) -> None:
        """Load the engine and prepare what all rows share."""
        super().load()
        load_engine(self.llm)
        self._failures = Failures(self._logger)
        progress = Progress(self.num_rows, self._logger.info, partial(work_of, self.llm.stats))
        self._writer = RowWriter(self.llm, self._plan(), progress)

    def unload(self) -> None:
        """Unload the engine."""
        self._writer = None
        self.llm.unload()
        super().unload()

    def process(self, offset: int = 0) -> "GeneratorStepOutput":
        """Yield the rows from `offset` on, batch by batch; the last batch is flagged, once.

        Args:
            offset: Rows to leave out at the beginning.

        Yields:
            Rows, and whether they are the last ones.
        """
        writer = self._writer
        if writer is None:
            raise RuntimeError(f"step {self.name!r} is not loaded; call load() before process()")
        batch: list[Row] = []
        numbers = range(self.first_row + offset, self.first_row + self.num_rows)
        window = window_for(self.max_in_flight, self.llm)
        written = flow(
            numbers, writer.write, window=window, on_error=self._failed_row, run=self.llm.run
        )
        with closing(cast("Generator[Row]", written)):
            for done, row in enumerate(written, start=1):
                batch.append(row)
                if len(batch) == self.batch_size and done < len(numbers):
                    yield batch, False
                    batch = []
        yield batch, True

    def _plan(self) -> Plan:
        """Return what all rows have in common; the engine must be loaded."""
        banned = self._banned()
        return Plan(
            names=self.outputs,
            turns=TurnPlan(
                seed=self.seed,
                response=None,
                max_attempts=self.max_attempts,
                multi_turn_prompt="",
                include_system_prompt=False,
                min_chars=self.min_chars,
                max_chars=self.max_chars,
                form=self.pre_query_form,
            ),
            instructions=[
                settings.role_of_users(
                    self.llm.template,
                    stop_on_newline=self.early_stop_on_newline,
                    first_token_not=banned,
                    form=self.pre_query_form,
                )
                for settings in [*self.instruction_mix.values()] or [self.instruction_sampling]
            ],
            instruction_weights=[way.weight for way in self.instruction_mix.values()] or [1.0],
            n_turns=1,
            system_prompts=self.system_prompts,
            weights=self.system_prompt_weights,
        )

    def _banned(self) -> tuple[int, ...]:
        """Return the tokens that no user turn may begin with."""
        if not self.ban_markdown_start:
            return ()
        self.llm.require(["first_token_not"])
        return self.llm.tokens_matching(MARKDOWN_OPENER)

    def _failed_row(self, row: int, error: Exception) -> Row:
        """Return a row that the engine failed to write."""
        assert self._writer is not None
        assert self._failures is not None
        self._failures.note(row, error)
        return self._writer.fail(row)
