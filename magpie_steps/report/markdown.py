"""How does a part of the report stand in a dataset's card?"""

from magpie_steps.markup import code, plain, table
from magpie_steps.report.sections import Section


def markdown(section: Section) -> str:
    """Return a section's text and tables in Markdown, without its heading."""
    parts = [plain(text) for text in section.text]
    for each in section.tables:
        written = [code if name in each.texts else plain for name in each.header]
        lines = [[w(cell) for w, cell in zip(written, line, strict=True)] for line in each.lines]
        parts += [f"{plain(each.title)}:", table([plain(name) for name in each.header], lines)]
    return "\n\n".join(parts)
