"""The crash harness: batches in processes of their own under random faults, then the books are balanced.

``draw``      what a trial will do, all of it from its seed
``world``     the clocks that all its processes share, and how time passes when everybody waits
``process``   one try of a task: recognise, then load, in a process that may be killed at any step
``servers``   the databases and the local OCR service, which keeps the bill
``trial``     the conductor: starts, kills, retries as Airflow would, repairs, and lets it come to an end
``books``     what bill, ledger, warehouse and processes say afterwards, as frozen records
``balance``   the laws over those records; each yields what breaks it
``report``    the figures of many trials
``slots``     many trials, several at a time

The independent account is the service's bill. What a process did is known from its journal, which outlives a
``kill -9``.
"""
