"""What does the Hub do for a push?"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from magpie_steps import __version__
from magpie_steps.publish.patience import Patience
from magpie_steps.publish.plan import Stored, identity
from magpie_steps.redaction import redacted

_LONGEST_SIGN_BYTES = 10_000_000
"""A longer file that is to say which dataset it is of is not one of ours."""

_MESSAGE = f"Upload with magpie-steps {__version__}"


@dataclass(frozen=True, slots=True)
class State:
    """What a repository holds.

    Attributes:
        head: Its last commit's id.
        private: Whether only its owner sees it.
        stored: Its files by path.
        identity: What tells its dataset from others, empty if it has none of ours.
    """

    head: str
    private: bool
    stored: Mapping[str, Stored]
    identity: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Repository:
    """A dataset's repository on the Hub.

    Attributes:
        id: OWNER/NAME.
        api: A `huggingface_hub.HfApi` with the token.
        ask: Tries again what fails in passing.
    """

    id: str
    api: Any
    ask: Patience

    @property
    def url(self) -> str:
        """The dataset's page."""
        return f"{self.api.endpoint}/datasets/{self.id}"

    def make(self, public: bool) -> None:
        """Make the repository if there is none."""
        self.ask(lambda: self._make(public))

    def _make(self, public: bool) -> None:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            self._info()
        except RepositoryNotFoundError as error:
            # That it is hidden (401, 403) is told by the same class.
            if error.response.status_code != 404:
                raise
            visibility = "public" if public else "private"
            self.api.create_repo(self.id, repo_type="dataset", visibility=visibility)

    def state(self, sign: str) -> State:
        """Return what the repository holds; `sign` is the file that says which dataset it is."""
        info = self.ask(self._info)
        files = self.ask(lambda: self._files(info.sha))
        own: Mapping[str, str] = {}
        if sign in files and files[sign].size <= _LONGEST_SIGN_BYTES:
            content = self.ask(lambda: self._content(sign, info.sha))
            try:
                own = identity(sign, content.decode("utf-8"))
            except ValueError:
                own = {}  # somebody else's file of that name
        return State(info.sha, bool(info.private), files, own)

    def upload(self, additions: Sequence[Any]) -> None:
        """Send contents that the Hub does not have; no reader sees them until a commit."""
        self.ask(
            lambda: self.api.preupload_lfs_files(
                self.id,
                additions,
                repo_type="dataset",
                gitignore_content="",  # one in the repository would leave files out in silence
            )
        )

    def commit(self, additions: Sequence[Any], deleted: Sequence[str], parent: str) -> str:
        """Put files in their places and delete others, all at once; return the commit's id.

        It is not tried again here: the commit may have been done without its answer arriving, and
        if another one has come after `parent`, the changes are wrong.
        """
        from huggingface_hub import CommitOperationDelete

        deletions = [CommitOperationDelete(path, is_folder=False) for path in deleted]
        with warnings.catch_warnings(action="ignore"):  # of the card, which were said before
            done = self.api.create_commit(
                self.id,
                [*additions, *deletions],
                commit_message=_MESSAGE,
                repo_type="dataset",
                parent_commit=parent,
            )
        return str(done.oid)

    def check_card(self, text: str) -> None:
        """Check a card as the Hub will, before anything is sent.

        Raises:
            ValueError: If the Hub would refuse it.
        """
        self.ask(lambda: self._check_card(text))

    def _check_card(self, text: str) -> None:
        from huggingface_hub.errors import BadRequestError

        try:
            url = f"{self.api.endpoint}/api/validate-yaml"
            answer = self._asked("POST", url, {"content": text, "repoType": "dataset"})
        except BadRequestError as error:
            text = redacted(str(error.server_message or error), self.api.token)
            told = " ".join(text.split())
            raise ValueError(
                f"the card is not valid: {told[:300]}; correct README.md's front matter"
            ) from None
        for warning in answer.json().get("warnings") or ():
            text = redacted(str(warning.get("message")), self.api.token)
            self.ask.say(f"of the card: {' '.join(text.split())}")

    def _info(self) -> Any:
        return self.api.repo_info(self.id, repo_type="dataset")

    def _files(self, revision: str) -> dict[str, Stored]:
        from huggingface_hub.hf_api import RepoFile

        tree = self.api.list_repo_tree(
            self.id, repo_type="dataset", revision=revision, recursive=True
        )
        return {
            entry.path: Stored(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else "")
            for entry in tree
            if isinstance(entry, RepoFile)
        }

    def _content(self, path: str, revision: str) -> bytes:
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(
            self.id, path, repo_type="dataset", revision=revision, endpoint=self.api.endpoint
        )
        return bytes(self._asked("GET", url).content)

    def _asked(self, method: str, url: str, content: Mapping[str, str] | None = None) -> Any:
        """Return the answer to a request that `huggingface_hub` has no function for."""
        from huggingface_hub import get_session, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers

        headers = build_hf_headers(token=self.api.token)
        answer = get_session().request(method, url, headers=headers, json=content)
        hf_raise_for_status(answer)
        return answer
