"""Magpie-Air: many conversations from a small aligned model, prompted with nothing.

The paper's came from Llama-3-8B-Instruct, 3M conversations in 206 GPU hours (section 3.4):

    python pipelines/magpie_air.py --model meta-llama/Meta-Llama-3-8B-Instruct --num-rows 3000000

It is the main job with a hotter mix of temperatures, since a small model repeats itself sooner.
"""

import sys

from magpie_steps.decoding import AIR_MIX, as_settings
from magpie_steps.job import conversation_job

SETTINGS = {
    "instruction_mix": as_settings(AIR_MIX),  # the paper's table 7
    "response_sampling": {"temperature": 0.0, "max_new_tokens": 2048},
    "max_attempts": 10,
}

JOB = conversation_job("magpie-air", SETTINGS)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
