"""The main job: a Magpie dataset, written by one aligned model that is prompted with nothing.

The model's chat template is cut where a user's text begins; the model writes that text itself, then
answers it. With no arguments the model is the one that ships with the package; others by name:

    python pipelines/magpie_pro.py --model Qwen/Qwen2.5-0.5B-Instruct --num-rows 1000

Then every row is judged: difficulty, quality and category of its instruction, its language, the
reward of its response, how near it is to the other instructions. A recipe says which rows to keep;
none is deleted, and each says why it was left out.

The output folder is a Hub dataset repository, which ``datasets.load_dataset`` opens. The ``.work``
folder beside it keeps every completion: after a crash the same command goes on from there.
"""

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import magpie_steps
from magpie_steps.decoding import PRO_MIX, as_settings
from magpie_steps.job import Job
from magpie_steps.job.run import Run

if TYPE_CHECKING:
    from distilabel.pipeline import Pipeline

SETTINGS: dict[str, Any] = {
    "instruction_mix": as_settings(PRO_MIX),  # the paper's table 7
    "response_sampling": {"temperature": 0.0, "max_new_tokens": 2048},
    "max_attempts": 10,
}


def build_pipeline(run: Run) -> "Pipeline":
    """Return the pipeline: a line of steps, from no rows to rows that are judged."""
    from distilabel.pipeline import Pipeline  # slow: a wrong flag should be told at once

    with Pipeline(name="magpie-pro") as pipeline:
        conversations = magpie_steps.ConversationGenerator(
            llm=run.engine(),
            num_rows=run.num_rows,
            first_row=run.first_row,
            seed=run.seed,
            keep_reasoning=run.keep_reasoning,
            **SETTINGS,
        )
        for before, after in pairwise([conversations, *run.judges()]):
            before >> after
    return pipeline


JOB = Job(
    name="magpie-pro",
    build=build_pipeline,
    settings=SETTINGS,
    models=("model", "reward_model"),
    recipe="pro",  # the paper's filter for Magpie-Pro (table 5)
    exports=("sft",),
)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
