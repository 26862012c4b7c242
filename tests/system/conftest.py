"""One Airflow installation for all system tests of a session."""

from collections.abc import Iterator

import pytest

from tests.system.installation import Installation, installation


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("installation")) as airflow:
        yield airflow


@pytest.fixture
def airflow(running: Installation) -> Installation:
    """The installation, with a service that has billed nothing yet."""
    running.behave(reset=True)
    return running
