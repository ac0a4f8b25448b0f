//! What feeds the board: a session's state as it was committed, and what its entries said.

use std::sync::Arc;

use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::session::{Session, Stage};
use turnkeep_core::switchboard::{Heard, Observed, Resources, name::in_one_line};

/// A session as the board sees it. `after` is the place before the first entry that was heard.
pub(crate) fn observed<'a>(
    session: &Session,
    heard: &'a Heard,
    after: Seq,
    resources: Resources,
) -> Observed<'a> {
    Observed {
        state: session.status(),
        queued: u32::try_from(session.inbox_len()).unwrap_or(u32::MAX),
        after,
        last_seq: session.last_seq,
        updated_at: session.updated_at,
        heard,
        question: question_of(session),
        for_operator: for_operator(session),
        resources,
        loaded: false,
    }
}

fn question_of(session: &Session) -> Option<QuestionId> {
    match session.turn.as_ref()?.stage {
        Stage::Waiting { question, .. } => Some(question),
        _ => None,
    }
}

/// What waits for the operator: the message that came last.
fn for_operator(session: &Session) -> Option<Arc<str>> {
    let turn = session.turn.as_ref()?;
    matches!(turn.stage, Stage::Operator).then(|| {
        let newest = session.newest();
        newest.map_or_else(Arc::default, |message| in_one_line(&message.body.text))
    })
}

/// What a session takes of this process, beside what its task says of its memory.
pub(crate) fn resources(session: &Session, kept: (usize, usize)) -> Resources {
    let (bytes, lines) = kept;
    let runs = session.turn.as_ref().is_some_and(|turn| match turn.stage {
        Stage::Processing => true,
        Stage::Waiting { live, .. } => live,
        _ => false,
    });
    Resources {
        buffer_bytes: bytes as u64,
        messages: (lines + session.inbox_len()) as u64,
        runs: u32::from(runs),
        tokens: session.spent.as_ref().map_or(0, |spent| spent.sums.tokens()),
    }
}

/// Where the journal has to be read from to know what an open question says, if one is open.
pub(crate) fn asked_behind(session: &Session) -> Option<Seq> {
    let turn = session.turn.as_ref()?;
    question_of(session)?;
    let first = turn.messages.iter().map(|message| message.seq).min()?;
    Some(Seq(first.0.saturating_sub(1)))
}
