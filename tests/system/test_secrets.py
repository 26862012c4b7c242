"""Nothing secret leaves: secrets that occur nowhere else, a whole Airflow that is made to fail, and a search
of all that it wrote.
"""

import pytest

from tests.system.canaries import Search, everything_searched, spellings
from tests.system.installation import LINEAGE, Installation
from tests.system.leaks import SECRETS, SHORT, drive

pytestmark = pytest.mark.system


def test_no_secret_leaves_whatever_fails_even_while_everything_is_logged(airflow: Installation) -> None:
    drive(airflow, SHORT)
    search = everything_searched(airflow)
    assert len(search.signatures) > len(SHORT)
    assert "COMPLETE" in (airflow.home / LINEAGE).read_text()
    assert not search.finds


@pytest.mark.parametrize("spelling", sorted(spellings(SECRETS["secret"])))
def test_the_search_finds_every_spelling_of_a_secret(spelling: bytes) -> None:
    search = Search(SECRETS, frozenset())
    search.through("a kind", "a place", b"something " + spelling.upper() + b" something")
    assert [find.what for find in search.finds] == ["secret"]


def test_the_search_finds_a_signature_inside_a_longer_run_of_digits() -> None:
    search = Search({}, frozenset({"ab" * 16, "cd" * 32}))
    search.through("a kind", "a place", b"0123" + b"ab" * 16)
    search.through("a kind", "another place", b"CD" * 32 + b"77")
    search.through("a kind", "an innocent place", b"ef" * 32)
    assert [find.place for find in search.finds] == ["a place", "another place"]
