"""What can every engine do, whatever it runs on?"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from distilabel.models.llms.base import LLM
from distilabel.typing import GenerateOutput
from pydantic import PrivateAttr, validate_call

from magpie_steps.dataflow import draining
from magpie_steps.engines.journal import CompletionLog, JournalError, open_journal
from magpie_steps.engines.sampling import (
    Completion,
    Sampling,
    Structure,
    UnsupportedSamplingError,
    completion_key,
)
from magpie_steps.engines.stats import EngineStats
from magpie_steps.engines.tracebacks import hide_variables

if TYPE_CHECKING:
    from magpie_steps.conversation import Message
    from magpie_steps.engines.conversation_encoder import Encoded
    from magpie_steps.templates import PreQueryTemplate

__all__ = [
    "Completion",
    "Engine",
    "EngineLostError",
    "EngineStats",
    "PromptTooLongError",
    "Sampling",
    "Structure",
    "UnsupportedSamplingError",
    "all_of",
]

T = TypeVar("T")

hide_variables()

_RUN_ID = uuid4().hex  # one per process; engines carry it to the processes of their steps


class PromptTooLongError(ValueError):
    """The prompt leaves no room for a single new token in the model's context."""


class EngineLostError(RuntimeError):
    """The engine or its journal is gone: neither this request nor any later one can be answered.

    Unlike other errors it is no row's own, so a step must not go on with the next row.
    """


@dataclass(slots=True)
class _Books:
    """What an engine keeps about its completions.

    One plain object, since every look at a private attribute of a pydantic model costs a
    microsecond and a completion needs a dozen.
    """

    journal_path: Path | None = None
    run_id: str = ""
    journal: CompletionLog | None = None
    stats: EngineStats = field(default_factory=EngineStats)
    in_flight: "dict[bytes, asyncio.Future[Completion]]" = field(default_factory=dict)

    def open_journal(self) -> CompletionLog | None:
        if self.journal is None and self.journal_path is not None:
            self.journal = open_journal(self.journal_path, self.run_id)
        return self.journal

    def close(self, model: str) -> None:
        journal, self.journal = self.journal, None
        if journal is not None:
            if self.stats.seconds or self.stats.replayed:
                journal.report(model, self.stats.as_dict())
            try:
                journal.flush()
            except JournalError as error:
                raise EngineLostError(str(error)) from error
            finally:
                journal.close()


async def all_of(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Make calls at once; returns what they return, in their order.

    Raises:
        Exception: the first of the errors. The other calls are waited for before it is raised, so
            that what was computed is in the journal, and no call goes on unseen.
    """
    done: list[T] = []
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        done.append(outcome)
    return done


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
    def capacity(self) -> int:
        """Requests that the engine works on at once; steps keep a few more than these in flight."""
        return 256

    @property
    def gpus(self) -> int:
        """GPUs that the engine holds, as far as it knows."""
        return 0

    @property
    def obeys(self) -> frozenset[str]:
        """The constraints of a `Sampling` that the engine obeys, see `CONSTRAINTS`; after `load()`.

        A request with another one is refused.
        """
        return frozenset()

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

    def encode_conversation(self, messages: "Sequence[Message]") -> "Encoded":
        """A whole conversation as prompt ids, for a model that judges it; after `load()`.

        Only the model's chat template is needed: guard models have one with no place for a user's
        free text.

        Returns:
            Ids and text, or the reason why there are none: `bad_messages`, `control_tokens`
            (a text holds one) or `too_long`.
        """
        raise UnsupportedSamplingError(
            f"{type(self).__name__} has no chat template to put a conversation into; use an engine"
            " that has the model's tokenizer"
        )

    def tokens_matching(self, pattern: str) -> tuple[int, ...]:
        """The ids of the tokens whose whole text matches a regular expression; after `load()`."""
        raise UnsupportedSamplingError(
            f"{type(self).__name__} knows no vocabulary to look for {pattern!r} in; use an engine"
            " that has the model's tokenizer"
        )

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
        books.stats = EngineStats(capacity=self.capacity, gpus=self.gpus)
        books.in_flight = {}
        books.open_journal()

    def unload(self) -> None:
        """Release everything; subclasses call this after their own work.

        Raises:
            EngineLostError: the journal cannot be written, so the last completions are lost.
        """
        self._books.close(self.model_name)

    def use_journal(self, path: Path | str | None, run_id: str | None = None) -> None:
        """Keep every finished completion in the journal at `path` and replay it from there.

        Args:
            path: the SQLite file, made when missing; None stops using a journal.
            run_id: which run the completions belong to; by default one id per process that calls
                this.
        """
        books = self._books
        books.close(self.model_name)
        books.journal_path = None if path is None else Path(path)
        books.run_id = run_id or _RUN_ID

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that asks this engine, on the event loop that suits it best."""
        return asyncio.run(work)

    async def complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue a prompt.

        Args:
            prompt_ids: the prompt as token ids, BOS included; at least one.
            sampling: how to draw; `max_new_tokens` is cut to what the context leaves.

        Returns:
            The completion: generated, or replayed from the journal.

        Raises:
            PromptTooLongError: the prompt alone fills the context.
            UnsupportedSamplingError: the engine cannot obey a constraint.
            EngineLostError: the engine is gone for good.
            ValueError: the prompt is empty.
        """
        sampling = self._fit(prompt_ids, sampling)
        if sampling.constraints:
            self.require(sampling.constraints)
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
        found = _found(journal, key)
        if found is not None:
            books.stats.replayed += 1
            return Completion(*found)
        mine: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        books.in_flight[key] = mine
        try:
            completion = await self._generate_one(books.stats, prompt_ids, sampling)
            _keep(journal, key, completion)
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
        return await all_of(*(self.complete(prompt_ids, sampling) for sampling in samplings))

    async def _generate_one(
        self, stats: EngineStats, prompt_ids: Sequence[int], sampling: Sampling
    ) -> Completion:
        if draining():
            raise asyncio.CancelledError("this process has been told to end")
        stats.enter()
        try:
            completion = await self._complete(prompt_ids, sampling)
        except Exception:
            stats.failed += 1
            raise
        finally:
            stats.leave()
        stats.generated += 1
        stats.prompt_tokens += completion.prompt_tokens
        stats.cached_tokens += completion.cached_tokens
        stats.completion_tokens += completion.completion_tokens
        return completion

    def require(self, constraints: Sequence[str]) -> None:
        """Refuse constraints that the engine does not obey; after `load()`.

        Raises:
            UnsupportedSamplingError: it cannot obey one of them.
        """
        unknown = [name for name in constraints if name not in self.obeys]
        if unknown:
            raise UnsupportedSamplingError(
                f"{type(self).__name__} with {self.model_name} cannot obey {', '.join(unknown)};"
                f" it obeys {', '.join(sorted(self.obeys)) or 'no constraint'}. Leave that out, or"
                " use VLLMEngine, which obeys all"
            )

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
            Per input the answers, without thoughts, and as lists of the same length their token
            counts. An answer whose thought does not end is empty.
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
        answers = run_to_end(self._answer_all(prompts, samplings))
        return [_as_output(each, template) for each in answers]

    async def _answer_all(
        self, prompts: list[tuple[int, ...]], samplings: list[Sampling]
    ) -> list[list[Completion]]:
        return await asyncio.gather(*(self.complete_all(prompt, samplings) for prompt in prompts))


def _found(journal: CompletionLog, key: bytes) -> Any:
    """Return the record of a key, None if there is none; a journal that fails ends the engine."""
    try:
        return journal.lookup(key)
    except JournalError as error:
        raise EngineLostError(str(error)) from error


def _keep(journal: CompletionLog, key: bytes, completion: Completion) -> None:
    """Record a completion; if that fails, the next ones would be lost one after the other."""
    try:
        journal.record(key, _as_record(completion))
    except JournalError as error:
        raise EngineLostError(str(error)) from error


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


def _as_output(completions: list[Completion], template: "PreQueryTemplate") -> GenerateOutput:
    return {
        "generations": [template.split_reasoning(c.text).answer for c in completions],
        "statistics": {
            "input_tokens": [c.prompt_tokens for c in completions],
            "output_tokens": [c.completion_tokens for c in completions],
        },
    }


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
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
