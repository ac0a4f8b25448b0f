//! How far a run is, on standard error: a bar on a terminal, else a line now and then.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::Plan;
use crate::figures::{count, rate};

/// How often [`Progress::update`] wants to be called.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far a run is.
#[derive(Debug)]
pub(crate) struct Progress {
    goal: Goal,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { next_at: Duration },
    Nothing,
}

/// What decides when the run is over.
#[derive(Clone, Copy, Debug)]
enum Goal {
    Messages(u64),
    Time(Duration),
}

impl Progress {
    /// A bar or lines, as standard error allows; nothing if the plan says so.
    pub(crate) fn start(plan: &Plan) -> Self {
        let goal = match (plan.messages_planned(), plan.duration) {
            (Some(messages), _) => Goal::Messages(messages),
            (None, duration) => Goal::Time(duration.unwrap_or_default()),
        };
        let shown = if !plan.progress {
            Shown::Nothing
        } else if stderr().is_terminal() {
            Shown::Bar(bar(goal))
        } else {
            Shown::Lines { next_at: LINE_EVERY }
        };
        Self { goal, shown }
    }

    /// Shows the state after `elapsed`.
    pub(crate) fn update(&mut self, elapsed: Duration, messages: u64, turns: u64) {
        let speed = per_second(elapsed, if turns > 0 { turns } else { messages });
        let unit = if turns > 0 { "turns" } else { "messages" };
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_position(match self.goal {
                    Goal::Messages(_) => messages,
                    Goal::Time(_) => elapsed.as_secs(),
                });
                bar.set_message(format!("{} {unit}/s", rate(speed)));
            }
            Shown::Lines { next_at } => {
                if elapsed >= *next_at {
                    *next_at = elapsed + LINE_EVERY;
                    eprintln!(
                        "{}",
                        self.goal.line(elapsed, messages, &format!("{} {unit}/s", rate(speed)))
                    );
                }
            }
        }
    }

    /// Takes the bar away, so that the table stands alone.
    pub(crate) fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Goal {
    fn line(self, elapsed: Duration, messages: u64, speed: &str) -> String {
        let seconds = elapsed.as_secs();
        match self {
            Self::Messages(goal) => {
                format!("{seconds} s: {} of {} messages, {speed}", count(messages), count(goal))
            }
            Self::Time(goal) => {
                format!("{seconds} of {} s: {} messages, {speed}", goal.as_secs(), count(messages))
            }
        }
    }
}

fn bar(goal: Goal) -> ProgressBar {
    let (length, what) = match goal {
        Goal::Messages(messages) => (messages, "{human_pos}/{human_len} messages"),
        Goal::Time(duration) => (duration.as_secs(), "{pos}/{len} s"),
    };
    let template = format!("{{bar:40.cyan/blue}} {what}  {{msg}}  {{elapsed}}");
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

fn per_second(elapsed: Duration, amount: u64) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { amount as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let elapsed = Duration::from_secs(10);
        let by_messages = Goal::Messages(20_000).line(elapsed, 5_000, "500 turns/s");
        assert_eq!(by_messages, "10 s: 5,000 of 20,000 messages, 500 turns/s");
        let by_time = Goal::Time(Duration::from_secs(30)).line(elapsed, 5_000, "500 turns/s");
        assert_eq!(by_time, "10 of 30 s: 5,000 messages, 500 turns/s");
    }
}
