"""What is known against the dependencies: vulnerabilities by the package index, licences by their metadata.

``python -m tests.audit constraints/*.txt`` asks the index about every pinned version, and looks at the
licences of what the package needs at run time and is installed here. Exit code 1: something was found. 2:
nothing was found, but the index could not be asked about everything. Not every mirror tells of
vulnerabilities: ``JDOCR_AUDIT_INDEX`` names another than PyPI.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
INDEX = "https://pypi.org"
FIRST_TRIES = 3
"""When so many first questions fail, the index is one that does not answer this."""

IGNORED: Mapping[str, str] = {}
"""Identifier of a vulnerability → why it does not touch us. One that is no longer reported has to go."""

PERMISSIVE = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC", "MIT"),
        *("MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib"),
        # As older metadata words them.
        *("3-Clause BSD License", "Apache Software License", "Apache License 2.0", "BSD", "BSD License"),
        *("ISC License (ISCL)", "MIT License", "Python Software Foundation License"),
        "The Unlicense (Unlicense)",
    }
)
_UNCHANGED = "imported as it is: its copyleft covers changes to itself, of which there are none"
TOLERATED: Mapping[str, str] = {
    "certifi": f"MPL-2.0, {_UNCHANGED}",
    "pathspec": f"MPL-2.0, {_UNCHANGED}",
    "tqdm": f"MPL-2.0 in part, {_UNCHANGED}",
    "psycopg": f"LGPL-3.0, {_UNCHANGED}",
    "psycopg-binary": f"LGPL-3.0, {_UNCHANGED}",
    "psycopg2-binary": f"LGPL with exceptions, brought by Airflow's own provider, {_UNCHANGED}",
    "python-stdnum": f"LGPL-2.1 or later, {_UNCHANGED}",
    "text-unidecode": "Artistic or GPL at the user's choice, brought by Airflow; Artistic is chosen",
}
"""Package → its licence and why it does not bind what imports it."""


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """What an index reports of a pin. ``names``: its identifier and its aliases."""

    pin: Pin
    names: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        mended = f"mended in {', '.join(self.fixed_in)}" if self.fixed_in else "not mended in any version"
        return f"{self.pin.name} {self.pin.version}: {', '.join(self.names)}, {mended}"


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of the pins, and of which nothing is known."""

    found: tuple[Vulnerability, ...]
    unknown: tuple[Pin, ...]
    asked: int

    def against(self, ignored: Mapping[str, str]) -> list[str]:
        """What has to be looked at: what is not ignored, and what is ignored and no longer there."""
        said = [str(each) for each in self.found if not set(each.names) & set(ignored)]
        reported = {name for each in self.found for name in each.names}
        stale = [] if self.unknown else sorted(set(ignored) - reported)
        return said + [f"{name} is ignored and not reported any more: take it out" for name in stale]


def pins(texts: Iterable[str]) -> list[Pin]:
    """Every pinned version of the constraints, each once."""
    lines = (line for text in texts for line in text.splitlines())
    found = (re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in lines)
    return sorted({Pin(canonicalize_name(each[1]), each[2]) for each in found if each})


def ask(index: str, wanted: Sequence[Pin]) -> Report:
    """What the index knows. An index that answers none of the first questions is asked no more."""
    found: list[Vulnerability] = []
    unknown: list[Pin] = []
    with requests.Session() as session:
        for number, pin in enumerate(wanted):
            answer = _answer(session, index, pin)
            if answer is None:
                unknown.append(pin)
            else:
                found += answer
            if number + 1 == len(unknown) == FIRST_TRIES:
                return Report((), tuple(wanted), number + 1)
    return Report(tuple(found), tuple(unknown), len(wanted))


def _answer(session: requests.Session, index: str, pin: Pin) -> list[Vulnerability] | None:
    try:
        reply = session.get(f"{index}/pypi/{pin.name}/{pin.version}/json", timeout=30)
        reported = reply.json()["vulnerabilities"] if reply.ok else None
    except (requests.RequestException, ValueError, KeyError):
        return None
    return None if reported is None else list(_vulnerabilities(pin, reported))


def _vulnerabilities(pin: Pin, reported: Iterable[Mapping[str, Any]]) -> Iterator[Vulnerability]:
    for each in reported:
        if not each.get("withdrawn"):
            names = (each["id"], *each.get("aliases", ()))
            yield Vulnerability(pin, tuple(names), tuple(each.get("fixed_in") or ()))


def needed() -> dict[str, Distribution]:
    """What is installed here of all that the package needs at run time, with every extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    todo = [Requirement(line) for line in (*project["dependencies"], *extras)]
    found: dict[str, Distribution] = {}
    seen: set[str] = set()
    while todo:
        requirement = todo.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            installed = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        found[canonicalize_name(requirement.name)] = installed
        todo += _required(installed, requirement.extras)
    return found


def _required(installed: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for line in installed.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def licence(installed: Distribution) -> str:
    """What a package says of its licence, in the most exact of the places where it may."""
    said = installed.metadata.json
    classifiers = [each for each in said.get("classifier", ()) if each.startswith("License ::")]
    named = [each.rpartition(":: ")[2] for each in classifiers if not each.endswith("OSI Approved")]
    return str(said.get("license_expression") or "; ".join(named) or said.get("license", ""))


def binds(name: str, said: str) -> bool:
    """Whether a licence may ask something of those who import the package, as far as its words tell."""
    return name not in TOLERATED and not all(_is_permissive(each.strip()) for each in said.split(";"))


def _is_permissive(said: str) -> bool:
    parts = {part.strip(" ()") for part in re.split(r"\s+(?:AND|OR)\s+", said)}
    return said in PERMISSIVE or parts <= PERMISSIVE


def main(paths: Sequence[str]) -> int:
    wanted = pins(Path(path).read_text(encoding="utf-8") for path in paths)
    index = os.environ.get("JDOCR_AUDIT_INDEX", INDEX)
    report = ask(index, wanted)
    against = report.against(IGNORED)
    packages = {name: licence(installed) for name, installed in needed().items()}
    against += [f"{name}: licence {said!r}" for name, said in sorted(packages.items()) if binds(name, said)]
    for line in against:
        print(line)
    print(
        f"{len(packages)} licences looked at; {report.asked} of {len(wanted)} versions asked for at {index}."
    )
    if report.unknown:
        print(f"{index} does not tell of {len(report.unknown)} of {len(wanted)}: nothing is known of these.")
    return 1 if against else 2 if report.unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
