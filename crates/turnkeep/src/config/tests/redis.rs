//! Where hints are: what may be said of a Redis, and that it needs a database beside it.

use std::time::Duration;

use super::{load_layers, load_text};
use crate::config::Env;
use crate::config::redis::RedisSettings;

const URL: &str = "redis://turnkeep:open sesame@cache.example.org/2";
const STORE: &str = "[store]\nkind = \"postgres\"\nurl_env = \"DATABASE_URL\"\n";

fn env(url: &str) -> Env {
    Env::from([("DATABASE_URL", "postgres://db.example.org/turnkeep"), ("REDIS_URL", url)])
}

fn loaded(section: &str, url: &str) -> Result<Option<RedisSettings>, String> {
    let text = format!("{STORE}[redis]\n{section}");
    let loaded = load_layers(&text, &env(url), &[]);
    loaded.map(|resolved| resolved.redis).map_err(|problems| problems.to_string())
}

#[test]
fn nothing_is_used_where_nothing_is_said() {
    assert_eq!(load_text("").unwrap().redis, None);
    assert_eq!(load_layers(STORE, &env(URL), &[]).unwrap().redis, None);
}

#[test]
fn it_is_reached_as_it_is_said() {
    let least = loaded("url_env = \"REDIS_URL\"", URL).unwrap().unwrap();
    let [address] = &least.addresses[..] else { panic!("{least:?}") };
    assert_eq!((address.expose(), &*least.prefix), (URL, "turnkeep"));
    let millis = Duration::from_millis;
    assert_eq!((least.limit_timeout, least.call_timeout), (millis(50), millis(200)));
    assert_eq!(least.connect_timeout, millis(1000));
    let more = "url_env = \"REDIS_URL\"\nprefix = \"shop.1\"\nlimit_timeout_ms = 20\n\
                call_timeout_ms = 100\nconnect_timeout_ms = 500\n";
    let more = loaded(more, "redis://one/1, unix:///run/redis.sock").unwrap().unwrap();
    let addresses: Vec<_> = more.addresses.iter().map(|address| address.expose()).collect();
    assert_eq!(addresses, ["redis://one/1", "unix:///run/redis.sock"]);
    assert_eq!((&*more.prefix, more.limit_timeout), ("shop.1", millis(20)));
    assert_eq!((more.call_timeout, more.connect_timeout), (millis(100), millis(500)));
}

#[test]
fn an_address_says_whether_it_is_encrypted() {
    let least = loaded("url_env = \"REDIS_URL\"", "rediss://one").unwrap().unwrap();
    assert_eq!((least.addresses[0].expose(), least.tls_authorities), ("rediss://one", None));
    let own = "url_env = \"REDIS_URL\"\ntls_authorities = \"/ca.pem\"";
    let own = loaded(own, "unix:///run/redis.sock,rediss://one").unwrap().unwrap();
    assert_eq!((own.addresses.len(), own.tls_authorities), (2, Some("/ca.pem".into())));
}

#[test]
fn mistakes_are_told_and_nothing_secret_is() {
    let check = |section: &str, url: &str, expect: &str| {
        let said = loaded(section, url).unwrap_err();
        assert!(said.contains(expect), "{said}");
        assert!(!said.contains("sesame"), "{said}");
    };
    check("prefix = \"shop\"", URL, "[redis] needs \"url_file\" or \"url_env\"");
    let named = "url_env = \"REDIS_URL\"\nprefix = \"shop:1\"";
    check(named, URL, "\"prefix\" in [redis] must be 1 to 63 letters, digits, -, _ and .");
    let like = "the address in [redis] must be like redis://user:password@host:6379/0";
    for url in ["redisss://:sesame@one", "redis://one, sesame", "sesame:6379"] {
        check("url_env = \"REDIS_URL\"", url, like);
    }
    check("url_env = \"REDIS_URL\"\nlimit_timeout_ms = 0", URL, "from 1 to 1000");
    let plain = "url_env = \"REDIS_URL\"\ntls_authorities = \"/ca.pem\"";
    check(plain, URL, "\"tls_authorities\" in [redis] is of no use without an address");
    let alone = load_layers("[redis]\nurl_env = \"REDIS_URL\"", &env(URL), &[]).unwrap_err();
    let expect = "is of no use without [store] kind = \"postgres\"";
    assert!(alone.to_string().contains(expect), "{alone}");
    // What is wrong with the database is told, and not that there is none.
    let text = "[store]\nkind = \"postgres\"\n[redis]\nurl_env = \"REDIS_URL\"";
    let said = load_layers(text, &env(URL), &[]).unwrap_err().to_string();
    assert!(!said.contains("of no use"), "{said}");
}
