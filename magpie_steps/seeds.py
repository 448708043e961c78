"""Where does a row's chance come from?

Everything random in a row follows from the run's seed and the row's number alone, so a row does not
depend on the batch size, on where a run was restarted or on its neighbours.
"""

import hashlib
import random
import uuid

_SEED_BITS = 63

SEEDS = 2**_SEED_BITS
"""How many there are. They fit a signed 64-bit integer: the column is int64, and every sampler
takes that many."""

_UUID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/magpie-steps/")


def row_random(seed: int, row: int) -> random.Random:
    """Return the random generator of one row, the same for the same seed and row."""
    return random.Random(f"{seed}:{row}")


def call_seed(seed: int, row: int, role: str, turn: int, attempt: int) -> int:
    """Return the sampling seed of one model call, 0 to 2**63 - 1.

    Args:
        seed: The run's seed.
        row: The row's number, from 0.
        role: What is generated, for example ``"instruction"`` or ``"response"``.
        turn: The turn's number, from 0.
        attempt: The attempt's number, from 0.

    Returns:
        The first 63 bits of the SHA-256 of the parts: stable between Python versions and machines.
    """
    parts = f"{seed}:{row}:{role}:{turn}:{attempt}".encode()
    digest = hashlib.sha256(parts).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def row_uuid(run_key: str, row: int) -> str:
    """Return the row's version 5 UUID, the same for the same run key and row."""
    return str(uuid.uuid5(_UUID_NAMESPACE, f"{run_key}:{row}"))


def key_of(*parts: object) -> str:
    """Return a run key: the SHA-256 of what a row's content depends on, as 64 hex digits.

    Args:
        parts: The values; each counts by its ``repr``, so give only scalars, strings, tuples, lists
            and dicts of them, in a fixed order.
    """
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()
