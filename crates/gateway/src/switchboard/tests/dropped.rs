//! Whoever has everything written down may be dropped meanwhile: nothing is forgotten by that. And
//! whoever waits for a change waits for nobody else's.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::CHANGE_MAX;
use turnkeep_core::ports::switchboard::{BoardChange, KeptBoard, SwitchboardStore, Written};
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::Limits;
use turnkeep_core::switchboard::{Heard, Observed, Resources};
use turnkeep_core::{Seq, SessionKey, SessionKind};

use super::super::Switchboard;
use super::super::shared::Which;
use super::{TENANT, key};

/// A store that writes when it is let.
struct Gated {
    begun: Semaphore,
    gate: Semaphore,
    written: Mutex<Vec<(Arc<str>, u32)>>,
}

impl Gated {
    fn new() -> Arc<Self> {
        let (begun, gate) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(Self { begun, gate, written: Mutex::default() })
    }
}

impl SwitchboardStore for Gated {
    fn board_tenants(
        &self,
        _: Option<&str>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<str>>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn board(&self, _: &str) -> BoxFuture<'_, Result<KeptBoard, StoreError>> {
        Box::pin(async { Ok(KeptBoard::default()) })
    }

    fn write_board(&self, change: BoardChange) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(async move {
            self.begun.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
            let rows = change.rows.iter().map(|row| (Arc::clone(&change.tenant), row.number));
            self.written.lock().unwrap().extend(rows);
            Ok(Written::Done)
        })
    }
}

#[tokio::test]
async fn what_was_to_be_written_is_written_though_nobody_waits_for_it() {
    let store = Gated::new();
    let switchboard = Switchboard::new(store.clone(), Limits::default());
    switchboard.keep();
    switchboard.keep();
    let made = switchboard.shared().wanted(TENANT, |board| board.create(&key("x"), None, 1));
    assert!(made.is_some());
    tokio::select! {
        () = switchboard.write_all() => panic!("nobody let it"),
        begun = store.begun.acquire() => begun.unwrap().forget(),
    }
    assert_eq!(store.written.lock().unwrap().len(), 0);
    store.gate.add_permits(1);
    switchboard.write_all().await;
    assert_eq!(*store.written.lock().unwrap(), [(TENANT.into(), 1)]);
}

/// A session of another tenant.
fn elsewhere() -> SessionKey {
    SessionKey::new("other", "a", "terminal", SessionKind::Main, "x").unwrap()
}

#[tokio::test]
async fn a_tenant_waits_for_no_other_ones_writes() {
    let store = Gated::new();
    let switchboard = Arc::new(Switchboard::new(store.clone(), Limits::default()));
    switchboard.keep();
    switchboard.keep();
    for key in [key("x"), elsewhere()] {
        let make = |board: &mut turnkeep_core::switchboard::Board| board.create(&key, None, 1);
        assert!(switchboard.shared().wanted(&key.tenant(), make).is_some());
    }
    let stuck = switchboard.record.write(TENANT, Which::All);
    let other = switchboard.record.write("other", Which::Wanted);
    let both = async {
        // Both are at it at the same time, so neither holds the other one up.
        store.begun.acquire_many(2).await.unwrap().forget();
        store.gate.add_permits(2);
    };
    let (one, two, ()) = tokio::join!(stuck, other, both);
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(store.written.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_person_waits_for_no_more_than_what_they_changed() {
    let store = Gated::new();
    let switchboard = Switchboard::new(store.clone(), Limits::default());
    switchboard.keep();
    switchboard.keep();
    let heard = Heard::default();
    // Many sessions that came by themselves, and one that somebody looks at.
    let many = 3 * CHANGE_MAX;
    for at in 0..many {
        let seen = Observed {
            state: SessionStatus::Idle,
            queued: 0,
            after: Seq(0),
            last_seq: Seq(1),
            updated_at: 1,
            heard: &heard,
            question: None,
            for_operator: None,
            resources: Resources::default(),
            loaded: false,
        };
        switchboard.shared().observe(&key(&at.to_string()), &seen, 1);
    }
    let last = u32::try_from(many).unwrap();
    let switch = |board: &mut turnkeep_core::switchboard::Board| {
        board.switch(&"tty".into(), last, 1).map(|row| row.number)
    };
    let (switched, ticket) = switchboard.shared().wanted(TENANT, switch).unwrap();
    assert_eq!(switched, Some(last));
    store.gate.add_permits(1);
    let settled = switchboard.record.settle(TENANT, ticket).now_or_never();
    assert!(matches!(settled, Some(Ok(()))), "{settled:?}");
    let written: Vec<u32> =
        store.written.lock().unwrap().iter().map(|(_, number)| *number).collect();
    assert!(written.len() == CHANGE_MAX - 1 && written.contains(&last), "what it looks at too");
    store.gate.add_permits(many);
    switchboard.write_all().await;
    assert_eq!(store.written.lock().unwrap().len(), many);
}
