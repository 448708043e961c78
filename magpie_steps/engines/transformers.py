"""An engine on a transformers model in this process, on CPU or GPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distilabel.errors import DistilabelUserError
from pydantic import Field, PrivateAttr

from magpie_steps.engines.base import Completion, Sampling
from magpie_steps.engines.model_files import content_hash, find_model
from magpie_steps.engines.pretrained import choose_device, load_weights, position_limit
from magpie_steps.engines.tokenized import TokenizerEngine

if TYPE_CHECKING:
    from magpie_steps.engines.decode_loop import DecodeLoop

ALGORITHM = 1
"""Counted up whenever the same weights, prompt and sampling would give other tokens than before."""

MOST_THREADS = 8  # more cores bring little to one small batch


class TransformersEngine(TokenizerEngine):
    """Continue prompts with a causal language model of the transformers library.

    Many rows are decoded together and each leaves as it ends, so there is no batch to wait for. A
    row's tokens depend on the weights, its prompt and its sampling with the seed, never on the rows
    beside it, their order or a restart: batches have shapes in which that was measured when the
    model was loaded. Repeated prompts, and prompts that begin alike, share what was computed for
    their beginning.

    Works with models whose layers all attend to the whole context (Llama, Qwen2/3, Mistral, ...);
    others are refused by `load()`. Nothing is fetched when `model` is a folder.

    Attributes:
        model: a folder with config.json, weights and tokenizer, or a hub id.
        revision: branch, tag or commit on the hub; None is the default branch.
        dtype: the weights' type in memory: "float32", "bfloat16", "float16", or "auto" for the one
            that they are stored in.
        device: "cpu", "cuda", "cuda:1" ..., or "auto": the first GPU when there is one.
        max_rows_in_flight: most rows decoded together, >= 1.
        max_context_tokens: most tokens of prompt and completion together; None is what the model
            allows.
        trust_remote_code: run Python code that comes with the model.
        chat_template: a Jinja chat template to use instead of the tokenizer's; None uses that.
        chat_template_kwargs: variables of the chat template, such as {"enable_thinking": False}.
        response_template_kwargs: variables for the prompts of responses alone, over
            chat_template_kwargs.
        system_policy: what becomes of system prompts that the chat template has no turn of its own
            for: "error", "ignore", "merge" or "prepend", as in `PreQueryTemplate.pre_query_text`.
        add_bos: whether prompts begin with the BOS token: as the chat template has it ("template"),
            "always" or "never".
        threads: CPU threads for one step of the model; None is half of the cores, at most 8, so
            that two engines fit on one machine.

    Icon:
        `:hugging:`

    Examples:
        Continue a prompt of token ids

        ```python
        import asyncio

        from magpie_steps.embedded import model_path
        from magpie_steps.engines.base import Sampling
        from magpie_steps.engines.transformers import TransformersEngine

        engine = TransformersEngine(model=str(model_path("tiny-instruct")))
        engine.load()
        prompt = engine.template.pre_query_ids().ids
        sampling = Sampling(stop_token_ids=engine.template.stop_token_ids, seed=1)
        print(asyncio.run(engine.complete(prompt, sampling)).text)
        engine.unload()
        ```
    """

    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    device: str = "auto"
    max_rows_in_flight: int = Field(default=64, ge=1)
    max_context_tokens: int | None = Field(default=None, ge=2)
    threads: int | None = Field(default=None, ge=1)

    _folder: Path | None = PrivateAttr(default=None)
    _fingerprint: str = PrivateAttr(default="")
    _loop: Any = PrivateAttr(default=None)
    _length: int = PrivateAttr(default=0)
    _vocabulary: int = PrivateAttr(default=0)
    _threads_before: int | None = PrivateAttr(default=None)

    @property
    def fingerprint(self) -> str:
        """Model name, hash of its files, dtype and algorithm; known after `load()`."""
        return str(self._loaded(self._fingerprint))

    @property
    def max_model_len(self) -> int:
        """Most tokens that prompt and completion may have together; known after `load()`."""
        return int(self._loaded(self._length))

    @property
    def capacity(self) -> int:
        """Rows decoded together: as many as asked for, if they do not change each other's bits."""
        return int(self._loop.max_rows if self._loop else self.max_rows_in_flight)

    @property
    def obeys(self) -> frozenset[str]:
        """Constraints on token ids; neither `bad_words` nor a `structure`."""
        return frozenset({"logit_bias", "allowed_token_ids", "first_token_not"})

    def load(self) -> None:
        """Load model and tokenizer, and measure in which batches rows do not touch each other.

        Raises:
            DistilabelUserError: the model is not there, is incomplete or of a kind that does not
                work.
        """
        super().load()
        self._stop()
        try:
            self._load()
        except BaseException:
            self.unload()
            raise

    def _load(self) -> None:
        self._folder = find_model(self.model, self.revision, self.trust_remote_code)
        model = self._load_model(self._folder)
        self._read_tokenizer(self._folder, getattr(model, "generation_config", None))
        self.stats.gpus = int(model.device.type != "cpu")
        self._length = self._allowed_length(model.config.get_text_config())
        digest = content_hash(self._folder)
        self._fingerprint = (
            f"transformers-{ALGORITHM}/{self.model_name}@{digest}/{str(model.dtype).split('.')[-1]}"
        )
        self._limit_threads()
        self._loop = self._start(model)
        self.stats.capacity = self.capacity

    def unload(self) -> None:
        """Stop the decoding thread and let go of the model; never raises."""
        self._stop()
        if self._threads_before is not None:
            import torch

            torch.set_num_threads(self._threads_before)
            self._threads_before = None
        super().unload()

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        loop: DecodeLoop = self._loaded(self._loop)
        self._check_ids("the prompt", prompt_ids)
        if sampling.constraints:
            named = (*sampling.allowed_token_ids, *sampling.first_token_not)
            self._check_ids("the sampling", (*named, *(token for token, _ in sampling.logit_bias)))
        return await loop.submit(prompt_ids, sampling)

    def _check_ids(self, where: str, ids: Sequence[int]) -> None:
        if not 0 <= min(ids) <= max(ids) < self._vocabulary:
            wrong = next(i for i in ids if not 0 <= i < self._vocabulary)
            raise ValueError(
                f"{where} holds the token id {wrong}, but the vocabulary of {self.model_name}"
                f" has {self._vocabulary} tokens; were the ids made by another model's tokenizer?"
            )

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()

    def _load_model(self, folder: Path) -> Any:
        from transformers import AutoModelForCausalLM

        model = load_weights(
            AutoModelForCausalLM,
            folder,
            model=self.model,
            kind="causal language model",
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
        )
        return model.to(choose_device(self.device))

    def _allowed_length(self, config: Any) -> int:
        _require_full_attention(self.model, config)
        most = _longest_context(config)
        if self.max_context_tokens is None:
            return most
        if self.max_context_tokens > most:
            raise DistilabelUserError(
                f"max_context_tokens is {self.max_context_tokens}, but {self.model!r} attends to at"
                f" most {most} tokens here; give at most {most}"
            )
        return self.max_context_tokens

    def _limit_threads(self) -> None:
        import os

        import torch

        wanted = self.threads or min(max((os.cpu_count() or 1) // 2, 1), MOST_THREADS)
        before = torch.get_num_threads()
        if before > wanted or self.threads:
            self._threads_before = before
            torch.set_num_threads(wanted)

    def _start(self, model: Any) -> "DecodeLoop":
        from magpie_steps.engines.decode_loop import DecodeLoop
        from magpie_steps.engines.runner import UnsupportedModelError, measured_runner

        try:
            runner, independent = measured_runner(
                model, max_rows=self.max_rows_in_flight, max_length=self._length
            )
        except UnsupportedModelError as exc:
            raise DistilabelUserError(
                f"{self.model!r} ({type(model).__name__}) does not work with this engine: {exc};"
                " use an engine that serves it through vLLM, or another model"
            ) from exc
        if not independent:
            self._logger.warning(
                f"{self.model_name} gives a row other bits beside other rows on this machine, so"
                " rows are decoded one by one to keep them reproducible"
            )
        self._vocabulary = runner.vocabulary
        loop = DecodeLoop(
            runner,
            max_rows=min(self.max_rows_in_flight, runner.batch_sizes[-1]),
            end_ids=_end_ids(model, self._tokenizer),
            decode=self._decode,
        )
        loop.start()
        return loop


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text for the model, as generation config, config and tokenizer say."""
    found: set[int] = set()
    for source in (model.generation_config, model.config.get_text_config(), tokenizer):
        ids = getattr(source, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or ())
    return frozenset(found)


def _require_full_attention(model: str, config: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    stateful = [name for name in ("ssm_cfg", "state_size", "conv_kernel") if hasattr(config, name)]
    if kinds or stateful or getattr(config, "is_encoder_decoder", False):
        recurrent = "recurrent layers" if stateful else "an encoder"
        what = f"layers of the kind {', '.join(sorted(kinds))}" if kinds else recurrent
        raise DistilabelUserError(
            f"the model {model!r} (type {config.model_type}) has {what}; this engine works with"
            " models whose layers all attend to the whole context, such as Llama, Qwen2/3, Mistral"
        )


def _longest_context(config: Any) -> int:
    """Up to this length every layer sees all tokens, and positions do not depend on the length."""
    limits = [position_limit(config)]
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    # Within its window a sliding layer is a full one.
    if window and ("sliding_attention" in kinds if kinds else _slides(config)):
        limits.append(int(window))
    return min(limits)


def _slides(config: Any) -> bool:
    return bool(getattr(config, "use_sliding_window", True))
