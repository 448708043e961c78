"""A step that marks rows that repeat prompts of evaluation sets."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from distilabel.errors import DistilabelUserError
from distilabel.steps import Step, StepInput
from pydantic import Field, PrivateAttr

from magpie_steps import columns, reasons
from magpie_steps.overlap import THRESHOLD, Index
from magpie_steps.prompt_sets import named, prompts_of
from magpie_steps.steps.settings import Count, Tunable
from magpie_steps.steps.tags import instruction_of

if TYPE_CHECKING:
    from distilabel.typing import StepOutput


class Decontaminate(Step):
    """Marks the rows whose instruction repeats a prompt of an evaluation set.

    A model that learned its exam by heart tells nothing by passing it. By the rule of Tulu 3 an
    instruction repeats a prompt if more than half of the prompt's words lie in runs of eight words
    that both have; here also if both are equal but for case, punctuation and white space, the only
    way for a prompt of fewer than eight words. In scripts without spaces each letter is a word.
    Such a row is no longer kept, with the drop reason contaminated; a row that is not kept already
    passes through. It comes before `ApplyRecipe` in a pipeline. No stock step of distilabel
    compares rows with evaluation sets.

    Attributes:
        paths: The evaluation sets, by default none. Each is a file (.parquet, .jsonl, .json, .csv,
            .tsv or .txt with a prompt per line), a folder of such files or a dataset's id on the
            Hub. The prompts are looked for in the columns instruction, prompt, question, problem,
            query, conversations, conversation, messages, turns, input and text, in this order.
        threshold: The overlap above which a row is contaminated, at least 0, below 1; 0.5 by
            default.
        input_batch_size: Rows per batch between steps, at least 1. It does not change the rows.

    Runtime parameters:
        - `threshold`: The overlap above which a row is contaminated.
        - `input_batch_size`: Rows per batch between steps.

    Input columns:
        - instruction (`string`): The instruction that is compared.
        - messages (`list<struct>`): The conversation, whose first user message counts if there is
            no instruction.
        - keep (`bool`): Whether to look at the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.

    Output columns:
        - contaminated_by (`string`): The evaluation set that the instruction repeats a prompt of,
            "" for none.
        - contamination_overlap (`float64`): Largest share of an evaluation prompt's words that the
            instruction has in runs of eight.
        - keep (`bool`): Whether the row is complete and accepted.
        - drop_reason (`string`): Why the row is not kept, "" when it is.

    Categories:
        - filtering

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)
        - [Tulu 3](https://arxiv.org/abs/2411.15124)

    Examples:
        Find an instruction that repeats most of a question:

        ```python
        from pathlib import Path
        from tempfile import mkdtemp

        from magpie_steps import Decontaminate

        quiz = Path(mkdtemp()) / "quiz.txt"
        quiz.write_text("How many apples are left if Ann eats two of her seven?")
        step = Decontaminate(paths=[str(quiz)])
        step.load()
        texts = ["So how many apples are left if Ann eats two of hers?", "Name a prime number."]
        for row in next(step.process([{"instruction": text} for text in texts])):
            print(row["drop_reason"], row["contaminated_by"], row["contamination_overlap"])
        # contaminated quiz 0.8333333333333334
        #   0.0
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
        ```
        @misc{lambert2024tulu3,
            title={Tulu 3: Pushing Frontiers in Open Language Model Post-Training},
            author={Nathan Lambert and Jacob Morrison and Valentina Pyatkin and others},
            year={2024},
            eprint={2411.15124},
            archivePrefix={arXiv},
            primaryClass={cs.CL}
        }
        ```
    """

    paths: list[str] = Field(default_factory=list)
    threshold: Tunable[Annotated[float, Field(ge=0.0, lt=1.0)]] = Field(
        default=THRESHOLD, description="The overlap above which a row is contaminated."
    )
    input_batch_size: Count = Field(default=10_000, description="Rows per batch between steps.")

    _index: Index | None = PrivateAttr(default=None)

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required."""
        return dict.fromkeys(("instruction", "messages", "keep", "drop_reason"), False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("Decontaminate")

    def load(self) -> None:
        """Read the evaluation sets.

        Raises:
            DistilabelUserError: One of them is not there, cannot be read or has no prompts.
        """
        super().load()
        sets = named(self.paths)
        try:
            self._index = Index({name: prompts_of(path) for name, path in sets.items()})
        except (OSError, ValueError) as error:
            raise DistilabelUserError(str(error)) from error
        for name, size in self._index.sizes.items():
            self._logger.info(f"{name}: {size.prompts} prompts, {size.empty} rows without one")
        if not sets:
            self._logger.warning("no evaluation sets are given, so no row is contaminated")

    def unload(self) -> None:
        """Let go of the evaluation sets."""
        self._index = None
        super().unload()

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with their marks, in order.

        Args:
            inputs: The rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        if self._index is None:
            raise RuntimeError(f"step {self.name!r} is not loaded; call load() before process()")
        rows = [_marked(row, self._index, self.threshold) for row in inputs]
        found = Counter(row["contaminated_by"] for row in rows if row["contaminated_by"])
        parts = [f"{count} by {name}" for name, count in found.most_common()]
        self._logger.info(f"{len(rows)} rows, contaminated: {', '.join(parts) or 'none'}")
        yield rows


def _marked(row: dict[str, Any], index: Index, threshold: float) -> dict[str, Any]:
    """Return a row with the prompt that it overlaps most, dropped if that is too much."""
    text, _ = instruction_of(row)
    match = index.match(text)
    share = match.share if match else 0.0
    name = match.name if match and share > threshold else ""
    reason = reasons.CONTAMINATED if name else reasons.carried_by(row)
    return {
        **row,
        "contaminated_by": name,
        "contamination_overlap": share if text else float("nan"),
        "keep": not reason,
        "drop_reason": reason,
    }
