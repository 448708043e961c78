"""A step that asks a guard model whether rows' conversations are safe."""

from pydantic import Field

from magpie_steps import columns
from magpie_steps.steps.answering import AnsweringStep
from magpie_steps.steps.progress import Progress
from magpie_steps.steps.settings import GuardSampling
from magpie_steps.steps.verdicts import VerdictWriter


class SafetyTagger(AnsweringStep):
    """Asks a guard model whether each row's conversation is safe.

    For models in the manner of Llama Guard, which write "safe", or "unsafe" and categories. The
    conversation is put into the model's own chat template, which also says what the categories are
    called. A conversation without a verdict counts as not safe and says why in `tag_failures`; the
    row is kept as it is, so a recipe decides. A row that is not kept passes through without a
    verdict and costs no model call.

    Attributes:
        llm: The engine of the guard model; it needs a chat template.
        seed: The run's seed, at least 0; without effect while verdicts are greedy.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.
        max_in_flight: Rows that are worked on at once, at least 1; None is several times what the
            engine has places for. It does not change the rows.
        sampling: How verdicts are sampled, by default greedily.

    Runtime parameters:
        - `seed`: The run's seed.
        - `input_batch_size`: Rows per batch between steps.
        - `max_in_flight`: Rows that are worked on at once.

    Input columns:
        - instruction (`string`): The instruction, judged with the response if there are no
            messages.
        - response (`string`): The response.
        - messages (`list<struct>`): The conversation to judge; its last message is what counts.
        - keep (`bool`): Whether to judge the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.
        - row (`int64`): The row's number, which seeds sampled verdicts; by default the prompt does.
        - tag_failures (`list<struct>`): Which labels taggers could not give.

    Output columns:
        - tag_failures (`list<struct>`): Which labels the row has not got and why; with what the
            tagger wrote if that is kept.
        - safe (`bool`): Whether the guard model found the conversation safe; false also without a
            verdict.
        - unsafe_categories (`list<string>`): Which of the guard model's categories the conversation
            falls into.
        - guard_raw (`string`): The guard model's answer as it wrote it.
        - guard_generator (`string`): The guard model.

    Categories:
        - labelling

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Ask for a verdict; the scripted engine is no guard, so there is none:

        ```python
        from magpie_steps import SafetyTagger, ScriptedEngine

        step = SafetyTagger(llm=ScriptedEngine())
        step.load()
        row = next(step.process([{"instruction": "What is 2 + 3?", "response": "5"}]))[0]
        print(row["safe"], row["tag_failures"][0]["reason"])
        # False unknown_label
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

    sampling: GuardSampling = Field(default_factory=GuardSampling)

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required, a row needs a conversation."""
        names = ("instruction", "response", "messages", "keep", "drop_reason", "row")
        return dict.fromkeys((*names, "tag_failures"), False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("SafetyTagger")

    def _make_writer(self, progress: Progress) -> VerdictWriter:
        return VerdictWriter(self.llm, self.sampling.sampling((), ()), self.seed, progress)
