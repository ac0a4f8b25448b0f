//! Which accounts a signal-cli of ours has, as its own list says.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::envelope::as_uuid;

/// The list; none where there is none or it can't be read.
fn list(config_dir: &Path) -> Vec<Value> {
    let path = config_dir.join("data").join("accounts.json");
    let known = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    match known {
        Some(Value::Object(mut known)) => match known.remove("accounts") {
            Some(Value::Array(accounts)) => accounts,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The numbers of all accounts.
pub(super) fn numbers(config_dir: &Path) -> Vec<String> {
    let number = |account: &Value| account.get("number").and_then(Value::as_str).map(str::to_owned);
    list(config_dir).iter().filter_map(number).collect()
}

/// Signal's name of one account.
pub(super) fn uuid_of(config_dir: &Path, number: &str) -> Option<Arc<str>> {
    let accounts = list(config_dir);
    let word = |account: &Value, key| account.get(key).and_then(Value::as_str).map(str::to_owned);
    let ours =
        accounts.iter().find(|account| word(account, "number").as_deref() == Some(number))?;
    word(ours, "uuid").and_then(|uuid| as_uuid(&uuid))
}
