//! Rates that all nodes share, by the arithmetic of the core and the clock of Redis.

use redis::aio::MultiplexedConnection;

use crate::answers::TAKE;
use crate::hints::RedisHints;
use crate::trouble::Trouble;

pub use turnkeep_core::ports::hints::LIMITS_MAX;

const NANOS_PER_MINUTE: i64 = 60_000_000_000;
/// A burst that takes longer to come back is cut to this: one day.
const REFILL_NANOS_MAX: i64 = 86_400 * 1_000_000_000;

/// One rate and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<'a> {
    /// Whose, and of what: rates of one name and other numbers are counted apart.
    pub name: &'a str,
    /// In the long run, a minute; 0 means no limit.
    pub per_minute: u32,
    /// At once, after a rest; at least 1 is meant.
    pub burst: u32,
}

impl Limit<'_> {
    /// What one costs, in time.
    fn cost_nanos(&self) -> i64 {
        NANOS_PER_MINUTE / i64::from(self.per_minute.max(1))
    }

    /// What the whole burst costs.
    fn refill_nanos(&self) -> i64 {
        let burst = i64::from(self.burst.max(1));
        self.cost_nanos().saturating_mul(burst).min(REFILL_NANOS_MAX).max(self.cost_nanos())
    }
}

/// What the rates said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Which of them has it wait longest, by its place in what was asked, and how many
    /// milliseconds; none if all let it through and were charged.
    pub refused: Option<(usize, u64)>,
    /// When that was by the clock of Redis, in microseconds since 1970; 0 if it was not asked.
    pub now_us: i64,
}

impl RedisHints {
    /// Asks all of these rates and charges them if none refuses; one that refuses costs nothing.
    /// `together` is what they have in common, their tenant: they stand in one slot of a cluster,
    /// so rates of one call must have it in common, and a rate is always asked with the same one.
    pub async fn take(&self, together: &str, limits: &[Limit<'_>]) -> Result<Passed, Trouble> {
        if limits.len() > LIMITS_MAX {
            return Err(Trouble::TooLarge("too many rates at once"));
        }
        let mut asked = TAKE.prepare_invoke();
        let mut places = Vec::with_capacity(limits.len());
        let mut keys = Vec::with_capacity(limits.len());
        for (place, limit) in limits.iter().enumerate().filter(|(_, limit)| limit.per_minute > 0) {
            places.push(place);
            let rate = (limit.per_minute, limit.burst);
            let key = self.names.limit(together, limit.name, rate)?;
            asked.key(&key);
            keys.push(key);
            asked.arg(limit.cost_nanos()).arg(limit.refill_nanos());
        }
        if places.is_empty() {
            return Ok(Passed { refused: None, now_us: 0 });
        }
        let ask = async move |mut con: MultiplexedConnection| {
            asked.invoke_async::<(usize, u64, i64, Vec<usize>)>(&mut con).await
        };
        let answer = self.calls.call(self.settings.limit_time, ask).await?;
        let (which, wait_ms, now_us, foreign) = answer;
        for key in foreign.iter().filter_map(|which| keys.get(which.checked_sub(1)?)) {
            self.met_strange(key);
        }
        let refused = which.checked_sub(1).and_then(|which| Some((*places.get(which)?, wait_ms)));
        Ok(Passed { refused, now_us })
    }
}
