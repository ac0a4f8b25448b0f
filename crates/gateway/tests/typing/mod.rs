//! "Typing" on a channel that takes its time: hidden after it was shown, and only then.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use turnkeep_core::SessionKey;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::{ChannelFacts, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_stores::MemoryStore;

use crate::kit::{answered, parts, reply, says, started};
use crate::scripted;

/// Shows it only where it is let, and writes down what it did.
struct Slow {
    facts: ChannelFacts,
    may_show: Semaphore,
    did: watch::Sender<Vec<bool>>,
}

impl Channel for Slow {
    fn facts(&self) -> &ChannelFacts {
        &self.facts
    }

    fn send(&self, _: Outgoing) -> BoxFuture<'_, DeliveryOutcome> {
        Box::pin(async { DeliveryOutcome::Sent })
    }

    fn typing(&self, _: &SessionKey, on: bool) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if on {
                self.may_show.acquire().await.unwrap().forget();
            }
            self.did.send_modify(|did| did.push(on));
        })
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_hidden_after_it_was_shown_and_turns_do_not_mix() {
    let channel = Arc::new(Slow {
        facts: *channel_facts("signal").unwrap(),
        may_show: Semaphore::new(0),
        did: watch::Sender::default(),
    });
    let agent = scripted(|_| async { reply("well") });
    let mut parts = parts(Arc::new(MemoryStore::new()), agent, |policy| policy.window_ms = 0);
    parts.channels.insert("signal".to_owned(), channel.clone());
    let gateway = started(parts).await;
    let mut did = channel.did.subscribe();
    // Both turns are over before the first "typing" was shown.
    for text in ["one", "two"] {
        let settled = answered(&gateway, says("alice", "signal", text)).await;
        assert_eq!(settled.reply.as_deref(), Some("well"));
    }
    assert!(did.borrow_and_update().is_empty());
    channel.may_show.add_permits(2);
    let all = did.wait_for(|did| did.len() == 4).await.unwrap().clone();
    assert_eq!(all, [true, false, true, false]);
}
