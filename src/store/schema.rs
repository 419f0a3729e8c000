//! The tables of the state file, and how a file of an earlier version gets them.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::disk::fault::Fault;

/// Makes the tables of a new file, and brings those of an older one up to date, all or nothing.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let steps = usize::try_from(version).ok().and_then(|version| STEPS.get(version..)).ok_or_else(|| {
        Fault::Content(format!("it has version {version}, and this program writes version {}", STEPS.len()))
    })?;
    if !steps.is_empty() {
        steps.iter().try_for_each(|step| transaction.execute_batch(step))?;
        transaction.execute_batch(&format!("PRAGMA user_version = {}", STEPS.len()))?;
    }
    transaction.commit()?;
    Ok(())
}

/// The version that this program writes.
pub(super) fn version() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// The steps of the schema, one for each version; `user_version` tells how many of them a file has. A new file takes
/// them all, so that the path of old files is tested every day. A released step is never changed.
const STEPS: &[&str] = &[
    "
CREATE TABLE sessions (
    key TEXT PRIMARY KEY NOT NULL,
    cookies TEXT NOT NULL,
    token TEXT,
    saved_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE facts (
    key TEXT PRIMARY KEY NOT NULL,
    cooling_reason TEXT,
    cooling_until INTEGER,
    cooling_set_at INTEGER,
    dead_since INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE chats (
    chat_id TEXT PRIMARY KEY NOT NULL,
    key TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE videos (
    id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    is_pooled INTEGER NOT NULL,
    state TEXT NOT NULL,
    model TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    size TEXT NOT NULL,
    ratio TEXT NOT NULL,
    seconds TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    completed_at INTEGER,
    chat_id TEXT,
    task_id TEXT,
    link TEXT,
    error_code TEXT,
    error_message TEXT,
    idempotency TEXT,
    fingerprint TEXT
) STRICT;
",
    // A rest belongs to one usage. There was only one before; but a challenged account rests from everything.
    "
CREATE TABLE rests (
    key TEXT NOT NULL,
    usage TEXT NOT NULL,
    reason TEXT NOT NULL,
    until INTEGER NOT NULL,
    set_at INTEGER NOT NULL,
    PRIMARY KEY (key, usage)
) STRICT, WITHOUT ROWID;
INSERT INTO rests
SELECT key, usage, cooling_reason, cooling_until, cooling_set_at
FROM facts JOIN (SELECT 'chat' AS usage UNION ALL SELECT 'image' UNION ALL SELECT 'video')
WHERE cooling_reason IS NOT NULL AND cooling_until IS NOT NULL AND cooling_set_at IS NOT NULL
AND (usage = 'chat' OR cooling_reason = 'challenge');
ALTER TABLE facts DROP COLUMN cooling_reason;
ALTER TABLE facts DROP COLUMN cooling_until;
ALTER TABLE facts DROP COLUMN cooling_set_at;
DELETE FROM facts WHERE dead_since IS NULL;
",
    // A job that waits may begin with a picture, which must not be lost with the process.
    "
ALTER TABLE videos ADD COLUMN picture BLOB;
ALTER TABLE videos ADD COLUMN picture_link TEXT;
",
    "
CREATE TABLE oauth (
    key TEXT PRIMARY KEY NOT NULL,
    credentials TEXT NOT NULL,
    saved_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    // Counts of each account by day, in days since 1970.
    "
CREATE TABLE days (
    key TEXT NOT NULL,
    day INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    prompt INTEGER NOT NULL,
    completion INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    PRIMARY KEY (key, day)
) STRICT, WITHOUT ROWID;
",
    // The texts come last, so that sums over the other columns do not read them.
    "
CREATE TABLE responses (
    id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    previous TEXT,
    is_continuable INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    input TEXT NOT NULL,
    response TEXT NOT NULL
) STRICT;
CREATE INDEX responses_by_end ON responses (expires_at, id, bytes);
",
    // Time until which a chat is kept, so that the answers in it can be continued. A place is a hash.
    "
ALTER TABLE chats ADD COLUMN kept_until INTEGER;
CREATE TABLE answers (
    chat_id TEXT NOT NULL,
    place BLOB NOT NULL,
    response_id TEXT NOT NULL,
    UNIQUE (chat_id, place)
) STRICT;
",
    // Chats that were asked for, by the title that nothing else has.
    "
CREATE TABLE intents (
    title TEXT PRIMARY KEY NOT NULL,
    key TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    // Usage of requests by day, key, model, account and kind; requests of accounts by the hour; last use of keys.
    "
CREATE TABLE usage (
    day INTEGER NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    requests INTEGER NOT NULL,
    prompt INTEGER NOT NULL,
    completion INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    images INTEGER NOT NULL,
    videos INTEGER NOT NULL,
    embeddings INTEGER NOT NULL,
    errors TEXT NOT NULL,
    first_token TEXT NOT NULL,
    total TEXT NOT NULL,
    PRIMARY KEY (day, key, model, account, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_hours (
    account TEXT NOT NULL,
    hour INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (account, hour)
) STRICT, WITHOUT ROWID;
CREATE TABLE key_uses (
    key TEXT PRIMARY KEY NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    // Accounts that the owner added while the server ran, names of accounts, and the cookies that a session had before
    // its last renewal.
    "
CREATE TABLE accounts (
    id TEXT PRIMARY KEY NOT NULL,
    cookie TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE labels (
    key TEXT PRIMARY KEY NOT NULL,
    label TEXT NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE sessions ADD COLUMN earlier TEXT;
",
    // Keys of callers that the owner made. The key itself is not kept, only its SHA-256; limits are JSON.
    "
CREATE TABLE made_keys (
    name TEXT PRIMARY KEY NOT NULL,
    digest BLOB NOT NULL,
    owner TEXT NOT NULL,
    shown TEXT NOT NULL,
    limits TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    // Alerts that the owner was told of and whose condition has not ended.
    "
CREATE TABLE alerts (
    event TEXT NOT NULL,
    subject TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (event, subject)
) STRICT, WITHOUT ROWID;
",
    // Open circuit breakers, and how often in a row a rest of an account was asked for without saying for how long.
    "
CREATE TABLE breakers (
    key TEXT PRIMARY KEY NOT NULL,
    until INTEGER NOT NULL,
    set_at INTEGER NOT NULL,
    trips INTEGER NOT NULL,
    refusals INTEGER NOT NULL,
    is_refused INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE rests ADD COLUMN strikes INTEGER NOT NULL DEFAULT 0;
",
    // On how many days an account or a key of callers was missing, and the last of them, as days since 1970.
    "
CREATE TABLE missing (
    what TEXT NOT NULL,
    key TEXT NOT NULL,
    days INTEGER NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (what, key)
) STRICT, WITHOUT ROWID;
",
    // Pictures and videos that were made, until their links end; the row's number tells which of one second came later.
    "
CREATE TABLE made (
    link TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL
) STRICT;
",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rusqlite::Row;
    use rusqlite::types::Value;

    use super::*;

    /// A row for each table and each column that a step made, in the order of the steps.
    const ROWS: &[&str] = &[
        "INSERT INTO sessions (key, cookies, token, saved_at) VALUES ('a', 'token=1', 'jwt', 5);
         INSERT INTO facts (key, dead_since) VALUES ('a', 4);
         INSERT INTO chats (chat_id, key, created_at) VALUES ('chat-1', 'a', 3);
         INSERT INTO meta (name, value) VALUES ('key', 'sk-1');",
        "INSERT INTO videos (id, owner, key, is_pooled, state, model, upstream_model, prompt, size, ratio, seconds,
                             created_at, completed_at, chat_id, task_id, link, error_code, error_message, idempotency,
                             fingerprint)
         VALUES ('v', 'o', 'a', 1, 'done', 'm', 'u', 'p', '1x1', '1:1', '5', 1, 2, 'chat-2', 't', 'l', 'c', 'e', 'i', 'f');",
        "INSERT INTO rests (key, usage, reason, until, set_at) VALUES ('a', 'chat', 'rate', 9, 5);",
        "UPDATE videos SET picture = x'00ff', picture_link = 'pl';",
        "INSERT INTO oauth (key, credentials, saved_at) VALUES ('o', '{}', 6);",
        "INSERT INTO days (key, day, requests, prompt, completion, cached) VALUES ('a', 20000, 1, 2, 3, 4);",
        "INSERT INTO responses (id, owner, previous, is_continuable, expires_at, bytes, input, response)
         VALUES ('r', 'o', 'q', 1, 9, 2, 'in', 'out');",
        "UPDATE chats SET kept_until = 8;
         INSERT INTO answers (chat_id, place, response_id) VALUES ('chat-1', x'0102', 'resp');",
        "INSERT INTO intents (title, key, created_at) VALUES ('title', 'a', 7);",
        "INSERT INTO usage (day, key, model, account, kind, requests, prompt, completion, reasoning, cached, images, videos,
                            embeddings, errors, first_token, total)
         VALUES (20000, 'laptop', 'm', 'a', 'web', 1, 2, 3, 4, 5, 6, 7, 8, '{\"x\":1}', '1:1', '2:2');
         INSERT INTO usage_hours (account, hour, requests) VALUES ('a', 480000, 2);
         INSERT INTO key_uses (key, last_used_at) VALUES ('laptop', 9);",
        "INSERT INTO accounts (id, cookie, created_at) VALUES ('page-1', 'token=2', 5);
         INSERT INTO labels (key, label) VALUES ('a', 'Ada');
         UPDATE sessions SET earlier = 'token=0';",
        "INSERT INTO made_keys (name, digest, owner, shown, limits, created_at)
         VALUES ('phone', x'03', 'o', 'sk-…', '{}', 5);",
        "INSERT INTO alerts (event, subject, since) VALUES ('drift', 'phase', 5);",
        "INSERT INTO breakers (key, until, set_at, trips, refusals, is_refused) VALUES ('a', 9, 5, 1, 2, 1);
         UPDATE rests SET strikes = 3;",
        "INSERT INTO missing (what, key, days, day) VALUES ('account', 'a', 2, 20000);",
        "INSERT INTO made (link, kind, model, at, ends_at) VALUES ('https://x', 'image', 'm', 1, 9);",
    ];

    /// The rest of [`ROWS`] as it was written before rests had a table.
    const REST_BEFORE: &str = "UPDATE facts SET cooling_reason = 'rate', cooling_until = 9, cooling_set_at = 5;";
    /// The version in which rests got a table.
    const RESTS: usize = 3;

    /// A state file as this version wrote it, with rows in all of its tables.
    fn of_version(version: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let rest = (version < RESTS).then_some(REST_BEFORE);
        let parts = STEPS[..version].iter().chain(&ROWS[..version]).copied().chain(rest);
        parts.for_each(|part| connection.execute_batch(part).unwrap());
        connection.execute_batch(&format!("PRAGMA user_version = {version}")).unwrap();
        connection
    }

    /// A new state file with what a file of this version has in its tables.
    fn new_with_rows_of(version: usize) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let rest = (version < RESTS).then_some(RESTS - 1);
        (0..version).chain(rest).for_each(|step| connection.execute_batch(ROWS[step]).unwrap());
        connection
    }

    /// All rows of each table, with all of their columns.
    fn rows(connection: &Connection) -> BTreeMap<String, Vec<Vec<Value>>> {
        let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        let of_table = |table: String| {
            let mut all = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = all.column_count();
            let row = |row: &Row<'_>| (0..columns).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>();
            let rows = all.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap();
            (table, rows)
        };
        tables.into_iter().map(of_table).collect()
    }

    fn tables(connection: &Connection) -> Vec<String> {
        let mut tables =
            connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        tables.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_earlier_version_is_brought_up_to_this_one() {
        let mut new = Connection::open_in_memory().unwrap();
        migrate(&mut new).unwrap();
        for earlier in 1..=STEPS.len() {
            let mut connection = of_version(earlier);
            migrate(&mut connection).unwrap();
            migrate(&mut connection).unwrap();
            assert_eq!(tables(&connection), tables(&new), "from version {earlier}");
            assert_eq!(rows(&connection), rows(&new_with_rows_of(earlier)), "from version {earlier}");
        }
    }

    #[test]
    fn the_rows_of_these_tests_fill_every_column() {
        for (table, rows) in rows(&of_version(STEPS.len())) {
            assert_eq!(rows.len(), 1, "{table}");
            assert!(!rows[0].contains(&Value::Null), "{table}: {rows:?}");
        }
    }

    #[test]
    fn a_newer_version_is_told_in_plain_words() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA user_version = 999").unwrap();
        let Err(Fault::Content(why)) = migrate(&mut connection) else { panic!("it was taken") };
        assert_eq!(why, format!("it has version 999, and this program writes version {}", STEPS.len()));
    }
}
