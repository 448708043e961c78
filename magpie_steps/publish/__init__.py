"""How does a dataset repository on disk get to the Hub?

Contents are sent first, then one commit puts them in their places, deletes what is gone and brings
the card: whatever is cut short, a reader of the Hub never meets half a dataset. Only above
`CHANGES_PER_COMMIT` changes there are several commits, the card in the last.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magpie_steps.publish.account import check_id, full_id, token_given
from magpie_steps.publish.client import check_reachable, open_client
from magpie_steps.publish.patience import Patience, PublishError
from magpie_steps.publish.plan import (
    CARD,
    Changes,
    Dataset,
    changes,
    check_replaceable,
    commits,
    read_dataset,
    read_text,
)
from magpie_steps.publish.repository import Repository, State

__all__ = ["PublishError", "Pushed", "check_ready", "push"]

CHANGES_PER_COMMIT = 1000
"""The most files that one commit adds or deletes; the Hub gives up on much longer ones."""

FILES_PER_BATCH = 100
BYTES_PER_BATCH = 500_000_000
"""What is sent between two lines of progress, and gone through again if it fails."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push brought to the Hub.

    Attributes:
        url: The dataset's page.
        commit: The last commit's id, "" if there was nothing to change.
        files: How many files were new or had another content.
        bytes: Their size; contents that the Hub had stored already were not sent again.
    """

    url: str
    commit: str = ""
    files: int = 0
    bytes: int = 0


def push(
    folder: Path,
    repo_id: str,
    *,
    public: bool = False,
    replace: bool = False,
    token: str | None = None,
    say: Callable[[str], None],
    pause_seconds: float = 1.0,
) -> Pushed:
    """Bring a dataset repository on disk to the Hub, or an earlier state of it there up to date.

    What fails in passing is tried again; a push that ends early goes on when it is started again.
    The Hub's address is `huggingface_hub`'s: ``HF_ENDPOINT``.

    Args:
        folder: The output folder of a run, a filter or an export; all its files but hidden ones
            are sent.
        repo_id: OWNER/NAME; NAME alone is a repository of the token's user.
        public: Whether everyone may see it. A repository that exists is never changed in that.
        replace: Whether to delete whatever else the repository holds.
        token: The Hub's token; by default the one of ``HF_TOKEN`` or ``hf auth login``.
        say: Takes lines of text about the progress.
        pause_seconds: Pause after the first failure, doubled with each further one.

    Raises:
        FileNotFoundError: If there is no such folder.
        PublishError: If the Hub refuses, or fails too often.
        ValueError: If the folder is no dataset repository, the token may not write there, or the
            repository holds something else or is not as public as it should be.
    """
    from huggingface_hub import HfApi

    dataset = read_dataset(folder)
    card = read_text(folder / CARD)
    check_id(repo_id)
    api = HfApi(token=token_given(token))
    check_reachable(api.endpoint)
    ask = Patience(api.endpoint, api.token, say, pause_seconds)
    with open_client():
        repository = Repository(full_id(repo_id, ask(api.whoami)), api, ask)
        repository.check_card(card)
        repository.make(public)
        return ask(_Push(dataset, repository, public, replace, say))


def check_ready(repo_id: str) -> None:
    """Check what can be checked of a push without asking the Hub.

    Args:
        repo_id: Where to push.

    Raises:
        ValueError: If the id is none, or there is no token or address to push with.
    """
    from huggingface_hub.constants import ENDPOINT

    check_id(repo_id)
    token_given(None)
    check_reachable(ENDPOINT)


@dataclass(slots=True)
class _Push:
    """A push: called once, or again against what the repository then holds.

    Attributes:
        head: The commit that the last call built upon.
        contents: What was sent since: what a commit needs to name a file, by path.
        sent: Files that a commit was to bring, with their bytes.
        committed: Whether a commit was tried; its answer may have been lost.
    """

    dataset: Dataset
    repository: Repository
    public: bool
    replace: bool
    say: Callable[[str], None]
    head: str = ""
    contents: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    committed: bool = False

    def __call__(self) -> Pushed:
        state = self.repository.state(self.dataset.sign)
        self._check(state)
        if state.head != self.head:
            self.head, self.contents = state.head, {}
        wanted = changes(self.dataset, state.stored, self.replace)
        if wanted:
            self._say_plan(wanted)
            self._upload(wanted.added)
        head = self._commit(wanted)
        self.say(f"{self.repository.url} {'is complete' if self.committed else 'was up to date'}")
        return Pushed(
            self.repository.url,
            head if self.committed else "",
            len(self.sent),
            sum(self.sent.values()),
        )

    def _check(self, state: State) -> None:
        """Check that the repository may be changed."""
        check_visibility(self.repository, state.private, self.public)
        if not self.replace:
            check_replaceable(self.dataset, self.repository.id, state.stored, state.identity)

    def _upload(self, paths: Sequence[str]) -> None:
        """Send the contents of files, but those that were sent already."""
        from huggingface_hub import CommitOperationAdd

        folder, total = self.dataset.folder, self._bytes(paths)
        missing = [path for path in paths if path not in self.contents]
        for batch in batches(missing, self.dataset.files):
            additions = [CommitOperationAdd(path, str(folder / path)) for path in batch]
            self.repository.upload(additions)
            self.contents |= zip(batch, additions, strict=True)
            done = self._bytes(list(self.contents))
            self.say(f"{len(self.contents)} of {len(paths)} files, {_mb(done)} of {_mb(total)} MB")

    def _commit(self, wanted: Changes) -> str:
        """Make the changes; return the last commit's id."""
        head = self.head
        for part in commits(wanted, CHANGES_PER_COMMIT):
            self.committed = True
            self.sent |= {path: self.dataset.files[path] for path in part.added}
            additions = [self.contents[path] for path in part.added]
            head = self.repository.commit(additions, part.deleted, head)
        return head

    def _say_plan(self, wanted: Changes) -> None:
        gone = f", {len(wanted.deleted)} to delete" if wanted.deleted else ""
        size = _mb(self._bytes(wanted.added))
        self.say(f"{self.repository.id}: {len(wanted.added)} files of {size} MB to send{gone}")

    def _bytes(self, paths: Sequence[str]) -> int:
        return sum(self.dataset.files[path] for path in paths)


def check_visibility(repository: Repository, private: bool, public: bool) -> None:
    """Check that a repository is as public as it should be.

    Raises:
        ValueError: If it is not.
    """
    settings = f"{repository.url}/settings"
    if public and private:
        raise ValueError(
            f"{repository.id} is private on the Hub, not public; leave out --public (public=True)"
            f" or make it public at {settings} first"
        )
    if not public and not private:
        raise ValueError(
            f"{repository.id} is public on the Hub, not private; add --public (public=True), make"
            f" it private at {settings} first, or give another id"
        )


def batches(paths: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield files in groups to send one after the other, none too large unless one file is.

    Files of one size are in different groups: they may have one content, as those of all rows and
    of the kept rows have where all are kept, and the Hub takes it only once from then on.
    """
    batch: list[str] = []
    for path in paths:
        held = [sizes[each] for each in batch]
        large = sum(held, sizes[path]) > BYTES_PER_BATCH
        if batch and (large or len(batch) == FILES_PER_BATCH or sizes[path] in held):
            yield batch
            batch = []
        batch.append(path)
    if batch:
        yield batch


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f}"
