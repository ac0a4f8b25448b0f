//! Names of tools: patterns that a person writes, and names as a model may have them.

/// Longest name that providers of models take.
const NAME_CHARS_MAX: usize = 64;
/// What stands between a server's name and its tool's.
pub(super) const BETWEEN: &str = "__";

/// The name towards the model: `server__tool` in the letters and the length that providers take.
/// One that is cut ends with a mark of the whole, so that two are not told apart by their ends only.
pub(super) fn towards_model(server: &str, tool: &str) -> String {
    let plain = |one: char| {
        if one.is_ascii_alphanumeric() || matches!(one, '-' | '_') { one } else { '_' }
    };
    let name: String =
        server.chars().chain(BETWEEN.chars()).chain(tool.chars()).map(plain).collect();
    if name.len() <= NAME_CHARS_MAX {
        return name;
    }
    let mark = format!("_{:08x}", hash(tool));
    format!("{}{mark}", &name[..NAME_CHARS_MAX - mark.len()])
}

/// The server that a name towards the model belongs to.
pub(super) fn server_of(name: &str) -> &str {
    name.split_once(BETWEEN).map_or(name, |(server, _)| server)
}

/// FNV-1a: the same in every process, and nobody gains by a collision.
fn hash(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}

/// Whether a name is one of those that a pattern means; `*` stands for anything, nothing included.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.as_bytes(), name.as_bytes());
    // Where to go on if the last star has to take one more.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), name.split_first()) {
            (Some((b'*', rest)), _) => {
                again = Some((rest, name));
                pattern = rest;
            }
            (Some((one, rest)), Some((other, left))) if one == other => {
                (pattern, name) = (rest, left);
            }
            (None, None) => return true,
            _ => match again {
                Some((rest, from)) if !from.is_empty() => {
                    again = Some((rest, &from[1..]));
                    (pattern, name) = (rest, &from[1..]);
                }
                _ => return false,
            },
        }
    }
}

/// What the most exact pattern says of a name: the name itself before any pattern, then the one with
/// the most letters.
pub(super) fn said_of<'a, T>(said: &'a [(String, T)], name: &str) -> Option<&'a T> {
    let exactness = |pattern: &str| {
        let letters = pattern.bytes().filter(|byte| *byte != b'*').count();
        (!pattern.contains('*'), letters)
    };
    let fitting = said.iter().filter(|(pattern, _)| matches(pattern, name));
    fitting.max_by_key(|(pattern, _)| exactness(pattern)).map(|(_, value)| value)
}

/// What to say of a pattern that means none of these names.
pub(super) fn unknown(server: &str, pattern: &str, names: &[&str]) -> Option<String> {
    if names.iter().any(|name| matches(pattern, name)) {
        return None;
    }
    if pattern.contains('*') {
        return Some(format!("no tool of {server} is called like {pattern:?}"));
    }
    let near = nearest(pattern, names.iter().copied());
    let mend = near.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    Some(format!("no tool of {server} is called {pattern:?}{mend}"))
}

/// What was probably meant.
pub(super) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (strsim::osa_distance(typed, name), name));
    near.filter(|(distance, _)| *distance <= 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|near| near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_what_providers_take() {
        assert_eq!(towards_model("shop", "refund"), "shop__refund");
        assert_eq!(towards_model("shop", "order/läuft now.v2"), "shop__order_l_uft_now_v2");
        let long = format!("{}a", "x".repeat(80));
        let other = format!("{}b", "x".repeat(80));
        let [one, two] = [&long, &other].map(|tool| towards_model("shop", tool));
        assert_eq!((one.len(), two.len()), (64, 64));
        assert_ne!(one, two, "the mark tells them apart");
        assert_eq!(server_of(&one), "shop");
        assert_eq!(server_of("shop__a__b"), "shop");
    }

    #[test]
    fn a_star_stands_for_anything() {
        let check = |pattern, name, expect| {
            assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        };
        check("*", "", true);
        check("*", "anything", true);
        check("", "", true);
        check("", "a", false);
        check("search*", "search", true);
        check("search*", "search_orders", true);
        check("search*", "research", false);
        check("*_order", "get_order", true);
        check("*_order", "get_orders", false);
        check("g*_*r", "get_other_order", true);
        check("a*a*a", "aa", false);
        check("a*a*a", "aaa", true);
    }

    #[test]
    fn the_most_exact_pattern_is_heard() {
        let said: Vec<(String, u8)> = [("*", 1), ("get*", 2), ("get_order", 3), ("*_order*", 4)]
            .map(|(pattern, value)| (pattern.to_owned(), value))
            .into();
        let check = |name, expect: Option<u8>| {
            assert_eq!(said_of(&said, name).copied(), expect, "{name}");
        };
        check("refund", Some(1));
        check("get_customer", Some(2));
        check("get_order", Some(3));
        check("get_orders", Some(4));
        assert_eq!(said_of::<u8>(&[], "refund"), None);
    }

    #[test]
    fn a_pattern_without_a_tool_is_told_with_the_nearest_name() {
        let names = ["refund", "get_order"];
        assert_eq!(unknown("shop", "refund", &names), None);
        assert_eq!(unknown("shop", "*", &names), None);
        let told = |pattern| unknown("shop", pattern, &names).unwrap();
        assert_eq!(
            told("refnud"),
            "no tool of shop is called \"refnud\"; did you mean \"refund\"?"
        );
        assert_eq!(told("something_else"), "no tool of shop is called \"something_else\"");
        assert_eq!(told("pay*"), "no tool of shop is called like \"pay*\"");
    }
}
