"""Magpie-Air-MT: conversations of two turns, in which the model also writes the user's follow-up.

    python pipelines/magpie_air_mt.py --model meta-llama/Meta-Llama-3-8B-Instruct --num-rows 300000

The second user turn is elicited with the template's own rendering of the first turn, behind a
system prompt that asks for related questions; the answers never see that prompt. A conversation
that goes wrong after its first turn keeps that turn and says why there is no second.
"""

import sys

from magpie_steps.decoding import AIR_MIX, as_settings
from magpie_steps.job import conversation_job

SETTINGS = {
    "instruction_mix": as_settings(AIR_MIX),  # the paper's table 7
    "response_sampling": {"temperature": 0.0, "max_new_tokens": 2048},
    "max_attempts": 10,
    "n_turns": 2,
}

JOB = conversation_job("magpie-air-mt", SETTINGS)

if __name__ == "__main__":
    sys.exit(JOB.main(__doc__))
