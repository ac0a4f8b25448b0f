//! Sums of what runs used: added to within the commits that tell of it, read in lines.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params, params_from_iter};
use turnkeep_core::care::is_tombstone;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{StoreError, UsageRow};
use turnkeep_core::ports::usage::{By, UsageLine, UsageQuery, UsageStore};
use turnkeep_core::usage::{Day, SUM_MAX, Sums, customer_of};
use turnkeep_core::{SessionKey, TurnId};

use super::SqliteStore;
use super::read::uuid_of;
use super::trouble::{Result, Trouble};
use crate::check::{MODELS_MAX, OTHER_MODELS, TOGETHER};

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

/// The counts in the order of the tables.
const COUNTS: [&str; 7] =
    ["requests", "input", "output", "cached", "cache_write", "cost", "unpriced"];

/// The counts, each by this template.
fn each(template: impl Fn(&str) -> String) -> String {
    COUNTS.map(template).join(", ")
}

/// The counts summed up. A sum of whole numbers that overflows is an error to SQLite, so their halves
/// are summed up; what is too large becomes a fraction on the way, and the largest number by the cast.
fn sums() -> String {
    each(|count| {
        format!("CAST(sum({count} >> 32) * 4294967296 + sum({count} & 4294967295) AS INTEGER)")
    })
}

/// What the writer needs to add to the sums.
pub(super) struct UsageStatements<'connection> {
    add: CachedStatement<'connection>,
    models: CachedStatement<'connection>,
    known: CachedStatement<'connection>,
    add_to_turn: CachedStatement<'connection>,
}

/// Where one report is added.
struct Place<'a> {
    session_id: i64,
    day: Day,
    agent: &'a str,
    model: &'a str,
    tenant: &'a str,
    customer: Option<&'a str>,
}

impl<'connection> UsageStatements<'connection> {
    pub(super) fn prepare(connection: &'connection Connection) -> Result<Self> {
        // Beyond the largest number SQLite goes on in fractions, which the tables refuse.
        let more = each(|count| {
            format!("{count} = min({count}, {SUM_MAX} - excluded.{count}) + excluded.{count}")
        });
        let prepare = |sql: &str| connection.prepare_cached(sql);
        Ok(Self {
            add: prepare(&format!(
                "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT (session_id, day, agent, model) DO UPDATE SET {more}"
            ))?,
            models: prepare("SELECT count(*) FROM usage WHERE session_id = ?1 AND day = ?2")?,
            known: prepare(
                "SELECT 1 FROM usage
                 WHERE session_id = ?1 AND day = ?2 AND agent = ?3 AND model = ?4",
            )?,
            add_to_turn: prepare(&format!(
                "INSERT INTO usage_turns SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
                 WHERE EXISTS (SELECT 1 FROM turns WHERE id = ?1)
                 ON CONFLICT (turn) DO UPDATE SET {more}"
            ))?,
        })
    }

    /// Adds what a commit tells of.
    pub(super) fn put(
        &mut self,
        key: &SessionKey,
        session_id: i64,
        rows: &[UsageRow],
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (tenant, own, customer) = (key.tenant(), key.agent(), customer_of(key));
        for row in rows {
            let place = Place {
                session_id,
                day: Day::of(row.at),
                agent: row.agent.as_deref().unwrap_or(&own),
                model: &row.model,
                tenant: &tenant,
                customer: customer.as_deref(),
            };
            self.add(&place, &row.sums)?;
            let Counts([requests, input, output, cached, cache_write, cost, unpriced]) =
                Counts::of(&row.sums);
            self.add_to_turn.execute(params![
                &row.turn.0.as_bytes()[..],
                session_id,
                requests,
                input,
                output,
                cached,
                cache_write,
                cost,
                unpriced
            ])?;
        }
        Ok(())
    }

    fn add(&mut self, place: &Place<'_>, sums: &Sums) -> Result<()> {
        let Place { session_id, day, agent, model, tenant, customer } = *place;
        let is_known = self.known.exists(params![session_id, day.0, agent, model])?;
        let models: i64 = self.models.query_row(params![session_id, day.0], |row| row.get(0))?;
        let model = if is_known || models < MODELS_MAX { model } else { OTHER_MODELS };
        let Counts([requests, input, output, cached, cache_write, cost, unpriced]) =
            Counts::of(sums);
        self.add.execute(params![
            session_id,
            day.0,
            agent,
            model,
            tenant,
            customer,
            requests,
            input,
            output,
            cached,
            cache_write,
            cost,
            unpriced
        ])?;
        Ok(())
    }
}

/// Counts as the tables hold them.
struct Counts([i64; 7]);

impl Counts {
    fn of(sums: &Sums) -> Self {
        let Sums { requests, input_tokens, output_tokens, cached_tokens, .. } = *sums;
        let Sums { cache_write_tokens, cost_micros, unpriced, .. } = *sums;
        let counts = [requests, input_tokens, output_tokens, cached_tokens];
        let signed = |count: u64| count.min(SUM_MAX).cast_signed();
        let [requests, input, output, cached] = counts.map(signed);
        let [cache_write, cost, unpriced] = [cache_write_tokens, cost_micros, unpriced].map(signed);
        Self([requests, input, output, cached, cache_write, cost, unpriced])
    }
}

/// Reads seven counts from this column on.
fn sums_of(row: &Row<'_>, from: usize) -> rusqlite::Result<Sums> {
    let count = |at: usize| -> rusqlite::Result<u64> {
        Ok(row.get::<_, Option<i64>>(from + at)?.unwrap_or(0).cast_unsigned())
    };
    Ok(Sums {
        requests: count(0)?,
        input_tokens: count(1)?,
        output_tokens: count(2)?,
        cached_tokens: count(3)?,
        cache_write_tokens: count(4)?,
        cost_micros: count(5)?,
        unpriced: count(6)?,
    })
}

impl UsageStore for SqliteStore {
    fn usage(&self, query: UsageQuery, limit: usize) -> Answer<'_, Vec<UsageLine>> {
        self.readers.read(move |connection| lines(connection, &query, limit))
    }

    fn usage_of_turns(&self, turns: Vec<TurnId>) -> Answer<'_, Vec<(TurnId, Sums)>> {
        self.readers.read(move |connection| {
            let mut find = connection.prepare_cached(
                "SELECT turn, requests, input, output, cached, cache_write, cost, unpriced
                 FROM usage_turns WHERE turn = ?1",
            )?;
            let mut found = Vec::new();
            for turn in turns {
                let read = |row: &Row<'_>| Ok((TurnId(uuid_of(row.get(0)?)), sums_of(row, 1)?));
                found.extend(find.query_row([&turn.0.as_bytes()[..]], read).optional()?);
            }
            Ok(found)
        })
    }

    fn put_days_together(&self, before: Day, limit: usize) -> Answer<'_, usize> {
        self.change(move |connection| put_together(connection, before, limit))
    }
}

fn lines(connection: &Connection, query: &UsageQuery, limit: usize) -> Result<Vec<UsageLine>> {
    let group = match query.by {
        By::Tenant => "tenant, NULL, NULL",
        By::Customer => "tenant, customer, NULL",
        By::Session => "tenant, customer, session_id",
        By::Agent => "tenant, agent, NULL",
        By::Model => "model, NULL, NULL",
        By::Day => "day, NULL, NULL",
    };
    let order = match query.by {
        By::Day => "day",
        _ => {
            "total(cost) DESC,
             total(input) + total(output) + total(cached) + total(cache_write) DESC, 1, 2, 3"
        }
    };
    let (filter, mut values) = filter_of(query);
    values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let by = group.replace(", NULL", "");
    let sql = format!(
        "SELECT {group}, {} FROM usage WHERE {filter} GROUP BY {by} ORDER BY {order} LIMIT ?",
        sums()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(line(connection, query.by, row)?);
    }
    Ok(lines)
}

fn filter_of(query: &UsageQuery) -> (String, Vec<Value>) {
    let mut filter = "1 = 1".to_owned();
    let mut values: Vec<Value> = Vec::new();
    let mut and = |sql: &str, value: Option<Value>| {
        if let Some(value) = value {
            filter.push_str(sql);
            values.push(value);
        }
    };
    let text = |text: &Option<Arc<str>>| text.as_ref().map(|text| text.to_string().into());
    and(" AND tenant = ?", text(&query.tenant));
    and(" AND customer = ?", text(&query.customer));
    let key = query.session.as_ref().map(|key| key.as_str().to_owned().into());
    and(" AND session_id = (SELECT id FROM sessions WHERE key = ?)", key);
    and(" AND day >= ?", query.from.map(|day| day.0.into()));
    and(" AND day <= ?", query.to.map(|day| day.0.into()));
    // What was put together is of no day that could be asked for.
    let of_days = query.from.or(query.to);
    and(" AND day <> ?", of_days.map(|_| TOGETHER.0.into()));
    (filter, values)
}

fn line(connection: &Connection, by: By, row: &Row<'_>) -> Result<UsageLine> {
    let text = |at| Ok::<_, Trouble>(row.get::<_, Option<String>>(at)?.map(Arc::from));
    let mut line = UsageLine { sums: sums_of(row, 3)?, ..UsageLine::default() };
    match by {
        By::Tenant => line.tenant = text(0)?,
        By::Customer => (line.tenant, line.customer) = (text(0)?, text(1)?),
        By::Session => {
            (line.tenant, line.customer) = (text(0)?, text(1)?);
            line.session = key_of(connection, row.get(2)?)?;
        }
        By::Agent => (line.tenant, line.agent) = (text(0)?, text(1)?),
        By::Model => line.model = text(0)?,
        By::Day => line.day = Some(Day(row.get(0)?)).filter(|day| *day != TOGETHER),
    }
    Ok(line)
}

/// The session's key; none if it was erased.
fn key_of(connection: &Connection, session_id: i64) -> Result<Option<SessionKey>> {
    let mut find = connection.prepare_cached("SELECT key FROM sessions WHERE id = ?1")?;
    let key: Option<String> = find.query_row([session_id], |row| row.get(0)).optional()?;
    let Some(key) = key else { return Ok(None) };
    let key: SessionKey = key.parse().map_err(|error| Trouble::session(&key, error))?;
    Ok(Some(key).filter(|key| !is_tombstone(key)))
}

/// All that a session used, for the audit.
pub(super) fn of_session(connection: &Connection, key: &SessionKey) -> Result<Sums> {
    let sql = format!(
        "SELECT {} FROM usage WHERE session_id = (SELECT id FROM sessions WHERE key = ?1)",
        sums()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_row([key.as_str()], |row| sums_of(row, 0))?)
}

/// A row that moves.
struct Old {
    session_id: i64,
    day: Day,
    agent: String,
    model: String,
    tenant: String,
    customer: Option<String>,
    sums: Sums,
}

fn put_together(connection: &Connection, before: Day, limit: usize) -> Result<usize> {
    let mut find = connection.prepare_cached(
        "SELECT session_id, day, agent, model, tenant, customer, requests, input, output, cached,
         cache_write, cost, unpriced
         FROM usage INDEXED BY usage_of_day WHERE day > ?1 AND day < ?2 LIMIT ?3",
    )?;
    let bounds = params![TOGETHER.0, before.0, i64::try_from(limit).unwrap_or(i64::MAX)];
    let read = |row: &Row<'_>| {
        Ok(Old {
            session_id: row.get(0)?,
            day: Day(row.get(1)?),
            agent: row.get(2)?,
            model: row.get(3)?,
            tenant: row.get(4)?,
            customer: row.get(5)?,
            sums: sums_of(row, 6)?,
        })
    };
    let old: Vec<Old> = find.query_map(bounds, read)?.collect::<rusqlite::Result<_>>()?;
    let mut statements = UsageStatements::prepare(connection)?;
    let mut take = connection.prepare_cached(
        "DELETE FROM usage WHERE session_id = ?1 AND day = ?2 AND agent = ?3 AND model = ?4",
    )?;
    for row in &old {
        let place = Place {
            session_id: row.session_id,
            day: TOGETHER,
            agent: &row.agent,
            model: &row.model,
            tenant: &row.tenant,
            customer: row.customer.as_deref(),
        };
        statements.add(&place, &row.sums)?;
        take.execute(params![row.session_id, row.day.0, row.agent, row.model])?;
    }
    Ok(old.len())
}
