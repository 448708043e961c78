"""What does a shard's pipeline say of the whole run's?"""

from typing import Any

import yaml


def whole(pipeline: str, all_rows: int) -> str:
    """Return a shard's pipeline as that of all rows, in YAML.

    Args:
        pipeline: The pipeline in YAML, "" for none.
        all_rows: Rows of all shards together.

    Raises:
        ValueError: If it is no pipeline's YAML.
    """
    content = _loaded(pipeline)
    for step in _steps(content):
        if "first_row" in step:
            step |= {"num_rows": all_rows, "first_row": 0}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True) if content else ""


def step_named(pipeline: str, component: str) -> dict[str, Any]:
    """Return the settings of a pipeline's step by its component, {} if there is none.

    Args:
        pipeline: The pipeline in YAML, "" for none.
        component: The name of the step's class.

    Raises:
        ValueError: If it is no pipeline's YAML.
    """
    steps = _steps(_loaded(pipeline))
    return next((each for each in steps if each["type_info"]["name"] == component), {})


def _loaded(pipeline: str) -> Any:
    """Return what a pipeline's YAML holds, None for an empty one."""
    try:
        content = yaml.safe_load(pipeline)
        names = [step["type_info"]["name"] for step in _steps(content)]
    # ValueError: a date that is none.
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"a shard's pipeline.yaml is not what a run writes: {type(error).__name__}; run that"
            " shard again"
        ) from None
    return content if names else None


def _steps(content: Any) -> list[dict[str, Any]]:
    return [each["step"] for each in content["pipeline"]["steps"]] if content else []
