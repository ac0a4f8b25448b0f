//! Which node runs which session's turn: an index that helps to find it. The record decides; an
//! entry that is old, missing or wrong costs a message a detour.

use std::fmt;

use redis::aio::MultiplexedConnection;

use crate::answers::{HOLD, RELEASE};
use crate::hints::RedisHints;
use crate::trouble::Trouble;

/// Who runs a session's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Under whose ownership of the session; the higher one is right.
    pub epoch: u64,
    /// Which turn.
    pub turn: String,
    /// The node.
    pub node: String,
}

/// What became of an attempt to hold an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is ours for as long as entries stay.
    Ours,
    /// Somebody else holds it under an epoch that is not older.
    Other(Active),
}

/// As it is written: what compares, and then the rest.
impl fmt::Display for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020} {} {}", self.epoch, self.turn, self.node)
    }
}

impl Active {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (epoch, turn, node) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = epoch.len() == 20 && epoch.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || turn.is_empty() || node.is_empty() || parts.next().is_some() {
            return None;
        }
        Some(Self { epoch: epoch.parse().ok()?, turn: turn.to_owned(), node: node.to_owned() })
    }

    fn check(&self) -> Result<(), Trouble> {
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= 128
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if plain(&self.turn) && plain(&self.node) {
            return Ok(());
        }
        Err(Trouble::TooLarge("a turn and a node must have 1 to 128 plain characters"))
    }
}

impl RedisHints {
    /// Says that this node runs the turn, at its start and then every third of `active_time`.
    /// Also after a flush the next beat brings the entry back.
    pub async fn hold(&self, session: &str, active: &Active) -> Result<Held, Trouble> {
        active.check()?;
        let mut asked = HOLD.prepare_invoke();
        asked.key(self.names.active(session)?).arg(active.to_string());
        asked.arg(format!("{:020}", active.epoch)).arg(&active.node);
        asked.arg(u64::try_from(self.settings.active_time.as_millis()).unwrap_or(u64::MAX));
        let ask = async move |mut con: MultiplexedConnection| {
            asked.invoke_async::<(String, String)>(&mut con).await
        };
        let (done, other) = self.calls.call(self.settings.call_time, ask).await?;
        if done == "foreign" {
            self.met_strange(&self.names.active(session)?);
            return Err(Trouble::NotOurs);
        }
        match Active::read(&other) {
            Some(other) if done == "other" => Ok(Held::Other(other)),
            _ => Ok(Held::Ours),
        }
    }

    /// Clears the entry if it is still exactly this one; says whether it was.
    pub async fn release(&self, session: &str, active: &Active) -> Result<bool, Trouble> {
        let mut asked = RELEASE.prepare_invoke();
        asked.key(self.names.active(session)?).arg(active.to_string());
        let ask =
            async move |mut con: MultiplexedConnection| asked.invoke_async::<u8>(&mut con).await;
        Ok(self.calls.call(self.settings.call_time, ask).await? == 1)
    }

    /// Who runs the session's turn, as far as is known here.
    pub async fn active(&self, session: &str) -> Result<Option<Active>, Trouble> {
        let key = self.names.active(session)?;
        let ask = async move |mut con: MultiplexedConnection| {
            // Something of another type is no entry, and no error either; who holds it tells of it.
            let asked = redis::cmd("GET").arg(key).query_async::<Option<Vec<u8>>>(&mut con).await;
            match asked {
                Err(error) if error.code() == Some("WRONGTYPE") => Ok(None),
                asked => asked,
            }
        };
        let found = self.calls.call(self.settings.call_time, ask).await?;
        Ok(found.and_then(|found| Active::read(std::str::from_utf8(&found).ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Active;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let active = Active { epoch: u64::MAX, turn: "t-1".to_owned(), node: "one".to_owned() };
        assert_eq!(Active::read(&active.to_string()), Some(active));
        for odd in ["", "1 t n", "00000000000000000001 t", "00000000000000000001 t n x", "x y z"] {
            assert_eq!(Active::read(odd), None, "{odd}");
        }
        assert_eq!(Active::read("99999999999999999999 t n"), None, "beyond what fits");
    }
}
