//! People who say which question they answer: in some schedules a part of the messages names one, the
//! open one or another. Such a message is the answer to that question or is refused. It is drawn from
//! a source of its own, so a schedule without it is what it was before.

use turnkeep_core::Session;
use turnkeep_core::ids::{QuestionId, Seq, Token};
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::message::{Decision, InboundKind, Rejection};
use turnkeep_core::session::Stage;

use crate::rng::Rng;
use crate::store::Row;

/// Tells its source from that of everything else. With this number no seed on record has any of
/// it, so each of them still shows what it once showed.
const OWN: u64 = 32 << 40;

/// Which messages name a question.
#[derive(Debug)]
pub(crate) struct Answers {
    rng: Rng,
    /// So many of a thousand messages, while a question is open and else.
    odds: [u64; 2],
    /// Which question was named.
    named: Vec<(Token, QuestionId)>,
    /// What was taken and held: session, place, question.
    held: Vec<(usize, Seq, QuestionId)>,
}

impl Answers {
    pub(crate) const fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let odds =
            if rng.permille(200) { [rng.between(200, 900), rng.between(0, 150)] } else { [0; 2] };
        Self { rng, odds, named: Vec::new(), held: Vec::new() }
    }

    /// The question that a message is to answer; none if it names none.
    pub(crate) fn names(
        &mut self,
        token: Token,
        kind: &InboundKind,
        session: &Session,
    ) -> Option<QuestionId> {
        if self.odds == [0; 2] || *kind != InboundKind::Message {
            return None;
        }
        let open = open(session);
        let [while_open, else_] = self.odds;
        if !self.rng.permille(if open.is_some() { while_open } else { else_ }) {
            return None;
        }
        // Mostly the last one; else the one before, which was answered or is over, or the next.
        let last = open.unwrap_or(session.last_question).0;
        let other = [last, last, last, last.saturating_sub(1), last + 1];
        let question = QuestionId(self.rng.pick(&other));
        self.named.push((token, question));
        Some(question)
    }

    /// Holds what came of a message against the question that it named; says what is wrong.
    pub(crate) fn told(
        &mut self,
        token: Token,
        seat: usize,
        decision: &Decision,
        row: &Row,
    ) -> Option<String> {
        let named = self.named.iter().find(|(known, _)| *known == token);
        let named = named.map(|(_, question)| *question);
        if decision.rejection == Some(Rejection::QuestionNotOpen) && named.is_none() {
            return Some("I13: a message that names no question is refused for one".to_owned());
        }
        let (question, seq) = (named?, decision.seq.filter(|_| !decision.duplicate)?);
        let held =
            |event: &Event| matches!(event.body, EventBody::MessageAccepted { held, .. } if held);
        if row.events.iter().any(|event| event.seq == seq && held(event)) {
            self.held.push((seat, seq, question));
            return None;
        }
        (!is_answer(row, seq, question)).then(|| {
            format!("I13: message {seq} was to answer {question}, and is taken for something else")
        })
    }

    /// What was held went to its question, or nowhere; says what is wrong.
    pub(crate) fn at_the_end<'a>(&self, row: impl Fn(usize) -> &'a Row) -> Option<String> {
        self.held.iter().find_map(|(seat, seq, question)| {
            let row = row(*seat);
            let goes_on = |event: &Event| {
                matches!(&event.body, EventBody::GuardAllowed { message, .. } if message == seq)
            };
            let wrong =
                row.events.iter().any(goes_on) && !is_answer(row, *seq, *question);
            wrong.then(|| {
                format!("I13: message {seq} was held to answer {question}, and went elsewhere")
            })
        })
    }
}

fn open(session: &Session) -> Option<QuestionId> {
    match session.turn.as_ref()?.stage {
        Stage::Waiting { question, .. } => Some(question),
        _ => None,
    }
}

fn is_answer(row: &Row, seq: Seq, question: QuestionId) -> bool {
    row.events.iter().any(|event| {
        matches!(&event.body, EventBody::TurnAnswered { question_id, message, .. }
            if (*question_id, *message) == (question, seq))
    })
}
