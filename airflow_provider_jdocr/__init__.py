"""Scans of Chinese VAT invoices in object storage become checked, typed rows, through JD's OCR services.

`core` is the line itself and knows no Airflow; `hooks`, `operators`, `sensors` and `triggers` are its Airflow
shell; `server` is a local OCR service that speaks JD's two contracts. Importing this package imports none
of them.
"""
