"""The search for secrets: texts that must not be anywhere, however they are spelled, and the places to look.

Signatures are looked for as whole runs of hex digits, so that thousands of them cost no more than one; what
the connections hold is looked for in every spelling of `spellings`, in any case of letters.
"""

import base64
import html
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus

import sqlalchemy as sa

from tests.system.installation import Installation
from tests.system.leaks import SECRETS

_HEX_RUNS = re.compile(rb"[0-9a-f]{32,}")
_SIGNED_URL = re.compile(rb"x-amz-signature=|[?&]sign=[0-9a-f]{32}")
_ZLIB = re.compile(rb"^\x78[\x01\x5e\x9c\xda]")


def spellings(secret: str) -> set[bytes]:
    """The lower-cased ways in which a text may be written down, one of which every leak would be."""
    plain = secret.encode()
    texts = {
        secret,
        secret[::-1],
        quote(secret, safe=""),
        quote(quote(secret, safe=""), safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        secret.replace("/", "\\/"),
        html.escape(secret),
        plain.hex(),
        *(_inner_base64(plain, before) for before in range(3)),
    }
    urlsafe = {text.replace("+", "-").replace("/", "_") for text in texts}
    return {text.lower().encode() for text in texts | urlsafe}


def _inner_base64(plain: bytes, before: int) -> str:
    """What is the same in every base64 text of `plain` with `before` (modulo 3) bytes before it."""
    whole = base64.b64encode(b"\0" * before + plain).decode().rstrip("=")
    first = (0, 2, 3)[before]
    spoilt = 0 if (before + len(plain)) % 3 == 0 else 1
    return whole[first : len(whole) - spoilt]


@dataclass(frozen=True, slots=True)
class Find:
    """A secret in a place where it must not be. `around`: the text there."""

    kind: str
    place: str
    what: str
    around: str


@dataclass(slots=True)
class Search:
    """Secrets by name, and signatures; counts what was looked through and keeps what was found."""

    secrets: Mapping[str, str]
    signatures: frozenset[str]
    looked_through: Counter[str] = field(default_factory=Counter)
    finds: list[Find] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._needles = {
            spelling: name for name, secret in self.secrets.items() for spelling in spellings(secret)
        }
        self._signatures = {signature.encode() for signature in self.signatures}
        self._lengths = sorted({len(signature) for signature in self._signatures})

    _needles: dict[bytes, str] = field(init=False, repr=False)
    _signatures: set[bytes] = field(init=False, repr=False)
    _lengths: list[int] = field(init=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "secrets": len(self.secrets),
            "signatures": len(self.signatures),
            "looked through": dict(self.looked_through),
            "finds": [asdict(find) for find in self.finds],
        }

    def markdown(self) -> str:
        """The places, how much there was of each, and how many finds."""
        lines = [["place", "what", "bytes", "finds"], ["---", "---", "---:", "---:"]]
        for kind in dict.fromkeys(name.partition(": ")[0] for name in self.looked_through):
            counts = {
                name: count for name, count in self.looked_through.items() if name.startswith(f"{kind}: ")
            }
            what = ", ".join(
                f"{count} {name.partition(': ')[2]}" for name, count in counts.items() if "bytes" not in name
            )
            finds = sum(find.kind == kind for find in self.finds)
            lines.append([kind, what, str(counts[f"{kind}: bytes"]), str(finds)])
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        looked_for = f"{len(self.secrets)} secrets, {len(self.signatures)} signatures"
        return f"{table}{looked_for}: {len(self.finds)} finds\n"

    def through(self, kind: str, place: str, content: bytes) -> None:
        """Looks through one text of a place."""
        self.looked_through[f"{kind}: bytes"] += len(content)
        lower = content.lower()
        for needle, name in self._needles.items():
            if (at := lower.find(needle)) >= 0:
                self._found(kind, place, name, content, at)
        for run in _HEX_RUNS.finditer(lower):
            if self._is_signature(run.group()):
                self._found(kind, place, "a signature", content, run.start())
                break
        if match := _SIGNED_URL.search(lower):
            self._found(kind, place, "a signed URL", content, match.start())

    def _is_signature(self, run: bytes) -> bool:
        return any(
            run[start : start + length] in self._signatures
            for length in self._lengths
            for start in range(len(run) - length + 1)
        )

    def _found(self, kind: str, place: str, what: str, content: bytes, at: int) -> None:
        around = content[max(0, at - 120) : at + 120].decode("utf-8", "replace")
        self.finds.append(Find(kind, place, what, around))


def everything_searched(airflow: Installation, urls: Iterable[str] = ()) -> Search:
    """All that this Airflow has written, looked through; with the ledgers and warehouses at `urls`."""
    search = Search(SECRETS, signatures_of(airflow))
    search_api(search, airflow)
    search_processes(search, airflow.home)
    search_database(search, "metadata", airflow.metadata)
    files = (f"sqlite:///{path}" for path in airflow.home.glob("*.db"))
    for url in (*files, *urls):
        search_database(search, "ledgers and warehouses", url)
    search_files(search, "files", airflow.home, but=[airflow.home / "connections.json"])
    return search


def signatures_of(airflow: Installation) -> frozenset[str]:
    """Every signature that the service and S3 were sent."""
    found = set(airflow.s3.signatures)
    for call in airflow.heard():
        found |= set(parse_qs(call["query"]).get("sign", ()))
        found |= set(re.findall(r"Signature=([0-9a-f]+)", call["headers"].get("authorization", "")))
    return frozenset(found)


def search_files(search: Search, kind: str, folder: Path, but: Iterable[Path] = ()) -> None:
    """Every file below `folder`, whatever it is."""
    left_out = set(but)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in left_out:
            search.looked_through[f"{kind}: files"] += 1
            search.through(kind, str(path.relative_to(folder)), path.read_bytes())


def search_database(search: Search, kind: str, url: sa.URL | str) -> None:
    """Every row of every table, with what is compressed in it unpacked."""
    engine = sa.create_engine(url)
    for table in sa.inspect(engine).get_table_names():
        with engine.connect() as db:
            for row in db.execute(sa.select("*").select_from(sa.table(table))):
                search.looked_through[f"{kind}: rows"] += 1
                search.through(kind, table, b"\n".join(_texts(row)))
    engine.dispose()


def _texts(row: Iterable[Any]) -> Iterator[bytes]:
    for value in row:
        content = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        yield content
        if isinstance(value, bytes | memoryview) and _ZLIB.match(content):
            yield zlib.decompress(content)


def search_api(search: Search, airflow: Installation) -> None:
    """What the API shows of every task instance: rendered fields, note, XComs, links, and its log."""
    for run in airflow.get("dags/~/dagRuns?limit=500")["dag_runs"]:
        base = f"dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        for task in airflow.get(base)["task_instances"]:
            here = f"{base}/{task['task_id']}"
            shown = [task, airflow.get(f"{here}/xcomEntries"), airflow.get(f"{here}/links")]
            shown += [
                airflow.get(f"{here}/xcomEntries/{entry['key']}?deserialize=false")
                for entry in shown[1]["xcom_entries"]
            ]
            search.looked_through["API: answers"] += len(shown)
            search.through("API", here, json.dumps(shown, ensure_ascii=False).encode())


def search_processes(search: Search, home: Path) -> None:
    """The command lines of all processes, and the environment of those of this Airflow."""
    marker = f"AIRFLOW_HOME={home / 'airflow'}".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or process.name == str(os.getpid()):
            continue
        try:
            commands, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        search.looked_through["processes: command lines"] += 1
        search.through("processes", f"{process.name} cmdline", commands)
        if marker in variables.split(b"\0"):
            search.looked_through["processes: environments"] += 1
            search.through("processes", f"{process.name} environ", variables)
