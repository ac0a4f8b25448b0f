//! Which writes wait for which. Within one session they keep their order; sessions go beside each
//! other, so that nobody's answer waits for somebody else's git; and a stop waits for nobody.

use std::collections::VecDeque;

use crate::ports::Request;
use crate::text::segment;

/// Writes that may wait for those before them.
const WAITING_MAX: usize = 256;
/// Writes that are on their way at once, but for stops.
const AT_ONCE_MAX: usize = 32;

/// What a write is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    /// One turn, which it ends.
    Turn,
    /// This session, as paths name it.
    Session(String),
    /// Where the seat is.
    Seat,
    /// The end of a session, as it was typed.
    End(String),
}

impl About {
    fn of(request: &Request) -> Self {
        if request.stops_one_turn() {
            return Self::Turn;
        }
        if let Some(session) = request.body.as_ref().and_then(|body| body["session"].as_str()) {
            return Self::Session(segment(session));
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').split('/').skip(2);
        match (parts.next(), parts.next()) {
            (None, _) | (_, Some("switch")) => Self::Seat,
            (Some(which), Some("close")) => Self::End(which.to_owned()),
            (Some(which), _) => Self::Session(which.to_owned()),
        }
    }

    /// Whether it waits until one that was wanted before it is answered.
    fn waits_for(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Turn, _) | (_, Self::Turn) => false,
            (Self::Seat, Self::Seat) => true,
            // Wherever the seat goes meanwhile, the end of a session doesn't take it from there.
            (Self::Seat, _) | (_, Self::Seat) => false,
            // By a name nobody knows here which one ends: it may be any of those that were written to.
            (Self::End(which), _) if !is_key(which) => true,
            (Self::Session(one) | Self::End(one), Self::Session(other) | Self::End(other)) => {
                one == other
            }
        }
    }
}

/// Whether this is a session's key, in a path.
fn is_key(which: &str) -> bool {
    which.contains("%3A")
}

#[derive(Debug)]
struct Write {
    tag: u64,
    request: Request,
    about: About,
}

/// The writes that were not answered yet, in the order in which they were wanted.
#[derive(Debug, Default)]
pub(super) struct Writes {
    waiting: VecDeque<Write>,
    on_their_way: Vec<(u64, About)>,
}

impl Writes {
    /// Takes one more; gives it back where too many wait.
    pub(super) fn push(&mut self, tag: u64, request: Request) -> Result<(), Request> {
        let about = About::of(&request);
        if self.waiting.len() >= WAITING_MAX && about != About::Turn {
            return Err(request);
        }
        self.waiting.push_back(Write { tag, request, about });
        Ok(())
    }

    /// The next one that waits for nobody. It is on its way from here on.
    pub(super) fn next(&mut self) -> Option<(u64, Request)> {
        let full = self.on_their_way.len() >= AT_ONCE_MAX;
        let at = (0..self.waiting.len()).find(|at| {
            let about = &self.waiting[*at].about;
            let before = self.waiting.range(..*at).map(|write| &write.about);
            let before = before.chain(self.on_their_way.iter().map(|(_, about)| about));
            let free = !full || *about == About::Turn;
            free && !before.into_iter().any(|earlier| about.waits_for(earlier))
        })?;
        let Write { tag, request, about } = self.waiting.remove(at)?;
        self.on_their_way.push((tag, about));
        Some((tag, request))
    }

    /// One is answered.
    pub(super) fn answered(&mut self, tag: u64) {
        self.on_their_way.retain(|(one, _)| *one != tag);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ports::Method;

    const ONE: &str = "t%3Aa%3Aterminal%3Amain%3A1";
    const TWO: &str = "t%3Aa%3Aterminal%3Amain%3A2";

    fn post(path: &str, body: Value) -> Request {
        Request { method: Method::Post, path: path.to_owned(), body: Some(body) }
    }

    fn say(session: &str) -> Request {
        post("/v1/chat", json!({ "session": session.replace("%3A", ":"), "message": "x" }))
    }

    fn to(what: &str) -> Request {
        post(what, json!({}))
    }

    /// The tags, from 0 on, of those that go at once.
    fn go(writes: &mut Writes) -> Vec<u64> {
        std::iter::from_fn(|| writes.next()).map(|(tag, _)| tag).collect()
    }

    fn wanted(requests: Vec<Request>) -> Writes {
        let mut writes = Writes::default();
        for (tag, request) in (0..).zip(requests) {
            writes.push(tag, request).unwrap();
        }
        writes
    }

    #[test]
    fn a_session_keeps_its_order_and_waits_for_no_other() {
        let close = format!("/v1/switchboard/{ONE}/close");
        let mut writes = wanted(vec![say(ONE), to(&close), say(ONE), say(TWO), say(TWO)]);
        assert_eq!(go(&mut writes), [0, 3]);
        writes.answered(3);
        assert_eq!(go(&mut writes), [4]);
        writes.answered(0);
        assert_eq!(go(&mut writes), [1]);
        writes.answered(1);
        assert_eq!(go(&mut writes), [2]);
    }

    #[test]
    fn a_stop_of_one_turn_overtakes_and_one_of_any_turn_keeps_its_place() {
        let stop = format!("/v1/sessions/{ONE}/stop");
        let this = post(&stop, json!({ "turn_id": "t" }));
        let mut writes = wanted(vec![say(ONE), to(&stop), this]);
        assert_eq!(go(&mut writes), [0, 2]);
        writes.answered(0);
        assert_eq!(go(&mut writes), [1]);
    }

    #[test]
    fn the_seat_moves_in_order_and_a_close_by_name_waits_for_all_sessions() {
        let switch = |which: &str| to(&format!("/v1/switchboard/{which}/switch"));
        let close = to("/v1/switchboard/api%20work/close");
        let create = to("/v1/switchboard?tenant=acme");
        let mut writes = wanted(vec![say(ONE), close, switch(TWO), create, say(TWO)]);
        assert_eq!(go(&mut writes), [0, 2, 4]);
        writes.answered(4);
        writes.answered(2);
        assert_eq!(go(&mut writes), [3]);
        writes.answered(0);
        assert_eq!(go(&mut writes), [1]);
    }

    #[test]
    fn there_is_an_end_to_both() {
        let key = |one: usize| format!("t%3Aa%3Aterminal%3Amain%3A{one}");
        let mut writes = wanted((0..AT_ONCE_MAX + 1).map(|one| say(&key(one))).collect());
        assert_eq!(go(&mut writes).len(), AT_ONCE_MAX);
        for tag in 1000.. {
            if writes.push(tag, say(ONE)).is_err() {
                break;
            }
        }
        assert_eq!(writes.waiting.len(), WAITING_MAX);
        let stop = post(&format!("/v1/sessions/{ONE}/stop"), json!({ "turn_id": "t" }));
        writes.push(7, stop).unwrap();
        assert_eq!(go(&mut writes), [7]);
    }
}
