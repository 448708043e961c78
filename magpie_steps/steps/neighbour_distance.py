"""A step that tells how near each instruction is to the others."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilabel.errors import DistilabelUserError
from distilabel.steps import GlobalStep, StepInput
from pydantic import Field, PrivateAttr

from magpie_steps import columns, reasons
from magpie_steps.engines.embedder import Embedder
from magpie_steps.neighbours.compare import compare
from magpie_steps.neighbours.pace import Pace
from magpie_steps.neighbours.store import VectorStore, embed_into
from magpie_steps.neighbours.verdicts import NONE, Mode, Neighbours
from magpie_steps.steps.settings import Count

if TYPE_CHECKING:
    from distilabel.typing import StepOutput

FARTHEST = 4.0
"""The distance of the only row that there is: nothing is nearer than the opposite direction."""

ROWS_PER_WRITE = 1024
"""Embeddings that are written at a time: a kill costs no more than these."""


class NeighbourDistance(GlobalStep):
    """Tells how near each instruction is to the nearest other one, and which row stands for both.

    Instructions become embeddings, and all of them are compared with each other, on a GPU if there
    is one: exactly, or above a number of rows with an index whose recall is measured and logged. It
    marks and drops no row; a recipe does. A row that is not kept or has no text is not compared.
    The embeddings stay in a folder if there is one, so that a second run over a dataset that has
    grown embeds only what is new, and compares only that where it compares exactly. Unlike the
    stock `FaissNearestNeighbour` it counts near rows without a limit, names the row that stands for
    them, and does not hold the embeddings in memory.

    Attributes:
        embedder: The embedding model, or its settings as a dict; by default all-MiniLM-L6-v2.
        threshold: Squared distance of embeddings of length 1 below which two instructions are near,
            above 0; the default 0.05, a cosine of 0.975, is that of the paper's published script.
        mode: Which row stands for others; "earliest", the paper's rule, is the first of the row and
            those near it, "cluster" the first of all that near ones link.
        store_dir: The folder for embeddings and results, with the recall of an approximate search
            in search.json; None is one that goes away with the step.
        approximate_above: Rows above which the index is used if faiss is installed, at least 1.
        input_batch_size: Has no effect, as the step gets all rows at once.

    Runtime parameters:
        - `approximate_above`: Rows above which the comparison is approximate.
        - `input_batch_size`: Has no effect, as the step gets all rows at once.

    Input columns:
        - instruction (`string`): The text that is compared.
        - uuid (`string`): The row's id; its position if there is none.
        - keep (`bool`): Whether to compare the row; true if there is no such column.
        - drop_reason (`string`): Why the row is not kept.

    Output columns:
        - min_neighbor_distance (`float64`): Squared distance of the instruction to the nearest
            other one, as embeddings of length 1; 4 if there is no other.
        - repeat_count (`int64`): Other instructions that are nearer than the threshold.
        - min_similar_uuid (`string`): The row that stands for the instruction and those near it, ""
            if none is near.

    Categories:
        - filtering
        - columns

    References:
        - [Magpie](https://arxiv.org/abs/2406.08464)

    Examples:
        Find an instruction that comes twice:

        ```python
        from magpie_steps import NeighbourDistance

        step = NeighbourDistance()
        step.load()
        texts = ["Name a prime number.", "Bake me a cake!", "Name a prime number."]
        rows = [{"uuid": f"row-{i}", "instruction": text} for i, text in enumerate(texts)]
        for row in next(step.process(rows)):
            print(row["uuid"], row["repeat_count"], repr(row["min_similar_uuid"]))
        # row-0 1 'row-0'
        # row-1 0 ''
        # row-2 1 'row-0'
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

    embedder: Embedder = Field(default_factory=Embedder)
    threshold: float = Field(default=0.05, gt=0.0, allow_inf_nan=False)
    mode: Mode = "earliest"
    store_dir: str | None = None
    approximate_above: Count = Field(
        default=300_000, description="Rows above which the comparison is approximate."
    )
    input_batch_size: Count = Field(
        default=1000, description="Has no effect, as the step gets all rows at once."
    )

    _loaded: bool = PrivateAttr(default=False)

    @property
    def inputs(self) -> dict[str, bool]:
        """The columns that the step reads; none is required, a row without a text has no others."""
        return dict.fromkeys(("instruction", "uuid", "keep", "drop_reason"), False)

    @property
    def outputs(self) -> list[str]:
        """The columns that the step writes."""
        return columns.written_by("NeighbourDistance")

    def load(self) -> None:
        """Load the embedding model.

        Raises:
            DistilabelUserError: The model cannot be used, or the folder cannot be written to.
        """
        super().load()
        if self.store_dir is not None:
            _make_folder(Path(self.store_dir).expanduser())
        self.embedder.load()
        self._loaded = True

    def unload(self) -> None:
        """Let go of the embedding model."""
        self._loaded = False
        self.embedder.unload()
        super().unload()

    def process(self, inputs: StepInput) -> "StepOutput":
        """Yield the rows with what is known of their neighbours, in order.

        Args:
            inputs: All rows.

        Yields:
            As many rows, each with the columns of `outputs`.
        """
        if not self._loaded:
            raise RuntimeError(f"step {self.name!r} is not loaded; call load() before process()")
        compared = [i for i, row in enumerate(inputs) if _is_compared(row)]
        texts = [inputs[i]["instruction"] for i in compared]
        empty = columns.empty_row(self.outputs)
        rows = [{**row, **empty} for row in inputs]
        found = self._neighbours(texts)
        stands_for = found.representative(self.mode).tolist()
        alone = len(compared) == 1 and not found.unusable
        for place, i in enumerate(compared):
            chosen = stands_for[place]
            distance = FARTHEST if alone else float(found.distance[place])
            rows[i]["min_neighbor_distance"] = distance
            rows[i]["repeat_count"] = int(found.count[place])
            if chosen != NONE:
                rows[i]["min_similar_uuid"] = _stand_in(inputs, compared[chosen], i)
        self._logger.info(
            f"{len(compared)} of {len(rows)} rows compared,"
            f" {int((found.count > 0).sum())} of them have another one near"
        )
        yield rows

    def _neighbours(self, texts: list[str]) -> Neighbours:
        with tempfile.TemporaryDirectory(prefix="magpie-neighbours-") as scratch:
            folder = Path(self.store_dir or scratch).expanduser()
            store = VectorStore(folder, self.embedder.fingerprint, self.embedder.dim)
            say = self._logger.info
            embedded = Pace("texts embedded", say)
            keys = embed_into(store, texts, self.embedder.embed, ROWS_PER_WRITE, embedded)
            return compare(store, keys, self.threshold, self.approximate_above, say)


def _is_compared(row: dict[str, Any]) -> bool:
    text = row.get("instruction")
    return not reasons.carried_by(row) and isinstance(text, str) and bool(text.strip())


def _stand_in(rows: StepInput, chosen: int, own: int) -> str:
    """Return the id of the row that stands for one, its position if it has no id.

    A row without an id that stands for itself gets none, or nothing would tell it from the others.
    """
    uuid = rows[chosen].get("uuid")
    if isinstance(uuid, str) and uuid:
        return uuid
    return "" if chosen == own else str(chosen)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DistilabelUserError(
            f"store_dir is {str(folder)!r}, which cannot be made: {error}; give a folder that this"
            " process may write to"
        ) from error
