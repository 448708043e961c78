"""Steps that ask a model for labels of rows' instructions."""

from abc import ABC
from typing import ClassVar

from pydantic import Field

from magpie_steps import columns
from magpie_steps.steps.answering import AnsweringStep
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import TaggerSampling, Tunable
from magpie_steps.steps.tags import TagPlan, TagWriter
from magpie_steps.tagging import TAGS, Tag, no_tags


class TaggingStep(AnsweringStep, ABC):
    """A step that asks for some of the tags; a subclass says which."""

    sampling: TaggerSampling = Field(default_factory=TaggerSampling)
    keep_failed_answers: Tunable[bool] = Field(
        default=False, description="Whether to keep answers that give no label."
    )

    _tags: ClassVar[tuple[Tag, ...]] = TAGS

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required, a row needs one of the first two."""
        return {**super().inputs, "tag_failures": False}

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        names = {*no_tags(self._tags), "tag_failures"}
        return [name for name in columns.NAMES if name in names]

    def _make_writer(self, progress: Progress) -> TagWriter:
        role = self.sampling.role_of_answers(self.llm.template)
        plan = TagPlan(self._tags, role.sampling, self.seed, self.keep_failed_answers)
        return TagWriter(self.llm, plan, progress)


class InstructionTagger(TaggingStep):
    """Labels each row's instruction with difficulty, quality and category, on one engine.

    The three questions about an instruction are asked at once and begin alike, so an engine that
    caches prefixes computes that part once. They are the paper's three, in other words and with the
    form of the answer first. Where the engine keeps to a JSON schema (vLLM does), answers cannot be
    of another form; elsewhere they are read tolerantly. A label that the model does not give stays
    empty and says why in `tag_failures`; the row is kept as it is. A row that is not kept passes
    through without labels and costs no model call.

    Attributes:
        llm: The engine of the tagger; it needs a chat template.
        seed: The run's seed, at least 0; without effect while labels are greedy.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        sampling: How the answers are sampled, by default greedily.
        keep_failed_answers: Whether a row keeps the answers that give no label, in `tag_failures`.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `keep_failed_answers`: Whether to keep answers that give no label.

    Input columns:
        - instruction (`string`): The instruction to label.
        - messages (`list<struct>`): The conversation, whose first user message is labelled if there
            is no instruction.
        - keep (`bool`): Whether to label the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds sampled labels; by default the prompt does.
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
        Ask for labels; the scripted engine writes no JSON, so there are none:

        ```python
        from magpie_steps import InstructionTagger, ScriptedEngine

        step = InstructionTagger(llm=ScriptedEngine(), keep_failed_answers=False)
        step.load()
        rows = next(step.process([{"instruction": "What is 2 + 3?"}]))
        print(len(rows), sorted({failure["reason"] for failure in rows[0]["tag_failures"]}))
        # 1 ['no_object']
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

    _tags: ClassVar[tuple[Tag, ...]] = TAGS


class DifficultyTagger(TaggingStep):
    """Labels each row's instruction with how hard it is to answer.

    One of five levels, with what the user wants and what one must know, as the model sees it. To
    ask for quality and category as well, `InstructionTagger` asks all three at once. Where the
    engine keeps to a JSON schema, answers cannot be of another form; elsewhere they are read
    tolerantly. A label that the model does not give stays empty and says why in `tag_failures`; the
    row is kept as it is. A row that is not kept passes through and costs no model call.

    Attributes:
        llm: The engine of the tagger; it needs a chat template.
        seed: The run's seed, at least 0; without effect while labels are greedy.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        sampling: How the answers are sampled, by default greedily.
        keep_failed_answers: Whether a row keeps the answers that give no label, in `tag_failures`.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `keep_failed_answers`: Whether to keep answers that give no label.

    Input columns:
        - instruction (`string`): The instruction to label.
        - messages (`list<struct>`): The conversation, whose first user message is labelled if there
            is no instruction.
        - keep (`bool`): Whether to label the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds sampled labels; by default the prompt does.
        - tag_failures (`list<struct>`): Which labels other taggers could not give.

    Output columns:
        - difficulty (`string`): How hard the instruction is to answer.
        - intent (`string`): What the user wants, in the tagger's words.
        - knowledge (`string`): What one must know to answer, in the tagger's words.
        - difficulty_generator (`string`): What chose the difficulty.
        - tag_failures (`list<struct>`): Which labels the row has not got and why; with what the
            tagger wrote if that is kept.

    Categories:
        - labelling

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Ask for labels; the scripted engine writes no JSON, so there are none:

        ```python
        from magpie_steps import DifficultyTagger, ScriptedEngine

        step = DifficultyTagger(llm=ScriptedEngine(), keep_failed_answers=False)
        step.load()
        rows = next(step.process([{"instruction": "What is 2 + 3?"}]))
        print(len(rows), sorted({failure["reason"] for failure in rows[0]["tag_failures"]}))
        # 1 ['no_object']
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

    _tags: ClassVar[tuple[Tag, ...]] = ("difficulty",)


class QualityTagger(TaggingStep):
    """Labels each row's instruction with how well it is put.

    One of five levels for clarity, specificity and coherence, with the model's reason. To ask for
    difficulty and category as well, `InstructionTagger` asks all three at once. Where the engine
    keeps to a JSON schema, answers cannot be of another form; elsewhere they are read tolerantly. A
    label that the model does not give stays empty and says why in `tag_failures`; the row is kept
    as it is. A row that is not kept passes through and costs no model call.

    Attributes:
        llm: The engine of the tagger; it needs a chat template.
        seed: The run's seed, at least 0; without effect while labels are greedy.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        sampling: How the answers are sampled, by default greedily.
        keep_failed_answers: Whether a row keeps the answers that give no label, in `tag_failures`.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `keep_failed_answers`: Whether to keep answers that give no label.

    Input columns:
        - instruction (`string`): The instruction to label.
        - messages (`list<struct>`): The conversation, whose first user message is labelled if there
            is no instruction.
        - keep (`bool`): Whether to label the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds sampled labels; by default the prompt does.
        - tag_failures (`list<struct>`): Which labels other taggers could not give.

    Output columns:
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
        Ask for labels; the scripted engine writes no JSON, so there are none:

        ```python
        from magpie_steps import QualityTagger, ScriptedEngine

        step = QualityTagger(llm=ScriptedEngine(), keep_failed_answers=False)
        step.load()
        rows = next(step.process([{"instruction": "What is 2 + 3?"}]))
        print(len(rows), sorted({failure["reason"] for failure in rows[0]["tag_failures"]}))
        # 1 ['no_object']
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

    _tags: ClassVar[tuple[Tag, ...]] = ("quality",)


class CategoryTagger(TaggingStep):
    """Labels each row's instruction with the kind of task that it is.

    One of twelve categories, and others that fit as well. To ask for difficulty and quality as
    well, `InstructionTagger` asks all three at once. Where the engine keeps to a JSON schema,
    answers cannot be of another form; elsewhere they are read tolerantly. A label that the model
    does not give stays empty and says why in `tag_failures`; the row is kept as it is. A row that
    is not kept passes through and costs no model call.

    Attributes:
        llm: The engine of the tagger; it needs a chat template.
        seed: The run's seed, at least 0; without effect while labels are greedy.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        sampling: How the answers are sampled, by default greedily.
        keep_failed_answers: Whether a row keeps the answers that give no label, in `tag_failures`.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.
        - `keep_failed_answers`: Whether to keep answers that give no label.

    Input columns:
        - instruction (`string`): The instruction to label.
        - messages (`list<struct>`): The conversation, whose first user message is labelled if there
            is no instruction.
        - keep (`bool`): Whether to label the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds sampled labels; by default the prompt does.
        - tag_failures (`list<struct>`): Which labels other taggers could not give.

    Output columns:
        - task_category (`string`): What kind of task the instruction is.
        - other_task_category (`list<string>`): Which other kinds of task it is as well.
        - task_category_generator (`string`): What chose the categories.
        - tag_failures (`list<struct>`): Which labels the row has not got and why; with what the
            tagger wrote if that is kept.

    Categories:
        - labelling

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Ask for labels; the scripted engine writes no JSON, so there are none:

        ```python
        from magpie_steps import CategoryTagger, ScriptedEngine

        step = CategoryTagger(llm=ScriptedEngine(), keep_failed_answers=False)
        step.load()
        rows = next(step.process([{"instruction": "What is 2 + 3?"}]))
        print(len(rows), sorted({failure["reason"] for failure in rows[0]["tag_failures"]}))
        # 1 ['no_object']
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

    _tags: ClassVar[tuple[Tag, ...]] = ("category",)
