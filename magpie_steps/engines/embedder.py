"""What does a text mean, as a vector?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from distilabel.errors import DistilabelUserError
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from magpie_steps.embedded import EMBEDDER
from magpie_steps.engines.model_files import content_hash, find_model
from magpie_steps.engines.pretrained import choose_device

PAPER_MODEL = "sentence-transformers/all-mpnet-base-v2"
"""The model of the paper's script for distances (`exp/gen_dis.py`), 768 numbers per text."""

PROBE = "Hello."


class Embedder(BaseModel):
    """Embeds texts with a model of the sentence-transformers library.

    An embedding depends on its text alone, but for rounding: texts of like length share a batch.
    One that is longer than the model can read is cut off there, as the library does. Nothing is
    fetched when `model` is a folder.

    Attributes:
        model: A folder with a sentence-transformers model, or a hub id; by default
            all-MiniLM-L6-v2, which comes with the package. The paper's script takes
            sentence-transformers/all-mpnet-base-v2.
        revision: Branch, tag or commit on the hub; None is the default branch.
        device: "cpu", "cuda", "cuda:1" ..., or "auto": the first GPU when there is one.
        batch_size: Texts that the model reads at a time, >= 1.
        trust_remote_code: Run Python code that comes with the model.
        prefix: What stands before each text, for models that were trained with it; "" is nothing.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = EMBEDDER
    revision: str | None = None
    device: str = "auto"
    batch_size: int = Field(default=64, ge=1)
    trust_remote_code: bool = False
    prefix: str = ""

    _network: Any = PrivateAttr(default=None)
    _dim: int = PrivateAttr(default=0)
    _fingerprint: str = PrivateAttr(default="")
    _texts_read: int = PrivateAttr(default=0)

    @property
    def model_name(self) -> str:
        """The hub id, or the folder's name."""
        folder = Path(self.model).expanduser()
        return folder.resolve().name if folder.is_dir() else self.model

    @property
    def dim(self) -> int:
        """How many numbers an embedding has."""
        self._loaded()
        return self._dim

    @property
    def fingerprint(self) -> str:
        """What decides an embedding besides its text: the model's files and the prefix."""
        self._loaded()
        return f"{self._fingerprint} {self.prefix!r}"

    @property
    def texts_read(self) -> int:
        """Texts that the model has read since `load()`."""
        return self._texts_read

    def load(self) -> None:
        """Load the model, and embed one text to see that it can.

        Raises:
            DistilabelUserError: It is not there, is incomplete or is no embedding model.
        """
        self.unload()
        self._dim = 0
        folder = find_model(self.model, self.revision, self.trust_remote_code)
        self._network = self._load_network(folder)
        try:
            self._dim = self._read([PROBE]).shape[1]
        except RuntimeError as error:
            raise DistilabelUserError(
                f"the model {self.model!r} cannot embed a text: {error}; give a"
                f" sentence-transformers model, such as the paper's {PAPER_MODEL}"
            ) from error
        self._fingerprint = content_hash(folder)
        self._texts_read = 0

    def unload(self) -> None:
        """Let go of the model."""
        self._network = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return each text's embedding, (texts, dim), of length 1, in order.

        Zeros stand for a text that says nothing, which the model does not read. A text that comes
        twice is read once.

        Raises:
            RuntimeError: The model is not loaded, or cannot read a single text, as when a GPU has
                no memory left: no text's own fault.
        """
        found = np.zeros((len(texts), self.dim), dtype=np.float32)
        places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            if text.strip():
                places.setdefault(text, []).append(place)
        for own, vector in zip(places.values(), self._read(list(places)), strict=True):
            found[own] = vector
        return found

    def _read(self, texts: list[str]) -> NDArray[np.float32]:
        """Return embeddings; texts that fail together are tried by halves."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        # The library sorts them by length. Half a surrogate pair is no text for a tokenizer.
        prefixed = [(self.prefix + text).encode("utf-8", "replace").decode() for text in texts]
        try:
            found: NDArray[np.float32] = self._loaded().encode(
                prefixed,
                batch_size=self.batch_size,
                show_progress_bar=False,
                normalize_embeddings=True,
            )
        except RuntimeError:  # of torch, out of memory among them
            if len(texts) == 1:
                raise  # not this text's fault: an empty embedding would be kept for good
            half = len(texts) // 2
            return np.concatenate([self._read(texts[:half]), self._read(texts[half:])])
        self._texts_read += len(texts)
        return np.asarray(found, dtype=np.float32)

    def _loaded(self) -> Any:
        if self._network is None:
            raise RuntimeError(f"the embedder {self.model_name} is not loaded; call load()")
        return self._network

    def _load_network(self, folder: Path) -> Any:
        from safetensors import SafetensorError
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as bars

        shown = bars.is_progress_bar_enabled()
        bars.disable_progress_bar()
        try:
            return SentenceTransformer(
                str(folder),
                device=choose_device(self.device),
                trust_remote_code=self.trust_remote_code,
                local_files_only=True,
                model_kwargs={} if self.trust_remote_code else {"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as exc:
            raise DistilabelUserError(
                f"the embedding model {self.model!r} cannot be loaded: {exc}"
            ) from exc
        finally:
            if shown:
                bars.enable_progress_bar()
