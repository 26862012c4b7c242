"""Once: recognise an archive of old scans, over as many days as the quota takes.

The archive is cut into key ranges, one mapped task each. The tasks share the account's rate and quota
through the ledger. Where the quota is used up they wait for its reset without a worker slot, and go on
until every image has an outcome. Clear or stop what you like: nothing that was answered is asked for again.

Connections as for `invoices_to_warehouse`. Start it by hand, with the archive's prefix.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_jdocr.operators import JdOcrLoadInvoicesOperator, JdOcrRecognizeInvoicesOperator
from airflow_provider_jdocr.storage import split_prefix

with DAG(
    "backfill_historical_scans",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["jdocr"],
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "images": Param("s3://invoices/archive/", type="string", description="A prefix"),
        "every": Param(1000, type="integer", minimum=1, description="Images of one mapped task"),
        "jdocr_conn_id": Param("jdocr_default", type="string", description="Account and endpoint"),
        "storage_conn_id": Param("aws_default", type="string", description="How the images are read"),
        "warehouse_conn_id": Param("warehouse_default", type="string", description="Where the rows go"),
    },
) as dag:

    @task
    def split(prefix: str, every: str, storage_conn_id: str) -> list[dict[str, Any]]:
        return split_prefix(prefix, every=int(every), storage_conn_id=storage_conn_id)

    recognise = JdOcrRecognizeInvoicesOperator.partial(
        task_id="recognise",
        jdocr_conn_id="{{ params.jdocr_conn_id }}",
        storage_conn_id="{{ params.storage_conn_id }}",
        on_quota="wait",
        deferrable=True,
        # The rate is the account's: more tasks at once are not faster, they only hold worker slots.
        max_active_tis_per_dagrun=2,
    ).expand(images=split("{{ params.images }}", "{{ params.every }}", "{{ params.storage_conn_id }}"))
    load = JdOcrLoadInvoicesOperator(
        task_id="load",
        manifest=recognise.output,
        jdocr_conn_id="{{ params.jdocr_conn_id }}",
        warehouse_conn_id="{{ params.warehouse_conn_id }}",
        trigger_rule="all_done",
    )
    recognise >> load
