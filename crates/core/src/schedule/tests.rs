//! The rules of the scheduler: awkward hours, missed ticks, clocks that jump.

use super::*;

fn times(expression: &str, zone: &str) -> Times {
    Times::Cron(Box::new(Calendar::new(expression, zone).unwrap()))
}

/// A moment, like `2026-03-29T01:00:00Z`.
fn at(text: &str) -> Timestamp {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// The next times as the wall shows them.
fn walls(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let times = times(expression, zone);
    let mut last = at(from);
    let next = std::iter::from_fn(|| {
        last = times.next(last)?;
        Some(on_the_wall(last, zone))
    });
    next.take(count).collect()
}

fn job(misfire: Misfire, overlap: Overlap) -> Job {
    Job {
        tenant: "default".to_owned(),
        name: "news".to_owned(),
        when: When::Cron { schedule: "* * * * *".to_owned(), zone: "UTC".to_owned() },
        task: Task::Prompt("what is new?".to_owned()),
        agent: "default".to_owned(),
        to: Target::User { name: "alice".to_owned(), channel: None },
        misfire,
        overlap,
        paused: false,
        trust: Trust::Owner,
        made_by: MadeBy::Configuration,
    }
}

#[test]
fn a_time_that_the_clock_skips_fires_once_when_it_goes_on() {
    let check = |expression, zone, from, expect: &[&str]| {
        assert_eq!(walls(expression, zone, from, expect.len()), expect, "{expression} {zone}");
    };
    let spring = ["2026-03-29 03:00:00 +02:00", "2026-03-30 02:30:00 +02:00"];
    check("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &spring);
    // Two times in one gap are one.
    let both = ["2026-03-29 03:00:00 +02:00", "2026-03-30 02:00:00 +02:00"];
    check("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &both);
    let and_after = ["2026-03-29 03:00:00 +02:00", "2026-03-29 03:30:00 +02:00"];
    check("30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &and_after);
    let new_york = ["2026-03-08 03:00:00 -04:00", "2026-03-09 02:30:00 -04:00"];
    check("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &new_york);
    let half_an_hour = ["2026-10-04 02:30:00 +11:00", "2026-10-05 02:15:00 +11:00"];
    check("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", &half_an_hour);
    // A day that there never was: its noon comes with the next midnight.
    let friday = ["2011-12-29 12:00:00 -10:00", "2011-12-31 00:00:00 +14:00"];
    check("0 12 * * *", "Pacific/Apia", "2011-12-29T20:00:00Z", &friday);
    check("0 12 30 12 *", "Pacific/Apia", "2011-06-01T00:00:00Z", &friday[1..]);
}

#[test]
fn a_time_that_the_clock_shows_twice_fires_once() {
    let check = |expression, zone, from, expect: &[&str]| {
        assert_eq!(walls(expression, zone, from, expect.len()), expect, "{expression} {zone}");
    };
    let autumn = ["2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00"];
    check("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &autumn);
    // Asked between the two, and at the second one.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", &autumn[1..]);
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:30:00Z", &autumn[1..]);
    let new_york = ["2026-11-01 01:30:00 -04:00", "2026-11-02 01:30:00 -05:00"];
    check("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &new_york);
    let half_an_hour = ["2026-04-05 01:45:00 +11:00", "2026-04-06 01:45:00 +10:30"];
    check("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00Z", &half_an_hour);
}

#[test]
fn every_hour_fires_through_both_changes() {
    let spring =
        ["2026-03-29 01:30:00 +01:00", "2026-03-29 03:00:00 +02:00", "2026-03-29 03:30:00 +02:00"];
    assert_eq!(walls("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3), spring);
    let autumn = [
        "2026-10-25 02:00:00 +02:00",
        "2026-10-25 02:30:00 +02:00",
        "2026-10-25 02:00:00 +01:00",
        "2026-10-25 02:30:00 +01:00",
        "2026-10-25 03:00:00 +01:00",
    ];
    assert_eq!(walls("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 5), autumn);
    // A minute is a minute, whatever the wall shows.
    for (zone, change) in [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ] {
        let times = times("* * * * *", zone);
        let begin = at(change) - 300 * 60_000;
        let mut last = begin;
        for minute in 1..=600 {
            last = times.next(last).unwrap();
            assert_eq!(last, begin + minute * 60_000, "{zone}");
        }
    }
}

#[test]
fn times_only_grow_wherever_one_begins() {
    for zone in ["Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"] {
        for expression in ["30 2 * * *", "0,30 0-3 * * *", "17 */5 * * *", "0 12 * * fri"] {
            let times = times(expression, zone);
            for from in ["2011-12-28T00:00:00Z", "2026-03-20T00:00:00Z", "2026-10-20T00:00:00Z"] {
                let (from, until) = (at(from), at(from) + 12 * 24 * 3_600_000);
                let (all, _) = times.counted(from, until);
                assert!(all.iter().is_sorted(), "{zone} {expression}");
                // From any moment between two, the same second one is next.
                for pair in all.iter().collect::<Vec<_>>().windows(2) {
                    let [one, two] = [*pair[0], *pair[1]];
                    for between in [one, one + 1, one + (two - one) / 2, two - 1] {
                        assert_eq!(times.next(between), Some(two), "{zone} {expression}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_with_an_expression_is_said() {
    let wrong = |expression: &str, zone: &str| Calendar::new(expression, zone).unwrap_err();
    assert_eq!(wrong("* * * *", "UTC"), CalendarError::Fields(4));
    assert_eq!(wrong("", "UTC"), CalendarError::Fields(0));
    assert_eq!(wrong("* * * * * * *", "UTC"), CalendarError::Fields(7));
    assert_eq!(wrong("0 0 30 2 *", "UTC"), CalendarError::Never);
    assert_eq!(wrong("* * * * *", "Europe/Berln"), CalendarError::Zone("Europe/Berln".to_owned()));
    assert_eq!(wrong(&"*".repeat(201), "UTC"), CalendarError::TooLong);
    for strange in ["61 * * * *", "0 7 * * someday", "@reboot", "0 0 0 0 0"] {
        assert!(matches!(wrong(strange, "UTC"), CalendarError::Expression(_)), "{strange}");
    }
    let daily = Calendar::new("@daily", "Europe/Berlin").unwrap();
    assert_eq!(daily.describe(), "At 00:00.");
    assert_eq!(daily.next(at("2026-03-28T12:00:00Z")), Some(at("2026-03-28T23:00:00Z")));
    // Seconds, names, and a day of the month or of the week.
    let seconds = ["2026-01-01 00:00:20 +00:00", "2026-01-01 00:00:40 +00:00"];
    assert_eq!(walls("*/20 * * * * *", "UTC", "2026-01-01T00:00:00.5Z", 2), seconds);
    let either = ["2026-02-13 07:00:00 +00:00", "2026-02-20 07:00:00 +00:00"];
    assert_eq!(walls("0 7 13 2 fri", "UTC", "2026-02-12T00:00:00Z", 2), either);
}

const MINUTE: i64 = 60_000;

/// What is run `late` minutes and a little after minute 0, of a job of every minute.
fn run(misfire: Misfire, overlap: Overlap, open: usize, minutes: i64) -> Due {
    let job = job(misfire, overlap);
    let times = job.times().unwrap();
    let start = at("2026-01-01T00:00:00Z");
    let progress = Progress { handled: start, held: false, open };
    let mut due = due(&job, &times, &progress, start + minutes * MINUTE + 500).unwrap_or_default();
    for time in due.run.iter_mut().chain(&mut due.left_out).chain([&mut due.handled]) {
        *time = (*time - start) / MINUTE;
    }
    due
}

#[test]
fn what_was_missed_is_skipped_or_made_good_for_once_or_all_of_it() {
    let due = |run: &[i64], missed, left_out, handled| Due {
        run: run.to_vec(),
        missed,
        overlapped: 0,
        left_out,
        handled,
    };
    let (skip, once, all) = (Misfire::Skip, Misfire::Once, Misfire::All);
    // In time.
    assert_eq!(run(once, Overlap::Skip, 0, 1), due(&[1], 0, None, 1));
    // Off for three minutes: the last one is in time, and stands for the others.
    assert_eq!(run(skip, Overlap::Skip, 0, 3), due(&[3], 2, Some(2), 3));
    assert_eq!(run(once, Overlap::Skip, 0, 3), due(&[3], 2, Some(2), 3));
    assert_eq!(run(all, Overlap::Skip, 0, 3), due(&[1, 2, 3], 0, None, 3));
    // Off for a day, and all is bounded.
    let day = run(all, Overlap::Queue, 0, 1440);
    assert_eq!((day.run.len(), day.run.first(), day.run.last()), (100, Some(&1341), Some(&1440)));
    assert!(day.missed > 0 && day.handled == 1440);
}

#[test]
fn what_was_missed_altogether_is_made_good_for_once() {
    let daily = |misfire| Job {
        when: When::Cron { schedule: "0 7 * * *".to_owned(), zone: "Europe/Berlin".to_owned() },
        ..job(misfire, Overlap::Skip)
    };
    let progress = Progress { handled: at("2026-03-20T06:00:00Z"), held: false, open: 0 };
    let now = at("2026-03-23T11:00:00Z");
    let run = |misfire| {
        let job = daily(misfire);
        due(&job, &job.times().unwrap(), &progress, now).unwrap()
    };
    let (last, before) = (at("2026-03-23T06:00:00Z"), at("2026-03-22T06:00:00Z"));
    let once = run(Misfire::Once);
    assert_eq!((once.run, once.missed, once.left_out), (vec![last], 2, Some(before)));
    let skip = run(Misfire::Skip);
    assert_eq!((skip.run, skip.missed, skip.left_out), (vec![], 3, Some(last)));
    assert_eq!(run(Misfire::All).run.len(), 3);
    // Whatever was decided, it is decided.
    for handled in [once.handled, skip.handled] {
        let job = daily(Misfire::Once);
        let progress = Progress { handled, ..progress };
        assert_eq!(due(&job, &job.times().unwrap(), &progress, now), None);
    }
}

#[test]
fn a_year_of_seconds_is_not_counted_through() {
    let mut every_second = job(Misfire::All, Overlap::Queue);
    every_second.when = When::Cron { schedule: "* * * * * *".into(), zone: "UTC".into() };
    let times = every_second.times().unwrap();
    let progress = Progress { handled: at("2025-01-01T00:00:00Z"), held: false, open: 0 };
    let now = at("2026-01-01T00:00:00Z");
    let due = due(&every_second, &times, &progress, now).unwrap();
    assert_eq!((due.run.len(), due.run.last()), (TICKS_MAX, Some(&now)));
    assert!(due.missed > 0);
}

#[test]
fn what_comes_too_soon_is_skipped_or_waits() {
    let (skip, queue) = (Overlap::Skip, Overlap::Queue);
    let skipped = run(Misfire::Once, skip, 1, 1);
    assert_eq!((skipped.run, skipped.overlapped, skipped.left_out), (vec![], 1, Some(1)));
    assert_eq!(run(Misfire::Once, queue, 1, 1).run, [1]);
    // What waits has a bound.
    let full = run(Misfire::Once, queue, TICKS_MAX, 1);
    assert_eq!((full.run, full.overlapped, full.handled), (vec![], 1, 1));
}

#[test]
fn a_clock_that_jumps_repeats_nothing() {
    let job = job(Misfire::All, Overlap::Queue);
    let times = job.times().unwrap();
    let noon = at("2026-01-01T12:00:00Z");
    let progress = Progress { handled: noon, held: false, open: 0 };
    // Back by up to an hour: it waits until that time comes again.
    for back in [1, 30 * MINUTE, 60 * MINUTE] {
        assert_eq!(due(&job, &times, &progress, noon - back), None);
    }
    assert_eq!(next(&job, &times, &progress), Some(noon + MINUTE));
    // Back by years: from here on, and nothing of what was before.
    let past = noon - 61 * MINUTE;
    let rewound = due(&job, &times, &progress, past).unwrap();
    assert_eq!(rewound, Due { handled: past, ..Due::default() });
    // Forth: as if it had been off.
    let forth = due(&job, &times, &progress, noon + 3 * MINUTE).unwrap();
    assert_eq!(forth.run, [noon + MINUTE, noon + 2 * MINUTE, noon + 3 * MINUTE]);
}

#[test]
fn who_rests_has_no_times() {
    let paused = Job { paused: true, ..job(Misfire::All, Overlap::Queue) };
    let job = job(Misfire::All, Overlap::Queue);
    let times = job.times().unwrap();
    let now = at("2026-01-01T12:00:00Z");
    let progress = Progress { handled: now - 5 * MINUTE, held: false, open: 0 };
    let held = Progress { held: true, ..progress };
    assert_eq!(
        (due(&paused, &times, &progress, now), next(&paused, &times, &progress)),
        (None, None)
    );
    assert_eq!((due(&job, &times, &held, now), next(&job, &times, &held)), (None, None));
    assert!(due(&job, &times, &progress, now).is_some());
}

#[test]
fn a_reminder_comes_once_however_late() {
    let noon = at("2026-01-01T12:00:00Z");
    let mut reminder = job(Misfire::Skip, Overlap::Skip);
    reminder.when = When::Once(noon);
    let times = reminder.times().unwrap();
    let progress = Progress { handled: noon - MINUTE, held: false, open: 0 };
    assert_eq!(due(&reminder, &times, &progress, noon - 1), None);
    for late in [0, 1, 400 * 24 * 60 * MINUTE] {
        let due = due(&reminder, &times, &progress, noon + late).unwrap();
        assert_eq!((due.run, due.handled), (vec![noon], noon));
    }
    let progress = Progress { handled: noon, ..progress };
    assert_eq!(due(&reminder, &times, &progress, noon + MINUTE), None);
    assert_eq!(next(&reminder, &times, &progress), None);
    assert_eq!(reminder.tick_name(noon), "cron/news");
    let job = job(Misfire::Skip, Overlap::Skip);
    assert_eq!(job.tick_name(noon), "cron/news/2026-01-01T12:00:00Z");
    assert_eq!(job.tick_name(noon + 120), "cron/news/2026-01-01T12:00:00.12Z");
}

#[test]
fn a_job_reads_as_it_was_written() {
    let alice = job(Misfire::All, Overlap::Queue);
    let key = SessionKey::new("default", "default", "signal", SessionKind::Dm, "+49").unwrap();
    let made_by = MadeBy::Session(key.clone());
    let (to, when) = (Target::Session(key), When::Once(7));
    let task = Task::Text("the oven".to_owned());
    let reminder = Job { to, when, task, made_by, ..alice.clone() };
    for job in [alice, reminder] {
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job, "{text}");
    }
    assert!(is_name("morning-news_2") && !is_name("a/b") && !is_name(""));
    assert!(!is_name(&"x".repeat(65)));
    for word in Misfire::ALL {
        assert_eq!(Misfire::named(word.as_str()), Some(*word));
    }
    assert_eq!(Overlap::named("both"), None);
}
