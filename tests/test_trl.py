"""TRL's trainers take what the steps write, from the published files to one step of training."""

import math

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from magpie_steps.card.record import RunRecord
from magpie_steps.effort import Effort
from magpie_steps.embedded import model_path
from magpie_steps.engines.transformers import TransformersEngine
from magpie_steps.repository import write_repository
from magpie_steps.steps.conversation import ConversationGenerator
from magpie_steps.steps.format_preference import FormatPreference
from magpie_steps.steps.format_sft import FormatSFT
from magpie_steps.summary import summarise

trl = pytest.importorskip("trl", reason="trl is missing: pip install 'magpie-steps[trl]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Step .* hasn't received a pipeline"),
    # TRL 1.16 uses by default what transformers 5.23 has renamed.
    pytest.mark.filterwarnings(
        r"ignore:`\w*gradient_checkpointing\w*` is deprecated and will be removed:FutureWarning"
    ),
]
MODEL = str(model_path("tiny-instruct"))
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


def passed(step, rows):
    step.load()
    (found,) = list(step.process(rows))
    step.unload()
    return found


@pytest.fixture(scope="module")
def rows():
    """Rows of the embedded model as the steps leave them, half of them with a system message."""
    generator = ConversationGenerator(
        name="generate",
        llm=TransformersEngine(model=MODEL),
        num_rows=8,
        seed=1,
        response_sampling={"max_new_tokens": 64},
    )
    generator.load()
    ((made, _),) = list(generator.process())
    generator.unload()
    for row in made[::2]:
        row["messages"] = [SYSTEM, *row["messages"]]
    # The model answers nearly alike when it is asked again, so the worse answer is another row's.
    others = [*made[1:], made[0]]
    scored = [
        {**row, "responses": [other["response"], row["response"]], "responses_rewards": [0.5, 2.0]}
        for row, other in zip(made, others, strict=True)
    ]
    return passed(FormatPreference(name="pair"), passed(FormatSFT(name="sft"), scored))


@pytest.fixture(scope="module")
def repository(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    record = RunRecord(title="t", model="m", settings={}, template="", effort=Effort(seconds=1.0))
    write_repository(folder, rows, summarise(rows), record, exports=("sft", "preference", "kto"))
    return folder


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


def trained(kind, name, repository, tokenizer, folder):
    """Return a trainer that went one step on an export, having checked that it learnt."""
    trainer_class, config = getattr(trl, f"{kind}Trainer"), getattr(trl, f"{kind}Config")
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    before = model.get_input_embeddings().weight.detach().clone()
    trainer = trainer_class(
        model=model,
        args=config(
            output_dir=str(folder / "out"),
            max_steps=1,
            per_device_train_batch_size=4,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=datasets.load_dataset(
            str(repository), name, split="train", cache_dir=str(folder / "cache")
        ),
        processing_class=tokenizer,
    )
    assert math.isfinite(trainer.train().training_loss)
    assert trainer.state.global_step == 1
    assert not torch.equal(before, model.get_input_embeddings().weight)
    return trainer.train_dataset.to_list()


def rendered(tokenizer, messages):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


def test_rows_are_worth_the_test(rows):
    kept = [row for row in rows if row["keep"]]
    assert len(kept) >= 4, [row["drop_reason"] for row in rows]
    assert sum(row["prompt"][0] == SYSTEM for row in kept) >= 2


def test_dpo_takes_pairs(rows, repository, tokenizer, tmp_path):
    prepared = trained("DPO", "preference", repository, tokenizer, tmp_path)
    assert len(prepared) == sum(row["keep"] for row in rows)
    for row in prepared:
        for side in ("chosen", "rejected"):
            whole = rendered(tokenizer, [*row["prompt"], *row[side]])
            assert row["prompt_ids"] + row[f"{side}_ids"] == whole


def test_kto_takes_single_answers(rows, repository, tokenizer, tmp_path):
    prepared = trained("KTO", "kto", repository, tokenizer, tmp_path)
    assert len(prepared) == 2 * sum(row["keep"] for row in rows)
    assert [row["label"] for row in prepared[:4]] == [True, False, True, False]
    for row in prepared:
        whole = rendered(tokenizer, [*row["prompt"], *row["completion"]])
        assert row["prompt_ids"] + row["completion_ids"] == whole


def test_sft_takes_conversations(rows, repository, tokenizer, tmp_path):
    prepared = trained("SFT", "sft", repository, tokenizer, tmp_path)
    assert [row["messages"] for row in prepared] == [r["messages"] for r in rows if r["keep"]]
    for row in prepared:
        assert row["input_ids"] == rendered(tokenizer, row["messages"])
