"""Which labels do rules give an instruction, where there is no model to ask?

Words and form alone: good enough to try a pipeline out on the miniature models, whose questions are
of a dozen kinds, and no judgement of a real dataset. Rows say that rules chose their labels.
"""

import re
from itertools import pairwise
from typing import Any

from magpie_steps.labels import Category, Difficulty, Quality

GENERATOR = "rules"
"""What rows name as the generator of these labels."""

_CATEGORIES: tuple[tuple[Category, str], ...] = (
    (
        Category.CODING_DEBUGGING,
        r"\bdef \w+\(|\bprint\(|```|\b(code|function|debug|bug|script|python|javascript|sql|regex"
        r"|html|compile|algorithm|api)\b",
    ),
    (
        Category.ROLE_PLAYING,
        r"^(you are (a|an|the)|act as|pretend|imagine you|speak like|play the role)\b|role.?play",
    ),
    (
        Category.EDITING,
        r"^(change|delete|remove|replace|reverse)\b|\b(rewrite|rephrase|paraphrase|proofread|edit"
        r"|shorten|summari[sz]e|correct (this|the)|past tense|comma separated|put commas|backwards"
        r"|spelling|grammar|capital letters|replace the word)\b",
    ),
    (
        Category.OTHERS,
        r"^(hi|hello|hey|thanks|thank you|good (morning|evening|afternoon)|i am (happy|sad))\b"
        r"|\b(translate|word for|opposite|in (french|spanish|german|italian|english))\b"
        r"|\bhow do you say\b",
    ),
    (
        Category.PLANNING,
        r"\b(plan|schedule|itinerary|roadmap|timetable)\b|\b(in )?\d+ steps\b|\bsteps to\b",
    ),
    (
        Category.CREATIVE_WRITING,
        r"\b(poem|story|slogan|haiku|lyrics|song|rhyme|tale|novel|screenplay|limerick|title)\b",
    ),
    (
        Category.BRAINSTORMING,
        r"\b(brainstorm|ideas?|(list|suggest|give me|name|think of|need|are) \d+ )"
        r"|\b\d+ (good )?names",
    ),
    (
        Category.ADVICE_SEEKING,
        r"\b(advice|advise|should|suggest|recommend|tips|how do i)\b|^how can (i|we|my|a|an)\b",
    ),
    (
        Category.REASONING,
        r"\b(puzzle|riddle|logic|deduce|belong: |does not belong|not one of|odd one|sequence"
        r"|comes (after|next)|what (day|number) (comes|is)|which (one|word|number) (is|does|comes)"
        r"|(more|less) \w+ than|how many are|how many \w+ does \w+ have|are left)\b",
    ),
    (
        Category.DATA_ANALYSIS,
        r"\b(data|dataset|table|chart|average|mean|median|sort|from (largest|smallest)|largest of"
        r"|smallest of|count the|values?|statistics?|correlation|outliers?|in order)\b|: \d+, ",
    ),
    (
        Category.MATH,
        r"\d+ ?([-+*/x]|plus|minus|times) ?\d+|\b(sum|difference|product|multiply|divide|add"
        r"|subtract|twice|double|half|equation|solve|integral|derivative|prove|theorem|convert"
        r"|percent|calculate|how much is)\b|\bhow many \w+ (is|are in) \d+",
    ),
    (
        Category.INFORMATION_SEEKING,
        r"\?|^(what|who|when|where|why|which|how|tell|explain|describe)\b",
    ),
)
"""The first pattern that an instruction holds says its kind."""

_DEMANDING = frozenset(
    {Category.CODING_DEBUGGING, Category.REASONING, Category.DATA_ANALYSIS, Category.PLANNING}
)
_EFFORT = r"\b(prove|explain why|compare|design|optimi[sz]e|analy[sz]e|derive|implement)\b"


def category_of(instruction: str) -> tuple[Category, list[Category]]:
    """Return the kind of task, and the other kinds whose words an instruction holds."""
    text = instruction.casefold()
    found = [kind for kind, pattern in _CATEGORIES if re.search(pattern, text, re.MULTILINE)]
    first = found[0] if found else Category.OTHERS
    others: list[Category] = [kind for kind in found[1:] if kind != Category.INFORMATION_SEEKING]
    return first, others[:2]


def difficulty_of(instruction: str) -> Difficulty:
    """Return a level that grows with length, numbers, lines of code and demanding words."""
    words = len(instruction.split())
    points = (words > 8) + (words > 20) + (words > 60)
    points += category_of(instruction)[0] in _DEMANDING
    points += len(re.findall(r"\d+", instruction)) > 2
    points += bool(re.search(_EFFORT, instruction.casefold()))
    return list(Difficulty)[min(points, len(Difficulty) - 1)]


def quality_of(instruction: str) -> tuple[Quality, str]:
    """Return a level that falls with each flaw of form, and the flaws."""
    flaws = _flaws(instruction)
    levels = list(Quality)
    level = levels[max(len(levels) - 1 - len(flaws), 0)]
    return level, f"By form: {', '.join(flaws) if flaws else 'no flaw found'}."


def rule_tags(instruction: str) -> dict[str, Any]:
    """Return the columns of all three tags."""
    category, others = category_of(instruction)
    quality, explanation = quality_of(instruction)
    difficulty = difficulty_of(instruction)
    return {
        "task_category": str(category),
        "other_task_category": [str(other) for other in others],
        "task_category_generator": GENERATOR,
        "difficulty": str(difficulty),
        "intent": "",
        "knowledge": "",
        "difficulty_generator": GENERATOR,
        "input_quality": str(quality),
        "quality_explanation": explanation,
        "quality_generator": GENERATOR,
    }


def _flaws(instruction: str) -> list[str]:
    words = re.findall(r"\w+", instruction.casefold())
    last_line = instruction.rstrip().rpartition("\n")[2]
    checks = (
        (len(words) < 3, "very short"),
        (len(words) > 400, "very long"),
        (not instruction[:1].isupper(), "no capital at the beginning"),
        (not re.search(r"[.?!:)\]}\"'`]$|\d$", last_line) and "\n" not in instruction, "no end"),
        (any(a == b for a, b in pairwise(words)), "a word twice in a row"),
        (instruction.count('"') % 2 == 1, "a quote that does not end"),
        (instruction.rstrip().endswith(("...", "…", ":")), "it breaks off"),
    )
    return [flaw for holds, flaw in checks if holds]
