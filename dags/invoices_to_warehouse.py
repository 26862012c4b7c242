"""Every day: recognise what is new in the inbox, load what was answered.

Before the first run, create three connections in Airflow: `jdocr_default` (type jdocr: key, secret,
endpoint), `aws_default` (or another, for the storage) and `warehouse_default` (sqlite or postgres).
Another inbox, endpoint or warehouse is a matter of the parameters below. Nothing in here depends on a
logical date, so it can be triggered at any time, as often as one likes: what was answered before is not
asked for again.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_jdocr.operators import JdOcrLoadInvoicesOperator, JdOcrRecognizeInvoicesOperator
from airflow_provider_jdocr.sensors import JdOcrQuotaSensor

with DAG(
    "invoices_to_warehouse",
    doc_md=__doc__,
    schedule="@daily",
    catchup=False,
    max_active_runs=1,
    tags=["jdocr"],
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "images": Param("s3://invoices/inbox/", type="string", description="A prefix or a glob"),
        "jdocr_conn_id": Param("jdocr_default", type="string", description="Account and endpoint"),
        "storage_conn_id": Param("aws_default", type="string", description="How the images are read"),
        "warehouse_conn_id": Param("warehouse_default", type="string", description="Where the rows go"),
    },
) as dag:
    quota = JdOcrQuotaSensor(
        task_id="quota",
        jdocr_conn_id="{{ params.jdocr_conn_id }}",
        mode="reschedule",
        poke_interval=timedelta(minutes=5),
        timeout=timedelta(hours=26),
    )
    recognise = JdOcrRecognizeInvoicesOperator(
        task_id="recognise",
        images="{{ params.images }}",
        jdocr_conn_id="{{ params.jdocr_conn_id }}",
        storage_conn_id="{{ params.storage_conn_id }}",
        # The rest of today's images is taken up by tomorrow's run.
        on_quota="stop",
    )
    load = JdOcrLoadInvoicesOperator(
        task_id="load",
        manifest=recognise.output,
        jdocr_conn_id="{{ params.jdocr_conn_id }}",
        warehouse_conn_id="{{ params.warehouse_conn_id }}",
        # What was paid for is loaded even where some images failed; loading then fails in their place.
        trigger_rule="all_done",
    )
    quota >> recognise >> load
