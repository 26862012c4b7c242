"""A local OCR service that speaks both JD contracts and really reads the picture.

It stands in for JD in tests and demos, and serves where JD cannot be reached. Of the client it knows the
endpoint table and nothing else: signatures are verified by code of its own, so that an error of the client's
signer shows. Start it with ``python -m airflow_provider_jdocr.server``; what it does is told in ``app``.
"""
