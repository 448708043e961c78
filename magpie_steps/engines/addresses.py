"""Which addresses of servers may be asked, by which proxy?"""

from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def check_address(url: str) -> None:
    """Check that a server's address is one, which may be shown: no key or password is in it.

    Raises:
        ValueError: If it is none, or tells a secret, which the error does not show.
    """
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # no number for a port, half an IPv6 address
        whole = False
    if "@" in url or "?" in url or "#" in url:
        raise ValueError(
            "the server's address has a user, a password or a ?query in it, which would be shown;"
            " give the address alone, and the key in OPENAI_API_KEY"
        )
    if not whole or parts.scheme not in ("http", "https") or not url.isprintable():
        raise ValueError(
            f"{url!r} is no address of a server; give addresses such as 'http://localhost:8000/v1'"
        )


def proxy_for(url: str) -> str | None:
    """Return the environment's proxy for an address, None for a server on this machine.

    The variables are those that curl and others obey: HTTP_PROXY, HTTPS_PROXY, NO_PROXY.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _is_here(host) or proxy_bypass(host):
        return None
    proxy = getproxies().get(parts.scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
