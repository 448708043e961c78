"""Which columns say what rows are like: labels, language, safety, neighbours, contamination?"""

from magpie_steps.column_types import Column

DIFFICULTY_TAGGERS = "InstructionTagger, DifficultyTagger, RuleTagger"
QUALITY_TAGGERS = "InstructionTagger, QualityTagger, RuleTagger"
CATEGORY_TAGGERS = "InstructionTagger, CategoryTagger, RuleTagger"
SAFETY = "SafetyTagger"
LANGUAGE = "LanguageTagger"
NEIGHBOURS = "NeighbourDistance"
DECONTAMINATION = "Decontaminate"

LABEL_COLUMNS: tuple[Column, ...] = (
    Column(
        "task_category",
        "string",
        "",
        'one of twelve categories, or ""',
        CATEGORY_TAGGERS,
        "What kind of task the instruction is.",
    ),
    Column(
        "other_task_category",
        ["string"],
        "",
        "categories",
        CATEGORY_TAGGERS,
        "Which other kinds of task it is as well.",
    ),
    Column(
        "task_category_generator",
        "string",
        "",
        'hub id or folder name, rules, ""',
        CATEGORY_TAGGERS,
        "What chose the categories.",
    ),
    Column(
        "difficulty",
        "string",
        "",
        'very easy, easy, medium, hard, very hard, ""',
        DIFFICULTY_TAGGERS,
        "How hard the instruction is to answer.",
    ),
    Column(
        "intent",
        "string",
        "",
        "text",
        DIFFICULTY_TAGGERS,
        "What the user wants, in the tagger's words.",
    ),
    Column(
        "knowledge",
        "string",
        "",
        "text",
        DIFFICULTY_TAGGERS,
        "What one must know to answer, in the tagger's words.",
    ),
    Column(
        "difficulty_generator",
        "string",
        "",
        'hub id or folder name, rules, ""',
        DIFFICULTY_TAGGERS,
        "What chose the difficulty.",
    ),
    Column(
        "input_quality",
        "string",
        "",
        'very poor, poor, average, good, excellent, ""',
        QUALITY_TAGGERS,
        "How clear, specific and coherent the instruction is.",
    ),
    Column(
        "quality_explanation",
        "string",
        "",
        "text",
        QUALITY_TAGGERS,
        "Why, in the tagger's words.",
    ),
    Column(
        "quality_generator",
        "string",
        "",
        'hub id or folder name, rules, ""',
        QUALITY_TAGGERS,
        "What chose the quality.",
    ),
    Column(
        "tag_failures",
        [{"tag": "string", "reason": "string", "raw": "string"}],
        "",
        "reasons like unknown_label",
        f"{DIFFICULTY_TAGGERS}, QualityTagger, CategoryTagger, {SAFETY}",
        "Which labels the row has not got and why; with what the tagger wrote if that is kept.",
    ),
    Column(
        "safe",
        "bool",
        "",
        "true, false",
        SAFETY,
        "Whether the guard model found the conversation safe; false also without a verdict.",
    ),
    Column(
        "unsafe_categories",
        ["string"],
        "",
        "names like violent_crimes",
        SAFETY,
        "Which of the guard model's categories the conversation falls into.",
    ),
    Column("guard_raw", "string", "", "text", SAFETY, "The guard model's answer as it wrote it."),
    Column(
        "guard_generator",
        "string",
        "",
        'hub id or folder name, ""',
        SAFETY,
        "The guard model.",
    ),
    Column(
        "language",
        "string",
        "",
        'ISO 639-1 code in capitals, ""',
        LANGUAGE,
        'The language of the instruction, "" if its text does not tell.',
    ),
    Column(
        "language_score",
        "float64",
        "",
        "0 to 1, NaN for none",
        LANGUAGE,
        "How sure that is, among all languages that were looked for.",
    ),
    Column(
        "min_neighbor_distance",
        "float64",
        "",
        "0 to 4, NaN for none",
        NEIGHBOURS,
        "Squared distance of the instruction to the nearest other one, as embeddings of length 1;"
        " 4 if there is no other.",
    ),
    Column(
        "repeat_count",
        "int64",
        "rows",
        ">= 0",
        NEIGHBOURS,
        "Other instructions that are nearer than the threshold.",
    ),
    Column(
        "min_similar_uuid",
        "string",
        "",
        'uuid, ""',
        NEIGHBOURS,
        'The row that stands for the instruction and those near it, "" if none is near.',
    ),
    Column(
        "contaminated_by",
        "string",
        "",
        'an evaluation set\'s name, ""',
        DECONTAMINATION,
        'The evaluation set that the instruction repeats a prompt of, "" for none.',
    ),
    Column(
        "contamination_overlap",
        "float64",
        "",
        "0 to 1, NaN for none",
        DECONTAMINATION,
        "Largest share of an evaluation prompt's words that the instruction has in runs of eight.",
    ),
)
"""In the order of the published files, as part of `magpie_steps.columns.COLUMNS`."""
