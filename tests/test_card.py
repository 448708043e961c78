import json
import re

import pytest
import yaml
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from pyarrow import schema, string

from magpie_steps import columns
from magpie_steps.card import card
from magpie_steps.card.front_matter import languages, size_category
from magpie_steps.card.record import (
    Config,
    Contents,
    Figure,
    Filtered,
    ModelUsed,
    RunRecord,
)
from magpie_steps.card.revision import with_configs, with_section
from magpie_steps.decoding import PRO_MIX, as_settings
from magpie_steps.effort import Effort
from magpie_steps.markup import code, fenced, plain, table, visible
from magpie_steps.recipes import RECIPES
from magpie_steps.summary import summarise

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")

HOSTILE = (
    "a ``` fence\n````\n~~~\n<script>alert(1)</script></details><!-- | pipe \\| \\\\| end",
    "---\nlicense: mit\n---\n# heading\n\n| a | b |\n| --- | --- |\n| 1 | 2 |",
    "![x](http://evil.example/x.png) [y](javascript:alert(1)) <img src=x onerror=alert(1)>",
    "\u202eright to left\u2066 \u200b \x00\x1b[31m \ud800 \u2028next\u2029",
    "`` ` ``` `code` **bold** _it_ $x^{2$ &lt; &#60; ~~gone~~ {{ x }} {% raw %}",
    "- item\n1. one\n> quote\n===\n    indented\n\tcode",
)


def row(number, **changes):
    return {
        **columns.empty_row(),
        "uuid": f"id-{number}",
        "model": "m",
        "instruction": f"Ask {number}?",
        "response": "Answer.",
        "keep": True,
        **changes,
    }


def record(**changes):
    return RunRecord(
        **{
            "title": "Magpie Test",
            "model": "m",
            "settings": {"seed": 0, "instruction_temperature": 1.0},
            "template": "<|bos|>user\n",
            "versions": {"magpie-steps": "0.1.0"},
            "effort": Effort(seconds=2.0),
            **changes,
        }
    )


def contents(**changes):
    config = Config("default", "data", "every row", 2, 10, 20, schema([("uuid", string())]))
    return Contents(**{"configs": [config], "names": columns.NAMES, **changes})


def written(rows=(), record_=None, **changes):
    return card(summarise(rows), record_ or record(), contents(**changes))


def front_matter(text):
    head, matter, _ = text.split("---\n", 2)
    assert head == ""
    return yaml.safe_load(matter)


def structure(text):
    """Return what a Markdown reader takes for structure, without the texts."""
    found = []
    for token in MARKDOWN.parse(text.split("\n---\n", 1)[1]):
        inside = [child.type for child in token.children or () if child.type != "text"]
        found.append((token.type, token.tag, inside))
    return found


# The top


def test_licence_is_that_of_the_models_unless_another_is_chosen():
    llama = record(models=[ModelUsed("writes", "meta-llama/Llama-3.1-8B-Instruct", "", True)])
    text = written(record_=llama)
    assert front_matter(text)["license"] == "llama3.1"
    assert "Built with Llama" in text
    chosen = record(license="cc-by-4.0", models=llama.models)
    text = written(record_=chosen)
    assert front_matter(text)["license"] == "cc-by-4.0"
    assert "Built with Llama" in text


def test_an_unknown_licence_is_other_with_a_link_and_never_guessed():
    unknown = record(models=[ModelUsed("writes", "someone/Llama-3-tuned", "", True)])
    matter = front_matter(written(record_=unknown))
    assert matter["license"] == "other"
    assert matter["license_name"]
    assert matter["license_link"] == "https://huggingface.co/someone/Llama-3-tuned"


def test_models_that_only_judge_do_not_bind_the_text():
    models = [
        ModelUsed("writes", "Qwen/Qwen2.5-7B-Instruct", "", True),
        ModelUsed("rewards", "meta-llama/Llama-3.1-8B-Instruct"),
    ]
    assert front_matter(written(record_=record(models=models)))["license"] == "apache-2.0"


def test_languages_are_those_of_the_kept_rows():
    rows = [row(n, language="EN") for n in range(150)]
    rows += [row(n, language="ZH") for n in range(50)]
    rows += [row(200, language="FR"), row(201, language=""), row(202, language="DE", keep=False)]
    assert front_matter(written(rows))["language"] == ["en", "zh"]


def test_without_known_languages_none_is_named():
    assert languages({"": 7}) == []
    assert "language" not in front_matter(written([row(0)]))


def test_a_rare_language_of_a_small_set_counts_and_of_a_large_one_does_not():
    assert languages({"EN": 9, "FR": 1}) == ["en", "fr"]
    assert languages({"EN": 990, "FR": 10}) == ["en", "fr"]
    assert languages({"EN": 991, "FR": 9}) == ["en"]


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (5000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (3_000_000, "1M<n<10M"),
        (10**8, "100M<n<1B"),
    ],
)
def test_size_categories(rows, category):
    assert size_category(rows) == category


# The sections


def test_counts_add_up():
    rows = [
        row(0, instruction_rejections=["instruction_truncated"]),
        row(1, keep=False, drop_reason="engine_error"),
    ]
    text = written(rows)
    assert "| attempts at a user turn | 3 |" in text
    assert "| attempts rejected: instruction_truncated | 1 |" in text
    assert "| rows generated | 2 |" in text
    assert "| rows removed: engine_error | 1 |" in text
    assert "| rows kept | 1 |" in text


def test_models_have_roles_and_versions():
    models = [ModelUsed("rewards", "org/judge", "commit 0123456789abcdef")]
    assert "| rewards | `org/judge` | commit 0123456789abcdef |" in written(
        record_=record(models=models)
    )


def test_the_template_is_shown_in_both_forms_with_their_hashes():
    # echo -n ... | sha256sum
    rendered = "69d0044d65bc72753132efe821effd54c8072b5f75703772caa15a13d400dc5a"
    bare = "e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8"
    text = written(record_=record(template="rendered", bare_template="t"))
    assert fenced("rendered") in text
    assert fenced("t") in text
    assert rendered in text
    assert bare in text
    same = written(record_=record(template="t", bare_template="t"))
    assert same.count(bare) == 1
    assert "adds nothing of its own" in same


def test_each_way_to_sample_is_a_line_of_a_table():
    text = written(record_=record(settings={"instruction_mix": as_settings(PRO_MIX), "seed": 7}))
    assert "| seed | `7` |" in text
    assert "| instruction_mix | temperature | top_p | max_new_tokens | weight |" in text
    assert "| t1.25-p0.99 | `1.25` | `0.99` | `512` | `100.0` |" in text


def test_nested_settings_are_flat():
    text = written(record_=record(settings={"response": {"temperature": 0.0, "mix": {"a": 1}}}))
    assert "| response: temperature | `0.0` |" in text
    assert "| response: mix: a | `1` |" in text


def test_system_prompts_are_shown_with_what_was_asked_for_and_what_came():
    prompts = {"math": (3.0, "You help with math."), "code": (1.0, "You write code.")}
    rows = [row(0, system_prompt_key="math"), row(1, system_prompt_key="code")]
    text = written(rows, record(system_prompts=prompts))
    assert "| `math` | 75.0% | 50.0% | You help with math. |" in text
    assert "a system prompt that names a topic" in text


def test_a_recipe_is_shown_with_its_source_and_what_each_rule_fails():
    recipe = RECIPES["pro"]
    fails = {rule.name: n for n, rule in enumerate(recipe.rules)}
    text = written(filtered=Filtered(recipe, fails))
    for number, rule in enumerate(recipe.rules):
        assert f"| {plain(rule.text)} | {number} |" in text
    assert plain(recipe.source) in text


def test_figures_come_with_captions():
    text = written(figures=[Figure("figures/lengths.png", "How long rows are")])
    assert "![How long rows are](figures/lengths.png)" in text


def test_a_row_is_cut_where_it_is_long():
    sample = row(0, response="x" * 50_000, messages=[{"role": "user", "content": "y" * 2000}])
    text = written(sample=sample)
    assert f"{'x' * 1000} … (50,000 characters)" in text
    assert "x" * 1001 not in text
    assert "y" * 1001 not in text


def test_the_command_and_the_versions_are_there():
    text = written(record_=record(command="python pipelines/x.py --seed 3", pipeline="a: 1\n"))
    assert "```sh\npython pipelines/x.py --seed 3\n```" in text
    assert "`pipeline.yaml`" in text
    assert "magpie-steps 0.1.0" in text


def test_every_claim_has_a_section():
    found = [
        line for line in written([row(0)], sample=row(0)).splitlines() if line.startswith("## ")
    ]
    for title in ("Before you mix", "Limitations", "Licence", "How to make it again", "Citation"):
        assert any(title in line for line in found)


def test_ways_to_sample_are_tables_at_any_depth():
    mix = as_settings(PRO_MIX)
    settings = {"instructions": {"instruction_mix": mix, "max_attempts": 3}, "a": {"b": {"m": mix}}}
    text = written(record_=record(settings=settings))
    assert "| instructions: max_attempts | `3` |" in text
    for title in ("instructions.instruction_mix", "a.b.m"):
        assert f"| {title} | temperature | top_p | max_new_tokens | weight |" in text
    assert text.count("| t1.25-p0.99 | `1.25` | `0.99` | `512` | `100.0` |") == 2
    assert ": t1" not in text


def test_settings_that_are_no_ways_are_flat():
    settings = {"a": {"b": {}, "c": []}, "d": {"e": {"x": 1}, "f": {"y": 1}}, "g": {"h": {}}}
    text = written(record_=record(settings=settings))
    for line in ("a: b | `{}`", "a: c | `[]`", "d: e: x | `1`", "d: f: y | `1`", "g: h | `{}`"):
        assert f"| {line} |" in text


def test_one_configuration_alone_is_not_said_to_be_repeated():
    text = written([row(0)]).split("## Before you mix it", 1)[1].split("\n## ", 1)[0]
    assert "all but" not in text
    assert "beside `default` is made from the rows of `default`" in text


# Revisions


def test_a_section_is_put_in_its_place_and_replaced_there():
    before = written([row(0)])
    once = with_section(before, "Human review", "One\n\ntwo.", before="What it took")
    assert "\n\n## Human review\n\nOne\n\ntwo.\n\n## What it took\n" in once
    assert with_section(once, "Human review", "One\n\ntwo.", before="What it took") == once
    other = with_section(once, "Human review", "Three.", before="What it took")
    assert "One" not in other
    assert with_section(other, "Human review", "", before="What it took") == before


def test_without_its_place_a_section_comes_last():
    assert with_section("# A\n", "B", "Text.", before="C") == "# A\n\n## B\n\nText.\n"


def test_a_heading_in_a_code_block_is_none():
    shown = "Before\n## What it took\n## Human review"
    before = written(record_=record(template=shown))
    found = with_section(before, "Human review", "People looked.", before="What it took")
    assert fenced(shown) in found
    assert found.index("People looked.") > found.index("## Counts")
    assert with_section(found, "Human review", "", before="What it took") == before


def test_configurations_are_listed_anew_and_all_else_stays():
    before = written([row(0)])
    more = Config("reviewed", "reviewed", "judged", 1, 2, 3, schema([("uuid", string())]))
    found = with_configs(before, [*contents().configs, more])
    matter, old = front_matter(found), front_matter(before)
    assert [each["config_name"] for each in matter["configs"]] == ["default", "reviewed"]
    assert [each["config_name"] for each in matter["dataset_info"]] == ["default", "reviewed"]
    assert {**matter, "configs": 0, "dataset_info": 0} == {**old, "configs": 0, "dataset_info": 0}
    assert found.split("\n---\n", 1)[1] == before.split("\n---\n", 1)[1]


# Hostile text


def hostile_card(text):
    filtered = Filtered(RECIPES["pro"], dict.fromkeys((r.name for r in RECIPES["pro"].rules), 0))
    sample = row(
        0, **dict.fromkeys(("instruction", "response", "quality_explanation", "model"), text)
    )
    nasty = record(
        title=text,
        model=text,
        template=text,
        bare_template=f"{text}.",
        settings={text: text, "mix": {text: {text: text}}},
        models=[ModelUsed(text, text, text, True)],
        system_prompts={text: (1.0, text)},
        remarks=[text],
        versions={text: text},
        command=text,
        generator=text,
    )
    rows = [sample, row(1, keep=False, drop_reason=text, instruction_rejections=[text])]
    figures = [Figure("figures/a.png", text)]
    return card(summarise(rows), nasty, contents(sample=sample, filtered=filtered, figures=figures))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_changes_the_cards_structure(text):
    found = hostile_card(text)
    assert structure(found) == structure(hostile_card("harmless"))
    assert set(front_matter(found)) == set(front_matter(hostile_card("harmless")))
    assert found.isprintable() or all(c == "\n" or c.isprintable() for c in found)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_hubs_own_reader_takes_the_card(text):
    found = DatasetCard(hostile_card(text))
    assert found.data.to_dict()["tags"] == ["synthetic", "magpie", "distilabel", "magpie-steps"]
    assert found.data.license == "other"
    assert found.text.lstrip().startswith("# ")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_row_stays_json(text):
    found = hostile_card(text)
    block = found.split("## A row\n\n", 1)[1].split("\n\n## ", 1)[0]
    shown = json.loads(block.split("\n", 1)[1].rsplit("\n", 1)[0])
    assert shown["instruction"] == text


@pytest.mark.parametrize("cell", ["a|b", "a\\|b", "a\\\\|b", "\\\\\\|", "|", "||"])
def test_a_cell_ends_where_it_should(cell):
    for written_ in (plain(cell), code(cell)):
        tokens = MARKDOWN.parse(table(["x", "y"], [[written_, "last"]]))
        assert sum(token.type == "td_open" for token in tokens) == 2


def test_what_cannot_be_seen_is_written_out():
    assert visible("a\u202eb\x00\ud800é\n中") == "a\\u202eb\\u0000\\ud800é\n中"


LINKED = re.compile(
    r"[a-z][a-z+.-]*://\S|www\.\S|[\w.+-]+@[\w-]|(?:^|\W)@\w|\\\\[()\[\]]|\$\$", re.IGNORECASE
)
"""What renderers make links, mentions and formulas of in finished text, as GFM does."""


@pytest.mark.parametrize(
    "text",
    [
        "see http://evil.example/x, https://a.b/c and ftp://a.b",
        "www.evil.com (WWW.Evil.com) _www.evil.com_",
        "mail ann.lee+x@acme.com mailto:a@b.co xmpp:a_b@c_d.com @octocat (@org/team)",
        "$x^2$ $$y$$ a$$$b$$ \\(x\\) \\[y\\] \\\\(z\\\\)",
        "<http://a.b> [a](https://b.c) <a@b.co> ![x](www.c.d)",
    ],
)
def test_addresses_mentions_and_formulas_in_a_text_are_text(text):
    source = plain(text)
    assert not LINKED.search(source.replace("\\_", "_"))
    assert "$" not in source
    [_, inline, _] = MARKDOWN.parse(source)
    assert {child.type for child in inline.children} == {"text"}
    shown = "".join(child.content for child in inline.children)
    assert not LINKED.search(shown)
    assert shown.replace("\u200b", "") == text


def test_a_text_without_addresses_and_formulas_has_no_gaps():
    text = "5 @ 3: a / b, arXiv 2406.08464, www and (x), 3:1"
    assert plain(text) == text
