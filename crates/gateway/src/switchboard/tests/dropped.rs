//! Whoever has everything written down may be dropped meanwhile: nothing is forgotten by that.

use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{BoardChange, KeptBoard, SwitchboardStore, Written};
use turnkeep_core::switchboard::Limits;

use super::super::Switchboard;
use super::{TENANT, key};

/// A store that writes when it is let.
struct Gated {
    begun: Semaphore,
    gate: Semaphore,
    written: Mutex<Vec<u32>>,
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
            self.written.lock().unwrap().extend(change.rows.iter().map(|row| row.number));
            Ok(Written::Done)
        })
    }
}

#[tokio::test]
async fn what_was_to_be_written_is_written_though_nobody_waits_for_it() {
    let store = Arc::new(Gated {
        begun: Semaphore::new(0),
        gate: Semaphore::new(0),
        written: Mutex::default(),
    });
    let switchboard = Switchboard::new(store.clone(), Limits::default());
    let made = switchboard.shared().wanted(TENANT, |board| board.create(&key("x"), None, 1));
    assert!(made.is_some());
    tokio::select! {
        () = switchboard.write_all() => panic!("nobody let it"),
        begun = store.begun.acquire() => begun.unwrap().forget(),
    }
    assert_eq!(store.written.lock().unwrap().len(), 0);
    store.gate.add_permits(1);
    switchboard.write_all().await;
    assert_eq!(*store.written.lock().unwrap(), [1]);
}
