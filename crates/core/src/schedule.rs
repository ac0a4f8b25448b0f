//! What is done at its time, asked for by nobody in that moment: jobs that recur and reminders.
//!
//! A **tick** is one time of one job. [`due`] says which ticks are to be run; whoever asks makes that
//! durable, runs each once, and says so. Nothing here knows what time it is.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;
use crate::policy::Trust;
use crate::session_key::{SessionKey, SessionKeyError, SessionKind};

mod calendar;
mod moment;

pub use calendar::{
    Calendar, CalendarError, EXPRESSION_BYTES_MAX, in_utc, on_the_wall, time_zone, zone_names,
};
pub use moment::{MomentError, moment_at, moment_in};

/// The longest name of a job, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest text of a job, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Ticks that are made good for at once at most, and that wait for one job at most.
pub const TICKS_MAX: usize = 100;
/// A tick that is found later than this was missed.
pub const MISSED_AFTER_MS: i64 = 60_000;
/// A clock that is put back by more than this is believed, and the times after it count again.
pub const CLOCK_BACK_MS: i64 = 3_600_000;
/// Times that are counted at one look.
const COUNTED_MAX: usize = 40_000;

/// When a job's time comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Again and again.
    Cron {
        /// The cron expression.
        schedule: String,
        /// The name of the time zone it is meant in.
        zone: String,
    },
    /// Once, at this moment; it is forgotten then.
    Once(Timestamp),
}

/// What is done then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// An agent is asked this, and what it answers is told.
    Prompt(String),
    /// This is told as it stands.
    Text(String),
}

impl Task {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Prompt(text) | Self::Text(text) => text,
        }
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Whoever is at the other end of this session.
    Session(SessionKey),
    /// A user of the configuration.
    User {
        /// Their name.
        name: String,
        /// The channel to take; without it the one that they used last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<String>,
    },
}

/// What becomes of ticks that were missed, because the machine was off or asleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// Nothing.
    Skip,
    /// One run makes good for all of them.
    #[default]
    Once,
    /// Each is run, the newest [`TICKS_MAX`] at most.
    All,
}

/// What becomes of a tick whose time comes while an earlier one of the same job is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Nothing.
    #[default]
    Skip,
    /// It waits for the earlier one, at most [`TICKS_MAX`] of them.
    Queue,
}

macro_rules! words {
    ($type:ident, $($variant:ident = $word:literal),+) => {
        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What the word stands for.
            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

words!(Misfire, Skip = "skip", Once = "once", All = "all");
words!(Overlap, Skip = "skip", Queue = "queue");

/// Who made a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// It stands in the configuration, and goes when it stands there no more.
    Configuration,
    /// Somebody, through the API or the command line.
    Api,
    /// The agent of this session, with a tool.
    Session(SessionKey),
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Whose it is.
    pub tenant: String,
    /// Its name, once for each tenant.
    pub name: String,
    /// When its time comes.
    pub when: When,
    /// What is done then.
    pub task: Task,
    /// Which agent is asked.
    pub agent: String,
    /// Who is told.
    pub to: Target,
    /// What becomes of what was missed.
    #[serde(default)]
    pub misfire: Misfire,
    /// What becomes of what comes too soon.
    #[serde(default)]
    pub overlap: Overlap,
    /// Whoever made it wants it to rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// How far its question is trusted.
    pub trust: Trust,
    /// Who made it.
    pub made_by: MadeBy,
}

impl Job {
    /// The session in which its agent is asked.
    pub fn session(&self) -> Result<SessionKey, SessionKeyError> {
        SessionKey::new(&self.tenant, &self.agent, "api", SessionKind::Cron, &self.name)
    }

    /// The name of one tick, under which it is asked once and told once. A reminder has one: made
    /// again for another moment, after it was told and forgotten, it is the same one.
    #[must_use]
    pub fn tick_name(&self, at: Timestamp) -> String {
        if self.is_reminder() {
            return format!("cron/{}", self.name);
        }
        format!("cron/{}/{}", self.name, in_utc(at))
    }

    /// Whether its time comes once.
    #[must_use]
    pub const fn is_reminder(&self) -> bool {
        matches!(self.when, When::Once(_))
    }

    /// The zone in which its times are shown.
    #[must_use]
    pub fn zone(&self) -> &str {
        match &self.when {
            When::Cron { zone, .. } => zone,
            When::Once(_) => "UTC",
        }
    }

    /// When its time comes, ready to be asked.
    pub fn times(&self) -> Result<Times, CalendarError> {
        match &self.when {
            When::Cron { schedule, zone } => {
                Ok(Times::Cron(Box::new(Calendar::new(schedule, zone)?)))
            }
            When::Once(at) => Ok(Times::Once(*at)),
        }
    }
}

/// Whether a name can be a job's.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(plain)
}

/// The times of a job.
#[derive(Clone, Debug)]
pub enum Times {
    /// Again and again.
    Cron(Box<Calendar>),
    /// Once.
    Once(Timestamp),
}

impl Times {
    /// The first time after `after`.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(calendar) => calendar.next(after),
            Self::Once(at) => (*at > after).then_some(*at),
        }
    }

    /// The times after `after` up to `until`: the newest [`TICKS_MAX`] of them, and how many there
    /// are, as far as that is counted.
    fn between(&self, after: Timestamp, until: Timestamp) -> (VecDeque<Timestamp>, usize) {
        // A job of every second whose machine was off for a year is not counted through.
        let mut span_ms = 128_000;
        loop {
            let from = after.max(until.saturating_sub(span_ms));
            let (newest, count) = self.counted(from, until);
            if from == after || newest.len() >= TICKS_MAX {
                return (newest, count);
            }
            span_ms = span_ms.saturating_mul(8);
        }
    }

    fn counted(&self, after: Timestamp, until: Timestamp) -> (VecDeque<Timestamp>, usize) {
        let (mut newest, mut count, mut last) = (VecDeque::new(), 0, after);
        while let Some(time) = self.next(last).filter(|time| *time <= until) {
            if newest.len() == TICKS_MAX {
                newest.pop_front();
            }
            newest.push_back(time);
            (last, count) = (time, count + 1);
            if count == COUNTED_MAX {
                break;
            }
        }
        (newest, count)
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every time up to here is dealt with.
    pub handled: Timestamp,
    /// Somebody wants it to rest.
    pub held: bool,
    /// Its ticks that are under way or wait.
    pub open: usize,
}

/// What is to be done about a job now. It has to be durable before anything of it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Times to be run, in order.
    pub run: Vec<Timestamp>,
    /// How many times are left out because they were missed.
    pub missed: usize,
    /// How many are left out because an earlier one is under way.
    pub overlapped: usize,
    /// The newest time that is left out.
    pub left_out: Option<Timestamp>,
    /// Every time up to here is dealt with then.
    pub handled: Timestamp,
}

/// When a job has to be looked at again; none if its time never comes, or it rests.
#[must_use]
pub fn next(job: &Job, times: &Times, progress: &Progress) -> Option<Timestamp> {
    if job.paused || progress.held {
        return None;
    }
    times.next(progress.handled)
}

/// What is to be done about a job now; nothing if its time has not come.
///
/// No time up to `handled` ever comes again, so a clock that is put back a little repeats nothing.
#[must_use]
pub fn due(job: &Job, times: &Times, progress: &Progress, now: Timestamp) -> Option<Due> {
    if job.paused || progress.held {
        return None;
    }
    if progress.handled.saturating_sub(now) > CLOCK_BACK_MS && !job.is_reminder() {
        // It was ahead by far: without this the job would rest until that time comes.
        return Some(Due { handled: now, ..Due::default() });
    }
    let (found, count) = times.between(progress.handled, now);
    let handled = *found.back()?;
    let chosen = choose(job, &found, now);
    let missed = count - chosen.len();
    let room = match job.overlap {
        Overlap::Queue => TICKS_MAX.saturating_sub(progress.open),
        Overlap::Skip if progress.open > 0 => 0,
        // One at a time, but where each of those missed is wanted they wait for each other.
        Overlap::Skip if job.misfire != Misfire::All => 1,
        Overlap::Skip => TICKS_MAX,
    };
    let overlapped = chosen.len().saturating_sub(room);
    let run = chosen[overlapped..].to_vec();
    let left_out = found.iter().rev().find(|time| !run.contains(time)).copied();
    Some(Due { run, missed, overlapped, left_out, handled })
}

/// Which of the times that came are wanted, missed ones among them.
fn choose(job: &Job, found: &VecDeque<Timestamp>, now: Timestamp) -> Vec<Timestamp> {
    let is_missed = |time: &&Timestamp| now.saturating_sub(**time) > MISSED_AFTER_MS;
    let in_time: Vec<Timestamp> = found.iter().filter(|time| !is_missed(time)).copied().collect();
    // Whoever wants to be reminded wants it late rather than never.
    let misfire = if job.is_reminder() { Misfire::Once } else { job.misfire };
    match misfire {
        Misfire::All => found.iter().copied().collect(),
        Misfire::Once if in_time.is_empty() => found.back().copied().into_iter().collect(),
        Misfire::Once | Misfire::Skip => in_time,
    }
}

#[cfg(test)]
mod tests;
