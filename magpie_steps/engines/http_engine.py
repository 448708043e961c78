"""What do the engines have in common that ask servers over HTTP?"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distilabel.errors import DistilabelUserError
from pydantic import Field, PrivateAttr

from magpie_steps.engines.abilities import Abilities, Probe, prompt_fields
from magpie_steps.engines.admission import Admission, Found
from magpie_steps.engines.base import Completion, EngineLostError, Sampling, run_to_end
from magpie_steps.engines.completions_wire import FEATURE_OF, read_answer, sampling_fields
from magpie_steps.engines.fan_out import FanOut
from magpie_steps.engines.first_token import complete_in_two
from magpie_steps.engines.http_client import (
    REFUSALS,
    RETRIED,
    GarbledError,
    HttpClient,
    ServerError,
    UnreachableError,
)
from magpie_steps.engines.model_files import find_tokenizer
from magpie_steps.engines.pretrained import config_of, generation_config_of
from magpie_steps.engines.tokenized import TokenizerEngine

OF_THE_SERVER = (RETRIED - {500}) | REFUSALS
"""Statuses that no prompt is to blame for: when they do not end, no row can be answered."""

MOST_FAILURES = 16
"""Requests that fail one after the other, without an answer between them, before the server is held
to be broken: each of them could be its prompt's own fault, so many can not."""


class HttpEngine(TokenizerEngine, ABC):
    """An engine on servers of one model that continue raw prompts at `/v1/completions`.

    A subclass says where they are.

    Attributes:
        max_context_tokens: most tokens of prompt and completion together; None asks the server, or
            the model's configuration.
        timeout_seconds: how long one answer may take, > 0.
        max_retries: how often a request is sent again, >= 0.
    """

    max_context_tokens: int | None = Field(default=None, ge=2)
    timeout_seconds: float = Field(default=600.0, gt=0.0)
    max_retries: int = Field(default=6, ge=0)

    _client: HttpClient | None = PrivateAttr(default=None)
    _abilities: Abilities | None = PrivateAttr(default=None)
    _fan_out: FanOut | None = PrivateAttr(default=None)
    _served: str = PrivateAttr(default="")
    _length: int = PrivateAttr(default=0)
    _fingerprint: str = PrivateAttr(default="")
    _failures: int = PrivateAttr(default=0)

    @abstractmethod
    def _make_client(self) -> HttpClient:
        """Return what reaches the servers."""

    @abstractmethod
    def _make_fingerprint(self, folder: Path) -> str:
        """Return what decides a completion besides prompt and sampling."""

    @abstractmethod
    def _wanted_model(self) -> tuple[str, bool]:
        """Return the model's name at the servers, and whether another will do if it is alone."""

    @property
    def fingerprint(self) -> str:
        """The model's name at the server and a hash of its files; known after `load()`."""
        return str(self._loaded(self._fingerprint))

    @property
    def max_model_len(self) -> int:
        """Most tokens that prompt and completion may have together; known after `load()`."""
        return int(self._loaded(self._length))

    @property
    def most_requests(self) -> int:
        """Requests that are sent to the servers at once."""
        return self.capacity

    @property
    def obeys(self) -> frozenset[str]:
        """The constraints that the servers obey; known after `load()`."""
        features = self._loaded(self._abilities).features
        return frozenset(name for name, feature in FEATURE_OF.items() if feature in features)

    def load(self) -> None:
        """Read the tokenizer, and find out what the servers can do.

        Raises:
            DistilabelUserError: no server answers, none has the model, or they change the prompts.
        """
        super().load()
        try:
            self._connect()
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """Let go of the tokenizer and the servers; never raises."""
        self._client = self._abilities = self._fan_out = None
        super().unload()

    async def _complete(self, prompt_ids: Sequence[int], sampling: Sampling) -> Completion:
        fan_out: FanOut = self._loaded(self._fan_out)
        if sampling.first_token_not:
            return await complete_in_two(fan_out.ask, self._decode, prompt_ids, sampling)
        return await fan_out.ask(prompt_ids, sampling)

    def _connect(self) -> None:
        folder = find_tokenizer(self.model, self.revision, trust_remote_code=self.trust_remote_code)
        self._read_tokenizer(folder, generation_config_of(folder))
        client = self._client = self._make_client()
        client.places = max(self.most_requests // len(client.urls), 1)
        wanted, another_will_do = self._wanted_model()
        admission = Admission(
            client,
            model=self.model,
            wanted=wanted,
            another_will_do=another_will_do,
            probe=self._probe,
        )
        found = run_to_end(admission.begin())
        self._served, self._abilities = found.served, found.abilities
        self._length = self._allowed_length(folder, found.limit)
        if len(client.urls) > 1:
            self._look_after(client, admission, found)
        self._fan_out = FanOut(self._send)
        self._fingerprint = self._make_fingerprint(folder)
        self._say_what_is_missing(client.urls[0], found.abilities)

    def _look_after(self, client: HttpClient, admission: Admission, found: Found) -> None:
        """Have several servers looked after, and say which of them the run begins without."""
        client.check, client.tell = admission.check, self._logger.warning
        client.leave_out(found.away)
        self.stats.servers = list(client.stats.values())
        up = len(client.urls) - len(found.away)
        for url, why in found.away.items():
            self._logger.warning(
                f"{url} is out: {why}. The run begins with the others ({up} of"
                f" {len(client.urls)} are up); it gets requests when it is well"
            )

    def _count_retry(self) -> None:
        self.stats.retries += 1

    def _probe(self) -> Probe:
        try:
            ids = self.template.pre_query_ids().ids
        except DistilabelUserError:  # a base model
            ids = self.encode("The weather today is")
        text, bos = self._decode(ids), self._bos
        ordinary = [token for token in self.encode("tree") if token != self._tokenizer.bos_token_id]
        return Probe(
            ids=tuple(ids),
            text=text,
            bos=bos if bos and text.startswith(bos) else "",
            other_id=ordinary[0],
            decode=self._decode,
            encode=self._encode_bare,
        )

    @property
    def _bos(self) -> str:
        return str(self._tokenizer.bos_token or "")

    def _encode_bare(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _allowed_length(self, folder: Path, served: int | None) -> int:
        if self.max_context_tokens and served and self.max_context_tokens > served:
            raise DistilabelUserError(
                f"max_context_tokens is {self.max_context_tokens}, but the server takes {served};"
                f" give at most {served}"
            )
        configured = config_of(folder).get("max_position_embeddings")
        length = self.max_context_tokens or served or configured
        if not length:
            raise DistilabelUserError(
                f"neither the server nor the configuration of {self.model!r} says how long a prompt"
                " may be; give max_context_tokens"
            )
        return int(length)

    def _say_what_is_missing(self, url: str, abilities: Abilities) -> None:
        if "seed" not in abilities.features:
            self._logger.warning(
                f"{url} ignores seeds: another run gives other rows, except for those in its"
                " journal"
            )
        if "stop_token_ids" not in abilities.features:
            self._logger.warning(
                f"{url} ignores stop_token_ids: turns end at the texts of those tokens, or where"
                " the model's own end token comes"
            )

    async def _send(
        self, prompt_ids: Sequence[int], sampling: Sampling, n: int
    ) -> list[Completion]:
        """Ask for n completions in one request, or in several if the server gives one at a time."""
        abilities: Abilities = self._loaded(self._abilities)
        if n > 1 and "n" not in abilities.features:
            seeds = range(sampling.seed, sampling.seed + n)
            alone = (self._send_one(prompt_ids, sampling.with_seed(s), 1) for s in seeds)
            return [answers[0] for answers in await asyncio.gather(*alone)]
        return await self._send_one(prompt_ids, sampling, n)

    async def _send_one(
        self, prompt_ids: Sequence[int], sampling: Sampling, n: int
    ) -> list[Completion]:
        client: HttpClient = self._loaded(self._client)
        abilities: Abilities = self._loaded(self._abilities)
        body = {
            "model": self._served,
            **self._prompt(prompt_ids, abilities),
            **sampling_fields(sampling, abilities, self._decode),
            "n": n,
        }
        try:
            answer = await client.post("/completions", body)
            done = read_answer(
                answer,
                len(prompt_ids),
                n,
                most_tokens=sampling.max_new_tokens,
                encode=self._encode_bare,
                end=self._tokenizer.eos_token_id,
            )
        except (UnreachableError, ServerError, GarbledError, TimeoutError) as error:
            self._failures += 1
            if self._is_lost(error):
                raise EngineLostError(
                    f"{error or 'no answer came in time'}; see to the server and run again: what is"
                    " in the journal is not generated again"
                ) from error
            raise
        self._failures = 0
        return done

    def _is_lost(self, error: Exception) -> bool:
        """Whether a failed request tells that no other one will be answered."""
        if isinstance(error, UnreachableError) or self._failures >= MOST_FAILURES:
            return True
        return isinstance(error, ServerError) and error.status in OF_THE_SERVER

    def _prompt(self, prompt_ids: Sequence[int], abilities: Abilities) -> dict[str, Any]:
        """The prompt in the form that the servers take."""
        if abilities.takes_ids:
            return prompt_fields(abilities, prompt_ids, "", "")
        text = self._decode(prompt_ids)
        # The server's tokenizer must make the same ids of it.
        if self._encode_bare(text) != list(prompt_ids):
            raise ValueError(
                "this prompt's token ids are not those that its text is encoded to, and the server"
                " takes only text; use a server that takes token ids, such as vLLM"
            )
        return prompt_fields(abilities, prompt_ids, text, self._bos)
