"""As whom is a dataset pushed, to which name?"""

from collections.abc import Mapping
from typing import Any


def token_given(token: str | None) -> str:
    """Return the token to use: the one given or else `huggingface_hub`'s.

    Raises:
        ValueError: If there is none, or none that can be sent.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import OIDCError

    try:
        found = token or get_token()
    except OIDCError as error:
        raise ValueError(f"HF_OIDC_RESOURCE is set, but gives no token: {error}") from None
    if not found:
        raise ValueError(
            "there is no token for the Hub; run `hf auth login` or set HF_TOKEN to a token with the"
            " role 'write'"
        )
    # What cannot stand in a header would be shown by the error about it.
    if not found.isascii() or not found.isprintable() or " " in found:
        raise ValueError(
            "the token has characters that no token has; run `hf auth login` or set HF_TOKEN again"
        )
    return str(found)


def check_id(repo_id: str) -> None:
    """Check that a repository's id is NAME or OWNER/NAME.

    Raises:
        ValueError: If it is not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(
            f"{repo_id!r} is no repository id ({error}); give NAME or OWNER/NAME"
        ) from None


def full_id(repo_id: str, who: Mapping[str, Any]) -> str:
    """Return a repository's id with its owner.

    Args:
        repo_id: NAME or OWNER/NAME; without an owner it is the token's user.
        who: What the Hub says of the token.

    Raises:
        ValueError: If the token may not write to the owner's repositories.
    """
    user = who.get("name")
    if not user:
        raise ValueError("what answers at HF_ENDPOINT is no Hub; set it to a Hub's address")
    full = repo_id if "/" in repo_id else f"{user}/{repo_id}"
    role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise ValueError(
            f"the token of {user} may only read; make one with the role 'write', then run `hf auth"
            " login` or set HF_TOKEN"
        )
    # A fine-grained token's rights are listed in ways that change: there the Hub has the word.
    if role == "write" and full.split("/")[0].lower() not in map(str.lower, _owners(who)):
        raise ValueError(
            f"the token of {user} has no right to write to {full}; give a name of"
            f" {' or '.join(_owners(who))}, or another user's token in HF_TOKEN"
        )
    return full


def _owners(who: Mapping[str, Any]) -> list[str]:
    orgs = [org for org in who.get("orgs") or () if org.get("roleInOrg") != "read"]
    return [who["name"], *(org["name"] for org in orgs)]
