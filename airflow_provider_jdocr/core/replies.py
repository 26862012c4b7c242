"""What a reply means for money: the layers of a reply, outermost first."""

from dataclasses import dataclass

from airflow_provider_jdocr.core.endpoints import Endpoint
from airflow_provider_jdocr.core.errors import Verdict


@dataclass(frozen=True, slots=True)
class QuotaNews:
    """What a reply says about the calls left; all empty when it says nothing that can be believed."""

    remaining: int | None = None
    unlimited: bool = False
    seconds_left: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply means for the picture and for the bill. ``charged`` None: the reply does not say."""

    verdict: Verdict
    charged: bool | None
    layer: str
    code: str
    message: str
    request_id: str | None
    quota: QuotaNews


def read_reply(endpoint: Endpoint, status: int, body: bytes) -> Reading:
    """Read any reply; never raises."""
    raise NotImplementedError
