//! Which store: what may be said of a database, and what of it needs one.

use std::time::Duration;

use super::{load_layers, load_text};
use crate::config::store::{StoreSettings, Tls};
use crate::config::{Changes, Env, Flags, stored};

const URL: &str = "postgres://turnkeep:open sesame@db.example.org/turnkeep";

fn env() -> Env {
    Env::from([("DATABASE_URL", URL)])
}

/// What is said of this section, without the folder.
fn complaints(section: &str) -> String {
    let text = load_layers(&format!("[store]\n{section}"), &env(), &[]).unwrap_err().to_string();
    text.lines().map(|line| line.split_once(": ").unwrap().1).collect::<Vec<_>>().join("\n")
}

#[test]
fn without_a_word_everything_is_in_the_folder() {
    assert_eq!(load_text("").unwrap().store, StoreSettings::Sqlite);
    assert_eq!(load_text("[store]\nkind = \"sqlite\"").unwrap().store, StoreSettings::Sqlite);
}

#[test]
fn a_database_is_reached_as_it_is_said() {
    let least = "[store]\nkind = \"postgres\"\nurl_env = \"DATABASE_URL\"\n";
    let StoreSettings::Postgres(database) = load_layers(least, &env(), &[]).unwrap().store else {
        panic!("a database was asked for");
    };
    assert_eq!(database.url.expose(), URL);
    assert_eq!((&*database.schema, &*database.cluster), ("turnkeep", "default"));
    assert_eq!((database.node, database.tls), (None, None));
    assert_eq!(database.connections_max, 8);
    assert_eq!(database.statement_timeout, Duration::from_secs(10));
    assert_eq!(database.node_timeout, Duration::from_secs(10));
    let more = format!(
        "{least}schema = \"shop\"\ncluster = \"north\"\nnode = \"tk-1\"\nconnections_max = 20\n\
         statement_timeout_ms = 5000\nnode_timeout_ms = 4000\ntls = \"verify\"\n\
         tls_authorities = \"/ca.pem\"\n"
    );
    let StoreSettings::Postgres(database) = load_layers(&more, &env(), &[]).unwrap().store else {
        panic!("a database was asked for");
    };
    assert_eq!((&*database.schema, &*database.cluster), ("shop", "north"));
    assert_eq!((database.node.as_deref(), database.tls), (Some("tk-1"), Some(Tls::Verify)));
    assert_eq!(database.connections_max, 20);
    assert_eq!(database.statement_timeout, Duration::from_secs(5));
    assert_eq!(database.node_timeout, Duration::from_secs(4));
    assert_eq!(database.tls_authorities, Some("/ca.pem".into()));
}

#[test]
fn mistakes_are_told_and_nothing_secret_is() {
    let check = |section: &str, expect: &str| assert_eq!(complaints(section), expect);
    check(
        "kind = \"postgres\"",
        "[store] with kind = \"postgres\" needs \"url_file\" or \"url_env\", which name where the \
         database's address is",
    );
    check("schema = \"shop\"", "\"schema\" in [store] is of no use without kind = \"postgres\"");
    check(
        "kind = \"postgres\"\nurl_env = \"DATABASE_URL\"\nschema = \"Shop; drop\"",
        "\"schema\" in [store] must be up to 63 small letters, digits and _, not a digit first, not \
         pg_, not \"Shop; drop\"",
    );
    check(
        "kind = \"postgres\"\nurl_env = \"DATABASE_URL\"\nnode = \"a b\"",
        "\"node\" in [store] must be 1 to 63 letters, digits, -, _ and ., not \"a b\"",
    );
    let other = Env::from([("OTHER", "mysql://turnkeep:open sesame@h/d")]);
    let toml = "[store]\nkind = \"postgres\"\nurl_env = \"OTHER\"\n";
    let said = load_layers(toml, &other, &[]).unwrap_err().to_string();
    assert!(said.contains("must be like postgres://user:password@host:5432/database"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
}

#[test]
fn a_kind_that_there_is_not_is_one_mistake() {
    let wrong = "must be one of sqlite, postgres, not \"postgress\"; did you mean \"postgres\"?";
    let rest = "url_env = \"DATABASE_URL\"\nnode = \"tk-1\"\n[redis]\nurl_env = \"REDIS_URL\"\n\
                [hatchet]\ntoken_env = \"TOKEN\"\n";
    let vars = [("DATABASE_URL", URL), ("REDIS_URL", "redis://h"), ("TOKEN", "a.b.c")];
    let typed = format!("[store]\nkind = \"postgress\"\n{rest}");
    let said = load_layers(&typed, &Env::from(vars), &[]).unwrap_err().to_string();
    assert_eq!(said.split_once(": ").unwrap().1, format!("\"kind\" in [store] {wrong}"));
    let [database, redis, token] = vars;
    let set = Env::from([database, redis, token, ("TURNKEEP_STORE_KIND", "postgress")]);
    let said = load_layers(&format!("[store]\n{rest}"), &set, &[]).unwrap_err().to_string();
    assert_eq!(said, format!("TURNKEEP_STORE_KIND: {wrong}"));
}

#[test]
fn who_only_looks_at_data_needs_no_more_than_the_store_to_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("turnkeep.toml");
    let toml = "data_dir = \"data\"\n[store]\nkind = \"postgres\"\nurl_env = \"DATABASE_URL\"\n\
                [agents.default]\nkind = \"none such\"\n";
    std::fs::write(&path, toml).unwrap();
    let flags = Flags { config: Some(path), keys: Vec::new() };
    let place = stored(&flags, &env()).unwrap();
    assert_eq!(place.data_dir, dir.path().join("data"));
    assert!(matches!(place.store, StoreSettings::Postgres(_)));
    let unset = stored(&flags, &Env::default()).unwrap_err().to_string();
    assert!(unset.contains("DATABASE_URL is not set"), "{unset}");
}

#[test]
fn another_store_needs_a_restart() {
    let before = load_text("").unwrap();
    let toml = "[store]\nkind = \"postgres\"\nurl_env = \"DATABASE_URL\"\n";
    let now = load_layers(toml, &env(), &[]).unwrap();
    let changes = Changes::between(&before, &before, &now);
    assert_eq!(changes.changed, Vec::<String>::new());
    assert_eq!(changes.needs_restart, ["store.kind", "store.url_env"]);
}
