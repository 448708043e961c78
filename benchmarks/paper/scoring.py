"""How many held-out questions does a model answer rightly, and whose answers are better?"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from magpie_steps.embedded.dialogues.checker import is_correct_answer
from magpie_steps.engines.reward import RewardModel
from paper.plan import Folders, Plan


@dataclass(frozen=True)
class Scored:
    """What one model's answers are worth.

    Attributes:
        right: For each question whether the answer is right.
        rewards: The reward model's scores of the answers; NaN for no score, as of no answer.
        texts: The answers.
    """

    right: list[bool]
    rewards: list[float]
    texts: list[str]

    @property
    def correct(self) -> float:
        """The share of right answers, in percent."""
        return 100 * statistics.fmean(self.right)

    def wins(self, other: "Scored") -> float:
        """The share of questions, in percent, whose answer here is scored higher.

        Equal texts, and answers without a score on both sides, count half.
        """
        halves = map(_halves, self.texts, other.texts, self.rewards, other.rewards)
        return 50 * statistics.fmean(halves)


@dataclass(frozen=True)
class Arm:
    """One kind of model, trained with several seeds."""

    runs: list[Scored]

    @cached_property
    def mean_right(self) -> list[float]:
        """For each question the share of seeds that answer it rightly."""
        return [statistics.fmean(each) for each in zip(*(r.right for r in self.runs), strict=True)]

    def figures(self, instruct: Scored, base: Scored) -> dict[str, Any]:
        """Return mean and spread over the seeds."""
        return {
            "correct": spread([run.correct for run in self.runs]),
            "wins_against_instruct": spread([run.wins(instruct) for run in self.runs]),
            "wins_against_base": spread([run.wins(base) for run in self.runs]),
        }


def score_all(plan: Plan, folders: Folders) -> dict[str, Arm]:
    """Score every file of answers that there is.

    Returns:
        By "pool-size" what its seeds reached, beside "instruct" and "base"; base in the way of
        asking that suits it best.
    """
    questions = json.loads(folders.questions.read_text(encoding="utf-8"))
    judge = RewardModel(model=plan.reward_model, device="cpu")
    judge.load()
    arms: dict[str, list[Scored]] = defaultdict(list)
    for path in sorted(folders.answers("any").parent.glob("*.json")):
        texts = json.loads(path.read_text(encoding="utf-8"))["answers"]
        scored = _scored(judge, questions, texts)
        name = path.stem.split("@")[0] if "@" in path.stem else path.stem.rpartition("-")[0]
        arms[name].append(scored)
    judge.unload()
    best = max(arms["base"], key=lambda each: each.correct)
    return {name: Arm([best] if name == "base" else runs) for name, runs in arms.items()}


def efforts(folders: Folders) -> dict[str, Any]:
    """Return what each training took, by the trained model's name."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["training"]
        for path in sorted(folders.answers("any").parent.glob("*.json"))
    }
    return {name: effort for name, effort in found.items() if effort}


def difference(first: Arm, second: Arm) -> dict[str, float]:
    """Return how much better the first is, in points, and the standard error over questions.

    Both answer the same questions, so the error is that of the differences.
    """
    gaps = [100 * (a - b) for a, b in zip(first.mean_right, second.mean_right, strict=True)]
    error = statistics.stdev(gaps) / math.sqrt(len(gaps))
    return {"points": round(statistics.fmean(gaps), 2), "standard_error": round(error, 2)}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation (0 for one value) and all values."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "mean": round(statistics.fmean(values), 2),
        "deviation": round(deviation, 2),
        "runs": [round(value, 2) for value in values],
    }


def _scored(judge: RewardModel, questions: Sequence[str], texts: Sequence[str]) -> Scored:
    asked = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        for q, a in zip(questions, texts, strict=True)
    ]
    right = [bool(is_correct_answer(q, a)) for q, a in zip(questions, texts, strict=True)]
    return Scored(right, judge.score(asked), list(texts))


def _halves(mine: str, other: str, my_reward: float, other_reward: float) -> int:
    """Return 2 for a win, 1 for none, 0 for a loss; an answer without a score loses."""
    first, second = (-math.inf if math.isnan(r) else r for r in (my_reward, other_reward))
    if mine == other or first == second:
        return 1
    return 2 if first > second else 0
