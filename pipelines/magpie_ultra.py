"""Magpie Ultra: conversations of three turns over eleven topics, with what a base model would say.

Every row carries the aligned model's response and a base model's to the same instruction, and what
a reward model gives for each, so that it serves fine-tuning (the response) and preference learning
(their difference). Give the three models, or none for the miniatures that ship with the package:

    python pipelines/magpie_ultra.py --model meta-llama/Llama-3.1-8B-Instruct \
        --base-model meta-llama/Llama-3.1-8B --reward-model RLHFlow/ArmoRM-Llama3-8B-v0.1

Without system prompts, the newer and larger an aligned model the more of its instructions are math;
so each row draws a topic. The topics' weights are those of Magpie Ultra v1.0; the prompts are ours.
"""

import sys
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.job import Job
from magpie_steps.job.run import Run
from magpie_steps.prompts import category_prompts

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

MIX = {
    "information_seeking": 0.05,
    "reasoning": 0.125,
    "planning": 0.05,
    "editing": 0.10,
    "coding_debugging": 0.125,
    "math": 0.125,
    "role_playing": 0.10,
    "data_analysis": 0.125,
    "creative_writing": 0.10,
    "advice_seeking": 0.05,
    "brainstorming": 0.05,
}
CONVERSATIONS: dict[str, Any] = {
    "n_turns": 3,
    "system_prompt_weights": MIX,
    # Ultra samples both sides at 0.8; the responses here are greedy, as in the paper (appendix E).
    "instruction_sampling": {"temperature": 0.8, "max_new_tokens": 1024},
    "response_sampling": {"temperature": 0.0, "max_new_tokens": 1024},
    "max_attempts": 10,
}
BASE: dict[str, Any] = {
    "prompt_style": "few_shot",  # the paper's base responses are asked in URIAL's manner
    "sampling": {"temperature": 0.0, "max_new_tokens": 1024},
}


def build_pipeline(run: Run) -> "Pipeline":
    """Return the pipeline: a line, in which every row makes its own way through each step."""
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name="magpie-ultra") as pipeline:
        conversations = magpie_steps.ConversationGenerator(
            llm=run.engine(),
            num_rows=run.num_rows,
            first_row=run.first_row,
            seed=run.seed,
            keep_reasoning=run.keep_reasoning,
            system_prompts={key: category_prompts()[key] for key in MIX},
            **CONVERSATIONS,
        )
        base_response = magpie_steps.BaseResponse(
            llm=run.engine("base_model"), seed=run.seed, **BASE
        )
        rewards = magpie_steps.RewardScorer(reward_model=run.reward_model())
        conversations >> base_response >> rewards >> magpie_steps.LanguageTagger()
    return pipeline


JOB = Job(
    name="magpie-ultra",
    build=build_pipeline,
    settings={"conversations": CONVERSATIONS, "base_responses": BASE},
    models=("model", "base_model", "reward_model"),
    mix=MIX,
    exports=("sft", "multi_turn"),
)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
