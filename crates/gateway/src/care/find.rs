//! Where a customer is: their own sessions, and others in which they wrote.

use std::collections::BTreeSet;

use turnkeep_core::care::Traces;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::{Event, Seq, Session, SessionKey, SessionKind};

use super::{Progress, Tell};
use crate::service::Gateway;

/// Keys or entries that are read at once.
const PAGE: usize = 1000;

/// The sessions that concern one customer.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts {
    /// Conversations with this customer.
    pub(crate) own: Vec<SessionKey>,
    /// Others, with messages of theirs in it.
    pub(crate) elsewhere: Vec<SessionKey>,
}

/// Whether a conversation is this customer's as a whole. A group is nobody's.
fn is_own(key: &SessionKey, customer: &str) -> bool {
    key.kind() != SessionKind::Group && key.peer() == customer
}

impl Gateway {
    /// Looks through the keys of the tenant, then through the whole journal for messages that were
    /// sent into somebody else's session: there is no index of senders, because every message would
    /// have to pay for it.
    pub(crate) async fn whereabouts(
        &self,
        tenant: &str,
        customer: &str,
        tell: Tell<'_>,
    ) -> Result<Whereabouts, StoreError> {
        let mut found = Whereabouts::default();
        let (mut after, mut looked): (Option<SessionKey>, u64) = (None, 0);
        loop {
            let page = self.care().keys(Some(tenant), after.as_ref(), PAGE).await?;
            looked += page.len() as u64;
            tell(Progress { step: "looking for sessions", done: looked, of: 0 });
            let full = page.len() == PAGE;
            after = page.last().cloned();
            found.own.extend(page.into_iter().filter(|key| is_own(key, customer)));
            if !full {
                break;
            }
        }
        let (mut elsewhere, mut from) = (BTreeSet::new(), Some(0));
        while let Some(place) = from {
            let stretch = self.care().find_sender(tenant, customer, place).await?;
            elsewhere.extend(stretch.keys.into_iter().filter(|key| !is_own(key, customer)));
            from = stretch.next;
            let done = from.unwrap_or(stretch.end);
            tell(Progress { step: "looking for messages elsewhere", done, of: stretch.end });
        }
        found.elsewhere = elsewhere.into_iter().collect();
        Ok(found)
    }

    /// What the customer has in a session that is not theirs, where that had an ending when the
    /// session was read.
    pub(crate) async fn traces(
        &self,
        key: &SessionKey,
        session: &Session,
        customer: &str,
    ) -> Result<Traces, StoreError> {
        let open: BTreeSet<Seq> = session.pending().map(|pending| pending.seq).collect();
        let (mut traces, mut cursor) = (Traces::default(), Seq(0));
        while cursor < session.last_seq {
            let page = self.store().events(key, cursor, PAGE).await?;
            let Some(last) = page.last() else { break };
            cursor = last.seq;
            let ended =
                |event: &&Event| event.seq <= session.last_seq && !open.contains(&event.seq);
            page.iter().filter(ended).for_each(|event| traces.observe(event, customer));
        }
        Ok(traces)
    }
}
