"""A DAG of the amazon provider's, to compare with: a sensor and two operators, as our examples have."""

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator, S3ListOperator
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import DAG

with DAG("amazon", schedule="@daily", catchup=False) as dag:
    wait = S3KeySensor(task_id="wait", bucket_name="invoices", bucket_key="inbox/*", wildcard_match=True)
    listed = S3ListOperator(task_id="list", bucket="invoices", prefix="inbox/")
    copied = S3CopyObjectOperator(
        task_id="copy", source_bucket_key="s3://invoices/inbox/a", dest_bucket_key="s3://invoices/archive/a"
    )
    wait >> listed >> copied
