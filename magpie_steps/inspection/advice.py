"""What does a hazard or an error of a chat template mean for whoever uses the model?

The one table of both. Hazards are named by `scaffold`, errors by the `ChatTemplateError` that they
come as.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_OTHER_TEMPLATE = "Give a template that does not, with --chat-template."
_SYSTEM_POLICY = "Leave system prompts out, or set the system policy to ignore or prepend."


@dataclass(frozen=True, slots=True)
class Advice:
    """What something means.

    Attributes:
        meaning: What is so, in one sentence.
        remedy: What to do about it, in one sentence.
        limit: What the model works without or only with, as a few words; "" for no limit.
    """

    meaning: str
    remedy: str
    limit: str = ""


_NO_USER_HEADER = Advice(
    "The chat template writes nothing before a user's text, so there is nothing to prompt with.",
    "Take an instruction-tuned model, or give its template with --chat-template.",
)
_NO_TEXT_AFTER_USER = Advice(
    "The chat template writes nothing after a user's text, so an instruction would never end.",
    _OTHER_TEMPLATE,
)

HAZARDS: Mapping[str, Advice] = {
    "no_user_header": _NO_USER_HEADER,
    "no_text_after_user": _NO_TEXT_AFTER_USER,
    "system_unsupported": Advice(
        "The template refuses a system message.", _SYSTEM_POLICY, "no system prompts"
    ),
    "system_dropped": Advice(
        "The template leaves a system message out and says nothing.",
        _SYSTEM_POLICY,
        "no system prompts",
    ),
    "system_merged": Advice(
        "The template writes a system message into the user's turn, so that the model goes on with"
        " a turn that begins with it.",
        "Leave system prompts out, or set the system policy to merge if that is what you want.",
        "system prompts inside the user's turn only",
    ),
    "system_repeated": Advice(
        "The template prints a system message more than once.",
        "Keep system prompts short, or leave them out.",
    ),
    "system_moves_in_history": Advice(
        "A system message moves on to a later user turn as the conversation grows.",
        "Nothing to do: each prompt is rendered whole, so it moves as it did in training.",
    ),
    "multi_turn_unsupported": Advice(
        "The template does not print earlier turns, or refuses them.",
        "Generate conversations of one turn.",
        "single turns only",
    ),
    "default_system_prompt": Advice(
        "Without a system message the template writes one of its own, which colours the"
        " instructions.",
        "Keep it, as most models need it; the bare form leaves it out.",
    ),
    "default_preamble": Advice(
        "The template writes something of its own before the first user turn.",
        "Keep it, as most models need it; the bare form leaves it out.",
    ),
    "date_in_prompt": Advice(
        "The prompt holds today's date, so that another day's run has other prompts.",
        "Nothing to do: a run reads the clock once; to repeat it on another day, set the date with"
        " the template's own option if it knows one.",
    ),
    "strips_user_content": Advice(
        "The template takes white space off both ends of a user's text.",
        "Nothing to do: instructions are stored without it, too.",
    ),
    "trailing_space": Advice(
        "The prompt ends with a space, which in training was part of the first word.",
        "Nothing to do with a tokenizer, which leaves that space to the model; never send the"
        " prompt as text.",
    ),
    "history_rewritten": Advice(
        "A longer conversation does not begin as the shorter one did.",
        "Nothing to do: each prompt is rendered whole; an engine can reuse less of its cache.",
    ),
    "bridge_differs_from_generation_prompt": Advice(
        "Between a question and its answer stands something else in history than while the answer"
        " is being written.",
        "Nothing to do: both are cut out of what the template renders, neither is put together.",
    ),
    "generation_prompt_ignored": Advice(
        "The template opens the assistant's turn always or never, whatever it is asked for.",
        "Nothing to do: what follows a user's text is taken as it comes.",
    ),
    "opens_reasoning": Advice(
        "The template opens a thought for the model, so each response begins inside one.",
        "Leave room for it in the response's length, or switch thinking off if the template knows"
        " an option for that.",
    ),
    "reasoning_removed_from_history": Advice(
        "The template takes thoughts out of earlier answers.",
        "Nothing to do: later turns are prompted as the model knows them.",
    ),
    "eos_in_generation_prompt": Advice(
        "What opens the assistant's turn ends with the token that ends a text.",
        "Nothing to do: a user's turn is stopped at what comes before it.",
    ),
    "conversation_end_differs": Advice(
        "The last answer of a conversation ends with something else than an answer in the middle.",
        "Nothing to do: both are stops.",
    ),
    "content_parts_required": Advice(
        "The template takes a message as a list of parts only, not as a text.",
        "Nothing to do: messages are given to it that way.",
    ),
    "empty_user_differs": Advice(
        "The template renders an empty user message in another way than any other.",
        "Nothing to do: prompts are cut out of renderings of a text, never of an empty message.",
    ),
    "header_is_only_bos": Advice(
        "Only the token that begins a text stands before a user's text, so that nothing tells the"
        " model whose text comes next.",
        "Look at what it writes before you generate much: it may be any text, not instructions.",
    ),
}
"""What is unusual about a template that can be used, by the word for it."""

ERRORS: Mapping[str, Advice] = {
    "no_chat_template": Advice(
        "There is no chat template, or there are several and no default among them.",
        "Take the instruction-tuned version of the model, or give a template with --chat-template.",
    ),
    "compile_error": Advice(
        "The chat template is not valid Jinja.", "Mend it, or give another with --chat-template."
    ),
    "render_error": Advice(
        "The chat template refuses an ordinary conversation, or does what no template needs to do.",
        "See what it says; another of the model's templates may do, with --chat-template.",
    ),
    "tools_required": Advice(
        "The chat template wants a list of tools.",
        "Give it an empty one: --chat-template-kwargs '{\"tools\": []}'.",
    ),
    "extra_variable_required": Advice(
        "The chat template needs a value that nobody gave it.",
        "Give special tokens with --special-tokens, anything else with --chat-template-kwargs.",
    ),
    "unknown_option": Advice(
        "The chat template names no option that is called what you gave it, and would ignore it"
        " without a word.",
        "Choose one of those that it knows, or leave the option out.",
    ),
    "content_dropped": Advice("The chat template does not print a user's text.", _OTHER_TEMPLATE),
    "content_repeated": Advice(
        "The chat template prints a user's text several times, so there is no one place for a model"
        " to write it.",
        _OTHER_TEMPLATE,
    ),
    "content_transformed": Advice(
        "The chat template rewrites a user's text, so what the model writes is not what training"
        " had.",
        _OTHER_TEMPLATE,
    ),
    "affix_depends_on_content": Advice(
        "What the chat template writes around a user's text depends on that text.", _OTHER_TEMPLATE
    ),
    "no_user_header": _NO_USER_HEADER,
    "no_text_after_user": _NO_TEXT_AFTER_USER,
    "boundary_merge": Advice(
        "The tokenizer joins the end of the prompt with the beginning of the user's text.",
        "See whether the tokenizer is the one that the template was written for.",
    ),
    "bos_doubled": Advice(
        "Prompts begin with two tokens that begin a text.",
        "Take it out of the template, or stop the tokenizer from adding another.",
    ),
    "no_bos_token": Advice(
        "Prompts are to begin with the BOS token, and the tokenizer has none.",
        "Leave it to the template, or say which one it is with --special-tokens.",
    ),
    "unreadable_text": Advice(
        "A text holds half of a character, which no tokenizer can read.",
        "Drop the row, or take it out; if it is the template's own, mend the template.",
    ),
    "system_unsupported": Advice("The chat template refuses a system prompt.", _SYSTEM_POLICY),
    "system_dropped": Advice("The chat template leaves a system prompt out.", _SYSTEM_POLICY),
    "system_merged": Advice(
        "The chat template writes a system prompt into the user's turn.",
        "Leave it out, or set the system policy to merge, ignore or prepend.",
    ),
    "multi_turn_unsupported": Advice(
        "The chat template does not print earlier turns.", "Generate conversations of one turn."
    ),
    "control_token_in_content": Advice(
        "A text holds a token that would open or end a turn.",
        "Drop the row, or take the token out.",
    ),
    "bad_messages": Advice(
        "The messages are not such that the next text could be written.",
        "Let users and assistants take turns, with at most one system message in front.",
    ),
    "no_tokenizer": Advice(
        "The template was read without a tokenizer, so there are no token ids.",
        "Read the model's folder instead of the template alone.",
    ),
}
"""Why a template or a call of it cannot serve, by the error's code."""
