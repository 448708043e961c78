"""Where do the instructions of datasets lie on one map of what they are about?

As in the paper's Figure 2: t-SNE of the instructions' embeddings, all datasets' together, so that
near points are about like things whatever dataset they are from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE = 2000
"""Most instructions of a dataset on the map, chosen at random; t-SNE takes longer for more."""

PERPLEXITY = 30.0
"""About how many neighbours a point has, scikit-learn's default; fewer on a map of few points."""

ITERATIONS = 500
"""Half of scikit-learn's default: of 4,000 points the map is hardly better after twice the time."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A dataset's instructions on the map.

    Attributes:
        name: The dataset's name.
        xs: Their places from left to right; they have no unit.
        ys: Their places from bottom to top.
    """

    name: str
    xs: list[float]
    ys: list[float]


def coverage(datasets: Mapping[str, Sequence[str]], seed: int = 0) -> list[Cloud]:
    """Return where datasets' instructions lie, in the datasets' order.

    Args:
        datasets: Instructions by their dataset's name; blank ones are left out, and of more than
            `SAMPLE` a random sample is taken.
        seed: Chooses the sample and the map.
    """
    samples = {name: _sampled(texts, seed) for name, texts in datasets.items()}
    vectors = _embedded([text for texts in samples.values() for text in texts])
    ends = np.cumsum([len(texts) for texts in samples.values()], dtype=int)[:-1]
    parts = np.split(_on_a_plane(vectors, seed), ends)
    return [
        Cloud(name, part[:, 0].tolist(), part[:, 1].tolist())
        for name, part in zip(samples, parts, strict=False)
    ]


def _sampled(texts: Sequence[str], seed: int) -> list[str]:
    said = [text for text in texts if text.strip()]
    if len(said) <= SAMPLE:
        return said
    chosen = np.random.default_rng(seed).choice(len(said), SAMPLE, replace=False)
    return [said[place] for place in sorted(chosen)]


def _embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    if not texts:
        return np.empty((0, 2), np.float32)
    from magpie_steps.engines.embedder import Embedder

    embedder = Embedder()
    embedder.load()
    try:
        return embedder.embed(texts)
    finally:
        embedder.unload()


def _on_a_plane(vectors: NDArray[np.float32], seed: int) -> NDArray[Any]:
    """Return each vector's place on the map, (n, 2)."""
    different = len(np.unique(vectors, axis=0))
    if different < 3:
        # Two places are a line, and one a point, without any t-SNE.
        far = np.linalg.norm(vectors - vectors[:1], axis=1)
        return np.stack([far, np.zeros(len(vectors))], axis=1)
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (different - 1) / 3)
    tsne = TSNE(perplexity=perplexity, max_iter=ITERATIONS, init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(vectors))
