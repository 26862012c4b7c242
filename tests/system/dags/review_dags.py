"""The example DAG of review, as it is; Airflow looks at a file only if it names airflow and a dag."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
dag = runpy.run_path(str(ROOT / "dags" / "review_doubtful_invoices.py"))["dag"]
