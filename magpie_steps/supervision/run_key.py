"""What identifies a run: everything that its rows can depend on, as one hash."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from distilabel.constants import STEP_ATTR_NAME
from distilabel.pipeline import Pipeline
from pydantic import BaseModel, SecretBytes, SecretStr

_NOT_AN_INPUT = {"pipeline", "exclude_from_signature"}


def run_key(pipeline: Pipeline) -> str:
    """A hash of the pipeline's configuration, its input data and the code of its steps.

    distilabel's own signatures leave out data given to a step in memory, a step's inputs, its code
    and its batch size. Files that a step reads count by path, size and time of change; what a step
    fetches from elsewhere (the Hub, a server) is not seen.
    """
    parts = [json.dumps(pipeline.dump(), sort_keys=True, default=repr)]
    for name in pipeline.dag:
        step = pipeline.dag.get_step(name)[STEP_ATTR_NAME]
        parts.extend(_model_parts(step))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _model_parts(model: BaseModel) -> Iterator[str]:
    yield _code_of(type(model))
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name in _NOT_AN_INPUT or isinstance(value, SecretStr | SecretBytes):
            continue
        if field.exclude:
            yield f"{name}={json.dumps(value, sort_keys=True, default=repr)}"
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, BaseModel):
                yield from _model_parts(item)
            elif isinstance(item, str):
                yield from _path_parts(item)


def _code_of(cls: type) -> str:
    """The source files of a class and of the bases that are not distilabel's."""
    files = {getattr(sys.modules.get(base.__module__), "__file__", None) for base in cls.__mro__}
    code = [
        hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for file in sorted(filter(None, files))
        if file.endswith(".py") and Path(file).is_file()
    ]
    return f"{cls.__module__}.{cls.__qualname__} {' '.join(code)}"


def _path_parts(text: str) -> Iterator[str]:
    # An empty text would be the folder that we are in.
    if not text or "\n" in text or len(text) > 1024 or not Path(text).exists():
        return
    top = Path(text)
    for path in [top] if top.is_file() else sorted(top.iterdir()):
        status = path.stat()
        yield f"{path} {status.st_size} {status.st_mtime_ns}"
