"""The line from a scan to a checked row, one file a step. Nothing in here knows Airflow.

Clock, sleep and randomness are arguments; ``requests`` and SQLAlchemy stand at the two edges. Imports go
along the line and never back: endpoints → account → signing → client, and from there to ledger and warehouse.
"""
