//! Jobs and their ticks.

use turnkeep_core::ports::schedule::{
    Claim, ENDED_KEPT, Ended, JOBS_MAX, KeptJob, Put, ScheduleStore, Tick, TickState,
};
use turnkeep_core::schedule::{Job, MadeBy, Misfire, Overlap, Target, Task, When};
use turnkeep_core::{Seq, SessionKey, SessionKind, Timestamp, Trust};

use crate::fixture::{Home, NOW};

fn cron(schedule: &str) -> When {
    When::Cron { schedule: schedule.to_owned(), zone: "Europe/Berlin".to_owned() }
}

fn job(name: &str, made_by: MadeBy) -> Job {
    Job {
        tenant: "default".to_owned(),
        name: name.to_owned(),
        when: cron("0 7 * * *"),
        task: Task::Prompt("what is new? \u{1F4F0}".to_owned()),
        agent: "default".to_owned(),
        to: Target::User { name: "alice".to_owned(), channel: None },
        misfire: Misfire::Once,
        overlap: Overlap::Queue,
        paused: false,
        trust: Trust::Inner,
        made_by,
    }
}

/// One whose text names something.
pub(crate) fn naming(text: &str) -> Job {
    Job { task: Task::Prompt(format!("look at {text}.")), ..of_api("look") }
}

fn of_api(name: &str) -> Job {
    job(name, MadeBy::Api)
}

fn configured(name: &str) -> Job {
    job(name, MadeBy::Configuration)
}

fn key() -> SessionKey {
    SessionKey::new("default", "default", "api", SessionKind::Cron, "news").unwrap()
}

async fn found(store: &impl ScheduleStore) -> Vec<(String, Timestamp, bool)> {
    let jobs = store.jobs().await.unwrap().into_iter();
    jobs.map(|kept| (kept.job.name, kept.handled - NOW, kept.held)).collect()
}

fn run(times: &[Timestamp]) -> Claim {
    let handled = times.iter().max().copied();
    Claim { run: times.to_vec(), handled, at: NOW + 9, ..Claim::default() }
}

fn ended(state: TickState) -> Ended {
    Ended { state, at: NOW + 20, note: None }
}

pub(crate) async fn a_job_is_kept_as_it_was_made<H: Home>(home: &H) {
    let reminder = Job {
        when: When::Once(NOW + 5),
        task: Task::Text("the oven".to_owned()),
        to: Target::Session(key()),
        ..job("oven", MadeBy::Session(key()))
    };
    {
        let store = home.open();
        assert_eq!(store.put_job(of_api("news"), NOW).await.unwrap(), Put::Kept);
        assert_eq!(store.put_job(reminder.clone(), NOW + 1).await.unwrap(), Put::Kept);
        // Once more: the same, or another one.
        assert_eq!(store.put_job(of_api("news"), NOW + 2).await.unwrap(), Put::Same);
        let other = Job { when: cron("0 8 * * *"), ..of_api("news") };
        assert_eq!(store.put_job(other, NOW + 2).await.unwrap(), Put::Taken);
        // Another tenant has names of its own.
        let theirs = Job { tenant: "acme".to_owned(), ..of_api("news") };
        assert_eq!(store.put_job(theirs, NOW + 3).await.unwrap(), Put::Kept);
    }
    let store = home.open();
    let kept = store.jobs().await.unwrap();
    let made = |job, at| KeptJob { job, made_at: at, handled: at, held: false };
    assert_eq!(kept[0].job.tenant, "acme");
    assert_eq!(kept[1..], [made(of_api("news"), NOW), made(reminder, NOW + 1)]);
    assert!(store.drop_job("default", "news").await.unwrap());
    assert!(!store.drop_job("default", "news").await.unwrap());
    assert_eq!(store.jobs().await.unwrap().len(), 2);
}

pub(crate) async fn jobs_of_a_tenant_have_a_limit<H: Home>(home: &H) {
    let store = home.open();
    for number in 0..JOBS_MAX {
        let job = of_api(&format!("job-{number}"));
        assert_eq!(store.put_job(job, NOW).await.unwrap(), Put::Kept);
    }
    assert_eq!(store.put_job(of_api("more"), NOW).await.unwrap(), Put::Full);
    let theirs = Job { tenant: "acme".to_owned(), ..of_api("more") };
    assert_eq!(store.put_job(theirs, NOW).await.unwrap(), Put::Kept);
}

pub(crate) async fn the_configuration_keeps_its_own_jobs<H: Home>(home: &H) {
    let store = home.open();
    store.put_job(of_api("mine"), NOW).await.unwrap();
    store.put_job(of_api("both"), NOW).await.unwrap();
    let all = vec![configured("news"), configured("both"), configured("old")];
    store.configure_jobs(all, NOW + 1).await.unwrap();
    let names = |names: &[(&str, Timestamp, bool)]| {
        names.iter().map(|(name, at, held)| ((*name).to_owned(), *at, *held)).collect::<Vec<_>>()
    };
    let first = [("both", 1, false), ("mine", 0, false), ("news", 1, false), ("old", 1, false)];
    assert_eq!(found(&store).await, names(&first));
    assert!(store.hold_job("default", "news", true, NOW + 2).await.unwrap());
    store.claim("default", "news", run(&[NOW + 3])).await.unwrap();
    // Another text is the same job; other times are another one.
    let text = Job { task: Task::Prompt("and now?".to_owned()), ..configured("news") };
    let times = Job { when: cron("0 8 * * *"), ..configured("both") };
    store.configure_jobs(vec![text.clone(), times], NOW + 4).await.unwrap();
    let then = [("both", 4, false), ("mine", 0, false), ("news", 3, true)];
    assert_eq!(found(&store).await, names(&then));
    assert_eq!(store.jobs().await.unwrap()[2].job, text);
    assert_eq!(store.open_ticks().await.unwrap().len(), 1);
    store.configure_jobs(Vec::new(), NOW + 5).await.unwrap();
    assert_eq!(found(&store).await, names(&[("mine", 0, false)]));
    assert_eq!(store.open_ticks().await.unwrap(), []);
}

pub(crate) async fn a_tick_is_claimed_once<H: Home>(home: &H) {
    {
        let store = home.open();
        store.put_job(of_api("news"), NOW).await.unwrap();
        let claim = Claim { left_out: Some((NOW + 1, "missed".to_owned())), ..run(&[NOW + 2]) };
        assert_eq!(store.claim("default", "news", claim).await.unwrap(), [NOW + 2]);
        let again = run(&[NOW + 2, NOW + 3]);
        assert_eq!(store.claim("default", "news", again).await.unwrap(), [NOW + 3]);
        assert_eq!(
            store.claim("default", "nobody", run(&[NOW])).await.unwrap(),
            Vec::<Timestamp>::new()
        );
    }
    let store = home.open();
    assert_eq!(found(&store).await, [("news".to_owned(), 3, false)]);
    let tick = |at, state, ended_at, note: Option<&str>| Tick {
        tenant: "default".to_owned(),
        job: "news".to_owned(),
        at,
        state,
        claimed_at: NOW + 9,
        ended_at,
        session: None,
        seq: None,
        note: note.map(str::to_owned),
    };
    let (two, three) = (NOW + 2, NOW + 3);
    let (claimed, skipped) = (TickState::Claimed, TickState::Skipped);
    let open = [tick(two, claimed, None, None), tick(three, claimed, None, None)];
    assert_eq!(store.open_ticks().await.unwrap(), open);
    let all = store.ticks("default", "news", 10).await.unwrap();
    let left_out = tick(NOW + 1, skipped, Some(NOW + 9), Some("missed"));
    assert_eq!(all, [open[1].clone(), open[0].clone(), left_out]);
    assert_eq!(store.ticks("default", "news", 1).await.unwrap(), open[1..]);
    // A claim that says nothing of the place leaves it.
    let extra = Claim { handled: None, ..run(&[NOW + 100]) };
    store.claim("default", "news", extra).await.unwrap();
    assert_eq!(found(&store).await, [("news".to_owned(), 3, false)]);
}

pub(crate) async fn a_tick_goes_its_way_across_reopening<H: Home>(home: &H) {
    let tick = ("default", "news", NOW + 2);
    {
        let store = home.open();
        store.put_job(of_api("news"), NOW).await.unwrap();
        store.claim("default", "news", run(&[NOW + 2])).await.unwrap();
        store.submitted(tick, key(), Seq(7)).await.unwrap();
    }
    {
        let store = home.open();
        let [open] = &store.open_ticks().await.unwrap()[..] else { panic!() };
        assert_eq!((open.state, open.seq), (TickState::Submitted, Some(Seq(7))));
        assert_eq!(open.session, Some(key()));
        let ended = Ended { note: Some("no such agent".to_owned()), ..ended(TickState::Failed) };
        store.end_tick(tick, ended).await.unwrap();
    }
    let store = home.open();
    assert_eq!(store.open_ticks().await.unwrap(), []);
    let [over] = &store.ticks("default", "news", 10).await.unwrap()[..] else { panic!() };
    assert_eq!((over.state, over.ended_at), (TickState::Failed, Some(NOW + 20)));
    assert_eq!(over.note.as_deref(), Some("no such agent"));
    // What has ended stays so.
    store.submitted(tick, key(), Seq(8)).await.unwrap();
    assert_eq!(store.open_ticks().await.unwrap(), []);
    assert_eq!(
        store.claim("default", "news", run(&[NOW + 2])).await.unwrap(),
        Vec::<Timestamp>::new()
    );
}

pub(crate) async fn old_ticks_go<H: Home>(home: &H) {
    let store = home.open();
    store.put_job(of_api("news"), NOW).await.unwrap();
    let count = Timestamp::try_from(ENDED_KEPT).unwrap() + 3;
    let times: Vec<Timestamp> = (1..=count).map(|at| NOW + at).collect();
    store.claim("default", "news", run(&times)).await.unwrap();
    for at in &times[1..] {
        store.end_tick(("default", "news", *at), ended(TickState::Delivered)).await.unwrap();
    }
    let left = store.ticks("default", "news", 1000).await.unwrap();
    // The newest ones, and what is still open, however old.
    assert_eq!(left.len(), ENDED_KEPT + 1);
    assert_eq!((left.first().unwrap().at, left.last().unwrap().at), (NOW + count, NOW + 1));
    assert_eq!(left[ENDED_KEPT - 1].at, NOW + 4);
    assert!(store.drop_job("default", "news").await.unwrap());
    assert_eq!(store.ticks("default", "news", 1000).await.unwrap(), []);
    assert_eq!(store.open_ticks().await.unwrap(), []);
}

pub(crate) async fn a_job_that_rested_goes_on_from_now<H: Home>(home: &H) {
    let store = home.open();
    store.put_job(of_api("news"), NOW).await.unwrap();
    let reminder = Job { when: When::Once(NOW + 5), ..of_api("oven") };
    store.put_job(reminder, NOW).await.unwrap();
    for name in ["news", "oven"] {
        assert!(store.hold_job("default", name, true, NOW + 10).await.unwrap());
    }
    let held = [("news".to_owned(), 0, true), ("oven".to_owned(), 0, true)];
    assert_eq!(found(&store).await, held);
    for name in ["news", "oven"] {
        assert!(store.hold_job("default", name, false, NOW + 20).await.unwrap());
    }
    // A reminder is still owed.
    let then = [("news".to_owned(), 20, false), ("oven".to_owned(), 0, false)];
    assert_eq!(found(&store).await, then);
    // Once more changes nothing.
    assert!(store.hold_job("default", "news", false, NOW + 30).await.unwrap());
    assert_eq!(found(&store).await, then);
    assert!(!store.hold_job("default", "nobody", true, NOW).await.unwrap());
}

pub(crate) async fn a_reminder_is_forgotten_once_it_is_told<H: Home>(home: &H) {
    let store = home.open();
    let reminder = Job { when: When::Once(NOW + 5), ..of_api("oven") };
    store.put_job(reminder, NOW).await.unwrap();
    store.claim("default", "oven", run(&[NOW + 5])).await.unwrap();
    assert_eq!(store.jobs().await.unwrap().len(), 1);
    store.end_tick(("default", "oven", NOW + 5), ended(TickState::Delivered)).await.unwrap();
    assert_eq!(store.jobs().await.unwrap(), []);
    assert_eq!(store.ticks("default", "oven", 10).await.unwrap(), []);
    // Its name is free again.
    assert_eq!(store.put_job(of_api("oven"), NOW + 30).await.unwrap(), Put::Kept);
}

pub(crate) async fn a_reminder_that_was_not_told_stays<H: Home>(home: &H) {
    let oven = ("default", "oven", NOW + 5);
    {
        let store = home.open();
        let reminder = Job { when: When::Once(NOW + 5), ..of_api("oven") };
        store.put_job(reminder, NOW).await.unwrap();
        store.claim("default", "oven", run(&[NOW + 5])).await.unwrap();
        // The end of another time is not its own.
        let other = ("default", "oven", NOW + 4);
        store.end_tick(other, ended(TickState::Delivered)).await.unwrap();
        assert_eq!(store.open_ticks().await.unwrap().len(), 1);
        store.end_tick(oven, ended(TickState::Failed)).await.unwrap();
    }
    let store = home.open();
    assert_eq!(found(&store).await, [("oven".to_owned(), 5, false)]);
    assert_eq!(store.open_ticks().await.unwrap(), []);
    let [failed] = &store.ticks("default", "oven", 10).await.unwrap()[..] else { panic!() };
    assert_eq!((failed.state, failed.ended_at), (TickState::Failed, Some(NOW + 20)));
    assert!(store.drop_job("default", "oven").await.unwrap());
    assert_eq!(store.ticks("default", "oven", 10).await.unwrap(), []);
}

pub(crate) async fn what_was_left_out_may_be_run_after_all<H: Home>(home: &H) {
    let store = home.open();
    store.put_job(of_api("news"), NOW).await.unwrap();
    let left_out = Some((NOW + 1, "missed".to_owned()));
    let claim = Claim { left_out: left_out.clone(), ..run(&[NOW + 2]) };
    store.claim("default", "news", claim).await.unwrap();
    store.end_tick(("default", "news", NOW + 2), ended(TickState::Failed)).await.unwrap();
    let back = Claim { left_out: Some((NOW + 2, "missed".to_owned())), ..run(&[NOW + 1, NOW + 2]) };
    assert_eq!(store.claim("default", "news", back).await.unwrap(), [NOW + 1]);
    let [open] = &store.open_ticks().await.unwrap()[..] else { panic!() };
    assert_eq!((open.at, open.state), (NOW + 1, TickState::Claimed));
    assert_eq!((open.ended_at, &open.note), (None, &None));
    // And is left out no more once it is under way.
    let again = Claim { left_out, ..run(&[NOW + 1]) };
    assert_eq!(store.claim("default", "news", again).await.unwrap(), Vec::<Timestamp>::new());
    assert_eq!(store.open_ticks().await.unwrap().len(), 1);
}

pub(crate) async fn the_last_ending_is_found_behind_what_was_left_out<H: Home>(home: &H) {
    let store = home.open();
    store.put_job(of_api("news"), NOW).await.unwrap();
    let last = async |at| {
        let found = store.ended_before(("default", "news", at)).await.unwrap();
        found.map(|tick| (tick.at - NOW, tick.state))
    };
    assert_eq!(last(NOW + 1000).await, None);
    store.claim("default", "news", run(&[NOW + 1, NOW + 2, NOW + 900])).await.unwrap();
    let count = Timestamp::try_from(ENDED_KEPT).unwrap();
    for at in 3..=count + 20 {
        let left_out = Some((NOW + at, "the one before was under way".to_owned()));
        let claim = Claim { left_out, at: NOW + at, ..Claim::default() };
        store.claim("default", "news", claim).await.unwrap();
    }
    store.end_tick(("default", "news", NOW + 1), ended(TickState::Delivered)).await.unwrap();
    assert_eq!(last(NOW + 1000).await, Some((1, TickState::Delivered)));
    store.end_tick(("default", "news", NOW + 2), ended(TickState::Failed)).await.unwrap();
    assert_eq!(last(NOW + 1000).await, Some((2, TickState::Failed)));
    assert_eq!(last(NOW + 2).await, None);
    let left = store.ticks("default", "news", 1000).await.unwrap();
    // The newest ones, the last one that was run, and what is open.
    assert_eq!(left.len(), ENDED_KEPT + 2);
}

pub(crate) async fn what_passed_while_the_file_let_it_rest_is_over<H: Home>(home: &H) {
    let store = home.open();
    let job = configured("news");
    let rests = Job { paused: true, ..job.clone() };
    store.configure_jobs(vec![rests.clone()], NOW).await.unwrap();
    store.configure_jobs(vec![rests], NOW + 5).await.unwrap();
    assert_eq!(found(&store).await, [("news".to_owned(), 0, false)]);
    store.configure_jobs(vec![job.clone()], NOW + 10).await.unwrap();
    assert_eq!(found(&store).await, [("news".to_owned(), 10, false)]);
    store.configure_jobs(vec![job], NOW + 20).await.unwrap();
    assert_eq!(found(&store).await, [("news".to_owned(), 10, false)]);
}
