//! What `bench` can be told beside its users: how hard the server is pressed, and by whom.

use clap::Args;

use super::args::at_least_one;

/// Shown below the flags.
pub(super) const EXAMPLES: &str = "\
Examples:
  turnkeep bench
  turnkeep bench --users 200 --burst 3 --channel web --picture bench.svg
  turnkeep bench --flood 1000 --duration 30 --server http://127.0.0.1:7878

The guard's price, with it and without:
  turnkeep bench --users 1000 --tenants 50 --delay-ms 50 --duration 60 --guard
  turnkeep bench --users 1000 --tenants 50 --delay-ms 50 --duration 60
One tenant at ten times its limit, and the others alone:
  turnkeep bench --users 200 --tenants 50 --delay-ms 1000 --duration 60 --over-limit 10
  turnkeep bench --users 200 --tenants 50 --delay-ms 1000 --duration 60 --guard
Half of what the machine takes, and ten times all of it (put your own rates):
  turnkeep bench --users 2000 --rate 6000 --delay-ms 50 --duration 60
  turnkeep bench --users 4000 --rate 130000 --delay-ms 50 --duration 60
Healthy users beside 2,000 silent and 2,000 dribbling connections:
  turnkeep bench --users 50 --delay-ms 50 --duration 60 --slow-connections 4000
A million senders that the guard has to remember:
  turnkeep bench --senders 1000000";

/// How hard the server is pressed.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// Spread the users over so many tenants, bench-0 and so on [default: all in the tenant
    /// default]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) tenants: Option<usize>,
    /// Send so many messages a second, whatever the answers do. Every user has a connection of its
    /// own and sends its share, and latency counts from the moment a message was due; so take more
    /// users than RATE times the seconds that an answer takes
    #[arg(long, value_name = "RATE", value_parser = rate, conflicts_with = "burst")]
    pub(crate) rate: Option<f64>,
    /// Don't wait as long as a refusal asks for (Retry-After), try the next message at once
    #[arg(long)]
    pub(crate) impatient: bool,
    /// One more tenant, bench-loud, sends so many times its limit, from 100 customers: the bench's
    /// own server lets 100 messages a second of it in. Leaves the guard on
    #[arg(long, value_name = "TIMES", value_parser = rate, conflicts_with = "server")]
    pub(crate) over_limit: Option<f64>,
    /// Hold so many connections open beside the users, half of them silent and half sending a byte
    /// a second, from 127.0.0.2 to 127.0.0.9 where the server is on this machine
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) slow_connections: Option<usize>,
    /// One message each of so many senders, whom the guard remembers and refuses, so that the
    /// server's memory is the guard's
    #[arg(long, value_name = "N", value_parser = at_least_one,
          conflicts_with_all = ["users", "messages", "tenants", "rate", "over_limit", "server"])]
    pub(crate) senders: Option<usize>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("must be a number above 0".into()),
    }
}
