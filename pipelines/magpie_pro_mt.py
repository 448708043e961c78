"""Magpie-Pro-MT: conversations of two turns, in which the model also writes the user's follow-up.

    python pipelines/magpie_pro_mt.py --model meta-llama/Meta-Llama-3-70B-Instruct --num-rows 300000

The second user turn is elicited with the template's own rendering of the first turn, behind a
system prompt that asks for related questions; the answers never see that prompt. A conversation
that goes wrong after its first turn keeps that turn and says why there is no second.
"""

import sys
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.decoding import PRO_MIX, as_settings
from magpie_steps.job import Job, Run

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

SETTINGS: dict[str, Any] = {
    "instruction_mix": as_settings(PRO_MIX),  # the paper's table 7
    "response_sampling": {"temperature": 0.0, "max_new_tokens": 2048},
    "max_attempts": 10,
    "n_turns": 2,
}


def build_pipeline(run: Run) -> "Pipeline":
    """Return the pipeline: one generator, in which every row makes its own way."""
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name="magpie-pro-mt") as pipeline:
        magpie_steps.ConversationGenerator(
            llm=run.engine(), num_rows=run.num_rows, seed=run.seed, **SETTINGS
        )
    return pipeline


JOB = Job(name="magpie-pro-mt", build=build_pipeline, settings=SETTINGS)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
