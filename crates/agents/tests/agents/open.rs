//! What agents say is open for a turn: connections while they are there, and processes until they have
//! ended.

use std::time::Duration;

use tokio::time::timeout;
use turnkeep_core::ports::agent::{Agent as _, Open};

use crate::brain_server::{Brain, finished, say};
use crate::command::script;
use crate::handle::FakeHandle;
use crate::openai::agent;
use crate::server::{Server, Step, delta, done, finish};

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_request_to_a_model_is_a_connection() {
    let steps = vec![Step::Begin, delta("Hi"), Step::Gate, finish("stop"), done(), Step::End];
    let server = Server::start([steps]).await;
    let handle = FakeHandle::new();
    let (agent, look) = (agent(&server), async {
        handle.until_said("Hi").await;
        assert_eq!(*handle.open.borrow(), [Open::Here(1)]);
        server.open_gate();
    });
    let (ended, ()) = tokio::join!(agent.run(handle.turn(&["hi"])), look);
    assert_eq!(ended.unwrap().reply.as_deref(), Some("Hi"));
    assert_eq!(*handle.open.borrow(), []);
}

#[tokio::test]
async fn the_stream_of_a_brain_is_a_connection_also_when_it_is_resumed() {
    let first = vec![Step::Begin, say(1, "one"), Step::Gate, Step::Cut];
    let second = vec![Step::Begin, say(2, "two"), Step::Gate, finished(3, "done"), Step::End];
    let brain = Brain::start([("turn", first), ("resume", second)]).await;
    let look = async {
        for said in ["one", "onetwo"] {
            brain.handle.until_said(said).await;
            assert_eq!(*brain.handle.open.borrow(), [Open::Here(1)], "{said}");
            brain.server.open_gate();
        }
    };
    let (ended, ()) = tokio::join!(brain.run(), look);
    assert_eq!(ended.unwrap().reply.as_deref(), Some("done"));
    assert_eq!(*brain.handle.open.borrow(), []);
}

#[tokio::test]
async fn a_process_counts_until_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    // It says its number, and doesn't end when it is asked to: its group is killed at last.
    let agent = script(
        dir.path(),
        "trap '' TERM; read -r turn; echo \"{\\\"type\\\":\\\"say\\\",\\\"text\\\":\\\"$$\\\"}\"; \
         read -r stop; sleep 600",
    );
    let handle = FakeHandle::new();
    let looks = async {
        let mut open = handle.open.subscribe();
        let all = open.wait_for(|open| open.len() == 2).await.unwrap().clone();
        let Open::Group(leader) = all[0] else { panic!("no group: {all:?}") };
        assert_eq!(all[1], Open::Here(3));
        handle.until_said(&leader.to_string()).await;
        all[0]
    };
    let group = tokio::select! {
        ended = agent.run(handle.turn(&["hi"])) => panic!("it has ended: {ended:?}"),
        group = timeout(PATIENCE, looks) => group.expect("nothing is open"),
    };
    assert_eq!(*handle.open.borrow(), [group], "our ends are closed, and it lives");
    let mut open = handle.open.subscribe();
    let over = timeout(PATIENCE, open.wait_for(Vec::is_empty)).await;
    assert!(over.is_ok(), "it counts for ever");
}
