"""How good is an answer, in the eyes of a reward model?"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distilabel.errors import DistilabelUserError
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from magpie_steps.conversation import Message
from magpie_steps.embedded import model_path
from magpie_steps.engines.conversation_encoder import PROBE, ConversationEncoder
from magpie_steps.engines.model_files import find_model
from magpie_steps.engines.pretrained import (
    choose_device,
    load_tokenizer,
    load_weights,
    position_limit,
)
from magpie_steps.rendering import ChatTemplateError

ScoreFrom = Literal["logits", "score"]

NOT_FINITE = "not_finite"
FAILED = "engine_error"

GPU_BATCH = 4096
"""Tokens of a batch on a GPU unless the user says otherwise."""

AUTO_CLASS = "AutoModelForSequenceClassification"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a family of reward models is read.

    Attributes:
        pattern: What the model's name holds, in lower case.
        score_from: The output that the score is read from.
        strip_bos: Whether the template's BOS is taken off before the text is encoded.
    """

    pattern: str
    score_from: ScoreFrom = "logits"
    strip_bos: bool = False


READINGS = (
    # Its card reads `output.score`; the model comes with its own code.
    Reading("armorm", score_from="score"),
    # Its card gives the text without BOS to a text-classification pipeline, which adds it again.
    Reading("fsfairx", strip_bos=True),
    Reading(""),
)
"""The first whose pattern is in a model's name says how to read it, unless the user does."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A conversation's reward.

    Attributes:
        value: The score; NaN when there is none.
        reason: Why there is none: `bad_messages`, `control_tokens`, `too_long`, `not_finite` or
            `engine_error`; "" when there is one.
    """

    value: float
    reason: str = ""


class RewardModel(BaseModel):
    """Scores conversations with a sequence-classification model of the transformers library.

    A score depends on its conversation alone: exactly on a CPU, where each is read by itself; but
    for rounding on a GPU, where conversations of like length share a batch, padded on the right.
    Nothing is fetched when `model` is a folder.

    Attributes:
        model: A folder with config.json, weights and tokenizer, or a hub id; by default the
            embedded tiny-reward.
        revision: Branch, tag or commit on the hub; None is the default branch.
        dtype: The weights' type in memory; "auto" is float32 on a CPU and the one that they are
            stored in on a GPU.
        device: "cpu", "cuda", "cuda:1" ..., or "auto": the first GPU when there is one.
        max_batch_tokens: Most tokens of a batch, padding included, >= 1. A longer conversation that
            the model can read is a batch by itself. None is 4096 on a GPU, and on a CPU 1, which
            costs it next to nothing.
        trust_remote_code: Run Python code that comes with the model.
        score_from: The output that the score is read from: "logits", or "score" for models such as
            ArmoRM; None chooses by the model's name.
        score_index: The column of that output, >= 0.
        strip_bos: Take the template's BOS off and let the tokenizer add its own special tokens;
            None chooses by the model's name. The model reads one BOS either way.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = Field(default_factory=lambda: str(model_path("tiny-reward")))
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    device: str = "auto"
    max_batch_tokens: int | None = Field(default=None, ge=1)
    trust_remote_code: bool = False
    score_from: ScoreFrom | None = None
    score_index: int = Field(default=0, ge=0)
    strip_bos: bool | None = None

    _network: Any = PrivateAttr(default=None)
    _encoder: ConversationEncoder | None = PrivateAttr(default=None)
    _pad_id: int | None = PrivateAttr(default=None)
    _tokens_read: int = PrivateAttr(default=0)
    _failures: int = PrivateAttr(default=0)

    @property
    def model_name(self) -> str:
        """The hub id, or the folder's name."""
        folder = Path(self.model).expanduser()
        return folder.resolve().name if folder.is_dir() else self.model

    @property
    def tokens_read(self) -> int:
        """Tokens that the model has read since `load()`, padding not counted."""
        return self._tokens_read

    def load(self) -> None:
        """Load model and tokenizer, and score one conversation to see that the score is there.

        Raises:
            DistilabelUserError: The model is not there, is incomplete, is no reward model, has no
                chat template or gives no such score.
        """
        self.unload()
        folder = find_model(self.model, self.revision, self.trust_remote_code)
        tokenizer = load_tokenizer(folder, self.model, self.trust_remote_code)
        network = self._load_network(folder)
        self._encoder = self._make_encoder(tokenizer, network.config.get_text_config())
        self._pad_id = _settle_padding(network.config.get_text_config(), self._encoder)
        self._network = network
        self._forward([self._encoder.encode([PROBE])[0].ids])
        self._tokens_read = self._failures = 0

    def unload(self) -> None:
        """Let go of the model."""
        self._network = self._encoder = None

    def score(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Return each conversation's score, in order; NaN where `rate` says why there is none."""
        return [reward.value for reward in self.rate(conversations)]

    def rate(self, conversations: Sequence[Sequence[Message]]) -> list[Reward]:
        """Return each conversation's reward, in order.

        Args:
            conversations: Messages with `role` and `content`, each conversation ending with the
                assistant's answer that is scored.

        Raises:
            RuntimeError: The model is not loaded.
        """
        if self._encoder is None:
            raise RuntimeError(f"the reward model {self.model_name} is not loaded; call load()")
        encoded = self._encoder.encode(conversations)
        rewards = [Reward(math.nan, each.reason) for each in encoded]
        lengths = {i: len(each.ids) for i, each in enumerate(encoded) if not each.reason}
        for batch in batches_of(lengths, self._budget):
            for place, reward in zip(
                batch, self._rate_batch([encoded[i].ids for i in batch]), strict=True
            ):
                rewards[place] = reward
            self._tokens_read += sum(lengths[i] for i in batch)
        return rewards

    @property
    def _budget(self) -> int:
        """The most tokens of a batch."""
        if self._pad_id is None:
            return 1
        return self.max_batch_tokens or (1 if self._network.device.type == "cpu" else GPU_BATCH)

    def _rate_batch(self, rows: list[tuple[int, ...]]) -> list[Reward]:
        """Return the rewards of rows that share a batch; one that fails is tried by halves."""
        try:
            values = self._forward(rows)
        except RuntimeError as error:  # of torch, out of memory among them
            if len(rows) == 1:
                if not self._failures:
                    _logger.error(f"{self.model_name} failed: {type(error).__name__}: {error}")
                self._failures += 1
                return [Reward(math.nan, FAILED)]
        else:
            return [
                Reward(value) if math.isfinite(value) else Reward(math.nan, NOT_FINITE)
                for value in values
            ]
        half = len(rows) // 2
        return [*self._rate_batch(rows[:half]), *self._rate_batch(rows[half:])]

    def _forward(self, rows: Sequence[tuple[int, ...]]) -> list[float]:
        import torch

        longest = max(map(len, rows))
        pad = self._pad_id or 0
        ids = [[*row, *[pad] * (longest - len(row))] for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        device = self._network.device
        with torch.inference_mode():
            output = self._network(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
            )
        found: list[float] = self._column(output, len(rows)).float().tolist()
        return found

    def _column(self, output: Any, rows: int) -> Any:
        """Return the scores in a model's output, one per row."""
        name = self.score_from or self._reading.score_from
        scores = getattr(output, name, None)
        if scores is None:
            there = sorted(key for key, value in vars(output).items() if value is not None)
            raise DistilabelUserError(
                f"{self.model_name} has no output {name!r}, it gives {', '.join(there)}; set"
                " score_from to 'logits' or 'score'"
            )
        if scores.dim() > 2 or scores.shape[:1] != (rows,):
            raise DistilabelUserError(
                f"{self.model_name} gives {name!r} of the shape {list(scores.shape)} for {rows}"
                " conversations; a reward model gives one row of scores for each"
            )
        columns = scores.reshape(rows, -1)
        if self.score_index >= columns.shape[1]:
            raise DistilabelUserError(
                f"score_index is {self.score_index}, but {self.model_name} gives"
                f" {columns.shape[1]} score(s); give at most {columns.shape[1] - 1}"
            )
        return columns[:, self.score_index]

    @property
    def _reading(self) -> Reading:
        name = self.model_name.lower()
        return next(reading for reading in READINGS if reading.pattern in name)

    def _make_encoder(self, tokenizer: Any, config: Any) -> ConversationEncoder:
        strip_bos = self._reading.strip_bos if self.strip_bos is None else self.strip_bos
        try:
            return ConversationEncoder(
                tokenizer, strip_bos=strip_bos, max_tokens=position_limit(config)
            )
        except ChatTemplateError as exc:
            raise DistilabelUserError(f"{self.model_name}: {exc}") from exc
        except ValueError as exc:  # of the tokenizer: no template, or several without a default
            raise DistilabelUserError(
                f"the tokenizer of {self.model!r} has no chat template to render conversations"
                " with; save the one that the model was trained with as chat_template.jinja in its"
                " folder"
            ) from exc

    def _load_network(self, folder: Path) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        self._require_trust(folder)
        device = choose_device(self.device)
        dtype = "float32" if self.dtype == "auto" and device == "cpu" else self.dtype
        network = load_weights(
            AutoModelForSequenceClassification,
            folder,
            model=self.model,
            kind="sequence-classification (reward) model",
            dtype=dtype,
            trust_remote_code=self.trust_remote_code,
        )
        network.config.use_cache = False  # nothing is generated, so nothing is kept for it
        return network.to(torch.device(device))

    def _require_trust(self, folder: Path) -> None:
        """Refuse a model with code of its own, which transformers would replace without a word."""
        import transformers

        config, _ = transformers.PretrainedConfig.get_config_dict(folder)
        home = (config.get("auto_map") or {}).get(AUTO_CLASS)
        known = any(hasattr(transformers, name) for name in config.get("architectures") or ())
        if home and not known and not self.trust_remote_code:
            raise DistilabelUserError(
                f"the reward model {self.model!r} brings Python code of its own ({home}); read it,"
                " and if you trust it set trust_remote_code=True"
            )


def batches_of(lengths: dict[int, int], max_tokens: int) -> list[list[int]]:
    """Group places by length, longest first, so that little of a batch is padding.

    Args:
        lengths: The number of tokens by place.
        max_tokens: Most tokens of a batch, padding included; a longer one is a batch by itself.
    """
    batches: list[list[int]] = []
    room = 0
    for place in sorted(lengths, key=lambda i: (-lengths[i], i)):
        if not batches or len(batches[-1]) >= room:
            batches.append([])
            room = max(max_tokens // lengths[place], 1)
        batches[-1].append(place)
    return batches


def _settle_padding(config: Any, encoder: ConversationEncoder) -> int | None:
    """Return what the model takes for padding; None when its batches can have one row only.

    A model without a padding token scores a text's last token. So that it does in a batch too, it
    is given one that occurs in no text.
    """
    own = config.pad_token_id
    if own is not None and 0 <= own < config.vocab_size:
        return int(own)
    config.pad_token_id = encoder.unused_token(config.vocab_size)
    unused: int | None = config.pad_token_id
    return unused
