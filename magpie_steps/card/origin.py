"""How does a card say where the rows come from?"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from magpie_steps.card.front_matter import licence_of_models
from magpie_steps.card.record import Filtered, RunRecord
from magpie_steps.markup import code, fenced, plain, table
from magpie_steps.summary import Summary


def introduction(summary: Summary, record: RunRecord) -> str:
    """Return what the dataset is, in a sentence, and what has to be known first."""
    steered = (
        "a system prompt that names a topic" if any(summary.system_prompts) else "nothing else"
    )
    return "\n\n".join(
        [
            f"Written by {code(record.model)} with {plain(record.generator)}: the model was"
            f" prompted with its own pre-query template and {steered}, and answered what it had"
            " asked.",
            *(f"> {plain(remark)}" for remark in record.remarks),
        ]
    )


def generation(summary: Summary, record: RunRecord) -> str:
    """Return models, pre-query template, settings and system prompts."""
    parts = [
        _models(record),
        _template(record),
        *_settings(record.settings),
        _system_prompts(summary, record),
    ]
    return "\n\n".join(filter(None, parts))


def choice(filtered: Filtered) -> str:
    """Return a recipe's rules with the rows that each alone fails, and where it comes from."""
    recipe = filtered.recipe
    counts = [f"{filtered.fails[rule.name]:,}" for rule in recipe.rules]
    lines = [[plain(rule.text), n] for rule, n in zip(recipe.rules, counts, strict=True)]
    lines += [[plain(demand), ""] for demand in recipe.demands()[len(counts) :]]
    about = " ".join(filter(None, (recipe.source, recipe.description)))
    rules = table(["a row is kept if", "rows that fail this alone"], lines, numbers=True)
    return f"By the recipe {code(recipe.name)}: {plain(about)}\n\n{rules}"


def licence(record: RunRecord) -> str:
    """Return the dataset's licence and what its models' licences ask for."""
    found = licence_of_models(record)
    link = f"[{plain(found.name or found.id)}]({found.link})" if found.link else plain(found.id)
    given = f"The dataset is published under {code(record.license)}. " if record.license else ""
    return f"{given}What the models wrote is under: {link}. {plain(found.obligations)}".strip()


def reproduction(record: RunRecord) -> str:
    """Return the command and the versions that make the same rows."""
    versions = ", ".join(f"{plain(name)} {plain(v)}" for name, v in record.versions.items())
    pipeline = "`pipeline.yaml` is the same pipeline for `distilabel`'s `Pipeline.from_yaml`."
    return "\n\n".join(
        [
            *([fenced(record.command, "sh")] if record.command else []),
            *([pipeline] if record.pipeline else []),
            f"Versions: {versions}",
        ]
    )


def _models(record: RunRecord) -> str:
    if not record.models:
        return ""
    lines = [[plain(m.role), code(m.name), plain(m.revision)] for m in record.models]
    return table(["models", "name", "version"], lines)


def _template(record: RunRecord) -> str:
    """Return the pre-query template as it is rendered, and bare if that is another."""
    parts = [f"The pre-query template{_hash(record.template)}:", fenced(record.template)]
    if record.bare_template == record.template:
        parts.append("The chat template adds nothing of its own to it.")
    elif record.bare_template:
        without = "Without what the chat template adds on its own"
        parts += [f"{without}{_hash(record.bare_template)}:", fenced(record.bare_template)]
    return "\n\n".join(parts)


def _hash(text: str) -> str:
    return f" (sha256 `{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}`)"


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield tables of the settings: the single ones, then each way to sample by its name."""
    found = list(_flat(settings))
    single = [[plain(": ".join(path)), code(v)] for path, v in found if not _is_ways(v)]
    yield table(["setting", "value"], single)
    for path, value in found:
        if _is_ways(value):
            columns = list(next(iter(value.values())))
            lines = [[plain(key), *(code(way[c]) for c in columns)] for key, way in value.items()]
            yield table([plain(".".join(path)), *map(plain, columns)], lines, numbers=True)


def _is_ways(value: Any) -> bool:
    """Return whether a setting holds single settings of the same names, by a key for each."""
    if not isinstance(value, Mapping) or not value:
        return False
    kinds = {frozenset(way) if _is_flat(way) else None for way in value.values()}
    return len(kinds) == 1 and None not in kinds


def _is_flat(value: Any) -> bool:
    """Return whether a setting holds settings and each of them is a single one."""
    if not isinstance(value, Mapping) or not value:
        return False
    return not any(isinstance(inner, Mapping) for inner in value.values())


def _flat(
    settings: Mapping[str, Any], before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield single settings and ways to sample, each with the names that lead to it."""
    for name, value in settings.items():
        path = (*before, name)
        if isinstance(value, Mapping) and value and not _is_ways(value):
            yield from _flat(value, path)
        else:
            yield path, value


def _system_prompts(summary: Summary, record: RunRecord) -> str:
    if not record.system_prompts:
        return ""
    total = sum(weight for weight, _ in record.system_prompts.values())
    kept = max(summary.kept, 1)
    lines = [
        [
            code(key),
            f"{weight / total:.1%}",
            f"{summary.system_prompts.get(key, 0) / kept:.1%}",
            plain(text),
        ]
        for key, (weight, text) in record.system_prompts.items()
    ]
    return table(["system prompt", "asked for", "of the kept rows", "text"], lines)
