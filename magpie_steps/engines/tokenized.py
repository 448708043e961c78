"""What do all engines have in common that read and write with a transformers tokenizer?"""

import re
from abc import ABC
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from distilabel.errors import DistilabelUserError
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from magpie_steps.conversation import Message
from magpie_steps.engines.base import Engine
from magpie_steps.engines.conversation_encoder import ConversationEncoder, Encoded
from magpie_steps.engines.plain_text import PlainTextEncoder
from magpie_steps.engines.pretrained import load_tokenizer
from magpie_steps.engines.variables import check_variables
from magpie_steps.templates import BosPolicy, ChatTemplateError, PreQueryTemplate, SystemPolicy


class TokenizerEngine(Engine, ABC):
    """An engine with the model's tokenizer in this process.

    `_read_tokenizer` in a subclass's `load()` makes everything here work.

    Attributes:
        model: a folder with config.json and tokenizer, or a hub id.
        revision: branch, tag or commit on the hub; None is the default branch.
        trust_remote_code: run Python code that comes with the model.
        chat_template: a Jinja chat template to use instead of the tokenizer's; None uses that.
        chat_template_kwargs: variables of the chat template, such as {"enable_thinking": False}.
        response_template_kwargs: variables for the prompts of responses alone, over
            chat_template_kwargs.
        system_policy: what becomes of system prompts that the chat template has no turn of its own
            for: "error", "ignore", "merge" or "prepend", as in `PreQueryTemplate.pre_query_text`.
        add_bos: whether prompts begin with the BOS token: as the chat template has it ("template"),
            "always" or "never".
    """

    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    response_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    system_policy: SystemPolicy = "error"
    add_bos: BosPolicy = "template"

    _tokenizer: Any = PrivateAttr(default=None)
    _generation_config: Any = PrivateAttr(default=None)
    _template: Any = PrivateAttr(default=None)
    _plain_text: PlainTextEncoder | None = PrivateAttr(default=None)
    _judged: ConversationEncoder | None = PrivateAttr(default=None)

    @field_validator("chat_template_kwargs", "response_template_kwargs")
    @classmethod
    def _check_variables(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        check_variables(str(info.field_name), given)
        return given

    @property
    def model_name(self) -> str:
        """The hub id, or the folder's name."""
        folder = Path(self.model).expanduser()
        return folder.resolve().name if folder.is_dir() else self.model

    @property
    def template(self) -> PreQueryTemplate:
        """The pre-query template of the tokenizer's chat template; known after `load()`.

        Raises:
            DistilabelUserError: the model has no chat template, or one that cannot serve.
        """
        if self._template is None:
            self._template = self._make_template(self._loaded(self._tokenizer))
        found: PreQueryTemplate = self._template
        return found

    @property
    def special_tokens(self) -> frozenset[str]:
        """The tokenizer's control tokens as texts; known after `load()`."""
        from magpie_steps.stops import special_controls

        return special_controls(self._loaded(self._tokenizer))

    def encode(self, text: str) -> tuple[int, ...]:
        """A plain text as prompt ids, after the tokenizer's BOS if it has one."""
        if self._plain_text is None:
            self._plain_text = PlainTextEncoder(self._loaded(self._tokenizer))
        return self._plain_text.encode(text)

    def encode_conversation(self, messages: Sequence[Message]) -> Encoded:
        """A whole conversation as prompt ids, for a model that judges it; after `load()`.

        Raises:
            DistilabelUserError: the model has no chat template, or one that takes no conversation.
        """
        if self._judged is None:
            self._judged = self._make_conversation_encoder()
        return self._judged.encode([messages])[0]

    def tokens_matching(self, pattern: str) -> tuple[int, ...]:
        """The ids of the tokens whose whole text matches a regular expression."""
        tokenizer, matches = self._loaded(self._tokenizer), re.compile(pattern).fullmatch
        return tuple(token for token in range(len(tokenizer)) if matches(self._decode([token])))

    def _read_tokenizer(self, folder: Path, generation_config: Any = None) -> None:
        self._template = self._plain_text = self._judged = None
        self._tokenizer = load_tokenizer(folder, self.model, self.trust_remote_code)
        self._generation_config = generation_config

    def unload(self) -> None:
        """Let go of the tokenizer; never raises. Subclasses call this after their own work."""
        self._tokenizer = self._template = self._generation_config = None
        self._plain_text = self._judged = None
        super().unload()

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def _loaded(self, value: Any) -> Any:
        if not value:
            raise RuntimeError(f"{type(self).__name__} is not loaded; call load() first")
        return value

    def _make_conversation_encoder(self) -> ConversationEncoder:
        tokenizer = self._loaded(self._tokenizer)
        if self.chat_template is not None:
            tokenizer = deepcopy(tokenizer)
            tokenizer.chat_template = self.chat_template
        try:
            return ConversationEncoder(
                tokenizer, strip_bos=False, max_tokens=self.max_model_len - 1, asks=True
            )
        except ValueError as error:
            raise DistilabelUserError(f"{self.model_name} judges nothing: {error}") from error

    def _make_template(self, tokenizer: Any) -> PreQueryTemplate:
        if self.chat_template is None and not getattr(tokenizer, "chat_template", None):
            raise DistilabelUserError(
                f"the tokenizer of {self.model_name} has no chat template, so there is no pre-query"
                " template to prompt with; use a chat model, or give chat_template=..."
            )
        try:
            return PreQueryTemplate.from_tokenizer(
                tokenizer,
                chat_template=self.chat_template,
                chat_template_kwargs=self.chat_template_kwargs,
                response_kwargs=self.response_template_kwargs,
                generation_config=self._generation_config,
                system_policy=self.system_policy,
                add_bos=self.add_bos,
            )
        except ChatTemplateError as exc:
            raise DistilabelUserError(f"{self.model_name}: {exc}") from exc
