//! What a store keeps, looked at and changed by hand.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::store_kit::postgres_server::Server;
use crate::store_kit::schema;

/// Whether this text stands in the tables of a database or, in a data folder, in the file's pages and
/// its log, used or not.
pub(crate) fn keeps(data: &Path, text: &str) -> bool {
    let kept = match schema(data) {
        Some((database, schema)) => {
            // Bytes that are text are to be found as that text.
            let script = format!(
                "SET bytea_output = 'escape';\n\
                 SELECT format('COPY %I.%I TO STDOUT', schemaname, tablename) FROM pg_tables\n\
                 WHERE schemaname = '{schema}' \\gexec\n"
            );
            psql(database, &schema, &script)
        }
        None => {
            let log = std::fs::read(data.join("turnkeep.db-wal")).unwrap_or_default();
            [std::fs::read(data.join("turnkeep.db")).unwrap(), log].concat()
        }
    };
    assert!(!kept.is_empty(), "nothing is kept for {}", data.display());
    kept.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The only column of what a statement answers; its words for the file and for a database.
pub(crate) fn rows(data: &Path, [in_file, in_database]: [&str; 2]) -> Vec<String> {
    if let Some((database, schema)) = schema(data) {
        let told = String::from_utf8(psql(database, &schema, in_database)).unwrap();
        return told.lines().map(str::to_owned).collect();
    }
    let file = rusqlite::Connection::open(data.join("turnkeep.db")).unwrap();
    let mut statement = file.prepare(in_file).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// What the database's own client prints.
fn psql(database: &Server, schema: &str, script: &str) -> Vec<u8> {
    let mut psql = Command::new(database.program("psql"))
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "turnkeep", "-d", "postgres", "-h"])
        .arg(database.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let script = format!("SET search_path = {schema};\n{script}\n");
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let told = psql.wait_with_output().unwrap();
    assert!(told.status.success(), "{script}");
    told.stdout
}
