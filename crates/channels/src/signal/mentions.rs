//! Mentions in a text: Signal puts a placeholder where somebody is named, and says beside it who.

use serde_json::Value;

/// Mentions of one text that are spelt out.
const MENTIONS_MAX: usize = 100;
/// Characters of the name that is put in.
const NAME_CHARS_MAX: usize = 64;

/// The text with `@NAME` in the place of each mention. Places count in UTF-16 units.
pub(super) fn spelt_out(text: &str, mentions: &[Value]) -> String {
    let mut places: Vec<(u64, u64, String)> = mentions.iter().filter_map(place).collect();
    places.truncate(MENTIONS_MAX);
    places.sort_unstable();
    let mut places = places.into_iter().peekable();
    let (mut out, mut at, mut skipped_to) = (String::with_capacity(text.len()), 0, 0);
    for character in text.chars() {
        while let Some((start, length, name)) = places.next_if(|(start, ..)| *start <= at) {
            // One that begins within a character or within another one is none.
            if start == at && start >= skipped_to {
                out.push('@');
                out.push_str(&name);
                skipped_to = at.saturating_add(length);
            }
        }
        if at >= skipped_to {
            out.push(character);
        }
        at += character.len_utf16() as u64;
    }
    out
}

fn place(mention: &Value) -> Option<(u64, u64, String)> {
    let number = |key| mention.get(key).and_then(Value::as_u64);
    let word = |key| mention.get(key).and_then(Value::as_str).filter(|word| !word.is_empty());
    let name = word("name").or_else(|| word("number")).or_else(|| word("uuid"))?;
    let name = name.chars().filter(|character| !character.is_control()).take(NAME_CHARS_MAX);
    Some((number("start")?, number("length")?.max(1), name.collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, places: &[(u64, u64, &str)], expect: &str) {
        let mentions: Vec<Value> = places
            .iter()
            .map(|(start, length, name)| json!({"start": start, "length": length, "name": name}))
            .collect();
        assert_eq!(spelt_out(text, &mentions), expect);
    }

    #[test]
    fn mentions_are_spelt_out_in_utf16_places() {
        check("\u{fffc} hi", &[(0, 1, "+491")], "@+491 hi");
        check("👍 \u{fffc}!\u{fffc}", &[(5, 1, "Bob"), (3, 1, "Ann")], "👍 @Ann!@Bob");
        check("plain", &[], "plain");
        // Beyond the end, within a character, within another one.
        check("ab", &[(9, 1, "x")], "ab");
        check("👍b", &[(1, 1, "x")], "👍b");
        check("abcd", &[(0, 3, "x"), (1, 1, "y")], "@xd");
        check("abcd", &[(1, u64::MAX, "x")], "a@x");
    }

    #[test]
    fn a_mention_without_a_place_or_a_name_is_none() {
        let broken = [json!({"start": 0, "name": "x"}), json!({"start": 0, "length": 1}), json!(7)];
        assert_eq!(spelt_out("\u{fffc}", &broken), "\u{fffc}");
    }
}
