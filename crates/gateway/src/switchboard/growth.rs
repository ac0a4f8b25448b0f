//! How much was open during each turn of a session, to see whether it grows from turn to turn. Pure.

use std::collections::BTreeMap;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::TurnId;

/// Turns in a row that each have more open than the one before.
const GROWS: u32 = 5;
/// Sessions whose growth is watched.
const WATCHED_MAX: usize = 10_000;

/// The most that was seen open, by session.
#[derive(Debug, Default)]
pub(super) struct Growth(BTreeMap<SessionKey, Turns>);

#[derive(Debug)]
struct Turns {
    /// The newest one that was looked at.
    turn: TurnId,
    /// The most that it was seen with, and the one before it.
    most: u32,
    before: Option<u32>,
    /// Turns in a row before the newest that had more than those before them.
    grew: u32,
}

impl Turns {
    fn grows(&self) -> u32 {
        let more = self.before.is_some_and(|before| self.most > before);
        if more { self.grew + 1 } else { 0 }
    }
}

impl Growth {
    /// Somebody looked while a turn was under way.
    pub(super) fn note(&mut self, key: &SessionKey, turn: TurnId, files: u32) {
        if let Some(known) = self.0.get_mut(key) {
            if known.turn == turn {
                known.most = known.most.max(files);
            } else {
                let (grew, before) = (known.grows(), Some(known.most));
                *known = Turns { turn, most: files, before, grew };
            }
        } else if self.0.len() < WATCHED_MAX {
            self.0.insert(key.clone(), Turns { turn, most: files, before: None, grew: 0 });
        }
    }

    /// Those that grew for long enough, the newest turn included.
    pub(super) fn growing(&self) -> impl Iterator<Item = &SessionKey> {
        // A turn that has only begun has not opened everything yet.
        let grows = |turns: &Turns| turns.grows().max(turns.grew) >= GROWS;
        self.0.iter().filter(move |(_, turns)| grows(turns)).map(|(key, _)| key)
    }

    pub(super) fn retain(&mut self, passes: impl Fn(&SessionKey) -> bool) {
        self.0.retain(|key, _| passes(key));
    }
}

#[cfg(test)]
mod tests {
    use turnkeep_core::SessionKind;

    use super::*;

    #[test]
    fn what_grows_turn_after_turn_is_told() {
        let key = SessionKey::new("t", "a", "api", SessionKind::Dm, "b").unwrap();
        let check = |turns: &[&[u32]], expect: bool| {
            let mut growth = Growth::default();
            for (turn, looks) in turns.iter().enumerate() {
                let turn = TurnId(uuid::Uuid::from_u128(turn as u128));
                looks.iter().for_each(|files| growth.note(&key, turn, *files));
            }
            assert_eq!(growth.growing().next().is_some(), expect, "{turns:?}");
            growth.retain(|_| false);
            assert_eq!(growth.growing().count(), 0);
        };
        check(&[], false);
        check(&[&[1, 2, 3, 4, 5, 6, 7]], false);
        check(&[&[1], &[2], &[3], &[4], &[5]], false);
        check(&[&[1], &[2], &[3], &[4], &[5], &[6]], true);
        check(&[&[1, 4], &[2, 5], &[0, 6], &[7, 3], &[8], &[9]], true);
        // The next one has only begun; then it turns out to have no more than the last.
        check(&[&[1], &[2], &[3], &[4], &[5], &[6], &[1]], true);
        check(&[&[1], &[2], &[3], &[4], &[5], &[6], &[1], &[2]], false);
        check(&[&[1], &[2], &[3], &[3], &[4], &[5], &[6]], false);
        check(&[&[9], &[9], &[9], &[9], &[9], &[9], &[9]], false);
    }
}
