"""How does a transformers model take one step for many rows without one changing another's bits?"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from magpie_steps.engines.kv_cache import (
    KV_STEP,
    Chunk,
    LayerState,
    PrefixStore,
    SlotCache,
    chunks_of,
    round_up,
)

BATCH_STEP = 16
"""Decode batches have a multiple of this many rows, idle ones included. On CPU, matrix products
with 16 or more rows give each row the same bits; below, other kernels are used (measured with
MKL)."""

PREFILL_TOKENS = 256
"""Most positions that are computed in one prefill pass over several prompts."""

GROUPED_PARAMETERS = 50_000_000
"""Prompts are computed together only for models up to this size on CPU: larger ones gain nothing
from it, and measuring them takes long."""

_TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.5, torch.float16: 0.2}
"""How far our logits may be from the model's own forward pass, in their standard deviations."""


class UnsupportedModelError(ValueError):
    """The model computes something that the slotted cache cannot give it."""


class ModelRunner:
    """A causal language model with a slotted cache: prefill some slots, decode all of them.

    Floating point results differ in their last bits with the shape of a batch, and one flipped bit
    can flip a sampled token. So prompts are cut into chunks at fixed positions, decode batches have
    one of a few sizes, and `calibrate` keeps only sizes in which a row gets exactly the same bits
    wherever it stands and whoever stands beside it.

    Call the methods under `torch.inference_mode()`.

    Args:
        model: a transformers causal language model in evaluation mode.
        max_rows: most rows at once.
        max_length: most positions of a row.
    """

    def __init__(self, model: Any, *, max_rows: int, max_length: int) -> None:
        self._model = model
        self._decoder = model.base_model
        self._device = model.device
        self._hidden = torch.finfo(model.dtype).min
        self._dtype = model.dtype
        self._max_length = max_length
        self.vocabulary = int(model.get_input_embeddings().num_embeddings)
        self.batch_sizes = _batch_sizes(max_rows)
        self.fixed_seen: int | None = None
        self.group_sizes = {size: _powers_up_to(PREFILL_TOKENS // size) for size in _PADDED}
        self._store = PrefixStore()
        self._cache = SlotCache(self.batch_sizes[0], 2 * KV_STEP)
        self._decoder_takes, self._model_takes = _cache_name(self._decoder), _cache_name(model)

    def batch_size_for(self, rows: int) -> int:
        """The smallest usable batch that holds so many rows."""
        return next(size for size in self.batch_sizes if size >= rows)

    def reserve(self, slots: int, length: int) -> None:
        """Make room in the cache: for whole batches, and for longer rows in growing steps."""
        slots = self.batch_size_for(slots)
        length = round_up(length)
        if length > self._cache.length:
            length = min(max(length, self._cache.length * 3 // 2), round_up(self._max_length))
        self._cache.reserve(slots, max(length, self.fixed_seen or 0))

    def reset(self) -> None:
        """Start again with an empty cache, after an error that may have left it half changed."""
        self._store.clear()
        self._cache = SlotCache(self.batch_sizes[0], max(2 * KV_STEP, self.fixed_seen or 0))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row to another slot."""
        self._cache.move(source, target, length)

    def prefill(self, prompts: Sequence[tuple[int, Sequence[int]]]) -> list[int]:
        """Fill slots with the keys and values of prompts.

        Args:
            prompts: slot and token ids of each; `reserve` must have made room.

        Returns:
            For each prompt, how many of its positions had been computed before, or are computed
            for another of these prompts.
        """
        cut = [(slot, ids, list(chunks_of(ids))) for slot, ids in prompts]
        known = dict.fromkeys((slot for slot, _ in prompts), 0)
        for level in range(max((len(chunks) for _, _, chunks in cut), default=0)):
            missing: dict[bytes, list[tuple[int, Sequence[int], Chunk]]] = {}
            for slot, ids, chunks in cut:
                if level < len(chunks):
                    chunk = chunks[level]
                    stored = self._store.get(chunk.key)
                    if stored is not None:
                        self._cache.write(slot, chunk.start, stored)
                    if stored is not None or chunk.key in missing:
                        known[slot] += chunk.stop - chunk.start
                    if stored is None:
                        missing.setdefault(chunk.key, []).append((slot, ids, chunk))
            self._prefill_level([*missing.values()])
        return [known[slot] for slot, _ in prompts]

    def _prefill_level(self, wanted: list[list[tuple[int, Sequence[int], Chunk]]]) -> None:
        by_size: dict[int, list[list[tuple[int, Sequence[int], Chunk]]]] = {}
        for same in wanted:
            by_size.setdefault(same[0][2].padded, []).append(same)
        for padded, alike in by_size.items():
            while alike:
                size = next(s for s in self.group_sizes[padded] if s <= len(alike))
                group, alike = alike[:size], alike[size:]
                first = group[0][0][2]
                slots = [same[0][0] for same in group]
                self._prefill_chunk(slots, [same[0][1] for same in group], first.start, padded)
                for same in group:
                    self._share(same)

    def _share(self, same: list[tuple[int, Sequence[int], Chunk]]) -> None:
        """Keep a fresh chunk, and copy it to the other prompts that begin alike."""
        slot, _, chunk = same[0]
        states = self._cache.read(slot, chunk.start, chunk.stop)
        self._store.put(chunk.key, states)
        for other, _, _ in same[1:]:
            self._cache.write(other, chunk.start, states)

    def _prefill_chunk(
        self, slots: list[int], prompts: list[Sequence[int]], start: int, padded: int
    ) -> None:
        ids = np.zeros((len(slots), padded), np.int64)
        for row, prompt in enumerate(prompts):
            part = prompt[start : start + padded]
            ids[row, : len(part)] = part
        seen = round_up(start + padded)
        self._cache.reserve(self._cache.slots, seen)
        at = torch.arange(start, start + padded, device=self._device)
        visible = torch.arange(seen, device=self._device) <= at.unsqueeze(-1)
        self._cache.aim_at_prefill(slots, start, padded, seen)
        self._decoder(
            input_ids=torch.from_numpy(ids).to(self._device),
            attention_mask=self._mask(visible).expand(len(slots), 1, -1, -1),
            # Padding may stand beyond the last position that the model knows.
            position_ids=at.clamp(max=self._max_length - 1).expand(len(slots), -1),
            **{self._decoder_takes: self._cache},
            use_cache=True,
        )

    def decode(
        self, tokens: NDArray[np.int64], positions: NDArray[np.int64], longest: int
    ) -> torch.Tensor:
        """Logits after one more token for each of the first slots.

        Args:
            tokens: the token of every row, idle rows included; its length is a batch size.
            positions: where the token stands in its row.
            longest: the largest position + 1 of all rows.
        """
        at = torch.from_numpy(positions).to(self._device)
        seen = self.fixed_seen or round_up(longest)
        visible = torch.arange(seen, device=self._device) <= at.unsqueeze(-1)
        self._cache.aim_at_decode(len(tokens), at, seen)
        out = self._model(
            input_ids=torch.from_numpy(tokens).to(self._device).unsqueeze(-1),
            attention_mask=self._mask(visible).view(len(tokens), 1, 1, seen),
            position_ids=at.unsqueeze(-1),
            **{self._model_takes: self._cache},
            use_cache=True,
        )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _mask(self, visible: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(~visible, self._hidden)

    def check(self) -> None:
        """Compare prefill and decode with the model's own forward pass on random tokens.

        Raises:
            UnsupportedModelError: they differ, so the model does not work with a slotted cache.
        """
        count = min(90, self._max_length)
        ids = _random_ids(self.vocabulary, count)
        prompt, rest = ids[:-3], ids[-3:]
        try:
            own = self._model(input_ids=torch.tensor([ids], device=self._device), use_cache=False)
            self.prefill([(1, prompt)])
            tokens = np.zeros(self.batch_sizes[0], np.int64)
            positions = np.zeros(self.batch_sizes[0], np.int64)
            ours = []
            for offset, token in enumerate(rest):
                tokens[1], positions[1] = token, len(prompt) + offset
                ours.append(self.decode(tokens, positions, len(prompt) + offset + 1)[1])
        except (TypeError, AttributeError, NotImplementedError, IndexError, RuntimeError) as exc:
            raise UnsupportedModelError(f"a pass with a slotted cache fails ({exc})") from exc
        expected = own.logits[0, -3:].float()
        distance = (torch.stack(ours).float() - expected).abs().max() / expected.std()
        self._store.clear()
        if not distance <= _TOLERANCE.get(self._dtype, 0.5):
            raise UnsupportedModelError(
                f"with a slotted cache its logits are off by {float(distance):.2g} standard"
                " deviations"
            )

    def calibrate(self) -> bool:
        """Measure in which batches a row's bits do not depend on its neighbours; keep only those.

        Returns:
            False when there is no such batch: rows then go one by one.
        """
        full = self.batch_sizes[-1]
        self.reserve(full, min(4 * KV_STEP, self._max_length))
        self._cache.randomise()
        tokens = np.array(_random_ids(self.vocabulary, full), np.int64)
        positions = np.arange(full) * 7 % (min(KV_STEP, self._max_length) - 1) + 1
        if not self._length_is_free(tokens, positions):
            self.fixed_seen = round_up(self._max_length)
            self._cache.reserve(full, self.fixed_seen)
        found = {size: self._bits(tokens[:size], positions[:size]) for size in self.batch_sizes}
        stable = {size: bits for size, bits in found.items() if bits is not None}
        self.batch_sizes = _agreeing(stable) or (1,)
        self._calibrate_prefill()
        self._store.clear()
        return bool(stable)

    def _length_is_free(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> bool:
        """Whether looking at more masked positions leaves every bit as it is."""
        bits = self.decode(tokens, positions, KV_STEP)
        longer = range(2 * KV_STEP, self._cache.length + 1, KV_STEP)
        return all(torch.equal(self.decode(tokens, positions, seen), bits) for seen in longer)

    def _bits(self, tokens: NDArray[np.int64], positions: NDArray[np.int64]) -> torch.Tensor | None:
        """A batch's logits; None when a row's depend on its place or on the other rows."""
        size = len(tokens)
        bits = self.decode(tokens, positions, KV_STEP)
        others = tokens.copy()
        others[1::2] = (others[1::2] + 1) % self.vocabulary
        beside_others = self.decode(others, positions, KV_STEP)
        self._cache.flip(size)
        reversed_bits = self.decode(tokens[::-1].copy(), positions[::-1].copy(), KV_STEP)
        self._cache.flip(size)
        same = torch.equal(beside_others[::2], bits[::2]) and torch.equal(
            reversed_bits.flip(0), bits
        )
        return bits if same else None

    def _calibrate_prefill(self) -> None:
        if self._device.type == "cpu" and self._model.num_parameters() > GROUPED_PARAMETERS:
            self.group_sizes = dict.fromkeys(_PADDED, (1,))
            return
        for padded, sizes in self.group_sizes.items():
            rows = [s for s in sizes if s <= self._cache.slots]
            if padded > self._max_length:
                continue
            prompts = [
                _random_ids(self.vocabulary, padded, seed) for seed in range(max(rows, default=1))
            ]
            alone = []
            for prompt in prompts:
                self._prefill_chunk([0], [prompt], 0, padded)
                alone.append(self._cache.read(0, 0, padded))
            self.group_sizes[padded] = tuple(
                size for size in rows if size == 1 or self._group_agrees(prompts[-size:], alone)
            )

    def _group_agrees(self, prompts: list[list[int]], alone: list[list[LayerState]]) -> bool:
        padded = len(prompts[0])
        self._prefill_chunk([*range(len(prompts))], [*prompts], 0, padded)
        return all(
            torch.equal(ours, theirs)
            for slot, expected in enumerate(alone[-len(prompts) :])
            for pair, wanted in zip(self._cache.read(slot, 0, padded), expected, strict=True)
            for ours, theirs in zip(pair, wanted, strict=True)
        )


def _cache_name(model: Any) -> str:
    """The argument that a model takes its cache by; transformers has renamed it."""
    named = inspect.signature(model.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


def measured_runner(model: Any, *, max_rows: int, max_length: int) -> tuple[ModelRunner, bool]:
    """A runner that was checked and calibrated, and whether rows may share a batch.

    Raises:
        UnsupportedModelError: the model does not work with a slotted cache.
    """
    with torch.inference_mode():
        runner = ModelRunner(model, max_rows=max_rows, max_length=max_length)
        runner.check()
        return runner, runner.calibrate()


def _agreeing(found: dict[int, torch.Tensor]) -> tuple[int, ...]:
    """Batch sizes that give the same bits: the smallest batch's, if enough rows fit into one.

    With those, tokens do not depend on the engine's `max_rows_in_flight` either.
    """
    if not found:
        return ()
    sizes = [*found]
    small = tuple(size for size in sizes if _agree(found[size], found[sizes[0]]))
    large = tuple(size for size in sizes if _agree(found[size], found[sizes[-1]]))
    return small if small[-1] * 2 >= sizes[-1] else large


def _agree(left: torch.Tensor, right: torch.Tensor) -> bool:
    rows = min(len(left), len(right))
    return bool(torch.equal(left[:rows], right[:rows]))


def _batch_sizes(most: int) -> tuple[int, ...]:
    """16, 32, 48, 64, 96, 128, 192, 256, ... up to one that holds so many rows."""
    sizes, size = [BATCH_STEP], BATCH_STEP
    while size < most:
        size += max(BATCH_STEP, 1 << (size.bit_length() - 2))
        sizes.append(size)
    return tuple(sizes)


_PADDED = (16, 32, 64, 128, 256)  # the sizes that `chunks_of` makes


def _powers_up_to(most: int) -> tuple[int, ...]:
    return tuple(1 << power for power in reversed(range(most.bit_length())))


def _random_ids(vocabulary: int, count: int, seed: int = 0) -> list[int]:
    generator = np.random.default_rng(seed)
    return [int(token) for token in generator.integers(0, vocabulary, count)]
