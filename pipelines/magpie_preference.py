"""Preference data: the best and the worst of five answers to each Magpie instruction.

The paper's setting (section 3.3): five responses at temperature 0.8, a reward model's favourite is
chosen, the one that it likes least is rejected. Ties, equal texts and margins that are too small
drop a row with that reason.

    python pipelines/magpie_preference.py --model meta-llama/Meta-Llama-3-8B-Instruct \
        --reward-model RLHFlow/ArmoRM-Llama3-8B-v0.1

``datasets.load_dataset(folder, "preference")`` is what TRL's DPO trainer reads, "kto" what its KTO
trainer does.
"""

import sys
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.decoding import AIR_MIX, as_settings
from magpie_steps.job import Job
from magpie_steps.job.run import Run

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

INSTRUCTIONS: dict[str, Any] = {
    "instruction_mix": as_settings(AIR_MIX),  # the paper's table 7
    "max_attempts": 10,
}
RESPONSES: dict[str, Any] = {
    "num_responses": 5,
    "sampling": {"temperature": 0.8, "max_new_tokens": 2048},
}
PAIRS: dict[str, Any] = {"source": "sampled", "min_margin": 0.0}


def build_pipeline(run: Run) -> "Pipeline":
    """Return the pipeline: a line, in which every row makes its own way through each step."""
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name="magpie-preference") as pipeline:
        instructions = magpie_steps.InstructionGenerator(
            llm=run.engine(),
            num_rows=run.num_rows,
            first_row=run.first_row,
            seed=run.seed,
            **INSTRUCTIONS,
        )
        responses = magpie_steps.SampleResponses(
            llm=run.engine(), seed=run.seed, keep_reasoning=run.keep_reasoning, **RESPONSES
        )
        rewards = magpie_steps.RewardScorer(reward_model=run.reward_model())
        pairs = magpie_steps.FormatPreference(**PAIRS)
        instructions >> responses >> rewards >> pairs >> magpie_steps.LanguageTagger()
    return pipeline


JOB = Job(
    name="magpie-preference",
    build=build_pipeline,
    settings={"instructions": INSTRUCTIONS, "responses": RESPONSES, "pairs": PAIRS},
    models=("model", "reward_model"),
    exports=("preference", "kto"),
)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
