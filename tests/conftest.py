"""No test asks the network for anything, unless it is marked so and lifts this itself."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from magpie_steps.engines.transformers import TransformersEngine

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="module")
def behind() -> Iterator["TransformersEngine"]:
    """The model behind the servers of a module, and what their answers are compared with."""
    from magpie_steps.embedded import model_path
    from magpie_steps.engines.transformers import TransformersEngine  # slow, and for few tests

    engine = TransformersEngine(model=str(model_path("tiny-instruct")))
    engine.load()
    yield engine
    engine.unload()
