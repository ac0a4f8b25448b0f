//! What a run should do: who sends how much, how fast, and what is drawn from it.

use std::path::PathBuf;
use std::time::Duration;

use crate::BenchError;

/// One run, as asked for. Start from [`Plan::default`] and change what differs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many users, each with a session of its own.
    pub users: usize,
    /// Messages a user sends; `None` = until `duration` is over.
    pub messages: Option<u64>,
    /// No message is begun after this; turns in flight may still finish.
    pub duration: Option<Duration>,
    /// How long the server's agent takes for a turn. Only used to tell the gateway's
    /// share of a latency from the agent's; nothing is configured by it.
    pub delay_ms: u64,
    /// How long the channel waits for more messages before it starts a turn. Counted as
    /// expected, like the delay; 0 for the `api` channel.
    pub window_ms: u64,
    /// Messages a burst; a burst is answered as one.
    pub burst: u64,
    /// Pause between two messages of a burst.
    pub burst_gap_ms: u64,
    /// Closed run: each burst is followed to its answer. Else only acceptance is measured.
    pub wait: bool,
    /// Send an id with each message, so that the server can tell duplicates.
    pub ids: bool,
    /// The channel that the messages claim to come from.
    pub channel: String,
    /// The agent to ask for; `None` = the server's default.
    pub agent_id: Option<String>,
    /// Sent as `Authorization: Bearer …`.
    pub api_key: Option<String>,
    /// First part of every customer's name. `None` = a new one each run, so that every run
    /// meets new sessions. With `ids`, a prefix used twice yields duplicates.
    pub prefix: Option<String>,
    /// Users are spread over so many tenants, `bench-0` and so on; `None` = the server's default
    /// one.
    pub tenants: Option<usize>,
    /// Messages of all users a second, whatever the answers do. Each user sends its share over its
    /// own connection, and latencies count from the moment a message should have been sent, so
    /// that a server that is late is not spared. No refusal is waited out then.
    pub rate_per_second: Option<f64>,
    /// Who is refused pauses as long as the server asks for.
    pub obey_retry_after: bool,
    /// Users start evenly spread over this time.
    pub ramp: Duration,
    /// One user more, who sends over that many connections as fast as the API takes it
    /// and ignores every plea to slow down. Its figures are reported apart.
    pub flood_connections: Option<usize>,
    /// The flood's tenant; `None` = the server's default one.
    pub flood_tenant: Option<String>,
    /// So many customers take turns in the flood.
    pub flood_customers: u64,
    /// Messages of the flood a second; `None` = as fast as the API takes it.
    pub flood_rate_per_second: Option<f64>,
    /// Connections that keep the server waiting: half of them silent, half sending a byte a second.
    /// On one machine they come from 127.0.0.2 to 127.0.0.9. Each is opened anew when it ends.
    pub slow_connections: Option<usize>,
    /// Where to write the picture (SVG).
    pub picture: Option<PathBuf>,
    /// The server's process, if it runs here: its CPU time and memory are then read from
    /// `/proc`, which also counts what `/metrics` can't see.
    pub server_pid: Option<u32>,
    /// Show progress on standard error.
    pub progress: bool,
    /// The report is wanted as JSON; see [`crate::Report::render`].
    pub json: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            users: 100,
            messages: Some(10),
            duration: None,
            delay_ms: 0,
            window_ms: 0,
            burst: 1,
            burst_gap_ms: 0,
            wait: true,
            ids: false,
            channel: "api".to_owned(),
            agent_id: None,
            api_key: None,
            prefix: None,
            tenants: None,
            rate_per_second: None,
            obey_retry_after: true,
            ramp: Duration::ZERO,
            flood_connections: None,
            flood_tenant: None,
            flood_customers: 1,
            flood_rate_per_second: None,
            slow_connections: None,
            picture: None,
            server_pid: None,
            progress: true,
            json: false,
        }
    }
}

impl Plan {
    /// Refuses what would run for ever or do nothing, and says what to change.
    pub fn check(&self) -> Result<(), BenchError> {
        let problem = if self.users == 0 {
            "there must be at least one user"
        } else if self.messages.is_none() && self.duration.is_none() {
            "it would never end: give messages or a duration"
        } else if self.messages == Some(0) {
            "each user must send at least one message"
        } else if self.burst == 0 {
            "a burst has at least one message"
        } else if self.flood_connections == Some(0) {
            "a flood needs at least one connection"
        } else if self.tenants == Some(0) {
            "users need at least one tenant"
        } else if self.flood_customers == 0 {
            "a flood needs at least one customer"
        } else if [self.rate_per_second, self.flood_rate_per_second]
            .into_iter()
            .flatten()
            .any(|rate| !(rate.is_finite() && rate > 0.0))
        {
            "a rate is more than 0 messages a second"
        } else if self.rate_per_second.is_some() && self.burst > 1 {
            "a rate counts single messages: bursts must be of one"
        } else if self.slow_connections == Some(0) {
            "an attack needs at least one slow connection"
        } else if self.api_key.as_deref().is_some_and(|key| !is_header_safe(key)) {
            "the API key may only hold printable ASCII"
        } else {
            return Ok(());
        };
        Err(BenchError::Plan(problem.to_owned()))
    }

    /// How long a burst of so many messages takes if the gateway takes no time at all:
    /// the user's own typing, the channel's window and the agent.
    pub(crate) fn expected(&self, burst: u64) -> Duration {
        let typing_ms = self.burst_gap_ms.saturating_mul(burst.saturating_sub(1));
        Duration::from_millis(
            self.delay_ms.saturating_add(self.window_ms).saturating_add(typing_ms),
        )
    }

    /// The same for a full burst, in milliseconds.
    pub(crate) fn expected_ms(&self) -> u64 {
        u64::try_from(self.expected(self.burst).as_millis()).unwrap_or(u64::MAX)
    }

    /// The user's pause between two messages of a burst.
    pub(crate) fn burst_gap(&self) -> Duration {
        Duration::from_millis(self.burst_gap_ms)
    }

    /// All messages of all users, the flood's not counted; `None` if time decides.
    pub(crate) fn messages_planned(&self) -> Option<u64> {
        self.messages.map(|messages| messages.saturating_mul(self.users as u64))
    }
}

fn is_header_safe(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Plan), expect: Option<&str>) {
        let mut plan = Plan::default();
        change(&mut plan);
        let problem = plan.check().err().map(|error| error.to_string());
        match (problem, expect) {
            (None, None) => {}
            (Some(problem), Some(part)) if problem.contains(part) => {}
            (problem, expect) => panic!("got {problem:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_plan_that_cannot_be_run_says_why() {
        check(|_| {}, None);
        check(|plan| plan.users = 0, Some("one user"));
        check(|plan| plan.messages = None, Some("never end"));
        check(|plan| plan.messages = Some(0), Some("one message"));
        check(|plan| plan.burst = 0, Some("burst"));
        check(|plan| plan.flood_connections = Some(0), Some("flood"));
        check(|plan| plan.tenants = Some(0), Some("one tenant"));
        check(|plan| plan.flood_customers = 0, Some("one customer"));
        check(|plan| plan.rate_per_second = Some(0.0), Some("more than 0"));
        check(|plan| plan.flood_rate_per_second = Some(f64::NAN), Some("more than 0"));
        check(|plan| (plan.rate_per_second, plan.burst) = (Some(1.0), 2), Some("of one"));
        check(|plan| plan.slow_connections = Some(0), Some("slow connection"));
        check(|plan| plan.api_key = Some("a\nb".to_owned()), Some("API key"));
    }

    #[test]
    fn the_users_own_typing_is_expected_time() {
        let plan = Plan { delay_ms: 50, burst_gap_ms: 10, burst: 3, ..Plan::default() };
        assert_eq!(plan.expected(3), Duration::from_millis(70));
        assert_eq!(plan.expected(1), Duration::from_millis(50));
    }
}
