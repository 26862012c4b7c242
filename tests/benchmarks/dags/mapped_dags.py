"""One task for each picture, as people write it: with a function, and with the HTTP provider's operator."""

from typing import Any

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, task

with DAG("nothing", schedule=None):

    @task
    def nothing() -> None:
        """What a task costs by itself."""

    nothing()


def _keys(prefix: str) -> list[str]:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook().list_keys("invoices", prefix.removeprefix("s3://invoices/")) or []


with DAG("mapped", schedule=None, params={"images": ""}):

    @task
    def keys(prefix: str) -> list[str]:
        return _keys(prefix)

    @task
    def recognise(key: str) -> dict[str, Any]:
        import time
        import uuid

        import requests
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from airflow.sdk import BaseHook

        from airflow_provider_jdocr.core.client import Jdcloud2Auth
        from airflow_provider_jdocr.core.signing import Credentials

        account = BaseHook.get_connection("jdocr_default")
        secret = Credentials(str(account.login), str(account.password), "cn-north-1", "apigateway")
        answer = requests.post(
            f"{account.host}/jdai/ocr_invoice",
            data=S3Hook().get_key(key, "invoices").get()["Body"].read(),
            headers={"Content-Type": "application/octet-stream"},
            auth=Jdcloud2Auth(secret, time.time, lambda: str(uuid.uuid4())),
            timeout=30,
        )
        said: dict[str, Any] = answer.json()
        if said["code"] != "10000":
            raise RuntimeError(said["code"])
        return said

    recognise.expand(key=keys("{{ params.images }}"))


with DAG("mapped_http", schedule=None, params={"images": ""}):

    @task
    def requests_of(prefix: str) -> list[dict[str, Any]]:
        """The operator takes its body as a template field, so each picture travels through XCom."""
        import base64
        import time

        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from airflow.sdk import BaseHook

        from airflow_provider_jdocr.core.signing import appkey_query

        account = BaseHook.get_connection("jdocr_default")
        query = appkey_query(str(account.login), str(account.password), time.time())
        pictures = (S3Hook().get_key(key, "invoices").get()["Body"].read() for key in _keys(prefix))
        endpoint = f"INTSIG/invoice?{query}"
        return [{"endpoint": endpoint, "data": base64.b64encode(each).decode()} for each in pictures]

    HttpOperator.partial(
        task_id="recognise",
        http_conn_id="ocr_http",
        headers={"Content-Type": "application/octet-stream"},
        response_check=lambda response: response.json()["code"] == "10000",
    ).expand_kwargs(requests_of("{{ params.images }}"))
