"""Conversations of several turns, on plain dicts: ours, and those of any dataset."""

import itertools
import logging

import pytest
import tiny_tokenizers
from pydantic import PrivateAttr
from told_engine import USER_HEADER, ToldEngine, question_and_answer

from magpie_steps import columns, conversation, reasons
from magpie_steps.conversation import find_fault
from magpie_steps.prompts import category_prompts, multi_turn_prompt
from magpie_steps.steps.continue_conversation import ContinueConversation
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.turns import MANY_TURNS
from magpie_steps.templates import PreQueryTemplate

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

SAID = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello!"}]


def asks(prompt):
    return prompt.rstrip().endswith(USER_HEADER)


def turn_of(prompt):
    """Return the number of the turn that is written, from 0."""
    return prompt.count(USER_HEADER) - 1


def generate(script=question_and_answer, context=4096, **fields):
    step = ConversationGenerator(
        name="step", llm=ToldEngine(script=script, context=context), **fields
    )
    step.load()
    rows = [row for batch, _ in step.process() for row in batch]
    return step, rows


def go_on(rows, script=question_and_answer, context=4096, **fields):
    step = ContinueConversation(
        name="step", llm=ToldEngine(script=script, context=context), **fields
    )
    step.load()
    (continued,) = list(step.process(rows))
    return step, continued


def saying(text, turn=1, role_asks=True):
    """Return a script that says `text` at one place and else what others say."""

    def script(prompt, sampling):
        if turn_of(prompt) == turn and asks(prompt) == role_asks:
            return text(prompt) if callable(text) else text
        return question_and_answer(prompt, sampling)

    return script


ENDS = {
    "role_forgotten": [
        "I'm an AI language model, so I cannot do that.",
        "How can I help you today?",
        "It is one more.",
    ],
    "repetition": [lambda prompt: prompt.split(USER_HEADER)[1].split("\n\n")[1].split("<|")[0]],
    "empty": ["", "  \n"],
    "closing": ["Thank you so much for your help!", "Great, thanks!", "That's all for now. Bye!"],
    "truncated": ["And what about…"],
}


@pytest.mark.parametrize(
    ("end", "text"), [(end, text) for end, texts in ENDS.items() for text in texts]
)
def test_a_conversation_ends_early_with_a_reason_and_keeps_its_turns(end, text):
    step, (row,) = generate(saying(text), num_rows=1, n_turns=3, max_attempts=2)
    assert row["conversation_end"] == end
    assert (row["keep"], row["drop_reason"], row["turns"]) == (True, "", 1)
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
    # Goodbye is the model's own wish; anything else is tried again.
    assert row["instruction_attempts"] == (2 if end == "closing" else 3)
    assert len(row["instruction_rejections"]) == row["instruction_attempts"] - 1
    assert set(row["instruction_rejections"]) <= set(reasons.REJECTIONS)
    assert row["follow_up_similarity"] == row["follow_up_related"] == []
    assert len(step.llm.asked) == 2 + len(row["instruction_rejections"])


@pytest.mark.parametrize(("text", "end"), [("So on…", "truncated"), (" ", "empty")])
def test_an_answer_that_is_not_accepted_ends_the_conversation_too(text, end):
    script = saying(text, turn=2, role_asks=False)
    _, (row,) = generate(script, num_rows=1, n_turns=3, max_attempts=2)
    assert (row["turns"], row["conversation_end"]) == (2, end)
    assert len(row["messages"]) == 4


def test_a_rejected_follow_up_is_tried_again_with_another_seed():
    tries = itertools.count()

    def script(prompt, sampling):
        if asks(prompt) and turn_of(prompt) == 1 and next(tries) == 0:
            return "How may I assist you today?"
        return question_and_answer(prompt, sampling)

    step, (row,) = generate(script, num_rows=1, n_turns=2)
    assert (row["turns"], row["conversation_end"]) == (2, "")
    assert row["instruction_rejections"] == ["instruction_assistant_voice"]
    first, second = [s.seed for p, s in step.llm.asked if asks(p) and turn_of(p) == 1]
    assert first != second


def test_a_full_context_ends_the_conversation():
    script = saying("word " * 300, turn=1, role_asks=False)
    _, (row,) = generate(script, num_rows=1, n_turns=5, context=256)
    assert (row["keep"], row["turns"], row["conversation_end"]) == (True, 2, "context_full")


def test_every_ending_early_row_alternates_whatever_happens():
    """Rows of all lengths from an engine that fails in many ways at many places."""
    for seed in range(40):

        def script(prompt, sampling):
            bad = ["", "Thanks!", "How can I help you today?", "So…"]
            return (
                bad[sampling.seed // 7 % 4]
                if sampling.seed % 3 == 0
                else question_and_answer(prompt, sampling)
            )

        _, rows = generate(script, num_rows=4, n_turns=4, max_attempts=2, seed=seed)
        for row in rows:
            assert row["keep"] == (row["turns"] > 0)
            assert len(row["messages"]) == 2 * row["turns"]
            assert len(row["follow_up_similarity"]) == len(row["follow_up_related"])
            assert len(row["follow_up_related"]) == max(row["turns"] - 1, 0)
            assert bool(row["conversation_end"]) == (0 < row["turns"] < 4)
            if row["keep"]:
                conversation.validate(row["messages"])


# What steers which turn


def test_the_multi_turn_prompt_steers_user_turns_after_the_first_and_no_answer():
    step, _ = generate(num_rows=2, n_turns=3)
    for prompt, _ in step.llm.asked:
        assert (multi_turn_prompt() in prompt) == (asks(prompt) and turn_of(prompt) > 0)
        assert prompt.count("<|begin_of_text|>") == 1


def test_the_multi_turn_prompt_can_be_left_out():
    step, _ = generate(num_rows=2, n_turns=3, multi_turn_prompt="")
    assert not any("system" in prompt for prompt, _ in step.llm.asked)


def test_a_rows_own_system_prompt_steers_all_its_user_turns():
    own = category_prompts()["math"]
    step, (row,) = generate(num_rows=1, n_turns=2, system_prompts={"math": own})
    for prompt, _ in step.llm.asked:
        assert (own in prompt) == asks(prompt)
        assert (multi_turn_prompt() in prompt) == (asks(prompt) and turn_of(prompt) > 0)
    assert row["messages"][0]["role"] == "user"


def test_answers_and_messages_hold_what_steers_if_it_is_included():
    step, (row,) = generate(num_rows=1, n_turns=2, include_system_prompt=True)
    assert row["messages"][0] == {"role": "system", "content": multi_turn_prompt()}
    for prompt, _ in step.llm.asked:
        assert (multi_turn_prompt() in prompt) == (not asks(prompt) or turn_of(prompt) > 0)
    answer = [prompt for prompt, _ in step.llm.asked if not asks(prompt)][1]
    assert answer == step.llm.template.response_prompt_text(row["messages"][:-1])


def test_prompts_of_later_turns_are_the_templates_own_rendering():
    step, (row,) = generate(num_rows=1, n_turns=3, multi_turn_prompt="")
    template, messages = step.llm.template, row["messages"]
    asked = [prompt for prompt, _ in step.llm.asked]
    for turn in range(3):
        history = messages[: 2 * turn]
        healed = template.pre_query_ids(history).healed_suffix
        assert asked[2 * turn] + healed == template.pre_query_text(history)
        assert asked[2 * turn + 1] == template.response_prompt_text(messages[: 2 * turn + 1])


class StyledEngine(ToldEngine):
    """Has the tokenizer of another family, and remembers ids."""

    style: str = "llama_style"

    _ids: list[tuple[int, ...]] = PrivateAttr(default_factory=list)

    def load(self):
        super().load()
        self._tokenizer = getattr(tiny_tokenizers, self.style)()
        self._template = PreQueryTemplate.from_tokenizer(self._tokenizer)

    async def _complete(self, prompt_ids, sampling):
        self._ids.append(tuple(prompt_ids))
        return await super()._complete(prompt_ids, sampling)


@pytest.mark.parametrize("style", ["llama_style", "qwen_style", "mistral_style"])
def test_the_ids_of_later_turns_are_those_of_apply_chat_template(style):
    """What the tokenizer makes of the whole conversation begins with what the engine was given."""
    count = itertools.count()
    script = lambda prompt, sampling: f"What is {next(count)} plus one?"  # noqa: E731
    engine = StyledEngine(script=script, style=style)
    step = ConversationGenerator(name="step", llm=engine, num_rows=1, n_turns=3, max_attempts=1)
    step.multi_turn_prompt = ""
    step.load()
    ((row,),) = [batch for batch, _ in step.process()]
    messages, tokenizer = row["messages"], engine._tokenizer
    assert len(messages) == 6

    def rendered(told, **settings):
        return tuple(tokenizer.apply_chat_template(told, **settings)["input_ids"])

    for turn in range(3):
        asked, answered = engine._ids[2 * turn : 2 * turn + 2]
        told = messages[: 2 * turn + 1]
        assert answered == rendered(told, add_generation_prompt=True)
        assert asked == rendered(told)[: len(asked)]
        rest = tokenizer.decode(rendered(told)[len(asked) :])
        assert rest.lstrip().startswith(told[-1]["content"])


def test_many_turns_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        generate(num_rows=1, n_turns=MANY_TURNS)
        assert "turns are many" not in caplog.text
        generate(num_rows=1, n_turns=MANY_TURNS + 1)
        assert "5 turns are many" in caplog.text


# ContinueConversation

BAD = {
    "messages_missing": [None, [], "Hi?", 7, {}, ["Hi?"], [None]],
    "messages_unknown_role": [
        [*SAID, {"role": "tool", "content": "4"}],
        [{"role": "human", "content": "Hi?"}],
        [{"content": "Hi?"}],
        [{"role": None, "content": "Hi?"}],
    ],
    "messages_out_of_order": [
        [SAID[0], SAID[0]],
        [*SAID, {"role": "system", "content": "Be kind."}, SAID[0]],
        [SAID[1]],
        [*SAID, SAID[1]],
        [{"role": "system", "content": "Be kind."}],
    ],
    "messages_without_text": [
        [{"role": "user", "content": None}],
        [{"role": "user", "content": " "}, SAID[1]],
        [{"role": "user", "content": ["Hi?"]}],
        [{"role": "user"}],
    ],
    "bad_messages": [[{"role": "user", "content": "Say <|eot_id|> now."}, SAID[1]]],
}


@pytest.mark.parametrize(
    ("reason", "messages"), [(reason, bad) for reason, many in BAD.items() for bad in many]
)
def test_what_is_no_conversation_is_dropped_and_harms_no_other(reason, messages):
    rows = [{"messages": SAID}, {"messages": messages, "other": 1}, {"messages": SAID}]
    alone, _ = go_on([{"messages": SAID}])
    step, (first, bad, last) = go_on(rows)
    assert (bad["keep"], bad["drop_reason"], bad["other"]) == (False, reason, 1)
    assert first["messages"] == last["messages"]
    assert first["turns"] == 2
    assert {prompt for prompt, _ in step.llm.asked} == {prompt for prompt, _ in alone.llm.asked}
    assert set(bad) >= set(columns.written_by("ContinueConversation"))
    assert find_fault(bad["messages"]) in (None, "messages_missing")


def test_a_missing_column_is_a_missing_conversation():
    _, (row,) = go_on([{}])
    assert row["drop_reason"] == "messages_missing"


def test_a_hundred_kilobytes_end_their_conversation_only():
    huge = [{"role": "user", "content": "word " * 20_000}, {"role": "assistant", "content": "No."}]
    step, (full, fine) = go_on([{"messages": huge}, {"messages": SAID}])
    assert (full["keep"], full["turns"], full["conversation_end"]) == (True, 1, "context_full")
    assert full["messages"] == huge
    assert (fine["turns"], fine["conversation_end"]) == (2, "")
    assert len(step.llm.asked) == 2


def test_a_question_that_waits_is_answered_first():
    _, (row,) = go_on([{"messages": [*SAID, {"role": "user", "content": "And now?"}]}])
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * 3
    assert row["messages"][2]["content"] == "And now?"
    assert len(row["follow_up_related"]) == 1


def test_a_question_that_cannot_be_answered_is_cut_off():
    waits = [{"role": "user", "content": "word " * 20_000}]
    _, (none, one) = go_on([{"messages": waits}, {"messages": [*SAID, *waits]}])
    assert (none["keep"], none["drop_reason"]) == (False, "response_prompt_too_long")
    assert (one["keep"], one["messages"], one["conversation_end"]) == (True, SAID, "context_full")


def test_a_conversations_own_system_prompt_stays_and_is_seen_by_answers():
    own = {"role": "system", "content": "Be kind."}
    step, (row,) = go_on([{"messages": [own, *SAID]}], n_turns=2)
    assert row["messages"][0] == own
    assert all("Be kind." in prompt for prompt, _ in step.llm.asked)
    assert all((multi_turn_prompt() in prompt) == asks(prompt) for prompt, _ in step.llm.asked)


def test_keys_that_others_add_to_messages_are_left_behind():
    added = [{**message, "name": None, "weight": 1} for message in SAID]
    _, (row,) = go_on([{"messages": added}])
    assert row["messages"][:2] == SAID


def test_rows_that_are_not_kept_cost_no_call_and_keep_their_reason():
    step, (row,) = go_on([{"messages": SAID, "keep": False, "drop_reason": "too_bad"}])
    assert step.llm.asked == []
    assert (row["drop_reason"], row["messages"], row["turns"]) == ("too_bad", SAID, 1)


def test_continuing_does_not_depend_on_batches_or_neighbours():
    rows = [{"messages": [{"role": "user", "content": f"Number {i}?"}]} for i in range(9)]
    _, together = go_on(rows, n_turns=2)
    step = ContinueConversation(name="step", llm=ToldEngine(), n_turns=2, max_in_flight=1)
    step.load()
    alone = [next(step.process([row]))[0] for row in reversed(rows)]
    assert [row["messages"] for row in together] == [row["messages"] for row in reversed(alone)]
    assert len({row["messages"][2]["content"] for row in together}) == 9


def test_inputs_are_not_changed():
    row = {"messages": [dict(message) for message in SAID], "instruction_rejections": ["a"]}
    go_on([row])
    assert row == {"messages": SAID, "instruction_rejections": ["a"]}


def test_generating_and_continuing_is_generating_more():
    """Two turns and one more are three turns, if nothing but the history steers them."""
    _, whole = generate(num_rows=5, n_turns=3)
    _, halves = generate(num_rows=5, n_turns=2)
    _, continued = go_on(halves)
    assert [row["messages"] for row in continued] == [row["messages"] for row in whole]
    assert [row["turns"] for row in continued] == [3] * 5
    assert [r["instruction_attempts"] for r in continued] == [3] * 5


def test_an_engine_failure_costs_one_row():
    def script(prompt, sampling):
        if "Bad" in prompt:
            raise RuntimeError("broken")
        return question_and_answer(prompt, sampling)

    bad = [{"role": "user", "content": "Bad?"}, SAID[1]]
    _, (fine, failed) = go_on([{"messages": SAID}, {"messages": bad}], script)
    assert fine["keep"]
    assert (failed["drop_reason"], failed["messages"]) == ("engine_error", bad)
