"""How do the commands speak?"""

import sys

from magpie_steps.redaction import redacted


def say(text: str) -> None:
    """Write a text and a line feed at once, also where nobody looks."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fail(reason: object, *, code: int) -> int:
    """Say in one line why it does not work, without any secret; return the exit code."""
    sys.stderr.write(f"magpie-steps: error: {redacted(' '.join(str(reason).split()))}\n")
    return code
