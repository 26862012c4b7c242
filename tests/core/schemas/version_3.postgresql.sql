CREATE TABLE jdocr_account (
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	next_slot_at DOUBLE PRECISION NOT NULL, 
	factor DOUBLE PRECISION NOT NULL, 
	held DOUBLE PRECISION DEFAULT '1' NOT NULL, 
	slowed_at DOUBLE PRECISION NOT NULL, 
	grown_at DOUBLE PRECISION DEFAULT '0' NOT NULL, 
	window_ends_at DOUBLE PRECISION NOT NULL, 
	used INTEGER NOT NULL, 
	remaining BIGINT, 
	known_at DOUBLE PRECISION, 
	quota_state VARCHAR(20) NOT NULL, 
	quota_until DOUBLE PRECISION, 
	quota_at DOUBLE PRECISION NOT NULL, 
	probe_until DOUBLE PRECISION NOT NULL, 
	PRIMARY KEY (service, endpoint, fingerprint)
);
CREATE TABLE jdocr_meta (
	name VARCHAR(50) NOT NULL, 
	value TEXT, 
	PRIMARY KEY (name)
);
CREATE TABLE jdocr_outcome (
	run_digest VARCHAR(64) NOT NULL, 
	uri_digest VARCHAR(64) NOT NULL, 
	page INTEGER NOT NULL, 
	uri TEXT NOT NULL, 
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	sha256 VARCHAR(64), 
	outcome VARCHAR(12) NOT NULL, 
	code VARCHAR(100), 
	message TEXT, 
	at DOUBLE PRECISION NOT NULL, 
	PRIMARY KEY (run_digest, uri_digest, page)
);
CREATE INDEX jdocr_outcome_at ON jdocr_outcome (at);
CREATE INDEX jdocr_outcome_sha256 ON jdocr_outcome (sha256, run_digest);
CREATE TABLE jdocr_recognition (
	id BIGSERIAL NOT NULL, 
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	page INTEGER NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	settled VARCHAR(10), 
	answer_id VARCHAR(32), 
	lease_token VARCHAR(32), 
	lease_until DOUBLE PRECISION NOT NULL, 
	doubts INTEGER NOT NULL, 
	codes TEXT, 
	invoice_key VARCHAR(32), 
	PRIMARY KEY (id), 
	CONSTRAINT jdocr_recognition_identity UNIQUE (sha256, service, endpoint, page)
);
CREATE INDEX jdocr_recognition_invoice_key ON jdocr_recognition (invoice_key);
CREATE INDEX jdocr_recognition_state ON jdocr_recognition (state);
CREATE TABLE jdocr_run (
	digest VARCHAR(64) NOT NULL, 
	dag_id TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	task_id TEXT NOT NULL, 
	map_index INTEGER NOT NULL, 
	started_at DOUBLE PRECISION NOT NULL, 
	PRIMARY KEY (digest)
);
CREATE TABLE jdocr_source (
	uri_digest VARCHAR(64) NOT NULL, 
	uri TEXT NOT NULL, 
	stamp VARCHAR(64) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	seen_at DOUBLE PRECISION NOT NULL, 
	PRIMARY KEY (uri_digest)
);
CREATE INDEX jdocr_source_sha256 ON jdocr_source (sha256);
CREATE TABLE jdocr_attempt (
	id VARCHAR(32) NOT NULL, 
	recognition_id BIGINT NOT NULL, 
	run_digest VARCHAR(64) NOT NULL, 
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	state VARCHAR(13) NOT NULL, 
	started_at DOUBLE PRECISION NOT NULL, 
	lease_until DOUBLE PRECISION NOT NULL, 
	ended_at DOUBLE PRECISION, 
	elapsed_seconds DOUBLE PRECISION, 
	verdict VARCHAR(30), 
	layer VARCHAR(30), 
	code VARCHAR(100), 
	message TEXT, 
	charged BOOLEAN, 
	request_id VARCHAR(200), 
	http_status INTEGER, 
	reply BYTEA, 
	sent_sha256 VARCHAR(64) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(recognition_id) REFERENCES jdocr_recognition (id)
);
CREATE INDEX ix_jdocr_attempt_recognition_id ON jdocr_attempt (recognition_id);
CREATE INDEX ix_jdocr_attempt_run_digest ON jdocr_attempt (run_digest);
CREATE INDEX jdocr_attempt_in_flight ON jdocr_attempt (service, endpoint, fingerprint, state);
CREATE INDEX jdocr_attempt_started_at ON jdocr_attempt (started_at);
CREATE TABLE jdocr_decision (
	id VARCHAR(32) NOT NULL, 
	recognition_id BIGINT NOT NULL, 
	attempt_id VARCHAR(32), 
	decision VARCHAR(11) NOT NULL, 
	decided_by VARCHAR(255) NOT NULL, 
	reason TEXT NOT NULL, 
	decided_at DOUBLE PRECISION NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(recognition_id) REFERENCES jdocr_recognition (id)
);
CREATE INDEX ix_jdocr_decision_recognition_id ON jdocr_decision (recognition_id);
CREATE VIEW jdocr_bill AS
SELECT
  'call' AS entry,
  CAST((TO_TIMESTAMP(attempt.started_at + 28800) AT TIME ZONE 'UTC') AS DATE) AS day,
  (TO_TIMESTAMP(attempt.started_at + 28800) AT TIME ZONE 'UTC') AS sent_at,
  attempt.started_at AS moment,
  run.dag_id, run.run_id, run.task_id, run.map_index,
  attempt.service, attempt.endpoint, attempt.fingerprint AS account,
  image.sha256, image.page,
  COALESCE(
    (SELECT MIN(named.uri) FROM jdocr_outcome AS named
      WHERE named.sha256 = image.sha256 AND named.run_digest = attempt.run_digest),
    (SELECT MIN(seen.uri) FROM jdocr_source AS seen WHERE seen.sha256 = image.sha256)) AS uri,
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
  CAST((TO_TIMESTAMP(reuse.at + 28800) AT TIME ZONE 'UTC') AS DATE),
  (TO_TIMESTAMP(reuse.at + 28800) AT TIME ZONE 'UTC'),
  reuse.at,
  run.dag_id, run.run_id, run.task_id, run.map_index,
  reuse.service, reuse.endpoint, NULL,
  reuse.sha256, reuse.page,
  reuse.uri,
  0, 0, 0, 0, 1,
  NULL, reuse.code, NULL, NULL
FROM jdocr_outcome AS reuse
LEFT JOIN jdocr_run AS run ON run.digest = reuse.run_digest
WHERE reuse.outcome = 'reused';
CREATE VIEW jdocr_in_doubt AS
SELECT
  image.id AS recognition_id,
  image.service, image.endpoint, image.sha256, image.page,
  COALESCE(
    (SELECT MIN(named.uri) FROM jdocr_outcome AS named
      WHERE named.sha256 = image.sha256 AND named.run_digest = attempt.run_digest),
    (SELECT MIN(seen.uri) FROM jdocr_source AS seen WHERE seen.sha256 = image.sha256)) AS uri,
  run.dag_id, run.run_id, run.task_id, run.map_index,
  CAST((TO_TIMESTAMP(attempt.started_at + 28800) AT TIME ZONE 'UTC') AS DATE) AS day,
  (TO_TIMESTAMP(attempt.started_at + 28800) AT TIME ZONE 'UTC') AS sent_at,
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
WHERE image.state IN ('in_doubt', 'sending') OR (image.state = 'claimed' AND image.doubts > 0);
INSERT INTO jdocr_meta (name, value) VALUES ('schema_version', '3');
