"""Magpie-Air: many conversations from a small aligned model, prompted with nothing.

The paper's came from Llama-3-8B-Instruct, 3M conversations in 206 GPU hours (section 3.4):

    python pipelines/magpie_air.py --model meta-llama/Meta-Llama-3-8B-Instruct --num-rows 3000000

It is the main job with a hotter mix of temperatures, since a small model repeats itself sooner.
"""

import sys
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.decoding import AIR_MIX, as_settings
from magpie_steps.job import Job, Run

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

SETTINGS: dict[str, Any] = {
    "instruction_mix": as_settings(AIR_MIX),  # the paper's table 7
    "response_sampling": {"temperature": 0.0, "max_new_tokens": 2048},
    "max_attempts": 10,
}


def build_pipeline(run: Run) -> "Pipeline":
    """Return the pipeline: one generator, in which every row makes its own way."""
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name="magpie-air") as pipeline:
        magpie_steps.ConversationGenerator(
            llm=run.engine(), num_rows=run.num_rows, seed=run.seed, **SETTINGS
        )
    return pipeline


JOB = Job(name="magpie-air", build=build_pipeline, settings=SETTINGS)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
