"""The views of the ledger, as SQL: the bill and the images in doubt, for people and for their reports.

`jdocr_bill` has one row for each call that reached the service and one for each image that was reused instead
of being sent, so that any ``GROUP BY`` adds up. `jdocr_in_doubt` has one row for each image of which nobody
knows whether it was charged. `day` and `sent_at` are Beijing time (UTC+8, no summer time), `moment` and
`lease_until` seconds since the epoch.

A call is booked under one name of its picture: the first of those that its task instance gave it, else the
first under which it was ever read.
"""

from __future__ import annotations

from collections.abc import Mapping

_BILL = """
SELECT
  'call' AS entry,
  {day_of_call} AS day,
  {time_of_call} AS sent_at,
  attempt.started_at AS moment,
  run.dag_id, run.run_id, run.task_id, run.map_index,
  attempt.service, attempt.endpoint, attempt.fingerprint AS account,
  image.sha256, image.page,
  {uri} AS uri,
  1 AS calls,
  CASE WHEN attempt.charged THEN 1 ELSE 0 END AS charged,
  CASE WHEN attempt.charged IS NULL THEN 1 ELSE 0 END AS maybe_charged,
  CASE WHEN NOT attempt.charged THEN 1 ELSE 0 END AS not_charged,
  0 AS reused,
  attempt.state, attempt.code, attempt.request_id, attempt.id AS call_id
FROM jdocr_attempt AS attempt
JOIN jdocr_recognition AS image ON image.id = attempt.recognition_id
LEFT JOIN jdocr_run AS run ON run.digest = attempt.run_digest
WHERE attempt.state <> 'never_reached'
UNION ALL
SELECT
  'reused',
  {day_of_reuse},
  {time_of_reuse},
  reuse.at,
  run.dag_id, run.run_id, run.task_id, run.map_index,
  reuse.service, reuse.endpoint, NULL,
  reuse.sha256, reuse.page,
  reuse.uri,
  0, 0, 0, 0, 1,
  NULL, reuse.code, NULL, NULL
FROM jdocr_outcome AS reuse
LEFT JOIN jdocr_run AS run ON run.digest = reuse.run_digest
WHERE reuse.outcome = 'reused'"""

# The newest call of each image is the one to ask JD about.
_IN_DOUBT = """
SELECT
  image.id AS recognition_id,
  image.service, image.endpoint, image.sha256, image.page,
  {uri} AS uri,
  run.dag_id, run.run_id, run.task_id, run.map_index,
  {day_of_call} AS day,
  {time_of_call} AS sent_at,
  attempt.started_at AS moment,
  image.state, image.settled, image.doubts, image.lease_until,
  (SELECT COUNT(*) FROM jdocr_attempt AS sent
    WHERE sent.recognition_id = image.id AND sent.state <> 'never_reached') AS calls,
  attempt.id AS call_id, attempt.fingerprint AS account, attempt.code, attempt.request_id
FROM jdocr_recognition AS image
LEFT JOIN jdocr_attempt AS attempt ON attempt.id = (
  SELECT newest.id FROM jdocr_attempt AS newest
  WHERE newest.recognition_id = image.id AND newest.state <> 'never_reached'
  ORDER BY CASE WHEN newest.state IN ('in_doubt', 'sending') THEN 0 ELSE 1 END,
    newest.started_at DESC, newest.id LIMIT 1)
LEFT JOIN jdocr_run AS run ON run.digest = attempt.run_digest
WHERE image.state IN ('in_doubt', 'sending') OR (image.state = 'claimed' AND image.doubts > 0)"""

_URI = """COALESCE(
    (SELECT MIN(named.uri) FROM jdocr_outcome AS named
      WHERE named.sha256 = image.sha256 AND named.run_digest = attempt.run_digest),
    (SELECT MIN(seen.uri) FROM jdocr_source AS seen WHERE seen.sha256 = image.sha256))"""

_BEIJING_TIME: Mapping[str, str] = {
    "sqlite": "DATETIME({0} + 28800, 'unixepoch')",
    "postgresql": "(TO_TIMESTAMP({0} + 28800) AT TIME ZONE 'UTC')",
    "mysql": "TIMESTAMPADD(MICROSECOND, ROUND(({0} + 28800) * 1000000), TIMESTAMP '1970-01-01 00:00:00')",
}
NAMES = ("jdocr_bill", "jdocr_in_doubt")


def statements(dialect: str) -> dict[str, str]:
    """View → the statement that creates it."""
    return {name: f"CREATE VIEW {name} AS{query(name, dialect)}" for name in NAMES}


def query(name: str, dialect: str, *, named: bool = True) -> str:
    """What a view shows, for those who may read the tables and not the view; faster where nobody asks for the
    `uri` of calls, which is none then.
    """
    return {"jdocr_bill": _BILL, "jdocr_in_doubt": _IN_DOUBT}[name].format(**_parts(dialect, named=named))


def _parts(dialect: str, *, named: bool) -> dict[str, str]:
    parts = {"uri": _URI if named else "NULL"}
    for what, column in (("call", "attempt.started_at"), ("reuse", "reuse.at")):
        time = _BEIJING_TIME[dialect].format(column)
        day = f"DATE({time})" if dialect == "sqlite" else f"CAST({time} AS DATE)"
        parts |= {f"time_of_{what}": time, f"day_of_{what}": day}
    return parts
