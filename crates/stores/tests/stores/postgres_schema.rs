//! Opening a database: what is made in it, beside whom, and what is refused.

use turnkeep_stores::{PostgresError, PostgresSettings, PostgresStore};

use crate::fixture::Chat;
use crate::postgres_kit::PgHome;

/// The first step, as an older program took it.
const FIRST: &str = include_str!("../../src/postgres/migrations/0001_record.sql");

async fn number(home: &PgHome, sql: &str) -> i64 {
    home.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn run(home: &PgHome, sql: &str) {
    home.client().await.batch_execute(sql).await.unwrap();
}

/// Why it can't be opened.
async fn refusal(home: &PgHome, settings: PostgresSettings) -> PostgresError {
    let schema = &home.schema;
    PostgresStore::open(settings).await.map(drop).expect_err(schema)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_come_at_once_make_the_tables_once() {
    let home = PgHome::default();
    let open = |node| home.open_as(node);
    let (a, b, c) = tokio::join!(open("a"), open("b"), open("c"));
    let _stores = (a.unwrap(), b.unwrap(), c.unwrap());
    assert_eq!(number(&home, "SELECT count(*) FROM schema_steps").await, 5);
    assert_eq!(number(&home, "SELECT count(DISTINCT epoch) FROM nodes").await, 3);
    assert_eq!(number(&home, "SELECT count(*) FROM nodes WHERE gone_at IS NULL").await, 3);
    assert_eq!(number(&home, "SELECT count(*) FROM cluster").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_an_older_program_are_completed() {
    let home = PgHome::default();
    let schema = &home.schema;
    run(
        &home,
        &format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE schema_steps (step bigint PRIMARY KEY, name text NOT NULL,
                 by text NOT NULL, at timestamptz NOT NULL DEFAULT now());
             {FIRST}
             INSERT INTO schema_steps VALUES (1, 'record', '0.1.0');
             UPDATE meta SET value = 41 WHERE name = 'epoch';"
        ),
    )
    .await;
    let _store = home.open_as("a").await.unwrap();
    assert_eq!(number(&home, "SELECT max(step) FROM schema_steps").await, 5);
    assert_eq!(number(&home, "SELECT max(epoch) FROM nodes").await, 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_program_added_is_no_obstacle_until_it_says_so() {
    let home = PgHome::default();
    drop(home.open_as("a").await.unwrap());
    run(&home, "INSERT INTO schema_steps (step, name, by) VALUES (99, 'later', '9.9.9')").await;
    drop(home.open_as("a").await.unwrap());
    run(&home, "UPDATE meta SET value = 99 WHERE name = 'floor'").await;
    let refused = refusal(&home, home.settings("a")).await;
    assert!(matches!(refused, PostgresError::Newer { floor: 99, .. }), "{refused}");
    let ours = format!("and this one ({}) knows 5", env!("CARGO_PKG_VERSION"));
    for told in ["written by a newer Turnkeep (9.9.9): it asks for step 99", &ours] {
        assert!(refused.to_string().contains(told), "{refused}");
    }
    assert_eq!(number(&home, "SELECT count(*) FROM nodes").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_tables_are_left_alone() {
    let home = PgHome::default();
    drop(home.open_as("a").await.unwrap());
    let ours = PostgresSettings { cluster: "south".into(), ..home.settings("b") };
    // Whoever only looks is told as well.
    let seen = PostgresStore::check(&ours).await.unwrap_err();
    for refused in [refusal(&home, ours).await, seen] {
        let PostgresError::OtherCluster { found, ours } = &refused else { panic!("{refused}") };
        assert_eq!((found.as_str(), ours.as_str()), ("default", "south"));
    }
    assert_eq!(number(&home, "SELECT count(*) FROM nodes").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_programs_tables_are_left_alone() {
    let home = PgHome::default();
    run(&home, &format!("CREATE SCHEMA {}; CREATE TABLE orders (id int)", home.schema)).await;
    let refused = refusal(&home, home.settings("a")).await;
    assert!(matches!(refused, PostgresError::Foreign { .. }), "{refused}");
    run(&home, "DROP TABLE orders").await;
    assert!(home.open_as("a").await.is_ok(), "an empty schema is as good as none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_make_the_schema_is_told_who_can() {
    let home = PgHome::default();
    let user = format!("poor_{}", home.schema);
    run(&home, &format!("CREATE ROLE {user} LOGIN")).await;
    let url = home.url.replace("user=turnkeep", &format!("user={user}"));
    let settings = PostgresSettings { url, ..home.settings("a") };
    let refused = refusal(&home, settings.clone()).await;
    let PostgresError::NotPermitted { remedy, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*remedy, format!("CREATE SCHEMA {} AUTHORIZATION {user}", home.schema));
    run(&home, remedy).await;
    let store = PostgresStore::open(settings).await.unwrap();
    // Nor does anything that it writes with ask for what only a superuser may.
    let mut chat = Chat::new("ann");
    chat.queue("hello");
    chat.commit(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let home = PgHome::default();
    let name = format!("bytes_{}", home.schema);
    let make = "ENCODING 'SQL_ASCII' TEMPLATE template0";
    run(&home, &format!("CREATE DATABASE {name} {make}")).await;
    let url = home.url.replace("dbname=postgres", &format!("dbname={name}"));
    let settings = PostgresSettings { url, ..home.settings("a") };
    let refused = refusal(&home, settings).await;
    assert_eq!(
        refused.to_string(),
        "the database's encoding is SQL_ASCII; create one with ENCODING 'UTF8'"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_only_reads_is_refused() {
    let home = PgHome::default();
    let url = home.url.clone() + " options='-c default_transaction_read_only=on'";
    let refused = refusal(&home, PostgresSettings { url, ..home.settings("a") }).await;
    assert!(refused.to_string().contains("does not allow writes"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_again_puts_out_its_ghost() {
    let home = PgHome::default();
    let _ghost = home.open_as("a").await.unwrap();
    let _other = home.open_as("b").await.unwrap();
    let _again = home.open_as("a").await.unwrap();
    let rows = home
        .client()
        .await
        .query("SELECT name, gone_why FROM nodes ORDER BY epoch", &[])
        .await
        .unwrap();
    let told: Vec<(String, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let why = Some("a node of the same name came".to_owned());
    assert_eq!(told, [("a".into(), why), ("b".into(), None), ("a".into(), None)]);
    let tokens = number(&home, "SELECT count(DISTINCT token) FROM nodes").await;
    assert_eq!(tokens, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_told_without_its_password() {
    let home = PgHome::default();
    let url = "postgres://me:hidden@127.0.0.1:1/base?sslmode=disable".to_owned();
    let settings = PostgresSettings { url, ..home.settings("a") };
    let told = format!("{settings:?}");
    let refused = refusal(&home, settings).await.to_string();
    assert!(
        refused.starts_with("the database at 127.0.0.1:1/base can't be reached: "),
        "{refused}"
    );
    assert!(!refused.contains("hidden") && !told.contains("hidden"), "{refused} {told}");
    let settings = PostgresSettings { url: "postgres://me:hidden@[".into(), ..home.settings("a") };
    let refused = refusal(&home, settings).await.to_string();
    assert!(!refused.contains("hidden"), "{refused}");
    let settings = PostgresSettings { schema: "a,public".into(), ..home.settings("a") };
    let refused = refusal(&home, settings).await.to_string();
    assert!(refused.starts_with("the schema \"a,public\" must be"), "{refused}");
}
