"""Where the errors of the core become Airflow's: an error that no retry can change ends the retries."""

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_jdocr.core.errors import JdOcrError


@contextmanager
def permanent_errors_end_retries() -> Iterator[None]:
    """Turns a permanent error into Airflow's word for that; lets every other one through, with its class."""
    try:
        yield
    except JdOcrError as error:
        if error.permanent:
            raise AirflowFailException(str(error)) from error
        raise
