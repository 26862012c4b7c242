CREATE TABLE jdocr_account (
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	next_slot_at DOUBLE PRECISION NOT NULL, 
	factor DOUBLE PRECISION NOT NULL, 
	slowed_at DOUBLE PRECISION NOT NULL, 
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
	PRIMARY KEY (id), 
	CONSTRAINT jdocr_recognition_identity UNIQUE (sha256, service, endpoint, page)
);
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
CREATE INDEX jdocr_attempt_in_flight ON jdocr_attempt (service, endpoint, fingerprint, state);
CREATE INDEX ix_jdocr_attempt_run_digest ON jdocr_attempt (run_digest);
INSERT INTO jdocr_meta (name, value) VALUES ('schema_version', '1');
