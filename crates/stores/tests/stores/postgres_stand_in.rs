//! A node that runs no turns runs some in the place of others: what is left to it, and for how long.

use turnkeep_core::Epoch;
use turnkeep_core::ports::store::{Bite, But, Holder, Offer, Store};
use turnkeep_stores::{PostgresSettings, PostgresStore};

use crate::fixture::{Chat, NOW};
use crate::postgres_kit::PgHome;

/// A node that runs no turns, and one that does.
async fn nodes(home: &PgHome) -> [PostgresStore; 2] {
    let settings = PostgresSettings { runs: false, ..home.settings("accepts") };
    [PostgresStore::open(settings).await.unwrap(), home.open_as("runs").await.unwrap()]
}

/// A conversation with open work that stands under this epoch.
fn held_by(peer: &str, epoch: Epoch) -> Chat {
    let mut chat = Chat::new(peer);
    (chat.session.epoch, chat.wake_at) = (epoch, Some(NOW));
    chat.queue("hello");
    chat
}

/// What anybody may take who runs turns.
async fn offered(store: &PostgresStore) -> usize {
    store.offer_left(10).await.unwrap();
    let bite = Bite { most: 10, parts: 1 };
    store.take_offered(&Offer::ALL, bite, But::default()).await.unwrap().taken.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_runs_in_the_place_of_others_is_left_to_it() {
    let home = PgHome::default();
    let [accepts, runs] = nodes(&home).await;
    let number = accepts.stand_in().await.unwrap();
    assert!(number > runs.epoch(), "it came behind everybody");
    assert_eq!(accepts.stand_in().await, Ok(number), "it stays the same");
    // At once, before anybody has seen it.
    assert_eq!(runs.holder(number), Holder::Another);
    assert_eq!((accepts.holder(number), accepts.holder(accepts.epoch())), (Holder::Us, Holder::Us));
    let mut here = held_by("here", number);
    here.commit(&accepts).await;
    assert_eq!(offered(&runs).await, 0);
    let mut handed_over = held_by("handed over", accepts.epoch());
    handed_over.commit(&accepts).await;
    assert_eq!(offered(&runs).await, 1, "what it hands over is taken as ever");
    assert_eq!(runs.holder(accepts.epoch()), Holder::Nobody);
    // Who writes it in its place tells it, and it finds it when it looks.
    assert_eq!(accepts.knocks(10).await.unwrap(), []);
    here.queue("more");
    here.commit(&runs).await;
    assert_eq!(accepts.knocks(10).await.unwrap(), std::slice::from_ref(&here.key));
    let own = accepts.own_work(NOW, None, 10).await.unwrap();
    assert!(own.contains(&(NOW, here.key.clone())), "{own:?}");
    // Others see one node, which runs turns.
    while runs.neighbours() != [1, 0] {
        tokio::task::yield_now().await;
    }
    assert_eq!(runs.holder(number), Holder::Another);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_steps_back_leaves_what_is_open_to_others() {
    let home = PgHome::default();
    let [accepts, runs] = nodes(&home).await;
    assert_eq!(accepts.step_back().await, Ok(()), "there is nothing to give back");
    let number = accepts.stand_in().await.unwrap();
    let mut chat = held_by("ann", number);
    chat.commit(&accepts).await;
    assert_eq!(offered(&runs).await, 0);
    accepts.step_back().await.unwrap();
    assert_eq!(offered(&runs).await, 1);
    // It may be a number of somebody who came just now, until the next look at who is there.
    for node in [&accepts, &runs] {
        while node.holder(number) != Holder::Nobody {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(accepts.health(), Ok(()), "it takes part as before");
    let again = accepts.stand_in().await.unwrap();
    assert!(again > number, "one that was given back is nobody's for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_numbers_end_together() {
    let home = PgHome::default();
    let [accepts, runs] = nodes(&home).await;
    let client = home.client().await;
    let count = async || {
        let sql = "SELECT count(*) FROM nodes WHERE gone_at IS NULL";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let mut chat = held_by("ann", accepts.stand_in().await.unwrap());
    chat.commit(&accepts).await;
    assert_eq!(count().await, 3);
    accepts.close().await;
    assert_eq!((count().await, offered(&runs).await), (1, 1), "it left with both");
    let [accepts, runs] = nodes(&home).await;
    accepts.stand_in().await.unwrap();
    let [successor, _runs] = nodes(&home).await;
    accepts.put_out().await;
    assert_eq!(count().await, 2, "who comes under its name puts both out");
    drop((successor, runs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_signs_gives_them_under_both_numbers() {
    let home = PgHome::default();
    let [accepts, _runs] = nodes(&home).await;
    let number = accepts.stand_in().await.unwrap();
    let client = home.client().await;
    let beats = "SELECT 1 FROM nodes WHERE epoch = $1 AND beat >= 2 AND gone_at IS NULL";
    while client.query_opt(beats, &[&number.0.cast_signed()]).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    // One that was drawn and not heard of does not stay.
    let unheard = "INSERT INTO nodes (epoch, token, name, version, schema_version)
                   VALUES (999, gen_random_uuid(), 'accepts', '1', 4)";
    client.execute(unheard, &[]).await.unwrap();
    accepts.step_back().await.unwrap();
    accepts.stand_in().await.unwrap();
    let gone = "SELECT gone_why FROM nodes WHERE epoch = 999";
    let why: String = client.query_one(gone, &[]).await.unwrap().get(0);
    assert_eq!(why, "it was not heard of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_turns_needs_no_other_number() {
    let home = PgHome::default();
    let [_accepts, runs] = nodes(&home).await;
    assert_eq!(runs.stand_in().await, Ok(runs.epoch()));
    assert_eq!(runs.step_back().await, Ok(()));
    assert_eq!(runs.holder(runs.epoch()), Holder::Us);
}
