"""What is to be done about a certificate that is not trusted?"""

FAILED = "CERTIFICATE_VERIFY_FAILED"
"""What every library's error says about such a one."""

REMEDY = (
    "if the certificate is one of your own authority, set SSL_CERT_FILE to a file with that"
    " authority's"
)


def with_remedy(said: str) -> str:
    """Return what an error says, with what can be done if it is about a certificate."""
    return f"{said}; {REMEDY}" if FAILED in said else said
