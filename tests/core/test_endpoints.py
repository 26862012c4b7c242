"""The endpoint table is whole, and its columns are independent of each other."""

import pytest

from airflow_provider_jdocr.core.account import account_from_parts
from airflow_provider_jdocr.core.endpoints import ENDPOINTS, Endpoint


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)
def test_every_endpoint_has_limits_with_their_source(endpoint: Endpoint) -> None:
    assert ENDPOINTS[endpoint.name] is endpoint
    assert endpoint.formats <= {"jpeg", "png", "bmp"}
    assert endpoint.formats
    assert 0 < endpoint.max_bytes <= 5_000_000, "5 MB means the smaller of both megabytes"
    assert endpoint.min_side_pixels > 0
    assert "JD" in endpoint.limits_source
    assert "5M" in endpoint.limits_source


@pytest.mark.parametrize(
    ("extra", "url", "auth", "body_encoding"),
    [
        ({}, "https://aiapi.jdcloud.com/jdai/ocr_invoice", "jdcloud2", "raw"),
        ({"auth": "appkey"}, "https://aiapi.jd.com/jdai/ocr_invoice", "appkey", "raw"),
        ({"endpoint": "intsig_invoice"}, "https://aiapi.jd.com/INTSIG/invoice", "appkey", "base64"),
        (
            {"endpoint": "intsig_invoice", "body_encoding": "data_uri"},
            "https://aiapi.jd.com/INTSIG/invoice",
            "appkey",
            "data_uri",
        ),
    ],
)
def test_configuration_alone_chooses_door_signing_and_body(
    extra: dict[str, object], url: str, auth: str, body_encoding: str
) -> None:
    account = account_from_parts(login="k", password="s", host="", port=None, schema="", extra=extra)
    assert (account.url, account.auth, account.body_encoding) == (url, auth, body_encoding)
    assert account.service == "jd"


def test_a_way_to_sign_without_a_door_has_no_address() -> None:
    assert ENDPOINTS["intsig_invoice"].base_url_for("jdcloud2") is None
