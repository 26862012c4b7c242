"""``airflow jdocr``: what the people who run it do with the ledger, from Airflow's command line."""
