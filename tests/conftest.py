"""How tests run: without the network unless they lift this themselves, a file's tests together."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items):
    """Let one process run a file's tests, and all those with the one Argilla server."""
    for item in items:
        argilla = item.get_closest_marker("argilla")
        item.add_marker(pytest.mark.xdist_group("argilla" if argilla else str(item.path)))
