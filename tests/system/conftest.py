"""One Airflow installation for all system tests of a session."""

from collections.abc import Iterator

import pytest

from tests.system.installation import EVERYTHING_LOGGED, Installation, installation


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    # Everything is logged: what a log must not hold is looked for afterwards.
    with installation(tmp_path_factory.mktemp("installation"), EVERYTHING_LOGGED) as airflow:
        yield airflow


@pytest.fixture
def airflow(running: Installation) -> Installation:
    """The installation, with a service that has billed nothing yet."""
    running.behave(reset=True)
    return running
