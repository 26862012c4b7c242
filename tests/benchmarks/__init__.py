"""Benchmarks: ours, what people write today and what cannot be beaten, side by side in one run.

``python -m tests.benchmarks`` runs them and keeps every row that it measured below ``build/bench``;
``--publish`` takes full runs over into ``docs/measured``, from which the tables of ``docs/performance.md``
are written. No figure gets there by hand.
"""
