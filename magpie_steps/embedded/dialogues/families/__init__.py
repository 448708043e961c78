"""All families of questions, one module for each category."""

from magpie_steps.embedded.dialogues.families import (
    advice_seeking,
    brainstorming,
    coding_debugging,
    creative_writing,
    data_analysis,
    editing,
    information_seeking,
    math,
    others,
    planning,
    reasoning,
    role_playing,
)

FAMILIES = (
    *information_seeking.FAMILIES,
    *reasoning.FAMILIES,
    *planning.FAMILIES,
    *editing.FAMILIES,
    *coding_debugging.FAMILIES,
    *math.FAMILIES,
    *role_playing.FAMILIES,
    *data_analysis.FAMILIES,
    *creative_writing.FAMILIES,
    *advice_seeking.FAMILIES,
    *brainstorming.FAMILIES,
    *others.FAMILIES,
)
