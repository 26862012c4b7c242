"""Crash trials through a real Airflow: its tasks, workers, scheduler and triggerer are killed, its ledger's
server restarts, S3 and the OCR service fail; then the books are balanced.

``plan``      what a trial will do, all of it from its seed
``blows``     what can be done to a running installation, and what it costs at that moment
``trial``     the conductor: triggers, strikes, repairs, clears as a person would, and takes stock
``accounts``  the laws: those of ``tests.torture.balance`` that need no journal, and those of a clear
``report``    the figures of all trials

The installation is `tests.system`'s; the independent account is the service's bill.
"""
