"""What a thinking model's rows say: answers without thoughts, and thoughts beside them."""

import copy
import json

import pytest
from answering import process
from pydantic import Field
from tiny_tokenizers import qwen_style
from told_engine import ToldEngine

from magpie_steps import columns, reasons
from magpie_steps.steps.continue_conversation import ContinueConversation
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.instruction import InstructionGenerator
from magpie_steps.steps.response import GenerateResponse
from magpie_steps.steps.sample_responses import SampleResponses
from magpie_steps.steps.taggers import DifficultyTagger
from magpie_steps.templates import PreQueryTemplate

pytestmark = pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline")

# Keeps thoughts in a history only if it is told to; writes a default system prompt.
TEMPLATE = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}"
    "{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.reasoning_content and (loop.last or keep_all) %}"
    "{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if open %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
USER = "<|im_start|>user\n"


def thinks(prompt, sampling):
    """Ask a question that follows from the seed, or think and answer."""
    if prompt.endswith(USER):
        return f"What is {sampling.seed % 1_000_003} plus one?"
    opening = "" if prompt.endswith("<think>\n") else "<think>\n"
    return f"{opening}Turn {prompt.count(USER)}.\n</think>\n\nIt is one more."


def saying(text):
    """Return a script that answers every question with a text."""
    return lambda prompt, sampling: thinks(prompt, sampling) if prompt.endswith(USER) else text


class ThinkingEngine(ToldEngine):
    """Has a chat template with thoughts."""

    script: object = thinks
    variables: dict[str, object] = Field(default_factory=dict)

    def load(self):
        super().load()
        self._tokenizer = copy.deepcopy(qwen_style())
        self._tokenizer.chat_template = TEMPLATE
        self._template = PreQueryTemplate.from_tokenizer(
            self._tokenizer, chat_template_kwargs=self.variables
        )


def engine(script=thinks, **variables):
    return ThinkingEngine(script=script, variables=variables)


def generate(llm, **fields):
    settings = {"num_rows": 1, "max_attempts": 2, **fields}
    step = ConversationGenerator(name="step", llm=llm, **settings)
    step.load()
    return step, [row for batch, _ in step.process() for row in batch]


@pytest.mark.parametrize("variables", [{}, {"open": True}])
def test_a_thought_is_a_column_and_no_part_of_the_answer(variables):
    _, (row,) = generate(engine(**variables))
    assert row["reasoning"] == "Turn 1."
    assert row["response"] == row["messages"][-1]["content"] == "It is one more."
    assert row["response_length"] == len("It is one more.")
    assert [set(message) for message in row["messages"]] == [{"role", "content"}] * 2
    assert row["keep"]
    assert set(row) == set(columns.written_by("ConversationGenerator"))


def test_a_model_that_does_not_think_has_empty_columns():
    step = ConversationGenerator(name="step", llm=ToldEngine(), num_rows=1, n_turns=2)
    step.load()
    ((row,), _) = next(step.process())
    assert (row["reasoning"], row["follow_up_reasoning"]) == ("", [""])


@pytest.mark.parametrize(("keep_all", "recalled"), [(False, 0), (True, 4)])
def test_later_turns_recall_thoughts_as_the_template_does_and_messages_never_hold_them(
    keep_all, recalled
):
    """Two user turns and two answers come after the first thought."""
    step, (row,) = generate(engine(keep_all=keep_all), n_turns=3)
    assert row["reasoning"] == "Turn 1."
    assert row["follow_up_reasoning"] == ["Turn 2.", "Turn 3."]
    assert "Turn" not in json.dumps(row["messages"])
    prompts = [prompt for prompt, _ in step.llm.asked]
    assert sum("<think>\nTurn 1.\n</think>" in prompt for prompt in prompts) == recalled
    assert sum("<think>\nTurn 2.\n</think>" in prompt for prompt in prompts) == recalled // 2


def test_no_user_turn_begins_in_a_thought():
    step, _ = generate(engine(open=True, keep_all=True), n_turns=3)
    asked = [prompt for prompt, _ in step.llm.asked if prompt.endswith(USER)]
    assert len(asked) == 3
    assert all(prompt.count("<think>") == prompt.count("</think>") for prompt in asked)


def test_dropped_thoughts_leave_empty_columns_and_are_recalled_all_the_same():
    step, (row,) = generate(engine(keep_all=True), n_turns=2, keep_reasoning=False)
    assert (row["reasoning"], row["follow_up_reasoning"]) == ("", [""])
    kept, _ = generate(engine(keep_all=True), n_turns=2)
    assert [prompt for prompt, _ in step.llm.asked] == [prompt for prompt, _ in kept.llm.asked]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>\nSum and…", "unfinished_reasoning"),
        ("<think>\nSum and", "unfinished_reasoning"),
        ("<think>Sum.</think>It is…", "truncated"),
        ("<think>Sum.</think>", "empty"),
        ("<think>Sum.</think>Four.</think>Five.", "template_tokens"),
        ("Well. <think>Sum.</think>Four.", "template_tokens"),
        ("<think>Sum.<|im_start|>user</think>Four.", "template_tokens"),
        ("<think>Sum\x00.</think>Four.", "control_characters"),
        ("<think>Sum.</think>Four\ud800.", "control_characters"),
    ],
)
def test_a_turn_without_a_clean_thought_and_answer_is_rejected(text, reason):
    _, (row,) = generate(engine(saying(text)))
    assert row["drop_reason"] == f"response_{reason}"
    assert row["instruction_rejections"] == [f"response_{reason}"] * 2
    assert f"response_{reason}" in reasons.DROP_REASONS
    assert (row["response"], row["reasoning"], row["messages"]) == ("", "", [])


def test_an_empty_thought_is_none():
    _, (row,) = generate(engine(saying("<think>\n\n</think>\n\nFour.")))
    assert (row["reasoning"], row["response"]) == ("", "Four.")


def test_an_unfinished_thought_ends_a_conversation_as_truncated():
    def script(prompt, sampling):
        cut = prompt.count(USER) == 2 and not prompt.endswith(USER)
        return "<think>\nSum and…" if cut else thinks(prompt, sampling)

    _, (row,) = generate(engine(script), n_turns=2)
    assert (row["turns"], row["conversation_end"], row["keep"]) == (1, "truncated", True)
    assert row["follow_up_reasoning"] == []


@pytest.mark.parametrize("keep_reasoning", [True, False])
def test_given_instructions_are_answered_with_a_thought_beside(keep_reasoning):
    step = GenerateResponse(name="step", llm=engine(), keep_reasoning=keep_reasoning)
    good, bad = process(step, [{"instruction": "What is 2 + 2?"}, {"instruction": ""}])
    assert good["response"] == "It is one more."
    assert good["reasoning"] == ("Turn 1." if keep_reasoning else "")
    assert bad["reasoning"] == ""


def test_sampled_responses_have_a_thought_each_and_rejected_ones_none():
    def script(prompt, sampling):
        return "<think>Sum and…" if sampling.seed % 5 == 0 else f"<think>{sampling.seed}</think>Yes"

    step = SampleResponses(name="step", llm=engine(script), num_responses=5)
    (row,) = process(step, [{"instruction": "What is 2 + 2?"}])
    assert row["responses"] == ["Yes"] * 4
    assert row["responses_rejections"] == ["response_unfinished_reasoning"]
    assert len(set(row["responses_reasoning"])) == 4
    assert all(thought.isdecimal() for thought in row["responses_reasoning"])
    dropped = SampleResponses(name="step", llm=engine(script), keep_reasoning=False)
    (row,) = process(dropped, [{"instruction": "What is 2 + 2?"}])
    assert row["responses_reasoning"] == [""] * 4


def test_a_continued_conversation_says_what_was_thought_before_each_new_answer():
    waiting = [{"role": "user", "content": "What is 2 + 2?"}]
    answered = [*waiting, {"role": "assistant", "content": "It is four."}]
    step = ContinueConversation(name="step", llm=engine())
    first, second, bad = process(
        step, [{"messages": waiting}, {"messages": answered}, {"messages": None}]
    )
    assert first["follow_up_reasoning"] == ["Turn 1.", "Turn 2."]
    assert second["follow_up_reasoning"] == ["Turn 2."]
    assert bad["follow_up_reasoning"] == []
    assert second["messages"][1]["content"] == "It is four."


@pytest.mark.parametrize("text", ["<think>Hm.</think>{}", "Hm.</think>{}"])
def test_a_tagger_that_thinks_is_read_after_its_thought(text):
    label = '{"intent": "sum", "knowledge": "{none}", "difficulty": "easy"}'
    step = DifficultyTagger(name="step", llm=engine(saying(text.format(label))))
    (row,) = process(step, [{"instruction": "What is 2 + 2?"}])
    assert (row["difficulty"], row["tag_failures"]) == ("easy", [])


def test_a_tagger_that_does_not_end_its_thought_is_truncated():
    step = DifficultyTagger(name="step", llm=engine(saying('<think>{"difficulty": "easy"}…')))
    (row,) = process(step, [{"instruction": "What is 2 + 2?"}])
    assert [failure["reason"] for failure in row["tag_failures"]] == ["truncated"]


def test_a_tagger_that_is_kept_to_a_schema_has_no_thought_to_end():
    class FormedEngine(ThinkingEngine):
        @property
        def obeys(self):
            return frozenset({"structure"})

    label = '{"intent": "sum", "knowledge": "none", "difficulty": "easy"}'
    llm = FormedEngine(script=saying(label), variables={"open": True})
    (row,) = process(DifficultyTagger(name="step", llm=llm), [{"instruction": "What is 2 + 2?"}])
    assert (row["difficulty"], row["tag_failures"]) == ("easy", [])


def test_stock_tasks_get_answers_without_thoughts():
    llm = engine()
    llm.load()
    (output,) = llm.generate(inputs=["What is 2 + 2?"])
    assert output["generations"] == ["It is one more."]


@pytest.mark.parametrize("form", ["rendered", "bare"])
@pytest.mark.parametrize("kind", [InstructionGenerator, ConversationGenerator])
def test_the_form_chosen_is_prompted_with_and_written_down(kind, form):
    step = kind(name="step", llm=engine(), num_rows=1, pre_query_form=form)
    step.load()
    ((row,), _) = next(step.process())
    prompt = step.llm.template.pre_query_text(form=form)
    assert ("Be brief." in prompt) is (form == "rendered")
    assert step.llm.asked[0][0] == prompt
    config = row["gen_input_configs"]
    assert config["pre_query_template"] == prompt
    assert config["pre_query_form"] == form
    assert config["chat_template_sha256"] == step.llm.template.template_sha256


def test_every_config_says_which_chat_template_made_its_prompts():
    digest = PreQueryTemplate.from_template(TEMPLATE, {}).template_sha256
    _, (row,) = generate(engine())
    assert row["gen_response_configs"]["chat_template_sha256"] == digest
    (row,) = process(GenerateResponse(name="step", llm=engine()), [{"instruction": "Hi?"}])
    assert row["gen_response_configs"]["chat_template_sha256"] == digest
    (row,) = process(SampleResponses(name="step", llm=engine()), [{"instruction": "Hi?"}])
    assert row["gen_responses_configs"]["chat_template_sha256"] == digest
    said = [{"role": "user", "content": "Hi?"}]
    (row,) = process(ContinueConversation(name="step", llm=engine()), [{"messages": said}])
    assert row["gen_continuation_configs"]["chat_template_sha256"] == digest
    assert row["gen_continuation_configs"]["pre_query_form"] == "rendered"


def test_ids_follow_from_how_prompts_are_made():
    def uuid(**fields):
        variables = fields.pop("variables", {})
        return generate(engine(**variables), **fields)[1][0]["uuid"]

    others = [
        uuid(),
        uuid(pre_query_form="bare"),
        uuid(variables={"open": True}),
        uuid(variables={"keep_all": True}),
    ]
    assert len(set(others)) == len(others)
    assert uuid() == others[0] == uuid(keep_reasoning=False)


def test_an_engine_says_a_variable_that_its_template_does_not_know():
    with pytest.raises(ValueError, match="enable_thinkin"):
        engine(enable_thinkin=False).load()
