CREATE TABLE jdocr_account (
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	next_slot_at DOUBLE NOT NULL, 
	factor DOUBLE NOT NULL, 
	slowed_at DOUBLE NOT NULL, 
	window_ends_at DOUBLE NOT NULL, 
	used INTEGER NOT NULL, 
	remaining BIGINT, 
	known_at DOUBLE, 
	quota_state VARCHAR(20) NOT NULL, 
	quota_until DOUBLE, 
	quota_at DOUBLE NOT NULL, 
	probe_until DOUBLE NOT NULL, 
	PRIMARY KEY (service, endpoint, fingerprint)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE jdocr_meta (
	name VARCHAR(50) NOT NULL, 
	value LONGTEXT, 
	PRIMARY KEY (name)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE jdocr_outcome (
	run_digest VARCHAR(64) NOT NULL, 
	uri_digest VARCHAR(64) NOT NULL, 
	page INTEGER NOT NULL, 
	uri LONGTEXT NOT NULL, 
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	sha256 VARCHAR(64), 
	outcome VARCHAR(12) NOT NULL, 
	code VARCHAR(100), 
	message LONGTEXT, 
	at DOUBLE NOT NULL, 
	PRIMARY KEY (run_digest, uri_digest, page)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE jdocr_recognition (
	id BIGINT NOT NULL AUTO_INCREMENT, 
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	page INTEGER NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	settled VARCHAR(10), 
	answer_id VARCHAR(32), 
	lease_token VARCHAR(32), 
	lease_until DOUBLE NOT NULL, 
	doubts INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT jdocr_recognition_identity UNIQUE (sha256, service, endpoint, page)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE jdocr_run (
	digest VARCHAR(64) NOT NULL, 
	dag_id LONGTEXT NOT NULL, 
	run_id LONGTEXT NOT NULL, 
	task_id LONGTEXT NOT NULL, 
	map_index INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	PRIMARY KEY (digest)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE jdocr_source (
	uri_digest VARCHAR(64) NOT NULL, 
	uri LONGTEXT NOT NULL, 
	stamp VARCHAR(64) NOT NULL COMMENT 'of etag, version, size and modification time', 
	sha256 VARCHAR(64) NOT NULL, 
	seen_at DOUBLE NOT NULL, 
	PRIMARY KEY (uri_digest)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE jdocr_attempt (
	id VARCHAR(32) NOT NULL, 
	recognition_id BIGINT NOT NULL, 
	run_digest VARCHAR(64) NOT NULL, 
	service VARCHAR(255) NOT NULL, 
	endpoint VARCHAR(50) NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	state VARCHAR(13) NOT NULL COMMENT 'sending, answered, in_doubt or never_reached', 
	started_at DOUBLE NOT NULL, 
	lease_until DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	elapsed_seconds DOUBLE, 
	verdict VARCHAR(30), 
	layer VARCHAR(30), 
	code VARCHAR(100), 
	message LONGTEXT, 
	charged BOOL COMMENT 'NULL: nobody said', 
	request_id VARCHAR(200), 
	http_status INTEGER, 
	reply LONGBLOB COMMENT 'the body as received, zlib-compressed', 
	sent_sha256 VARCHAR(64) NOT NULL COMMENT 'of the picture that was sent', 
	PRIMARY KEY (id), 
	FOREIGN KEY(recognition_id) REFERENCES jdocr_recognition (id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE INDEX ix_jdocr_attempt_recognition_id ON jdocr_attempt (recognition_id);
CREATE INDEX ix_jdocr_attempt_run_digest ON jdocr_attempt (run_digest);
CREATE INDEX jdocr_attempt_in_flight ON jdocr_attempt (service, endpoint, fingerprint, state);
INSERT INTO jdocr_meta (name, value) VALUES ('schema_version', '1');
