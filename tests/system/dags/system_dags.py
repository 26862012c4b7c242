"""Recognise and load, with everything that a system test wants to choose as a parameter."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_jdocr.operators import JdOcrLoadInvoicesOperator, JdOcrRecognizeInvoicesOperator

for name, deferrable, retries in (
    ("batch", False, 1),
    ("deferring", True, 1),
    ("stubborn", False, 6),
    ("stubborn_deferring", True, 6),
):
    with DAG(
        name,
        schedule=None,
        # A list stays a list.
        render_template_as_native_obj=True,
        default_args={"retries": retries, "retry_delay": timedelta(seconds=1)},
        params={
            "images": "",
            "jdocr_conn_id": "jdocr_default",
            "storage_conn_id": "",
            "warehouse_conn_id": "warehouse_default",
            "on_quota": "stop",
            "in_doubt": "resend",
            "max_in_flight": 4,
            "qr": None,
        },
    ) as dag:
        recognise = JdOcrRecognizeInvoicesOperator(
            task_id="recognise",
            images="{{ params.images }}",
            jdocr_conn_id="{{ params.jdocr_conn_id }}",
            storage_conn_id="{{ params.storage_conn_id }}",
            on_quota="{{ params.on_quota }}",
            in_doubt="{{ params.in_doubt }}",
            max_in_flight="{{ params.max_in_flight }}",
            qr="{{ params.qr }}",
            deferrable=deferrable,
        )
        JdOcrLoadInvoicesOperator(
            task_id="load",
            manifest=recognise.output,
            jdocr_conn_id="{{ params.jdocr_conn_id }}",
            warehouse_conn_id="{{ params.warehouse_conn_id }}",
            trigger_rule="all_done",
        )
    globals()[name] = dag
