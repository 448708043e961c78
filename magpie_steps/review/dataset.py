"""What can be done with a dataset on an Argilla server?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magpie_steps.review.client import Server, ServerAway
from magpie_steps.review.layouts import (
    Signature,
    as_settings,
    differences,
    signature,
    signature_of,
)
from magpie_steps.review.settings import EMBEDDING, RANKING, Layout

PAGE = 250
"""Records that are read at once; the server gives at most 1,000."""

DELETED_AT_ONCE = 100
"""Records that the server deletes at once at most."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,199}")
_PAGES = "/api/v1/datasets"
_READY = "ready"


@dataclass(frozen=True, slots=True)
class ReviewDataset:
    """A dataset on a server.

    Attributes:
        name: Its name.
        id: Its id.
        questions: The ids of its questions by name.
        answers: How many answers can be ranked, 0 if none.
        dimensions: How many numbers its embeddings have, 0 without.
        server: The server.
    """

    name: str
    id: str
    questions: Mapping[str, str]
    answers: int
    dimensions: int
    server: Server

    @property
    def url(self) -> str:
        """The page on which its records are annotated."""
        return f"{self.server.url}/dataset/{self.id}/annotation-mode"

    def check(self, layout: Layout) -> None:
        """Check that the dataset has the settings that a review needs.

        Raises:
            ValueError: If it has others.
        """
        found = _signature(self.server, self.id)
        if differing := differences(signature(layout), found):
            raise _other_settings(self.server, self.name, differing)

    def set_min_submitted(self, number: int) -> None:
        """Let records be complete when so many reviewers have submitted them."""
        path = f"{_PAGES}/{self.id}"
        if self.server.ask("GET", path)["distribution"]["min_submitted"] != number:
            wanted = {"strategy": "overlap", "min_submitted": number}
            self.server.ask("PATCH", path, json={"distribution": wanted})

    def records(self, include: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]:
        """Yield all records as the server tells them, each once.

        Args:
            include: What of them besides fields and metadata, such as "responses".

        Raises:
            ServerAway: If it does not answer, or records came or went meanwhile.
        """
        seen: set[str] = set()
        offset, total = 0, 1
        while offset < total:
            params = {"offset": offset, "limit": PAGE, "include": list(include)}
            page = self.server.ask("GET", f"{_PAGES}/{self.id}/records", params=params)
            total = page["total"]
            offset += PAGE
            yield from (record for record in page["items"] if record["id"] not in seen)
            seen.update(record["id"] for record in page["items"])
        if len(seen) != total:
            raise ServerAway(
                f"{self.name!r} changed while its {total:,} records were read; give the same"
                " command again"
            )

    def count(self) -> int:
        """Return how many records are in the server's database."""
        page = self.server.ask("GET", f"{_PAGES}/{self.id}/records", params={"limit": 1})
        total: int = page["total"]
        return total

    def progress(self) -> Mapping[str, Any]:
        """Return how many records the server's search knows: total, completed and pending."""
        found: Mapping[str, Any] = self.server.ask("GET", f"{_PAGES}/{self.id}/progress")
        return found

    def reviewers(self) -> dict[str, dict[str, int]]:
        """Return each reviewer's numbers of submitted, discarded and draft answers."""
        users = self.server.ask("GET", f"{_PAGES}/{self.id}/users/progress")["users"]
        return {
            user["username"]: {
                status: sum(user.get(part, {}).get(status, 0) for part in ("completed", "pending"))
                for status in ("submitted", "discarded", "draft")
            }
            for user in users
        }

    def send(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Create records, or change those with the same id."""
        self.server.ask("PUT", f"{_PAGES}/{self.id}/records/bulk", json={"items": list(items)})

    def delete(self, ids: Sequence[str]) -> None:
        """Delete records by the server's ids."""
        for start in range(0, len(ids), DELETED_AT_ONCE):
            part = {"ids": ",".join(ids[start : start + DELETED_AT_ONCE])}
            self.server.ask("DELETE", f"{_PAGES}/{self.id}/records", params=part)


def find_dataset(server: Server, name: str, workspace: str | None = None) -> ReviewDataset | None:
    """Return a dataset, None if there is none, or only one that was never finished."""
    found = _named(server, name, server.workspace(workspace)["id"])
    return _opened(server, name, found["id"]) if found and found["status"] == _READY else None


def open_dataset(server: Server, name: str, workspace: str | None = None) -> ReviewDataset:
    """Return a dataset.

    Raises:
        ValueError: If there is none.
    """
    found = find_dataset(server, name, workspace)
    if found is None:
        place = server.workspace(workspace)["name"]
        raise ValueError(
            f"there is no dataset {name!r} in the workspace {place!r} at {server.url}; send rows"
            " there first: magpie-steps review push"
        )
    return found


def create_dataset(
    server: Server, name: str, workspace: str | None, layout: Layout
) -> ReviewDataset:
    """Make a dataset, in place of one that an earlier call did not finish.

    Raises:
        ValueError: If the name is none that Argilla takes, or somebody else has begun one of it.
    """
    import argilla

    check_name(name)
    place = server.workspace(workspace)["id"]
    found = _named(server, name, place)
    if found and found["status"] != _READY:
        _check_unfinished(server, found, layout)
        server.ask("DELETE", f"{_PAGES}/{found['id']}")
    with server.library() as client:
        dataset = argilla.Dataset(
            name=name,
            workspace=client.workspaces(id=place),
            settings=as_settings(argilla, client, layout),
            client=client,
        )
        dataset.create()
        return _opened(server, name, str(dataset.id))


def check_target(name: str, workspace: str | None, dimensions: int | None) -> None:
    """Check that rows which are still to be generated can be sent to a dataset.

    Args:
        name: The dataset's name.
        workspace: Its workspace; None is the only one there is, else "default".
        dimensions: How many numbers the embeddings will have, None if it is not known.

    Raises:
        ValueError: If the name is none, there is no such workspace, or a dataset of the name has
            settings that no review of such rows has.
        OSError: If the server does not answer, does not know the key, or lets its user only answer.
    """
    check_name(name)
    with Server() as server:
        if server.ask("GET", "/api/v1/me")["role"] == "annotator":
            raise PermissionError(
                f"the key's user may only answer at {server.url}; use the key of an owner, or of an"
                " admin of the workspace"
            )
        there = _named(server, name, server.workspace(workspace)["id"])
        if there is None:
            return
        found = _opened(server, name, there["id"])
        # How many answers the rows have is known in the end: any number may fit.
        layout = Layout(found.answers, found.dimensions if dimensions is None else dimensions)
        if there["status"] == _READY:
            found.check(layout)
        else:
            _check_unfinished(server, there, layout)


def check_name(name: str) -> None:
    """Check a dataset's name.

    Raises:
        ValueError: If Argilla does not take it.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for an Argilla dataset: letters, digits, spaces, - and _, at"
            " most 200 characters; choose another"
        )


def _check_unfinished(server: Server, found: Mapping[str, Any], layout: Layout) -> None:
    """Check that a dataset that was never finished is what an earlier call of ours left.

    Raises:
        ValueError: If it may be somebody else's.
    """
    there = _signature(server, found["id"])
    guidelines = (found.get("guidelines") or "").strip()
    if not there and not guidelines:
        return
    wanted = signature(layout)
    ours = {name: kind for name, kind in wanted.items() if name in there}
    differing = differences(ours, there)
    if guidelines != layout.guidelines.strip():
        differing = differing or "its guidelines are not those of a review"
    if differing:
        raise _other_settings(server, found["name"], f"it is not published yet, and {differing}")


def _other_settings(server: Server, name: str, differing: str) -> ValueError:
    return ValueError(
        f"the dataset {name!r} at {server.url} has other settings: {differing}; choose another"
        " name, or delete it if nobody needs it"
    )


def _signature(server: Server, dataset_id: str) -> Signature:
    """Return what matters of a dataset's settings."""
    parts = (
        (_PAGES, "fields"),
        (_PAGES, "questions"),
        ("/api/v1/me/datasets", "metadata-properties"),
        (_PAGES, "vectors-settings"),
    )
    return signature_of(
        *(server.ask("GET", f"{path}/{dataset_id}/{part}")["items"] for path, part in parts)
    )


def _named(server: Server, name: str, workspace_id: str) -> Mapping[str, Any] | None:
    there = server.ask("GET", "/api/v1/me/datasets", params={"workspace_id": workspace_id})
    return next((each for each in there["items"] if each["name"] == name), None)


def _opened(server: Server, name: str, dataset_id: str) -> ReviewDataset:
    questions = server.ask("GET", f"{_PAGES}/{dataset_id}/questions")["items"]
    ids = {question["name"]: question["id"] for question in questions}
    options = {question["name"]: question["settings"].get("options") for question in questions}
    vectors = server.ask("GET", f"{_PAGES}/{dataset_id}/vectors-settings")["items"]
    dimensions = {each["name"]: each["dimensions"] for each in vectors}.get(EMBEDDING, 0)
    answers = len(options.get(RANKING) or ())
    return ReviewDataset(name, dataset_id, ids, answers, dimensions, server)
