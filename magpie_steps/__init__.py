"""Magpie as distilabel steps: instruction data from an aligned model, prompted with nothing.

Importing the package imports neither distilabel nor torch; a component's module is imported when
the component is first asked for.
"""

import warnings
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ApplyRecipe": "magpie_steps.steps.apply_recipe",
    "BaseResponse": "magpie_steps.steps.base_response",
    "CategoryTagger": "magpie_steps.steps.taggers",
    "CompletionsEngine": "magpie_steps.engines.completions",
    "ContinueConversation": "magpie_steps.steps.continue_conversation",
    "ConversationGenerator": "magpie_steps.steps.conversation",
    "Decontaminate": "magpie_steps.steps.decontaminate",
    "DifficultyTagger": "magpie_steps.steps.taggers",
    "Engine": "magpie_steps.engines.base",
    "FormatPreference": "magpie_steps.steps.format_preference",
    "FormatSFT": "magpie_steps.steps.format_sft",
    "GenerateResponse": "magpie_steps.steps.response",
    "InstructionGenerator": "magpie_steps.steps.instruction",
    "InstructionTagger": "magpie_steps.steps.taggers",
    "LanguageTagger": "magpie_steps.steps.language",
    "NeighbourDistance": "magpie_steps.steps.neighbour_distance",
    "PreQueryTemplate": "magpie_steps.templates",
    "QualityTagger": "magpie_steps.steps.taggers",
    "RewardScorer": "magpie_steps.steps.reward",
    "RuleTagger": "magpie_steps.steps.rule_tagger",
    "SafetyTagger": "magpie_steps.steps.safety",
    "SampleResponses": "magpie_steps.steps.sample_responses",
    "ScriptedEngine": "magpie_steps.engines.scripted",
    "ServedEngine": "magpie_steps.engines.served",
    "TransformersEngine": "magpie_steps.engines.transformers",
    "VLLMEngine": "magpie_steps.engines.vllm",
    "run_pipeline": "magpie_steps.running",
    "write_repository": "magpie_steps.repository",
}
"""Every public name and the module it lives in."""

__all__ = [
    "ApplyRecipe",
    "BaseResponse",
    "CategoryTagger",
    "CompletionsEngine",
    "ContinueConversation",
    "ConversationGenerator",
    "Decontaminate",
    "DifficultyTagger",
    "Engine",
    "FormatPreference",
    "FormatSFT",
    "GenerateResponse",
    "InstructionGenerator",
    "InstructionTagger",
    "LanguageTagger",
    "NeighbourDistance",
    "PreQueryTemplate",
    "QualityTagger",
    "RewardScorer",
    "RuleTagger",
    "SafetyTagger",
    "SampleResponses",
    "ScriptedEngine",
    "ServedEngine",
    "TransformersEngine",
    "VLLMEngine",
    "run_pipeline",
    "write_repository",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from magpie_steps.engines.tracebacks import hide_variables

    with warnings.catch_warnings():
        # Importing distilabel 1.5.3 warns of its own old names and fields; a user can mend neither.
        warnings.filterwarnings("ignore", message="Importing from 'distilabel.llms' is deprecated")
        warnings.filterwarnings("ignore", message="The 'default' attribute with value None was")
        value = getattr(import_module(_HOMES[name]), name)
    hide_variables()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted([*globals(), *_HOMES])
