"""Is a release that is installed here known to be vulnerable?

pip-audit asks PyPI about every installed package, or OSV where PyPI does not tell. Where neither
can be reached this says so, and nothing is claimed. `make audit` runs it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ACCEPTED: dict[str, str] = {}
"""Advisories that do not concern us, each by its id with the reason."""

NOT_OURS = frozenset({"magpie-steps", "pip", "setuptools", "wheel"})
"""This package, which no database has, and what Python puts into every environment."""

SERVICES = ("pypi", "osv")

TIMEOUT_SECONDS = 900


def main(services: Sequence[str]) -> int:
    """Audit; return 0 if nothing is known or nobody can be asked, else 1."""
    wanted = installed()
    for service in services:
        answered, why = ask(service, wanted)
        known = [each for each in answered if "vulns" in each]
        if known:
            return verdict(service, known, len(wanted))
        print(f"audit: {service} cannot be asked: {why}")
    print("audit: skipped: no service with advisories can be reached from here; nothing is known")
    return 0


def installed() -> dict[str, str]:
    """Return the version of every installed package, without a build's local part."""
    found = {each.name.lower(): each.version.partition("+")[0] for each in distributions()}
    return {name: found[name] for name in sorted(found.keys() - NOT_OURS)}


def ask(service: str, wanted: dict[str, str]) -> tuple[list[dict[str, Any]], str]:
    """Return what a service knows of each package, and if it knows nothing why."""
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch, "requirements.txt")
        listed.write_text("".join(f"{name}=={version}\n" for name, version in wanted.items()))
        command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service]
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        done = subprocess.run(
            [*command, *options, "--requirement", str(listed)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return [], (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return found, next((str(each["skip_reason"]) for each in found if "skip_reason" in each), "")


def verdict(service: str, known: Sequence[dict[str, Any]], wanted: int) -> int:
    """Say what is known of the packages; return 1 if something is that was not accepted."""
    bad = 0
    for package in known:
        for advisory in package["vulns"]:
            ids = {advisory["id"], *advisory.get("aliases", ())}
            reason = next((ACCEPTED[each] for each in ids if each in ACCEPTED), "")
            bad += not reason
            mended = ", ".join(advisory["fix_versions"]) or "no release"
            print(
                f"audit: {package['name']} {package['version']}: {', '.join(sorted(ids))},"
                f" {f'accepted: {reason}' if reason else f'mended in {mended}'}"
            )
    told = f"{len(known)} of {wanted} packages"
    print(f"audit: {service} knows {told}, {bad} of its advisories concern us")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or SERVICES))
