//! Reminders that agents make with a tool.

use turnkeep_core::journal::EventBody;
use turnkeep_core::ports::reminders::{AskedBy, Reminders as _, Wanted};
use turnkeep_core::{SessionKey, SessionKind, Trust, TurnGroupId};
use turnkeep_gateway::{ReminderDesk, clock};

use super::{Home, MINUTE, alice, job, news, slow};
use crate::kit::history;

fn asked_by(session: SessionKey, group: u128) -> AskedBy {
    let group = TurnGroupId(uuid::Uuid::from_u128(group));
    AskedBy { session, group, trust: Trust::Inner }
}

#[tokio::test]
async fn an_agents_reminder_is_made_once_and_told_where_it_was_asked_for() {
    let home = Home::new(news());
    let desk = ReminderDesk::new("Europe/Berlin".to_owned());
    let (hers, again) = (asked_by(alice(), 1), asked_by(alice(), 2));
    let wish = || (Wanted::In("20m".to_owned()), None, "the oven".to_owned());
    let remind = async |by: &AskedBy| {
        let (when, zone, text) = wish();
        desk.remind(by, when, zone, text).await
    };
    assert!(remind(&hers).await.is_err());
    let gateway = home.gateway().await;
    desk.serve(&gateway);
    let made = remind(&hers).await.unwrap();
    // The same wish of the same turn is one, in whatever attempt; of another turn it is another.
    assert_eq!(remind(&hers).await.unwrap(), made);
    let other = remind(&again).await.unwrap();
    assert_ne!(other.name, made.name);
    let (all, now) = desk.reminders(&hers).unwrap();
    assert_eq!((all.len(), now.is_empty()), (2, false));
    // Nobody else sees or cancels them.
    let bob = SessionKey::new("default", "default", "signal", SessionKind::Dm, "bob").unwrap();
    let bobs = asked_by(bob, 1);
    assert_eq!(desk.reminders(&bobs).unwrap().0, []);
    assert!(desk.cancel(&bobs, made.name.clone()).await.is_err());
    assert_eq!(desk.cancel(&hers, other.name.clone()).await, Ok(()));
    assert!(desk.cancel(&hers, other.name).await.is_err());
    // What makes no sense is said.
    for (when, zone) in [
        (Wanted::In("soon".to_owned()), None),
        (Wanted::At("25:00".to_owned()), None),
        (Wanted::At("18:30".to_owned()), Some("Mars".to_owned())),
        (Wanted::At("2001-01-01 00:00".to_owned()), None),
    ] {
        assert!(desk.remind(&hers, when.clone(), zone, "x".to_owned()).await.is_err(), "{when:?}");
    }
    assert!(remind(&asked_by(job("news").session().unwrap(), 1)).await.is_err());
    gateway.look_at_schedule(clock::now() + 21 * MINUTE).await;
    assert_eq!(home.left(1).await, ["the oven"]);
    home.settled(&gateway, &made.name, 0).await;
    assert_eq!(desk.reminders(&hers).unwrap().0, []);
    // Their number is bounded.
    for number in 0..50 {
        remind(&asked_by(alice(), 100 + number)).await.unwrap();
    }
    assert!(remind(&asked_by(alice(), 1000)).await.unwrap_err().contains("50"));
}

#[tokio::test]
async fn whoever_is_erased_is_reminded_of_nothing() {
    let home = Home::new(news());
    let gateway = home.gateway().await;
    let desk = ReminderDesk::new("UTC".to_owned());
    desk.serve(&gateway);
    let wish = async |by: &AskedBy| {
        desk.remind(by, Wanted::In("1h".to_owned()), None, "the oven".to_owned()).await.unwrap()
    };
    let bob = SessionKey::new("default", "default", "signal", SessionKind::Dm, "bob").unwrap();
    wish(&asked_by(alice(), 1)).await;
    let left = wish(&asked_by(bob, 1)).await;
    gateway.add_job(job("news")).await.unwrap();
    assert_eq!(gateway.end_jobs("default", "uuid-a").await, Ok(1));
    assert_eq!(gateway.end_jobs("default", "alice").await, Ok(1));
    assert_eq!(gateway.end_jobs("other", "bob").await, Ok(0));
    let names: Vec<String> =
        gateway.jobs(None).into_iter().map(|view| view.kept.job.name).collect();
    assert_eq!(names, [left.name]);
}

#[tokio::test]
async fn a_job_that_is_removed_while_it_runs_tells_nobody() {
    let (agent, begun, gate) = slow();
    let home = Home::new(agent);
    let gateway = home.gateway().await;
    let next = gateway.add_job(job("news")).await.unwrap().next.unwrap();
    gateway.look_at_schedule(next).await;
    begun.notified().await;
    let (asked, place) = (job("news").session().unwrap(), turnkeep_core::Seq(1));
    let ended = gateway.follow(asked, place);
    gateway.drop_job("default", "news").await.unwrap();
    gate.notify_one();
    ended.await.unwrap();
    // What comes behind it is told, and nothing before.
    gateway.add_job(job("other")).await.unwrap();
    gateway.run_job("default", "other").await.unwrap();
    begun.notified().await;
    gate.notify_one();
    home.settled(&gateway, "other", 1).await;
    let told = history(&gateway, &alice()).await;
    let names: Vec<&str> = told
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::SessionNotice { message_id, .. } => message_id.as_deref(),
            _ => None,
        })
        .collect();
    assert!(names.len() == 1 && names[0].starts_with("cron/other/"), "{names:?}");
}
