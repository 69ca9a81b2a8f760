//! The schema, as steps from each version to the next.
//!
//! `AUTOINCREMENT` is used where readers remember how far they have read: a number must not be
//! reused.

/// The newest version, stored in `user_version`.
pub(super) const SCHEMA_VERSION: u32 = 3;

/// The names of all tables.
pub(super) const TABLES: [&str; 11] = [
    "meta",
    "journal",
    "conversations",
    "histories",
    "events",
    "deliveries",
    "dead_letters",
    "sessions",
    "refs",
    "held",
    "users",
];

/// The steps from version 0 (an empty database) to 1, from 1 to 2, and so on.
pub(super) const STEPS: [&str; SCHEMA_VERSION as usize] = [FIRST, SESSIONS, HISTORIES];

const FIRST: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream TEXT NOT NULL,
    conversation TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX journal_by_conversation ON journal (conversation, upstream);
CREATE TABLE conversations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream TEXT NOT NULL,
    conversation TEXT NOT NULL,
    state TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (conversation, upstream)
);
CREATE INDEX conversations_by_age ON conversations (updated_at);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    upstream TEXT NOT NULL,
    conversation TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event INTEGER NOT NULL,
    sink TEXT NOT NULL,
    lane INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    failure TEXT,
    UNIQUE (event, sink)
);
CREATE INDEX deliveries_by_sink ON deliveries (sink);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event INTEGER NOT NULL,
    sink TEXT NOT NULL,
    lane INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    died_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    answer TEXT NOT NULL,
    UNIQUE (event, sink)
);
CREATE INDEX dead_letters_by_sink ON dead_letters (sink);
";

/// The accumulated conversations of runs.
const HISTORIES: &str = "
CREATE TABLE histories (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    upstream TEXT NOT NULL,
    conversation TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX histories_by_conversation ON histories (conversation, upstream);
";

/// Sessions and their numbers, ids for finding events, feedback that waits for its record, and
/// users.
const SESSIONS: &str = "
ALTER TABLE events ADD COLUMN session_scope TEXT;
ALTER TABLE events ADD COLUMN session TEXT;
ALTER TABLE events ADD COLUMN first_message INTEGER;
CREATE INDEX events_by_time ON events (at);
CREATE TABLE sessions (
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    next INTEGER NOT NULL DEFAULT 1,
    state TEXT,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) WITHOUT ROWID;
CREATE INDEX sessions_by_age ON sessions (updated_at);
CREATE INDEX sessions_open ON sessions (scope) WHERE state IS NOT NULL;
CREATE TABLE refs (
    event INTEGER NOT NULL,
    id TEXT NOT NULL,
    message INTEGER,
    PRIMARY KEY (event, id)
) WITHOUT ROWID;
CREATE INDEX refs_by_id ON refs (id);
CREATE TRIGGER refs_of_events AFTER DELETE ON events BEGIN DELETE FROM refs WHERE event = OLD.id; END;
CREATE TABLE held (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX users_by_age ON users (updated_at);
";
