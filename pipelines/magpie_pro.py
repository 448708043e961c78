"""The main job: a Magpie dataset, written by one aligned model that is prompted with nothing.

The model's chat template is cut where a user's text begins; the model writes that text itself, then
answers it. With no arguments the model is the one that ships with the package; others by name:

    python pipelines/magpie_pro.py --model Qwen/Qwen2.5-0.5B-Instruct --num-rows 1000

The output folder is a Hub dataset repository, which ``datasets.load_dataset`` opens. The ``.work``
folder beside it keeps every completion: after a crash the same command goes on from there.
"""

import sys

from magpie_steps.decoding import PRO_MIX, as_settings
from magpie_steps.job import conversation_job

SETTINGS = {
    "instruction_mix": as_settings(PRO_MIX),  # the paper's table 7
    "response_sampling": {"temperature": 0.0, "max_new_tokens": 2048},
    "max_attempts": 10,
}

JOB = conversation_job("magpie-pro", SETTINGS)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
