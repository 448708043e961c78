"""What can be known to go wrong before any process is started."""

import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

from pydantic import BaseModel

from magpie_steps.supervision.errors import PipelineRunError


def check_picklable(step: Any) -> None:
    """Raise when a step cannot be sent to its process, saying which of its parts is at fault.

    Raises:
        PipelineRunError: it cannot; distilabel itself would wait for it for ever.
    """
    parent, step.pipeline = step.pipeline, None
    try:
        error = _pickle_error(step)
        if error is None:
            return
        raise PipelineRunError(
            f"step {step.name!r} cannot be sent to its process: {_culprit(step)}{error};"
            " define classes and functions at the top level of a module, and open files, clients"
            " and models in load()",
            step=step.name,
        )
    finally:
        step.pipeline = parent


class _Nowhere:
    """A file that keeps nothing: a step may hold more data than fits in memory twice."""

    def write(self, data: bytes) -> int:
        return len(data)


def _pickle_error(value: object) -> str | None:
    try:
        ForkingPickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception as error:  # noqa: BLE001 - pickling runs foreign code
        return f"{type(error).__name__}: {error}"
    return None


def _culprit(model: BaseModel) -> str:
    kind = type(model)
    if "<locals>" in kind.__qualname__:
        return f"its class {kind.__qualname__} is defined inside a function; "
    values = {**model.__dict__, **(model.__pydantic_private__ or {})}
    for name, value in values.items():
        if _pickle_error(value) is not None:
            inner = _culprit(value) if isinstance(value, BaseModel) else ""
            return f"its {name!r} cannot be pickled; {inner}"
    return ""
