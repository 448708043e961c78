"""How is told what a dataset repeats of others, and tells of people?"""

from collections.abc import Iterator

from magpie_steps.report.contamination import NEAR, Contamination
from magpie_steps.report.tables import Table


def compared(found: Contamination) -> str:
    """Return with what the instructions were compared, and how."""
    if not found.sets:
        return "The dataset was compared with no evaluation set and no public training set."
    return (
        f"Every instruction is compared with every prompt; {found.without:,} rows have none. It"
        " counts as a repeat if runs of eight words that both have cover more than half of the"
        " prompt's words, or if both are equal but for case, punctuation and white space."
        " Embeddings are compared for random samples of instructions and prompts; near means a"
        f" cosine of at least {NEAR}."
    )


def searched(found: Contamination) -> str:
    """Return where personal data was looked for, and whether there is any."""
    result = "this is what was found, masked" if found.personal_data else "none was found"
    return (
        "Personal data is looked for by its form in the first turn of all"
        f" {found.rows:,} rows; {result}."
    )


def tables(found: Contamination) -> Iterator[Table]:
    """Yield the tables of what was found; without anything found they have no lines."""
    yield Table(
        "Rows that repeat a set",
        ("set", "prompts", "repeating rows", "of them kept", "equal", "near by meaning"),
        [
            (
                f"{each.name} ({'training' if each.known else 'evaluation'})",
                f"{'' if each.complete else 'first '}{each.prompts:,}"
                f"{f' and {each.empty:,} empty' if each.empty else ''}",
                f"{each.rows:,}",
                f"{each.kept:,}",
                f"{each.equal:,}",
                f"{each.near.rows:,} of {each.near.of_rows:,}",
            )
            for each in found.sets
        ],
    )
    yield Table(
        "Instructions that repeat most of a prompt",
        ("set", "share", "instruction", "prompt"),
        [
            (each.name, f"{one.share:.0%}", one.instruction, one.prompt)
            for each in found.sets
            for one in each.examples
        ],
        texts=("instruction", "prompt"),
    )
    yield Table(
        "Personal data",
        ("kind", "instructions", "responses", "examples, masked"),
        [
            (
                each.kind.replace("_", " "),
                f"{each.instructions:,}",
                f"{each.responses:,}",
                ", ".join(each.examples),
            )
            for each in found.personal_data
        ],
        texts=("examples, masked",),
    )
