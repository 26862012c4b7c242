"""A prefix in key ranges, one mapped task each: a DAG for each executor that the installation has."""

from typing import Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import DAG, task

from airflow_provider_jdocr.operators import JdOcrRecognizeInvoicesOperator
from airflow_provider_jdocr.storage import split_prefix

for executor in conf.get("core", "executor").split(","):
    with DAG(
        f"spread_{executor.removesuffix('Executor').lower()}",
        schedule=None,
        params={
            "images": "",
            "every": 1000,
            "jdocr_conn_id": "jdocr_default",
            "on_quota": "stop",
            "max_in_flight": 4,
        },
    ) as dag:

        @task(executor=executor)
        def split(prefix: str, every: str) -> list[dict[str, Any]]:
            return split_prefix(prefix, every=int(every))

        JdOcrRecognizeInvoicesOperator.partial(
            task_id="recognise",
            jdocr_conn_id="{{ params.jdocr_conn_id }}",
            on_quota="{{ params.on_quota }}",
            max_in_flight="{{ params.max_in_flight }}",
            executor=executor,
        ).expand(images=split("{{ params.images }}", "{{ params.every }}"))
    globals()[dag.dag_id] = dag
