"""How far is a review?"""

from collections.abc import Mapping
from dataclasses import dataclass

from magpie_steps.review.client import Server
from magpie_steps.review.dataset import open_dataset


@dataclass(frozen=True, slots=True)
class Status:
    """How far a review is.

    Attributes:
        url: Where the records are annotated.
        total: Records.
        completed: Those that enough reviewers have submitted.
        reviewers: Each reviewer's numbers of submitted, discarded and draft answers.
    """

    url: str
    total: int
    completed: int
    reviewers: Mapping[str, Mapping[str, int]]

    def lines(self) -> list[tuple[str, str]]:
        """Return it as names and values for people."""
        return [
            ("records", f"{self.total:,}"),
            ("completed", f"{self.completed:,}"),
            *(
                (f"  by {name}", ", ".join(f"{n:,} {word}" for word, n in counts.items() if n))
                for name, counts in self.reviewers.items()
            ),
        ]


def status(
    name: str,
    *,
    workspace: str | None = None,
    api_url: str | None = None,
    api_key: str | None = None,
) -> Status:
    """Return how far the review of a dataset is.

    Args:
        name: The dataset's name in Argilla.
        workspace: Its workspace; None is the only one there is, else "default".
        api_url: The server's address; None is that of ARGILLA_API_URL.
        api_key: The key; None is that of ARGILLA_API_KEY.

    Raises:
        ValueError: If there is no such dataset, or the key is none.
        OSError: If the server does not answer or does not know the key.
    """
    with Server(api_url, api_key) as server:
        dataset = open_dataset(server, name, workspace)
        completed = dataset.progress()["completed"]
        return Status(dataset.url, dataset.count(), completed, dataset.reviewers())
