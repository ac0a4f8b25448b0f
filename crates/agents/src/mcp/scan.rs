//! Whose answer a message is, found without keeping or understanding the message.

/// Longest name of a field that matters.
const KEY_BYTES_MAX: usize = 8;
/// Longest number that can be one of our ids.
const DIGITS_MAX: usize = 18;

/// Looks through a JSON object as it goes by.
#[derive(Default)]
pub(super) struct Scan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// The next text at the top is the name of a field.
    key_comes: bool,
    key: Vec<u8>,
    in_id: bool,
    id: Vec<u8>,
    asks: bool,
}

impl Scan {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.byte(*byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.in_text {
            self.text(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                if self.names() {
                    self.key.clear();
                }
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.key_comes = self.depth == 1 && byte == b'{';
                self.in_id = false;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                (self.key_comes, self.in_id) = (false, false);
            }
            b',' if self.depth == 1 => (self.key_comes, self.in_id) = (true, false),
            b':' if self.names() => {
                self.key_comes = false;
                self.asks |= self.key == b"method";
                if self.key == b"id" {
                    self.in_id = true;
                    self.id.clear();
                }
            }
            b'0'..=b'9' if self.in_id && self.id.len() < DIGITS_MAX => self.id.push(byte),
            _ => {}
        }
    }

    fn text(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_text = false,
            _ if self.names() && self.key.len() < KEY_BYTES_MAX => self.key.push(byte),
            _ => {}
        }
    }

    const fn names(&self) -> bool {
        self.depth == 1 && self.key_comes
    }

    /// The id of the request that it answers; none if it is none of our answers.
    pub(super) fn answers(&self) -> Option<i64> {
        if self.asks {
            return None;
        }
        std::str::from_utf8(&self.id).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        let check = |text: &str, expect: Option<i64>| {
            let mut scan = Scan::default();
            for byte in text.as_bytes() {
                scan.feed(&[*byte]);
            }
            assert_eq!(scan.answers(), expect, "{text}");
        };
        check(r#"{"jsonrpc":"2.0","id":7,"result":{"id":8}}"#, Some(7));
        check(r#"{"result":{"content":[{"id":8,"text":"\"id\":9}"}]},"id": 12 }"#, Some(12));
        check(r#"{"result":"id","id":3}"#, Some(3));
        check(r#"{"result":{"a":"b"},"id":"#, None);
        check(r#"{"id":5,"method":"ping"}"#, None);
        check(r#"{"id":"5"}"#, None);
        check(r#"{"id":null,"error":{}}"#, None);
        check(r#"[{"id":5}]"#, None);
        check(r#"{"id":99999999999999999999999999}"#, Some(999_999_999_999_999_999));
        check("no JSON at all", None);
    }
}
