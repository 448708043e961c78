"""Which token comes next, given a row's logits, settings and seed?"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from magpie_steps.engines.sampling import Sampling

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(slots=True)
class DrawSettings:
    """The sampling settings of every row of a batch, one array entry per row."""

    temperature: NDArray[np.float32]
    top_p: NDArray[np.float64]
    top_k: NDArray[np.int64]
    min_p: NDArray[np.float32]
    seed: NDArray[np.uint64]
    step: NDArray[np.uint64]

    @classmethod
    def greedy(cls, rows: int) -> "DrawSettings":
        """Settings of idle rows: the likeliest token, no filter."""
        return cls(
            temperature=np.zeros(rows, np.float32),
            top_p=np.ones(rows, np.float64),
            top_k=np.zeros(rows, np.int64),
            min_p=np.zeros(rows, np.float32),
            seed=np.zeros(rows, np.uint64),
            step=np.zeros(rows, np.uint64),
        )

    def head(self, rows: int) -> "DrawSettings":
        """The settings of the first rows, as views."""
        return DrawSettings(*(getattr(self, field.name)[:rows] for field in fields(self)))

    def take(self, target: int, other: "DrawSettings", source: int) -> None:
        """Copy one row's settings from a row of these or other settings."""
        for field in fields(self):
            getattr(self, field.name)[target] = getattr(other, field.name)[source]


def uniforms(seeds: NDArray[np.uint64], steps: NDArray[np.uint64]) -> NDArray[np.float64]:
    """One number in [0, 1) per row from (seed, step) alone: splitmix64 used as a counter hash."""
    with np.errstate(over="ignore"):
        bits = _mix(_mix(seeds + _GOLDEN) + steps * _GOLDEN) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def constrain(logits: torch.Tensor, sampling: Sampling, *, first: bool) -> None:
    """Apply a sampling's constraints on token ids to one row's logits, in place.

    Args:
        logits: the row's scores over the vocabulary.
        sampling: its `logit_bias`, `allowed_token_ids` and `first_token_not` are obeyed.
        first: whether it is the completion's first token that is drawn.
    """
    if sampling.logit_bias:
        tokens, biases = zip(*sampling.logit_bias, strict=True)
        logits[list(tokens)] += torch.tensor(biases, dtype=logits.dtype, device=logits.device)
    if sampling.allowed_token_ids:
        allowed = list(sampling.allowed_token_ids)
        kept = logits[allowed].clone()
        logits.fill_(-torch.inf)
        logits[allowed] = kept
    if first and sampling.first_token_not:
        logits[list(sampling.first_token_not)] = -torch.inf


def draw(logits: torch.Tensor, settings: DrawSettings) -> NDArray[np.int64]:
    """The next token id of every row; -1 where the logits hold no usable number.

    Every operation works row by row, so a row's token does not depend on the other rows.

    Args:
        logits: one row of scores over the vocabulary per batch row.
        settings: as many rows.
    """
    scores = logits.float()
    best = scores.argmax(-1)
    usable = torch.isfinite(scores.gather(-1, best.unsqueeze(-1))).squeeze(-1)
    sampled = np.flatnonzero(settings.temperature > 0)
    if len(sampled):
        every = len(sampled) == len(settings.temperature)
        picked = scores if every else scores[_to(sampled, scores)]
        chosen = _draw_rows(picked, settings, sampled)
        best = chosen if every else best.index_copy(0, _to(sampled, best), chosen)
    tokens: NDArray[np.int64] = torch.where(usable, best, -1).cpu().numpy()
    return tokens


def _draw_rows(scores: torch.Tensor, settings: DrawSettings, rows: Any) -> torch.Tensor:
    temperature = _to(settings.temperature[rows], scores).unsqueeze(-1)
    # The largest score is taken off first: a low temperature must not overflow.
    shifted = scores - scores.max(-1, keepdim=True).values
    weights = torch.softmax(shifted / temperature, -1)
    min_p = settings.min_p[rows]
    if min_p.any():
        floor = weights.max(-1, keepdim=True).values * _to(min_p, scores).unsqueeze(-1)
        weights = weights.masked_fill(weights < floor, 0.0)
    share = _to(uniforms(settings.seed[rows], settings.step[rows]), scores)
    cut = np.flatnonzero((settings.top_p[rows] < 1) | (settings.top_k[rows] > 0))
    chosen = _invert(weights.double(), share)
    if len(cut):
        where = _to(cut, scores)
        top_p = _to(settings.top_p[rows][cut], scores)
        top_k = _to(settings.top_k[rows][cut], scores)
        narrowed = _draw_sorted(weights[where], share[where], top_p, top_k)
        chosen = chosen.index_copy(0, where, narrowed)
    return chosen


def _draw_sorted(
    weights: torch.Tensor, share: torch.Tensor, top_p: torch.Tensor, top_k: torch.Tensor
) -> torch.Tensor:
    ordered, ids = weights.double().sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[-1], device=ordered.device)
    limit = torch.where(top_k > 0, top_k, ordered.shape[-1]).unsqueeze(-1)
    ordered = ordered.masked_fill(rank >= limit, 0.0)
    before = ordered.cumsum(-1) - ordered
    # A token stays while the likelier ones have not yet reached top_p: the first always stays.
    reached = before >= top_p.unsqueeze(-1) * ordered.sum(-1, keepdim=True)
    reached[:, 0] = False
    place = _invert(ordered.masked_fill(reached & (top_p < 1).unsqueeze(-1), 0.0), share)
    return ids.gather(-1, place.unsqueeze(-1)).squeeze(-1)


def _invert(weights: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The first place at which the running sum of the weights exceeds the share of their sum."""
    running = weights.cumsum(-1)
    total = running[:, -1]
    # Rounding must not reach the sum itself, beyond which there is no token.
    aim = torch.minimum(share * total, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(running, aim.unsqueeze(-1), right=True).squeeze(-1)
    return place.clamp_(max=weights.shape[-1] - 1)


def _to(values: Any, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)
