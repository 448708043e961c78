"""How do the settings of a review become those of an Argilla dataset, which may have others?"""

from collections.abc import Iterable, Mapping
from typing import Any

from magpie_steps.review.settings import (
    EMBEDDING,
    PROPERTIES,
    Layout,
    Property,
    Question,
    ReviewField,
)

Signature = Mapping[str, str]
"""What matters of settings, in words, by kind and name: records must fit."""

_TYPES = {
    "label": "label_selection",
    "labels": "multi_label_selection",
    "ranking": "ranking",
    "text": "text",
}
"""Argilla's words for kinds of questions."""


def as_settings(library: Any, client: Any, layout: Layout) -> Any:
    """Return settings as Argilla's library takes them.

    Args:
        library: The module ``argilla``.
        client: Its client.
        layout: The settings.
    """
    vector = {"name": EMBEDDING, "dimensions": layout.dimensions, "_client": client}
    return library.Settings(
        guidelines=layout.guidelines,
        fields=[_field(library, client, each) for each in layout.fields],
        questions=[_question(library, client, each) for each in layout.questions],
        metadata=[
            _property(library, client, each, hidden=layout.hides(each)) for each in PROPERTIES
        ],
        vectors=[library.VectorField(**vector)] if layout.dimensions else [],
        distribution=library.TaskDistribution(min_submitted=layout.min_submitted),
    )


def signature(layout: Layout) -> Signature:
    """Return what matters of the settings that a review needs."""
    return {
        **{f"field {f.name}": "chat" if f.chat else "text" for f in layout.fields},
        **{f"question {q.name}": _words(_TYPES[q.kind], q.labels) for q in layout.questions},
        **{f"metadata {p.name}": p.kind for p in PROPERTIES},
        **({f"vector {EMBEDDING}": str(layout.dimensions)} if layout.dimensions else {}),
    }


def signature_of(
    fields: Iterable[Mapping[str, Any]],
    questions: Iterable[Mapping[str, Any]],
    properties: Iterable[Mapping[str, Any]],
    vectors: Iterable[Mapping[str, Any]],
) -> Signature:
    """Return what matters of a dataset's settings as the server tells them."""
    return {
        **{f"field {f['name']}": f["settings"]["type"] for f in fields},
        **{
            f"question {q['name']}": _words(
                q["settings"]["type"], [each["value"] for each in q["settings"].get("options", ())]
            )
            for q in questions
        },
        **{f"metadata {p['name']}": p["settings"]["type"] for p in properties},
        **{f"vector {v['name']}": str(v["dimensions"]) for v in vectors},
    }


def differences(wanted: Signature, found: Signature) -> str:
    """Return in words how settings differ, "" if they do not."""
    lacks = [f"{name} ({kind})" for name, kind in wanted.items() if name not in found]
    more = [f"{name} ({kind})" for name, kind in found.items() if name not in wanted]
    other = [
        f"{name} is {found[name]}, not {kind}"
        for name, kind in wanted.items()
        if found.get(name, kind) != kind
    ]
    parts = (("it lacks ", lacks), ("it has besides ", more), ("", other))
    return "; ".join(f"{word}{', '.join(names)}" for word, names in parts if names)


def _words(kind: str, labels: Iterable[str]) -> str:
    names = [str(label) for label in labels]
    return f"{kind} of {', '.join(names)}" if names else kind


def _field(library: Any, client: Any, each: ReviewField) -> Any:
    # With Markdown: the texts are markup of `display`, which Argilla then sanitises besides.
    common = {"title": each.title, "required": each.required, "use_markdown": True}
    if each.chat:
        return library.ChatField(each.name, **common, _client=client)
    return library.TextField(each.name, **common, client=client)


def _question(library: Any, client: Any, each: Question) -> Any:
    common = {
        "name": each.name,
        "title": each.title,
        "description": each.description,
        "required": each.required,
        "client": client,
    }
    labels = dict(each.labels)
    if each.kind == "label":
        return library.LabelQuestion(labels=labels, **common)
    if each.kind == "labels":
        return library.MultiLabelQuestion(labels=labels, **common)
    if each.kind == "ranking":
        return library.RankingQuestion(values=labels, **common)
    return library.TextQuestion(**common)


def _property(library: Any, client: Any, each: Property, *, hidden: bool) -> Any:
    classes = {
        "terms": library.TermsMetadataProperty,
        "integer": library.IntegerMetadataProperty,
        "float": library.FloatMetadataProperty,
    }
    return classes[each.kind](
        name=each.name, title=each.name, visible_for_annotators=not hidden, client=client
    )
