//! Which groups an account is in, as signal-cli lists them.

use std::sync::Arc;

use serde_json::Value;
use turnkeep_core::ports::intake::KnownGroup;

/// Groups of one account that are told, at most.
const GROUPS_MAX: usize = 10_000;

/// Reads the list; what has no id is none.
pub(super) fn read(answer: &Value) -> Vec<KnownGroup> {
    let all = answer.as_array().into_iter().flatten();
    all.filter_map(group).take(GROUPS_MAX).collect()
}

fn group(group: &Value) -> Option<KnownGroup> {
    let text = |key| group.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let is = |key| group.get(key).and_then(Value::as_bool);
    Some(KnownGroup {
        id: text("id")?.into(),
        title: text("name").map(Arc::from),
        members: group.get("members").and_then(Value::as_array).map_or(0, Vec::len),
        member: is("isMember").unwrap_or(true),
        blocked: is("isBlocked").unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_read() {
        let told = json!([
            {"id": "R0c=", "name": "Family", "isMember": true, "isBlocked": false,
             "members": [{"number": "+491", "uuid": "x"}, {"number": null, "uuid": "y"}]},
            {"id": "T2xk", "name": "", "isMember": false, "isBlocked": true, "members": null},
            {"name": "no id"}, 7
        ]);
        let group = |id: &str, title: Option<&str>, members, member, blocked| KnownGroup {
            id: id.into(),
            title: title.map(Arc::from),
            members,
            member,
            blocked,
        };
        let expect =
            [group("R0c=", Some("Family"), 2, true, false), group("T2xk", None, 0, false, true)];
        assert_eq!(read(&told), expect);
        assert_eq!(read(&json!(null)), []);
    }
}
