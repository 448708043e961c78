"""How do the commands speak?"""

import sys


def say(text: str) -> None:
    """Write a text and a line feed at once, also where nobody looks."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fail(reason: object, *, code: int) -> int:
    """Say in one line why it does not work; return the exit code."""
    sys.stderr.write(f"magpie-steps: error: {' '.join(str(reason).split())}\n")
    return code
