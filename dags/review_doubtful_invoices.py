"""Every working day: ask people about the documents that the checks doubt, and do what they say.

Each document in doubt becomes one of Airflow's required actions (Browse, Required Actions), with what is
printed, read, found and proposed. What somebody answers is in the warehouse a moment later, with who and
when. What nobody answers within a week, or puts off, the next run asks again.

Wants the connection `warehouse_default`, into which `invoices_to_warehouse` loads. Where the people who
review can open the pictures in their browser, say so in `picture_url`.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, task_group

from airflow_provider_jdocr.reviewing import (
    JdOcrApplyReviewOperator,
    JdOcrDoubtfulInvoicesOperator,
    JdOcrReviewInvoiceOperator,
)

WAREHOUSE = "{{ params.warehouse_conn_id }}"

with DAG(
    "review_doubtful_invoices",
    doc_md=__doc__,
    schedule="0 8 * * 1-5",
    catchup=False,
    max_active_runs=1,
    tags=["jdocr"],
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "warehouse_conn_id": Param("warehouse_default", type="string", description="Where the rows are"),
        "limit": Param(20, type="integer", minimum=1, maximum=100, description="Documents of one run"),
        "picture_url": Param(
            None,
            type=["null", "string"],
            description="Where a picture can be seen: https://pictures.example.com/{bucket}/{key}",
        ),
    },
) as dag:

    @task_group
    def review(document: dict[str, str]) -> None:
        ask = JdOcrReviewInvoiceOperator(
            task_id="ask",
            document=document,
            warehouse_conn_id=WAREHOUSE,
            picture_url="{{ params.picture_url or '' }}",
            response_timeout=timedelta(days=7),
            map_index_template="{{ task.document['label'] }}",
            # An answer that cannot be taken is asked for again, at once.
            retries=10,
            retry_delay=timedelta(seconds=1),
        )
        JdOcrApplyReviewOperator(task_id="apply", decision=ask.output, warehouse_conn_id=WAREHOUSE)

    doubtful = JdOcrDoubtfulInvoicesOperator(
        task_id="doubtful", warehouse_conn_id=WAREHOUSE, limit="{{ params.limit }}"
    )
    review.expand(document=doubtful.output)
