"""Where do the keys and values of many rows at different positions live?"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from transformers.cache_utils import Cache

KV_STEP = 64
"""Attention looks at a multiple of this many positions. With such lengths the masked positions
beyond a row's end add exact zeros, so a row's result does not depend on the longest row in the
batch (measured on CPU; `runner` measures it again for each model)."""

PREFIX_STORE_BYTES = 256 * 2**20
"""Memory for the keys and values of earlier prompts."""

LayerState = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a prompt whose keys and values are computed in one go.

    Attributes:
        start: its first position.
        stop: the position after its last.
        padded: how many positions are computed for it, >= stop - start.
        key: stands for all tokens up to `stop`.
    """

    start: int
    stop: int
    padded: int
    key: bytes


def chunks_of(token_ids: Sequence[int]) -> Iterator[Chunk]:
    """Cut a prompt at fixed positions: 32, 64, 128, 256, 512, 768, ...

    The cut depends on nothing but the position, so two prompts with a common beginning share its
    chunks, and a chunk's values are the same whether or not its beginning was computed before.
    """
    start, key = 0, b""
    while start < len(token_ids):
        stop = min(start + min(max(start, 32), 256), len(token_ids))
        tokens = b",".join(b"%d" % token for token in token_ids[start:stop])
        key = blake2b(key + tokens, digest_size=16).digest()
        yield Chunk(start, stop, max(16, 1 << (stop - start - 1).bit_length()), key)
        start = stop


def round_up(length: int, step: int = KV_STEP) -> int:
    """The next multiple of `step` that holds `length`."""
    return -(-length // step) * step


class PrefixStore:
    """Keys and values of recent chunks, the least recently used dropped first."""

    def __init__(self, max_bytes: int = PREFIX_STORE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._chunks: OrderedDict[bytes, list[LayerState]] = OrderedDict()

    def get(self, key: bytes) -> list[LayerState] | None:
        """The layers' keys and values of a chunk, if they are still there."""
        found = self._chunks.get(key)
        if found is not None:
            self._chunks.move_to_end(key)
        return found

    def put(self, key: bytes, states: list[LayerState]) -> None:
        """Keep a chunk; it must not be there yet."""
        self._chunks[key] = states
        self._bytes += _size_of(states)
        while self._bytes > self._max_bytes and len(self._chunks) > 1:
            self._bytes -= _size_of(self._chunks.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self._bytes = 0


def _size_of(states: list[LayerState]) -> int:
    return sum(k.numel() * k.element_size() + v.numel() * v.element_size() for k, v in states)


class SlotCache(Cache):  # type: ignore[misc, unused-ignore]
    """A transformers cache in which every row has a slot and a position of its own.

    Before each forward pass say where its keys and values go: `aim_at_decode` (the first `rows`
    slots, one new position each) or `aim_at_prefill` (some slots, the same stretch of positions).
    """

    def __init__(self, slots: int, length: int) -> None:
        """Make an empty cache; tensors are made when the first layer's shape is seen."""
        super().__init__(layers=[])
        self.slots = slots
        self.length = round_up(length)
        self._states: list[LayerState] = []
        self._rows: Any = None
        self._at: Any = None
        self._seen = 0

    def aim_at_decode(self, rows: int, positions: torch.Tensor, seen: int) -> None:
        """One token per slot, for the first slots: `positions` says where, `seen` how far back."""
        self._rows, self._at, self._seen = slice(rows), positions, seen
        self._each = torch.arange(rows, device=positions.device)

    def aim_at_prefill(self, slots: Sequence[int], start: int, count: int, seen: int) -> None:
        """The stretch of `count` positions from `start` on, for each of the slots."""
        one = len(slots) == 1
        self._rows = slice(slots[0], slots[0] + 1) if one else torch.tensor(slots)
        self._at, self._seen = slice(start, start + count), seen

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> LayerState:
        """Store a layer's new keys and values; return all that the rows may look at."""
        while len(self._states) <= layer_idx:
            self._states.append((self._make(key_states), self._make(value_states)))
        keys, values = self._states[layer_idx]
        rows, at, seen = self._rows, self._at, self._seen
        if isinstance(at, slice):
            keys[rows, :, at] = key_states
            values[rows, :, at] = value_states
        else:
            keys[self._each, :, at] = key_states[:, :, 0]
            values[self._each, :, at] = value_states[:, :, 0]
        return keys[rows, :, :seen], values[rows, :, :seen]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Zero: positions are given with every pass, never counted here."""
        return 0

    def read(self, slot: int, start: int, stop: int) -> list[LayerState]:
        """Copies of a slot's keys and values at a stretch of positions, layer by layer."""
        return [
            (keys[slot, :, start:stop].clone(), values[slot, :, start:stop].clone())
            for keys, values in self._states
        ]

    def write(self, slot: int, start: int, states: list[LayerState]) -> None:
        """Put copied keys and values into a slot."""
        for (keys, values), (new_keys, new_values) in zip(self._states, states, strict=True):
            stop = start + new_keys.shape[1]
            keys[slot, :, start:stop] = new_keys
            values[slot, :, start:stop] = new_values

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a slot's first positions to another slot."""
        for keys, values in self._states:
            keys[target, :, :length] = keys[source, :, :length]
            values[target, :, :length] = values[source, :, :length]

    def reserve(self, slots: int, length: int) -> None:
        """Make room for more slots or longer rows; what is stored stays."""
        if slots <= self.slots and length <= self.length:
            return
        old_slots, old_length = self.slots, self.length
        self.slots, self.length = max(slots, old_slots), max(round_up(length), old_length)
        for layer, (keys, values) in enumerate(self._states):
            grown = (self._make(keys), self._make(values))
            for new, old in zip(grown, (keys, values), strict=True):
                new[:old_slots, :, :old_length] = old
            self._states[layer] = grown

    def randomise(self) -> None:
        """Fill every slot with noise, for measuring."""
        generator = torch.Generator().manual_seed(0)
        for pair in self._states:
            for state in pair:
                noise = torch.randn(state.shape[1:], generator=generator).to(state)
                for slot in range(self.slots):
                    state[slot] = noise * (1 + slot / self.slots)

    def flip(self, rows: int) -> None:
        """Put the first rows in reversed order, for measuring."""
        for pair in self._states:
            for state in pair:
                state[:rows] = state[:rows].flip(0)

    def _make(self, like: torch.Tensor) -> torch.Tensor:
        heads, size = like.shape[1], like.shape[-1]
        # Zeros, not empty memory: a masked position's value is multiplied by zero, and 0 * NaN is
        # NaN.
        return torch.zeros(
            (self.slots, heads, self.length, size), dtype=like.dtype, device=like.device
        )
