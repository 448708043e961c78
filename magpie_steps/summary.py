"""What do a run's rows add up to?"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import fsum, isfinite, nan
from typing import Any

from magpie_steps.conversation import count_turns
from magpie_steps.distinct import DistinctTexts
from magpie_steps.effort import Effort
from magpie_steps.reasons import ENGINE_ERROR, PROMPT_TOO_LONG


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a run; generated = kept + the sum of ``dropped``.

    Attributes:
        generated: Rows in all.
        kept: Rows with keep true.
        dropped: Rows with keep false, by drop reason, most frequent first.
        rejected: Rejected attempts at a turn, by reason, most frequent first; also those of kept
            rows, whose next attempt was accepted.
        distinct: Different instructions among the kept rows.
        instruction_tokens: Tokens of the kept rows' first user turns, without rejected attempts.
        response_tokens: Tokens of the kept rows' first responses, of all that were sampled.
        instruction_characters: Characters of the kept instructions.
        response_characters: Characters of the kept responses, of all that were sampled.
        system_prompts: Kept rows by system prompt key, most frequent first.
        turns: Finished turns of the kept conversations.
        conversation_ends: Kept conversations with fewer turns than asked for, by why, most frequent
            first.
        follow_ups: Turns after the first in the kept conversations.
        related_follow_ups: Those of them that belong to what was said before.
        compared: Kept rows with a reward for both the response and the base response.
        mean_reward_difference: By how much the response's is higher on average; 0 without any.
        model_calls: Completions that the rows took, rejected attempts included.
        tag_failures: Labels that a tagger could not give, by tag and reason, most frequent first.
        repeats: Rows whose instruction is near that of an earlier row.
        languages: Kept rows by the language of their instruction, most frequent first; "" for those
            whose language is not known.
        longest_conversation: The most user turns of any row's messages, at least 1.
    """

    generated: int
    kept: int
    dropped: dict[str, int]
    rejected: dict[str, int]
    distinct: int
    instruction_tokens: int
    response_tokens: int
    instruction_characters: int
    response_characters: int
    system_prompts: dict[str, int]
    turns: int
    conversation_ends: dict[str, int]
    follow_ups: int
    related_follow_ups: int
    compared: int
    mean_reward_difference: float
    model_calls: int
    tag_failures: dict[str, int] = field(default_factory=dict)
    repeats: int = 0
    languages: dict[str, int] = field(default_factory=dict)
    longest_conversation: int = 1

    @property
    def distinct_share(self) -> float:
        """Different instructions per kept row, 0 to 1; 0 when no row was kept."""
        return self.distinct / self.kept if self.kept else 0.0

    @property
    def related_share(self) -> float:
        """Related turns per turn after the first, 0 to 1; 0 when there are none."""
        return self.related_follow_ups / self.follow_ups if self.follow_ups else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return every count and the shares, ready for JSON."""
        return {
            **asdict(self),
            "distinct_share": round(self.distinct_share, 6),
            "related_share": round(self.related_share, 6),
        }


def summarise(rows: Iterable[Mapping[str, Any]]) -> Summary:
    """Count rows as `magpie_steps.columns` describes them; a column may be missing.

    Memory does not grow with the rows; their different instructions are counted on the disk.

    Raises:
        OSError: If the temporary folder has no room: 8 bytes for each kept row.
    """
    with DistinctTexts() as instructions:
        return _summarise(rows, instructions)


def _summarise(rows: Iterable[Mapping[str, Any]], instructions: DistinctTexts) -> Summary:
    totals: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    unlabelled: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    longest = 1
    difference_parts: list[float] = []
    for row in rows:
        totals["generated"] += 1
        rejections = row.get("instruction_rejections") or ()
        rejected.update(rejections)
        totals["model_calls"] += _calls(row, rejections)
        totals["repeats"] += row.get("min_similar_uuid", "") not in ("", row.get("uuid"))
        unlabelled.update(f"{f['tag']}_{f['reason']}" for f in row.get("tag_failures") or ())
        longest = max(longest, count_turns(row.get("messages") or ()))
        if not row["keep"]:
            dropped[row["drop_reason"]] += 1
            continue
        totals["kept"] += 1
        keys[row.get("system_prompt_key") or ""] += 1
        languages[row.get("language") or ""] += 1
        if end := row.get("conversation_end"):
            ends[end] += 1
        related = row.get("follow_up_related") or ()
        totals["turns"] += row.get("turns") or 0
        totals["follow_ups"] += len(related)
        totals["related"] += sum(related)
        if isfinite(difference := row.get("reward_difference", nan)):
            totals["compared"] += 1
            _add_exactly(difference_parts, difference)
        instructions.add(row.get("instruction") or "")
        for name in ("instruction_tokens", "response_tokens"):
            totals[name] += row.get(name) or 0
        totals["response_tokens"] += sum(row.get("responses_tokens") or ())
        for name in ("instruction_length", "response_length"):
            totals[name] += row.get(name) or 0
        totals["response_length"] += sum(map(len, row.get("responses") or ()))
    return Summary(
        generated=totals["generated"],
        kept=totals["kept"],
        dropped=dict(dropped.most_common()),
        rejected=dict(rejected.most_common()),
        distinct=instructions.count(),
        instruction_tokens=totals["instruction_tokens"],
        response_tokens=totals["response_tokens"],
        instruction_characters=totals["instruction_length"],
        response_characters=totals["response_length"],
        system_prompts=dict(keys.most_common()),
        turns=totals["turns"],
        conversation_ends=dict(ends.most_common()),
        follow_ups=totals["follow_ups"],
        related_follow_ups=totals["related"],
        compared=totals["compared"],
        mean_reward_difference=fsum(difference_parts) / max(totals["compared"], 1),
        model_calls=totals["model_calls"],
        tag_failures=dict(unlabelled.most_common()),
        repeats=totals["repeats"],
        languages=dict(languages.most_common()),
        longest_conversation=longest,
    )


def table(lines: Iterable[tuple[str, str]]) -> str:
    """Return names and values as lines with the values aligned to the right."""
    cells = list(lines)
    left = max((len(name) for name, _ in cells), default=0)
    right = max((len(value) for _, value in cells), default=0)
    return "\n".join(f"{name:<{left}}  {value:>{right}}" for name, value in cells)


def counted(
    summary: Summary, asked_mix: Mapping[str, float] | None = None
) -> list[tuple[str, str]]:
    """Return the counts as lines of a `table`: generated, kept, removed and rejected by reason.

    Args:
        summary: The rows' counts.
        asked_mix: How often each system prompt was to be drawn, by key, relative to the others; its
            shares are then shown beside those of the kept rows.
    """
    removed = [(f"  {reason}", f"{n:,}") for reason, n in summary.dropped.items()]
    rejected = [(f"  {reason}", f"{n:,}") for reason, n in summary.rejected.items()]
    return [
        ("rows generated", f"{summary.generated:,}"),
        ("rows kept", f"{summary.kept:,}"),
        ("rows removed", f"{summary.generated - summary.kept:,}"),
        *removed,
        ("attempts rejected", f"{sum(summary.rejected.values()):,}"),
        *rejected,
        ("distinct instructions", f"{summary.distinct_share:.1%}"),
        *judged(summary),
        *beyond_first_turns(summary),
        *_mix(summary, asked_mix or {}),
        ("instruction tokens", f"{summary.instruction_tokens:,}"),
        ("response tokens", f"{summary.response_tokens:,}"),
    ]


def judged(summary: Summary) -> list[tuple[str, str]]:
    """Return lines of a `table` about labels that are missing and repeats, none without any."""
    missing = [(f"  {failure}", f"{n:,}") for failure, n in summary.tag_failures.items()]
    return [
        *([("near an earlier instruction", f"{summary.repeats:,}")] if summary.repeats else []),
        *([("labels missing", f"{sum(summary.tag_failures.values()):,}")] if missing else []),
        *missing,
    ]


def beyond_first_turns(summary: Summary) -> list[tuple[str, str]]:
    """Return lines of a `table` about later turns and rewards, none where there are none."""
    gain = [("mean reward difference", f"{summary.mean_reward_difference:+.2f}")]
    return [*_turns(summary), *(gain if summary.compared else [])]


def _turns(summary: Summary) -> list[tuple[str, str]]:
    if not summary.follow_ups and not summary.conversation_ends:
        return []
    ended = [(f"  {end}", f"{n:,}") for end, n in summary.conversation_ends.items()]
    return [
        ("turns", f"{summary.turns:,}"),
        ("follow-ups that belong", f"{summary.related_share:.1%}"),
        ("conversations ended early", f"{sum(summary.conversation_ends.values()):,}"),
        *ended,
    ]


def _mix(summary: Summary, asked: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the share of each system prompt among the kept rows beside the one asked for."""
    total = sum(asked.values())
    return [
        (
            f"  {key or 'no system prompt'}",
            f"{summary.system_prompts.get(key, 0) / max(summary.kept, 1):.1%}"
            f" (asked {weight / total:.1%})",
        )
        for key, weight in asked.items()
    ]


def timed(summary: Summary, effort: Effort) -> list[tuple[str, str]]:
    """Return what the rows took as lines of a `table`."""
    rows = summary.generated / effort.seconds if effort.seconds > 0 else 0.0
    return [
        ("completions generated", f"{effort.completions:,}"),
        ("completions replayed", f"{replayed(summary, effort.completions):,}"),
        *engines_at_work(effort),
        *costs(summary, effort),
        ("time", duration(effort.seconds)),
        ("speed", f"{rows:,.1f} rows/s, {effort.tokens_per_second:,.0f} tokens/s"),
    ]


def engines_at_work(effort: Effort) -> list[tuple[str, str]]:
    """Return lines of a `table` about the engines, none if nothing was generated."""
    if not effort.prompt_tokens:
        return []
    cached = f" ({effort.cached_share:.0%} cached)" if effort.cached_tokens else ""
    return [
        ("prompt tokens", f"{effort.prompt_tokens:,}{cached}"),
        ("engine busy", f"{effort.busy_share:.0%}"),
        *([("requests sent again", f"{effort.retries:,}")] if effort.retries else []),
    ]


def costs(summary: Summary, effort: Effort) -> list[tuple[str, str]]:
    """Return lines of a `table` about what a thousand kept rows cost."""
    names = {"cpu_seconds": "CPU time", "gpu_seconds": "GPU time"}
    return [
        (f"{names[name]} per 1,000 kept rows", duration(value))
        for name, value in effort.per_thousand(summary.kept).items()
    ]


def replayed(summary: Summary, generated: int) -> int:
    """Return how many of the rows' completions were not generated but taken from the journal."""
    return max(summary.model_calls - generated, 0)


def duration(seconds: float) -> str:
    """Return a time in words: "4.2 s", "42 s", "3 min 07 s" or "2 h 05 min"."""
    whole = max(round(seconds), 0)
    if whole < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def problem_of(summary: Summary) -> str:
    """Return what makes a run a failure as a whole, "" if nothing does."""
    rows = summary.dropped.get(ENGINE_ERROR, 0)
    labels = sum(n for name, n in summary.tag_failures.items() if name.endswith(ENGINE_ERROR))
    if rows or labels:
        failed = [f"{n} {what}" for n, what in ((rows, "rows"), (labels, "labels")) if n]
        return f"the engine failed on {' and '.join(failed)}; the same command tries them again"
    return "" if summary.kept else "no row was kept"


def _calls(row: Mapping[str, Any], rejections: Iterable[str]) -> int:
    """Return how many completions a row took, as far as its columns tell.

    One per user turn, one per response to it, one base response, and the sampled responses. Of a
    row that was dropped for too few of those, an accepted one is not counted.
    """
    calls: int = row.get("instruction_attempts") or 0
    if "response" in row:
        unanswered = ("instruction_", "follow_up_")
        calls += calls - sum(reason.startswith(unanswered) for reason in rejections)
        # A prompt that does not fit is refused before the model sees it.
        calls -= sum(reason.endswith(PROMPT_TOO_LONG) for reason in rejections)
    calls += bool(row.get("base_response_finish_reason"))
    return calls + sum(len(row.get(name) or ()) for name in ("responses", "responses_rejections"))


def _add_exactly(parts: list[float], number: float) -> None:
    """Add a finite number to a sum, kept as a few numbers whose sum `fsum` rounds once.

    So the mean of many rows is to the last digit what it is when all are summed at once, and
    nothing of each row is kept (Shewchuk 1997; the parts' digits do not overlap).
    """
    kept = 0
    for part in parts:
        large, small = (number, part) if abs(number) >= abs(part) else (part, number)
        number = large + small
        if rest := small - (number - large):
            parts[kept] = rest
            kept += 1
    parts[kept:] = [number]
