//! What a connection can get wrong: it ends, nobody answers, somebody holds a lock, or the server
//! is another one than it says.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use turnkeep_core::access::Key;
use turnkeep_core::ports::keys::{Added, KeyRow, Keys};
use turnkeep_core::ports::store::{Store, StoreError};
use turnkeep_stores::{PostgresError, PostgresSettings, PostgresStore, PostgresTls};

use crate::fixture::{Chat, NOW};
use crate::port_kit::free_port;
use crate::postgres_kit::{PgHome, Server};

fn key(id: &str) -> KeyRow {
    let key = Key {
        id: id.into(),
        tenant: None,
        scopes: "read".parse().unwrap(),
        label: None,
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    };
    KeyRow { key, secret: [7; 32] }
}

async fn listed(store: &impl Keys) -> Vec<String> {
    let rows = store.keys().await.unwrap();
    rows.into_iter().map(|row| row.key.id.to_string()).collect()
}

/// Ends every connection of this node but those that ask for it.
async fn cut(client: &Client, node: &str) {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE application_name = $1";
    let name = format!("turnkeep-{node}");
    let ended: i64 = client.query_one(sql, &[&name]).await.unwrap().get(0);
    assert!(ended >= 2, "reader and writer, of {ended}");
}

/// Returns once a statement of this node waits for a lock.
async fn somebody_waits(client: &Client, node: &str) {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE application_name = $1 AND wait_event_type = 'Lock'";
    let name = format!("turnkeep-{node}");
    while client.query_one(sql, &[&name]).await.unwrap().get::<_, i64>(0) == 0 {}
}

const HOLD: &str = "BEGIN; SELECT 1 FROM marks WHERE name = 'keys' FOR UPDATE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_ended_are_made_again() {
    let home = PgHome::default();
    let client = home.client().await;
    let node = home.schema.clone();
    let store = home.open_as(&node).await;
    let (store, client) = (store.unwrap(), client);
    let mut chat = Chat::new("anna");
    for round in 0..3 {
        assert_eq!(store.add_key(key(&format!("{round}"))).await, Ok(Added::Done));
        chat.note("hello");
        chat.commit(&store).await;
        cut(&client, &node).await;
        assert_eq!(listed(&store).await.len(), round + 1);
    }
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_outlives_the_server() {
    let server = Server::start("");
    let home = PgHome::at(server.url());
    let store = home.open_as("a").await.unwrap();
    let mut chat = Chat::new("anna");
    for round in 0..3 {
        chat.note("hello");
        chat.commit(&store).await;
        assert_eq!(store.add_key(key(&format!("{round}"))).await, Ok(Added::Done));
        tokio::task::block_in_place(|| server.restart());
    }
    assert_eq!(listed(&store).await.len(), 3);
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));

    tokio::task::block_in_place(|| server.stop());
    let error = store.keys().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let error = store.add_key(key("lost")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    tokio::task::block_in_place(|| server.begin());
    assert_eq!(store.add_key(key("after")).await, Ok(Added::Done));
    assert_eq!(listed(&store).await, ["0", "1", "2", "after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_is_refused() {
    let server = Server::start("");
    let home = PgHome::at(server.url());
    for setting in ["fsync", "full_page_writes"] {
        let set = format!("ALTER SYSTEM SET {setting} = off");
        home.client().await.batch_execute(&set).await.unwrap();
        tokio::task::block_in_place(|| server.restart());
        let refused = home.open_as("a").await.map(drop).unwrap_err();
        let PostgresError::Unsafe { setting: named } = &refused else { panic!("{refused}") };
        assert_eq!(named, setting);
        home.client().await.batch_execute("ALTER SYSTEM RESET ALL").await.unwrap();
    }
    let set = "ALTER SYSTEM SET synchronous_commit = off";
    home.client().await.batch_execute(set).await.unwrap();
    tokio::task::block_in_place(|| server.restart());
    let node = "b".to_owned();
    let store = home.open_as(&node).await.unwrap();
    // A change waits for the disk all the same: the server would lose it at a power cut.
    assert_eq!(store.add_key(key("kept")).await, Ok(Added::Done));
    tokio::task::block_in_place(|| server.restart());
    assert_eq!(listed(&store).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_made_though_its_caller_left() {
    let home = PgHome::default();
    let node = home.schema.clone();
    let store = Arc::new(home.open_as(&node).await.unwrap());
    let holder = home.client().await;
    holder.batch_execute(HOLD).await.unwrap();
    let caller = Arc::clone(&store);
    let caller = tokio::spawn(async move { caller.add_key(key("first")).await });
    somebody_waits(&home.client().await, &node).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let next = Arc::clone(&store);
    let next = tokio::spawn(async move { next.add_key(key("second")).await });
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(next.await.unwrap(), Ok(Added::Done));
    // Who waits for a lock may be overtaken by who comes when it is free.
    while listed(&*store).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(listed(&*store).await, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long_is_told_of() {
    let home = PgHome::default();
    let lock_timeout = Duration::from_millis(20);
    let settings = PostgresSettings { lock_timeout, ..home.settings("a") };
    let store = PostgresStore::open(settings).await.unwrap();
    let holder = home.client().await;
    holder.batch_execute(HOLD).await.unwrap();
    assert_eq!(
        store.add_key(key("a")).await,
        Err(StoreError::Unavailable(
            "the database was held up: canceling statement due to lock timeout".into()
        ))
    );
    assert_eq!(listed(&store).await, [""; 0], "who reads waits for nobody");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(store.add_key(key("a")).await, Ok(Added::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_somebody_changed_are_told_from_a_lost_connection() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    assert_eq!(store.add_key(key("a")).await, Ok(Added::Done));
    let client = home.client().await;
    let change =
        "ALTER TABLE keys ALTER created_at DROP NOT NULL; UPDATE keys SET created_at = NULL";
    client.batch_execute(change).await.unwrap();
    let error = store.keys().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    client.batch_execute("DROP TABLE keys").await.unwrap();
    let error = store.add_key(key("b")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the store is not available: the database's tables are not ours any more: relation \
         \"keys\" does not exist"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_not_taken_for_one_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(b"N").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let url = format!("postgres://me:hidden@127.0.0.1:{port}/base");
    let settings = PostgresSettings { tls: PostgresTls::Verify, ..PostgresSettings::new(url, "a") };
    let refused = PostgresStore::open(settings).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("server does not support TLS"), "{refused}");
    assert!(server.join().unwrap().is_empty(), "nothing is said in the clear");
}

/// A key and a certificate for `localhost` that the server can read.
fn certificate(server: &Server) {
    let folder = server.folder();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(folder.join("key.pem")).arg("-out").arg(folder.join("cert.pem"));
    let status = openssl.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("openssl comes with the server").success());
    server.own(&folder.join("key.pem"));
    let only_owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.join("key.pem"), only_owner).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_connection_is_one_to_whom_it_says() {
    let port = free_port();
    let server = Server::start(&format!("-c listen_addresses=127.0.0.1 -p {port}"));
    certificate(&server);
    let folder = server.folder().display().to_string();
    let set = PgHome::at(server.url() + &format!(" port={port}")).client().await;
    for (name, value) in [
        ("ssl_cert_file", format!("{folder}/cert.pem")),
        ("ssl_key_file", format!("{folder}/key.pem")),
        ("ssl", "on".to_owned()),
    ] {
        set.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).await.unwrap();
    }
    tokio::task::block_in_place(|| server.restart());

    let home = PgHome::at(format!("postgres://turnkeep@localhost:{port}/postgres"));
    let verify = PostgresSettings {
        tls: PostgresTls::Verify,
        ca_file: Some(server.folder().join("cert.pem")),
        ..home.settings("a")
    };
    let store = PostgresStore::open(verify.clone()).await.unwrap();
    assert_eq!(store.add_key(key("a")).await, Ok(Added::Done));
    let client = PgHome::at(server.url() + &format!(" port={port}")).client().await;
    let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE application_name = 'turnkeep-a'";
    assert!(client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));

    let refuse = async |settings: PostgresSettings, why: &str| {
        let refused = PostgresStore::open(settings).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    };
    // A name that the certificate does not have, and an authority that nobody trusts.
    let url = format!("postgres://turnkeep@127.0.0.1:{port}/postgres");
    refuse(PostgresSettings { url, ..verify.clone() }, "certificate not valid for name").await;
    refuse(PostgresSettings { ca_file: None, ..verify.clone() }, "invalid peer certificate").await;
    let key_file = Some(server.folder().join("nowhere.pem"));
    refuse(PostgresSettings { ca_file: key_file, ..verify }, "nowhere.pem").await;
}
