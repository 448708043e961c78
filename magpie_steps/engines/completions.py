"""An engine on any server that continues raw prompts: vLLM, SGLang, llama.cpp and the like."""

import re
from pathlib import Path

from pydantic import ConfigDict, Field, field_validator

from magpie_steps.engines.addresses import check_address
from magpie_steps.engines.http_client import HttpClient
from magpie_steps.engines.http_engine import HttpEngine
from magpie_steps.engines.model_files import content_hash

_VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")


class CompletionsEngine(HttpEngine):
    """Continue prompts at a server with an OpenAI-compatible `/v1/completions`.

    Prompts go out as token ids where the server takes them, else as text, and the server's own
    count of their tokens is compared with ours for each answer: a second BOS or a chat template
    around a prompt is found out at once. What the server can do beyond the standard (seeds, top_k,
    min_p, stop tokens, constraints) is tried when the engine is loaded. Several servers of the same
    model share the requests: each goes to the one that will answer it soonest, and is sent again
    when a server is overloaded or gone. One that is down joins when it is well. A server that only
    chats cannot serve: it opens the assistant's turn after every prompt.

    Attributes:
        model: the tokenizer of the model that is served: a folder or a hub id.
        base_urls: where the servers are, such as "http://localhost:8000/v1"; at least one.
        served_model: the model's name at the servers; None takes `model`, or the only one there.
        api_key_variable: the environment variable that holds the key for the servers.
        max_in_flight: most requests at each server at once, >= 1.
        max_context_tokens: most tokens of prompt and completion together; None asks the server, or
            the model's configuration.
        timeout_seconds: how long one answer may take, > 0.
        max_retries: how often a request is sent again, >= 0.
        revision: branch, tag or commit of the tokenizer on the hub; None is the default branch.
        trust_remote_code: run Python code that comes with the tokenizer.
        chat_template: a Jinja chat template to use instead of the tokenizer's; None uses that.
        chat_template_kwargs: variables of the chat template, such as {"enable_thinking": False}.
        response_template_kwargs: variables for the prompts of responses alone, over
            chat_template_kwargs.
        system_policy: what becomes of system prompts that the chat template has no turn of its own
            for: "error", "ignore", "merge" or "prepend", as in `PreQueryTemplate.pre_query_text`.
        add_bos: whether prompts begin with the BOS token: as the chat template has it ("template"),
            "always" or "never".

    Icon:
        `:globe_with_meridians:`

    Examples:
        Continue a prompt of token ids at a local server

        ```python
        import asyncio

        from magpie_steps.engines.base import Sampling
        from magpie_steps.engines.completions import CompletionsEngine

        engine = CompletionsEngine(
            model="Qwen/Qwen2.5-0.5B-Instruct", base_urls=["http://localhost:8000/v1"]
        )
        engine.load()
        prompt = engine.template.pre_query_ids().ids
        sampling = Sampling(stop_token_ids=engine.template.stop_token_ids, seed=1)
        print(asyncio.run(engine.complete(prompt, sampling)).text)
        engine.unload()
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # addresses may hold passwords

    base_urls: list[str] = Field(default=["http://localhost:8000/v1"], min_length=1)
    served_model: str | None = None
    api_key_variable: str = "OPENAI_API_KEY"
    max_in_flight: int = Field(default=256, ge=1)

    @field_validator("base_urls")
    @classmethod
    def _check_urls(cls, urls: list[str]) -> list[str]:
        for url in urls:
            check_address(url)
        return urls

    @field_validator("api_key_variable")
    @classmethod
    def _check_variable(cls, name: str) -> str:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(
                "api_key_variable is no name of an environment variable, in capitals such as"
                " OPENAI_API_KEY; it is not the key itself"
            )
        return name

    @property
    def capacity(self) -> int:
        """Requests at all servers together."""
        return self.max_in_flight * len(self.base_urls)

    def _make_client(self) -> HttpClient:
        return HttpClient(
            self.base_urls,
            key_variable=self.api_key_variable,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
            on_retry=self._count_retry,
        )

    def _make_fingerprint(self, folder: Path) -> str:
        return f"completions/{self._served}@{content_hash(folder)}"

    def _wanted_model(self) -> tuple[str, bool]:
        return self.served_model or self.model, self.served_model is None
