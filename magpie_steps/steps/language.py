"""A step that tells the language of rows' instructions."""

from typing import TYPE_CHECKING

from distilabel.steps import Step, StepInput
from pydantic import Field

from magpie_steps import columns
from magpie_steps.engines.language import Language, LanguageDetector
from magpie_steps.steps.settings import Count
from magpie_steps.steps.tags import instruction_of

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class LanguageTagger(Step):
    """Tells the language of each row's instruction, offline and without a language model.

    As in the paper's data, by the lingua library. A text that is short, or mostly numbers, code or
    formulas, or as likely in two languages, gets no language instead of a guess. A row that is not
    kept passes through without a language.

    Attributes:
        detector: What tells languages, or its settings as a dict: `languages` are the ISO 639-1
            codes to look for, [] is all 75.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.

    Runtime parameters:
        - `input_batch_size`: Rows per batch between steps.

    Input columns:
        - instruction (`string`): The instruction whose language is told.
        - messages (`list<struct>`): The conversation, whose first user message counts if there is
            no instruction.
        - keep (`bool`): Whether to look at the row; true if there is no such column.

    Output columns:
        - language (`string`): The language of the instruction, "" if its text does not tell.
        - language_score (`float64`): How sure that is, among all languages that were looked for.

    Categories:
        - labelling

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Tell two languages apart from a formula:

        ```python
        from magpie_steps import LanguageTagger

        step = LanguageTagger(detector={"languages": ["EN", "DE", "ZH"]})
        step.load()
        texts = ["How do I bake bread at home?", "Wie backe ich Brot?", "x^2 + 3x = 4"]
        rows = next(step.process([{"instruction": text} for text in texts]))
        print([row["language"] for row in rows])
        # ['EN', 'DE', '']
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

    detector: LanguageDetector = Field(default_factory=LanguageDetector)
    input_batch_size: Count = Field(default=10_000, description="Rows per batch between steps.")

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required."""
        return dict.fromkeys(("instruction", "messages", "keep"), False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("LanguageTagger")

    def load(self) -> None:
        """Make the detector ready."""
        super().load()
        self.detector.load()

    def unload(self) -> None:
        """Let go of the detector."""
        self.detector.unload()
        super().unload()

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their language, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        rows = []
        for row in inputs:
            text, _ = instruction_of(row)
            found = self.detector.detect(text) if text else Language()
            rows.append({**row, "language": found.code, "language_score": found.score})
        yield rows
