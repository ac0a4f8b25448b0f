//! Sums of what runs used, read in lines; they are added to within the commits that tell of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use turnkeep_core::care::is_tombstone;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::usage::{By, UsageLine, UsageQuery, UsageStore};
use turnkeep_core::usage::{Day, SUM_MAX, Sums};
use turnkeep_core::{SessionKey, TurnId};
use uuid::Uuid;

use super::PostgresStore;
use super::ask::{Value, limit_of, row, rows, run, strange, text_of, text_option};
use super::read::key_of;
use super::statements::ADD_USAGE;
use super::text::put;
use super::trouble::Result;
use crate::check::{MODELS_MAX, OTHER_MODELS, TOGETHER};

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

/// The counts in the order of the tables.
const COUNTS: [&str; 7] =
    ["requests", "input", "output", "cached", "cache_write", "cost", "unpriced"];

impl UsageStore for PostgresStore {
    fn usage(&self, query: UsageQuery, limit: usize) -> Answer<'_, Vec<UsageLine>> {
        Box::pin(async move {
            let query = &query;
            self.look(|on| async move { lines(&*on, query, limit).await }).await
        })
    }

    fn usage_of_turns(&self, turns: Vec<TurnId>) -> Answer<'_, Vec<(TurnId, Sums)>> {
        Box::pin(async move {
            let turns = &turns;
            self.look(|on| async move { of_turns(&*on, turns).await }).await
        })
    }

    fn put_days_together(&self, before: Day, limit: usize) -> Answer<'_, usize> {
        Box::pin(self.change("put days together", move |on| {
            Box::pin(async move { put_together(on, before, limit).await })
        }))
    }
}

/// The counts summed up, each no larger than a column holds. The sum of no rows is none, which
/// `least` would pass over.
fn sums() -> String {
    let sum = |count| format!("least(coalesce(sum({count}), 0), {SUM_MAX})::bigint AS {count}");
    COUNTS.map(sum).join(", ")
}

fn sums_of(row: &Row) -> Result<Sums> {
    let count = |column: &str| -> Result<u64> {
        Ok(row.try_get::<_, Option<i64>>(column)?.unwrap_or(0).cast_unsigned())
    };
    Ok(Sums {
        requests: count("requests")?,
        input_tokens: count("input")?,
        output_tokens: count("output")?,
        cached_tokens: count("cached")?,
        cache_write_tokens: count("cache_write")?,
        cost_micros: count("cost")?,
        unpriced: count("unpriced")?,
    })
}

async fn lines(
    on: &impl GenericClient,
    query: &UsageQuery,
    limit: usize,
) -> Result<Vec<UsageLine>> {
    let by = match query.by {
        By::Tenant => "tenant",
        By::Customer => "tenant, customer",
        By::Session => "tenant, customer, session_id",
        By::Agent => "tenant, agent",
        By::Model => "model",
        By::Day => "day",
    };
    let key = match query.by {
        By::Session => ", (SELECT key FROM sessions WHERE id = session_id) AS key",
        _ => "",
    };
    let order = match query.by {
        By::Day => "day".to_owned(),
        _ => format!(
            "sum(cost) DESC, sum(input) + sum(output) + sum(cached) + sum(cache_write) DESC, {}",
            by.split(", ")
                .map(|column| format!("{column} NULLS FIRST"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    let filter = Filter::of(query);
    let (limit, mut values) = (limit_of(limit), filter.values());
    values.push(&limit);
    let sql = format!(
        "SELECT {by}, {}{key} FROM usage_days WHERE {} GROUP BY {by} ORDER BY {order} LIMIT ${}",
        sums(),
        filter.sql,
        values.len()
    );
    let found = rows(on, &sql, &values).await?;
    found.iter().map(|row| line(query.by, row)).collect()
}

/// Which rows are asked for.
struct Filter {
    sql: String,
    values: Vec<Box<dyn ToSql + Send + Sync>>,
}

impl Filter {
    fn of(query: &UsageQuery) -> Self {
        let mut filter = Self { sql: "true".into(), values: Vec::new() };
        let text = |text: &Option<Arc<str>>| text.as_ref().map(|text| put(text).into_owned());
        filter.and("tenant = $", text(&query.tenant));
        filter.and("customer = $", text(&query.customer));
        let key = query.session.as_ref().map(|key| key.as_str().to_owned());
        filter.and("session_id = (SELECT id FROM sessions WHERE key = $", key);
        if query.session.is_some() {
            filter.sql.push(')');
        }
        filter.and("day >= $", query.from.map(number_of));
        filter.and("day <= $", query.to.map(number_of));
        // What was put together is of no day that could be asked for.
        filter.and("day <> $", query.from.or(query.to).map(|_| number_of(TOGETHER)));
        filter
    }

    /// Adds a condition, which ends with the number of its value.
    fn and<T: ToSql + Send + Sync + 'static>(&mut self, condition: &str, value: Option<T>) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            self.sql.push_str(&format!(" AND {condition}{}", self.values.len()));
        }
    }

    fn values(&self) -> Vec<Value<'_>> {
        self.values.iter().map(|value| &**value as Value<'_>).collect()
    }
}

fn number_of(day: Day) -> i64 {
    i64::from(day.0)
}

fn line(by: By, row: &Row) -> Result<UsageLine> {
    let mut line = UsageLine { sums: sums_of(row)?, ..UsageLine::default() };
    match by {
        By::Tenant => line.tenant = text_option(row, "tenant")?,
        By::Customer => {
            (line.tenant, line.customer) =
                (text_option(row, "tenant")?, text_option(row, "customer")?);
        }
        By::Session => {
            (line.tenant, line.customer) =
                (text_option(row, "tenant")?, text_option(row, "customer")?);
            line.session = known(row)?;
        }
        By::Agent => {
            (line.tenant, line.agent) = (text_option(row, "tenant")?, text_option(row, "agent")?);
        }
        By::Model => line.model = text_option(row, "model")?,
        By::Day => {
            let day: i64 = row.try_get("day")?;
            let day = i32::try_from(day).map(Day);
            let day = day.map_err(|_| strange("sums of a day that can't be"))?;
            line.day = Some(day).filter(|day| *day != TOGETHER);
        }
    }
    Ok(line)
}

/// The session's key; none if it was erased.
fn known(row: &Row) -> Result<Option<SessionKey>> {
    if row.try_get::<_, Option<&str>>("key")?.is_none() {
        return Ok(None);
    }
    Ok(Some(key_of(row, "key")?).filter(|key| !is_tombstone(key)))
}

async fn of_turns(on: &impl GenericClient, turns: &[TurnId]) -> Result<Vec<(TurnId, Sums)>> {
    let sql = "SELECT u.* FROM unnest($1::uuid[]) WITH ORDINALITY AS n(id, at)
               JOIN usage_turns u ON u.turn = n.id ORDER BY n.at";
    let ids: Vec<Uuid> = turns.iter().map(|turn| turn.0).collect();
    let found = rows(on, sql, &[&ids]).await?;
    found.iter().map(|row| Ok((TurnId(row.try_get("turn")?), sums_of(row)?))).collect()
}

/// All that a session used, for the audit.
pub(super) async fn of_session(on: &impl GenericClient, key: &SessionKey) -> Result<Sums> {
    let sql = format!(
        "SELECT {} FROM usage_days WHERE session_id = (SELECT id FROM sessions WHERE key = $1)",
        sums()
    );
    let found = row(on, &sql, &[&key.as_str()]).await?;
    found.map_or(Ok(Sums::default()), |row| sums_of(&row))
}

/// Where sums of several days go: session, agent and model.
type Place = (i64, String, String);
/// Whose they are, and what they come to.
type Whose = (String, Option<String>, Sums);

/// Rows that somebody else is about to put together are left to them.
async fn put_together(on: &impl GenericClient, before: Day, limit: usize) -> Result<usize> {
    let sql = "DELETE FROM usage_days d USING
                  (SELECT session_id, day, agent, model FROM usage_days
                   WHERE day > $1 AND day < $2 ORDER BY day LIMIT $3
                   FOR UPDATE SKIP LOCKED) old
               WHERE d.session_id = old.session_id AND d.day = old.day AND d.agent = old.agent
                  AND d.model = old.model RETURNING d.*";
    let bounds: &[Value<'_>] = &[&number_of(TOGETHER), &number_of(before), &limit_of(limit)];
    let taken = rows(on, sql, bounds).await?;
    let mut sums: BTreeMap<Place, Whose> = BTreeMap::new();
    for row in &taken {
        let place = (row.try_get("session_id")?, text_of(row, "agent")?, text_of(row, "model")?);
        let (tenant, customer) = (text_of(row, "tenant")?, text_option(row, "customer")?);
        let sum = &mut sums.entry(place).or_insert((tenant, customer, Sums::default())).2;
        sum.add(&sums_of(row)?);
    }
    for (place, whose) in &sums {
        add(on, place, whose).await?;
    }
    Ok(taken.len())
}

async fn add(on: &impl GenericClient, place: &Place, whose: &Whose) -> Result<()> {
    let ((session_id, agent, model), (tenant, customer, sums)) = (place, whose);
    let counts = super::put::counts_of(sums);
    let day = number_of(TOGETHER);
    let (agent, model, tenant) = (put(agent), put(model), put(tenant));
    let customer = customer.as_deref().map(put);
    let mut values: Vec<Value<'_>> = vec![session_id, &day, &agent, &model, &tenant, &customer];
    values.extend(counts.iter().map(|count| count as Value<'_>));
    values.extend([&MODELS_MAX as Value<'_>, &OTHER_MODELS]);
    run(on, ADD_USAGE, &values).await.map(drop)
}
