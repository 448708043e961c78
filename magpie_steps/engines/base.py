"""What can every engine do, whatever it runs on?"""

import asyncio
import threading
from abc import ABC, abstractmethod
from array import array
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

from distilabel.models.llms.base import LLM
from distilabel.typing import GenerateOutput
from pydantic import PrivateAttr, validate_call

from magpie_steps.engines.journal import Journal

if TYPE_CHECKING:
    from magpie_steps.templates import PreQueryTemplate

T = TypeVar("T")

MAX_SEED = 2**63 - 1

_RUN_ID = uuid4().hex  # one per process; engines carry it to the processes of their steps


class PromptTooLongError(ValueError):
    """The prompt leaves no room for a single new token in the model's context."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn, and where it ends.

    Attributes:
        max_new_tokens: most tokens to generate, >= 1.
        temperature: 0 is greedy (the likeliest token each time); 1 draws from the model's own
            distribution; above 1 flattens it.
        top_p: keep the likeliest tokens that together reach this probability, in (0, 1]; 1 is off.
        top_k: keep the k likeliest tokens; 0 is off.
        min_p: keep tokens at least this fraction as likely as the likeliest, in [0, 1]; 0 is off.
        stop_token_ids: token ids that end the completion, besides the model's own end tokens.
        stop_strings: texts that end the completion as soon as they appear in it.
        seed: what the draws depend on, in [0, 2**63 - 1]; without effect when greedy.

    Raises:
        ValueError: a value is out of its range.
    """

    max_new_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value against its range."""
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        object.__setattr__(self, "stop_strings", tuple(self.stop_strings))
        _require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, ">= 1")
        _require(0 <= self.temperature < float("inf"), "temperature", self.temperature, ">= 0")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]; 1 is off")
        _require(self.top_k >= 0, "top_k", self.top_k, ">= 0; 0 is off")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "in [0, 1]; 0 is off")
        _require(0 <= self.seed <= MAX_SEED, "seed", self.seed, "in [0, 2**63 - 1]")
        _require("" not in self.stop_strings, "stop_strings", self.stop_strings, "non-empty texts")


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"Sampling.{name} is {value!r}; it must be {allowed}")


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after a prompt.

    Attributes:
        text: the new tokens decoded with special tokens kept, without the stop that ended it.
        token_ids: every generated id, a stop token included.
        finish_reason: "stop" (a stop token or string came) or "length" (max_new_tokens ran out).
        stop_reason: the token id or the string that ended it; None when finish_reason is "length".
        prompt_tokens: length of the prompt.
        completion_tokens: length of `token_ids`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    stop_reason: int | str | None
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class EngineStats:
    """Counters of one engine object since its `load()`.

    Attributes:
        generated: completions that the engine computed.
        replayed: completions that came from the journal, or from an equal request in flight.
        failed: requests that ended in an error.
        prompt_tokens: prompt tokens of the generated completions.
        completion_tokens: new tokens of the generated completions.
    """

    generated: int = 0
    replayed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(slots=True)
class _Books:
    """What an engine keeps about its completions.

    One plain object, since every look at a private attribute of a pydantic model costs a
    microsecond and a completion needs a dozen.
    """

    journal_path: Path | None = None
    run_id: str = ""
    journal: Journal | None = None
    stats: EngineStats = field(default_factory=EngineStats)
    in_flight: "dict[bytes, asyncio.Future[Completion]]" = field(default_factory=dict)

    def open_journal(self) -> Journal | None:
        if self.journal is None and self.journal_path is not None:
            self.journal = Journal(self.journal_path, run_id=self.run_id)
        return self.journal

    def close_journal(self) -> None:
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.close()


class Engine(LLM, ABC):
    """A distilabel `LLM` that can also continue a raw prompt of token ids.

    Subclasses write `load`, `unload`, `model_name`, `fingerprint`, `template`, `max_model_len`,
    `encode` and `_complete`. Fields are configuration; whatever is heavy is made in `load()`, so
    that an engine can be pickled before.
    """

    _books: _Books = PrivateAttr(default_factory=_Books)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What decides a completion besides prompt and sampling; part of the journal's key."""

    @property
    @abstractmethod
    def template(self) -> "PreQueryTemplate":
        """The model's pre-query template; known after `load()`."""

    @property
    @abstractmethod
    def max_model_len(self) -> int:
        """Most tokens that prompt and completion may have together."""

    @property
    def special_tokens(self) -> frozenset[str]:
        """Control tokens as texts, which no answer may hold; known after `load()`.

        Engines whose models may lack a chat template say it without one.
        """
        return self.template.control_tokens

    @abstractmethod
    def encode(self, text: str) -> tuple[int, ...]:
        """A plain text as prompt ids, for a model to continue; needs no chat template.

        BOS comes first if the tokenizer puts one there. A control token that is written in the text
        is encoded as ordinary text.
        """

    @abstractmethod
    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Generate one completion; `sampling.max_new_tokens` fits the context."""

    @property
    def stats(self) -> EngineStats:
        """Counters since `load()`."""
        return self._books.stats

    def load(self) -> None:
        """Make the engine ready; subclasses call this before their own work."""
        super().load()
        books = self._books
        books.stats, books.in_flight = EngineStats(), {}
        books.open_journal()

    def unload(self) -> None:
        """Release everything; never raises. Subclasses call this after their own work."""
        self._books.close_journal()

    def use_journal(self, path: Path | str | None, run_id: str | None = None) -> None:
        """Keep every finished completion in the journal at `path` and replay it from there.

        Args:
            path: the SQLite file, made when missing; None stops using a journal.
            run_id: which run the completions belong to; by default one id per process that calls
                this.
        """
        books = self._books
        books.close_journal()
        books.journal_path = None if path is None else Path(path)
        books.run_id = run_id or _RUN_ID

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt.

        Args:
            prompt_ids: the prompt as token ids, BOS included; at least one.
            sampling: how to draw; `max_new_tokens` is cut to what the context leaves.

        Returns:
            The completion: generated, or replayed from the journal.

        Raises:
            PromptTooLongError: the prompt alone fills the context.
            ValueError: the prompt is empty.
        """
        sampling = self._fit(prompt_ids, sampling)
        books = self._books
        journal = books.open_journal()
        if journal is None:
            return await self._generate_one(books.stats, prompt_ids, sampling)
        key = completion_key(self.fingerprint, prompt_ids, sampling)
        while True:
            other = books.in_flight.get(key)
            if other is None or other.get_loop() is not asyncio.get_running_loop():
                break
            shared = await _result_of(other)
            if shared is not None:
                books.stats.replayed += 1
                return shared
        found = journal.lookup(key)
        if found is not None:
            books.stats.replayed += 1
            return Completion(*found)
        mine: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        books.in_flight[key] = mine
        try:
            completion = await self._generate_one(books.stats, prompt_ids, sampling)
            journal.record(key, _as_record(completion))
            mine.set_result(completion)
            return completion
        finally:
            mine.cancel()  # without effect after set_result; others then try for themselves
            if books.in_flight.get(key) is mine:
                del books.in_flight[key]

    async def complete_all(
        self, prompt_ids: Sequence[int], samplings: Sequence[Sampling]
    ) -> list[Completion]:
        """Continue one prompt several times at once, so that an engine computes it once.

        Args:
            prompt_ids: the prompt, as for `complete`.
            samplings: how to draw each completion.

        Returns:
            The completions, in the order of `samplings`.

        Raises:
            Exception: the first of the errors. The other completions are waited for before it is
                raised, so that what was computed is in the journal, and no call goes on unseen.
        """
        outcomes = await asyncio.gather(
            *(self.complete(prompt_ids, sampling) for sampling in samplings),
            return_exceptions=True,
        )
        done: list[Completion] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            done.append(outcome)
        return done

    async def _generate_one(
        self, stats: EngineStats, prompt_ids: Sequence[int], sampling: Sampling
    ) -> Completion:
        try:
            completion = await self._complete(prompt_ids, sampling)
        except Exception:
            stats.failed += 1
            raise
        stats.generated += 1
        stats.prompt_tokens += completion.prompt_tokens
        stats.completion_tokens += completion.completion_tokens
        return completion

    def _fit(self, prompt_ids: Sequence[int], sampling: Sampling) -> Sampling:
        room = self.max_model_len - len(prompt_ids)
        if not prompt_ids:
            raise ValueError("the prompt is empty; an engine needs at least one token to continue")
        if room < 1:
            raise PromptTooLongError(
                f"the prompt has {len(prompt_ids)} tokens and the context of {self.model_name}"
                f" holds {self.max_model_len}, which leaves no room for an answer; shorten the"
                " conversation or use a model with a longer context"
            )
        return (
            sampling if sampling.max_new_tokens <= room else replace(sampling, max_new_tokens=room)
        )

    @validate_call
    def generate(
        self,
        inputs: list[Any],
        num_generations: int = 1,
        max_new_tokens: int = 512,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        stop: list[str] | None = None,
        seed: int = 0,
    ) -> list[GenerateOutput]:
        """Answer conversations, as distilabel's own tasks ask for it.

        Args:
            inputs: one conversation each: messages with `role` and `content` that end with a user
                turn, or a text, which counts as one user turn.
            num_generations: answers per input; answer i is drawn with `seed + i`.
            max_new_tokens: most tokens per answer.
            temperature: 0 is greedy.
            top_p: keep the likeliest tokens that together reach this probability; 1 is off.
            top_k: keep the k likeliest tokens; 0 is off.
            min_p: keep tokens at least this fraction as likely as the likeliest; 0 is off.
            stop: texts that end an answer besides the template's own stops.
            seed: what the draws depend on; the same for every input, so that an answer does not
                depend on the input's place in the batch.

        Returns:
            Per input the answers and, as lists of the same length, their token counts.
        """
        template = self.template
        sampling = Sampling(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            stop_token_ids=tuple(template.assistant_stop_token_ids),
            stop_strings=(*template.assistant_stop_strings, *(stop or ())),
        )
        prompts = [template.response_prompt_ids(_as_messages(each)) for each in inputs]
        samplings = [replace(sampling, seed=seed + i) for i in range(num_generations)]
        answers = _run(self._answer_all(prompts, samplings))
        return [_as_output(each) for each in answers]

    async def _answer_all(
        self, prompts: list[tuple[int, ...]], samplings: list[Sampling]
    ) -> list[list[Completion]]:
        return await asyncio.gather(*(self.complete_all(prompt, samplings) for prompt in prompts))


def completion_key(fingerprint: str, prompt_ids: Sequence[int], sampling: Sampling) -> bytes:
    """The journal's key: 32 bytes that stand for everything a completion depends on."""
    s = sampling
    drawn = (s.temperature + 0.0, s.top_p + 0.0, s.top_k, s.min_p + 0.0, s.seed)
    if s.temperature == 0:
        drawn = (0.0, 1.0, 0, 0.0, 0)  # nothing is drawn: the other settings have no effect
    how = f"{fingerprint}\0{s.max_new_tokens}\0{drawn}\0{s.stop_token_ids}\0{s.stop_strings}\0"
    return sha256(how.encode() + array("q", prompt_ids).tobytes()).digest()


def _as_record(c: Completion) -> tuple[str, tuple[int, ...], str, int | str | None, int, int]:
    return (
        c.text,
        c.token_ids,
        c.finish_reason,
        c.stop_reason,
        c.prompt_tokens,
        c.completion_tokens,
    )


async def _result_of(other: "asyncio.Future[Completion]") -> Completion | None:
    """Wait for another request's result; None when that request failed or was cancelled."""
    await asyncio.wait([other])
    if other.cancelled() or other.exception() is not None:
        return None
    return other.result()


def _as_messages(given: Any) -> list[dict[str, str]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if isinstance(given, list) and given:
        return given
    raise ValueError(
        f"an input is {given!r}; it must be a text or a list of messages that ends with a user turn"
    )


def _as_output(completions: list[Completion]) -> GenerateOutput:
    return {
        "generations": [c.text for c in completions],
        "statistics": {
            "input_tokens": [c.prompt_tokens for c in completions],
            "output_tokens": [c.completion_tokens for c in completions],
        },
    }


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop is running already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    box: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            box.append(asyncio.run(work))
        except BaseException as exc:  # noqa: BLE001 - raised again below
            errors.append(exc)

    thread = threading.Thread(target=run, name="magpie-steps-generate")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return box[0]
