//! The same in the language of the core: what the gateway sees of Redis.
//!
//! A node's name is the number that it drew when it opened the store, so one that was started
//! again is another one, and nobody tells the new one what was meant for the old one.

use turnkeep_core::SessionKey;
use turnkeep_core::draft::Piece;
use turnkeep_core::ids::{Epoch, RunTag};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::hints;
use turnkeep_core::ports::hints::{Connection, HintsHealth, Wait, Without};

use crate::active::{Active, Held};
use crate::counts::Counts;
use crate::health::{Health, State};
use crate::hints::RedisHints;
use crate::limits::Limit;
use crate::news::{Heard, Listening, News, Watched, Watching};
use crate::trouble::Trouble;

impl From<Trouble> for Without {
    fn from(trouble: Trouble) -> Self {
        Self(trouble.to_string())
    }
}

/// How a node is called in Redis.
#[must_use]
pub fn node_name(node: Epoch) -> String {
    node.to_string()
}

/// What of it is told to others; a run that is taken for another one clears nobody's entry.
fn active_of(RunTag { turn, epoch, attempt }: RunTag) -> Active {
    let turn = format!("{turn}/{attempt}");
    Active { epoch: epoch.0, turn, node: node_name(epoch.node()) }
}

fn to_others(news: hints::News) -> Result<News, Without> {
    match news {
        hints::News::Mail(session) => Ok(News::Mail(session.as_str().to_owned())),
        hints::News::Resend(session) => Ok(News::Resend(session.as_str().to_owned())),
        hints::News::Work => Ok(News::Work),
        hints::News::Missed => Err(Without("that is no news for others".to_owned())),
    }
}

/// Anybody with the password may have said it: what names no session is not heard.
fn from_others(news: News) -> Option<hints::News> {
    match news {
        News::Missed => Some(hints::News::Missed),
        News::Work => Some(hints::News::Work),
        News::Mail(session) | News::Stop(session) => session.parse().ok().map(hints::News::Mail),
        News::Resend(session) => session.parse().ok().map(hints::News::Resend),
    }
}

impl hints::Listening for Listening {
    fn next(&mut self) -> BoxFuture<'_, hints::News> {
        Box::pin(async move {
            loop {
                let heard = Self::next(self).await;
                match from_others(heard) {
                    Some(news) => return news,
                    None => self.unreadable(),
                }
            }
        })
    }
}

impl hints::Watching for Watching {
    fn next(&mut self) -> BoxFuture<'_, Watched> {
        Box::pin(Self::next(self))
    }
}

impl hints::Hints for RedisHints {
    fn take<'a>(
        &'a self,
        together: &'a str,
        limits: &'a [hints::Limit<'a>],
    ) -> BoxFuture<'a, Result<Option<Wait>, Without>> {
        Box::pin(async move {
            let limit = |limit: &hints::Limit<'a>| {
                let (per_minute, burst) = (limit.rate.per_minute, limit.rate.burst);
                Limit { name: limit.name, per_minute, burst }
            };
            let limits: Vec<Limit<'_>> = limits.iter().map(limit).collect();
            let passed = Self::take(self, together, &limits).await?;
            Ok(passed.refused.map(|(place, ms)| Wait { place, ms }))
        })
    }

    fn tell(&self, node: Epoch, news: hints::News) -> BoxFuture<'_, Result<Heard, Without>> {
        Box::pin(async move { Ok(Self::tell(self, &node_name(node), &to_others(news)?).await?) })
    }

    fn tell_all(&self, news: hints::News) -> BoxFuture<'_, Result<Heard, Without>> {
        Box::pin(async move { Ok(Self::tell_all(self, &to_others(news)?).await?) })
    }

    fn listen(&self) -> Result<Box<dyn hints::Listening>, Without> {
        Ok(Box::new(Self::listen(self)?))
    }

    fn show<'a>(
        &'a self,
        session: &'a SessionKey,
        piece: &'a Piece,
    ) -> BoxFuture<'a, Result<Heard, Without>> {
        Box::pin(async move { Ok(Self::show(self, session.as_str(), piece).await?) })
    }

    fn watch(&self, session: &SessionKey) -> Result<Box<dyn hints::Watching>, Without> {
        Ok(Box::new(Self::watch(self, session.as_str())?))
    }

    fn hold<'a>(
        &'a self,
        session: &'a SessionKey,
        run: RunTag,
    ) -> BoxFuture<'a, Result<bool, Without>> {
        Box::pin(async move {
            let held = Self::hold(self, session.as_str(), &active_of(run)).await?;
            Ok(held == Held::Ours)
        })
    }

    fn release<'a>(
        &'a self,
        session: &'a SessionKey,
        run: RunTag,
    ) -> BoxFuture<'a, Result<(), Without>> {
        Box::pin(async move {
            Self::release(self, session.as_str(), &active_of(run)).await?;
            Ok(())
        })
    }

    fn active<'a>(
        &'a self,
        session: &'a SessionKey,
    ) -> BoxFuture<'a, Result<Option<Epoch>, Without>> {
        Box::pin(async move {
            let active = Self::active(self, session.as_str()).await?;
            Ok(active.and_then(|active| active.node.parse().ok()).map(Epoch))
        })
    }

    fn health(&self) -> Option<HintsHealth> {
        let Health { calls, listening, strange, counts } = Self::health(self);
        let connection = |purpose, state: State| Connection {
            purpose,
            state: state.as_str(),
            text: state.to_string(),
        };
        let connections = vec![connection("calls", calls), connection("listening", listening)];
        Some(HintsHealth { place: "Redis", connections, strange, counts: told(&counts) })
    }
}

fn told(counts: &Counts) -> Vec<(&'static str, u64)> {
    let Counts { answered, late, failed, skipped, .. } = *counts;
    let Counts { connected, flushed, foreign, heard, unreadable, missed, .. } = *counts;
    vec![
        ("answered", answered),
        ("late", late),
        ("failed", failed),
        ("skipped", skipped),
        ("connected", connected),
        ("flushed", flushed),
        ("foreign", foreign),
        ("heard", heard),
        ("unreadable", unreadable),
        ("missed", missed),
    ]
}
