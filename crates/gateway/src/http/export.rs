//! `GET /v1/customers/{tenant}/{customer}/export`: everything that is stored of a customer, a JSON
//! text a line.
//!
//! The first line says what follows, the last one how many lines there were, so that an export
//! that was cut off is seen. What each line holds is what the API shows elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::body::Bytes;
use serde::Serialize;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Seq, TurnGroupId};
use turnkeep_core::ports::guard::RestrictionFilter;
use turnkeep_core::ports::store::{DeadLetter, StoreError, TurnRow};

use super::access::Asker;
use super::care::customer_of;
use super::entry::Shared;
use super::lines::{BrokenOff, from_writer};
use super::path::Segments;
use super::problem::{Problem, ProblemBody};
use super::shape::{Moment, SessionShape, TurnShape};
use super::{deliveries, guard, messages, pairing};
use crate::clock;
use crate::service::Gateway;

/// Grows when a line changes its meaning; new kinds of lines and new fields may come without that.
const VERSION: u32 = 1;
/// Rows that are read at once.
const PAGE: usize = 256;
/// A piece that is longer than this goes out, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for their reader.
const PIECES: usize = 2;
/// The sorts of lines between the first and the last one.
const SORTS: [&str; 7] =
    ["session", "message", "turn", "delivery", "dead_letter", "restriction", "pairing"];

/// The first line.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "line")]
    sort: &'static str,
    format: &'static str,
    version: u32,
    tenant_id: &'a str,
    customer_id: &'a str,
    at: Moment,
    holds: [&'static str; 7],
}

/// The last line.
#[derive(Serialize)]
struct End<'a> {
    #[serde(rename = "line")]
    sort: &'static str,
    /// All lines before this one.
    lines: u64,
    /// Of each sort.
    counts: &'a BTreeMap<&'static str, u64>,
}

/// A line of something that names its session itself.
#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "line")]
    sort: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(flatten)]
    of: &'a T,
}

/// A session, and what of it is gone.
#[derive(Serialize)]
struct Conversation<'a> {
    #[serde(flatten)]
    session: SessionShape<'a>,
    /// Where its history begins, if its beginning was forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seq: Option<Seq>,
    /// Messages that were forgotten with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages_forgotten: Option<u64>,
}

#[derive(Serialize)]
struct Letter<'a> {
    message_id: &'a str,
    seq: Seq,
    turn_group_id: TurnGroupId,
    text: &'a str,
    reason: &'static str,
    at: Moment,
}

/// Why it ends before its last line.
enum Broken {
    /// Nobody reads it any more, or the server ends.
    Left,
    Store(StoreError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Exports everything that is stored of a customer.
///
/// One JSON text a line, whose sort stands in `line`. The first is a `header`, with `format`,
/// `version` and which sorts may follow; then for each conversation a `session`, its `message`s (what the agent said included),
/// `turn`s, `delivery`s and `dead_letter`s; of sessions of others only what the customer wrote there
/// and what was answered; then each `restriction` and each `pairing`. The last line is an `end`, with the number of
/// `lines` before it: an export without it was cut off.
#[utoipa::path(
    get,
    path = "/v1/customers/{tenant}/{customer}/export",
    tag = "customers",
    params(
        ("tenant" = String, Path, description = "Whose customer"),
        ("customer" = String, Path, description = "Who"),
    ),
    responses(
        (status = 200, description = "The lines", body = String, content_type = "application/x-ndjson",
         example = "{\"line\":\"header\",\"format\":\"turnkeep-customer\",\"version\":1}\n{\"line\":\"end\",\"lines\":1,\"counts\":{}}\n"),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A name could be nobody's", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn export(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments((tenant, customer)): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let (tenant, customer) = customer_of(&asker, tenant, customer)?;
    // Asked here, where it can still be answered with a status.
    shared.gateway.care().keys(Some(&tenant), None, 1).await?;
    tracing::info!(by = &*asker.who().name, tenant, "a customer is being exported");
    let (out, pieces) = mpsc::channel(PIECES);
    let gateway = shared.gateway.clone();
    let closing = shared.closing.clone();
    tokio::spawn(async move {
        let end = out.clone();
        let mut export = Export { out, piece: Vec::new(), lines: 0, counts: BTreeMap::new() };
        let written = tokio::select! {
            biased;
            () = closing.cancelled() => Err(Broken::Left),
            written = export.write(&gateway, &tenant, &customer) => written,
        };
        let Err(why) = written else { return };
        if let Broken::Store(error) = why {
            tracing::error!(%error, tenant, "an export broke off");
        }
        // Nobody may be there any more to see it.
        let _ = end.send(Err(BrokenOff)).await;
    });
    Ok(from_writer(pieces))
}

/// An export under way.
struct Export {
    out: mpsc::Sender<Result<Bytes, BrokenOff>>,
    piece: Vec<u8>,
    lines: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Export {
    async fn write(
        &mut self,
        gateway: &Gateway,
        tenant: &str,
        customer: &str,
    ) -> Result<(), Broken> {
        self.put(&Header {
            sort: "header",
            format: "turnkeep-customer",
            version: VERSION,
            tenant_id: tenant,
            customer_id: customer,
            at: Moment(clock::now()),
            holds: SORTS,
        })
        .await?;
        self.flush().await?;
        let found = gateway.whereabouts(tenant, customer, &|_| ()).await?;
        for key in &found.own {
            self.conversation(gateway, key).await?;
        }
        for key in &found.elsewhere {
            self.traces(gateway, key, customer).await?;
        }
        self.restrictions(gateway, tenant, customer).await?;
        for row in gateway.pairings_of(tenant, customer) {
            self.line("pairing", None, &pairing::shape(&row)).await?;
        }
        let counts = std::mem::take(&mut self.counts);
        self.put(&End { sort: "end", lines: self.lines, counts: &counts }).await?;
        self.flush().await
    }

    /// Everything of a session that is theirs.
    async fn conversation(&mut self, gateway: &Gateway, key: &SessionKey) -> Result<(), Broken> {
        let Some(loaded) = gateway.store().load(key).await? else { return Ok(()) };
        let forgotten = gateway.care().forgotten(key).await?;
        let conversation = Conversation {
            session: SessionShape::new(key, &loaded),
            first_seq: forgotten.as_ref().map(|known| known.through.next()),
            messages_forgotten: forgotten.map(|known| known.by_retention + known.by_erasure),
        };
        self.line("session", None, &conversation).await?;
        self.messages(gateway, key, |_| true).await?;
        let mut before = None;
        loop {
            let page = gateway.store().turns(key, before, PAGE).await?;
            for row in &page {
                self.turn(key, row).await?;
            }
            before = page.last().map(|row| row.id);
            if page.len() < PAGE {
                break;
            }
        }
        let mut after = (Seq(0), 0);
        loop {
            let page = gateway.store().parts(key, after, PAGE).await?;
            for row in &page {
                self.line("delivery", Some(key), &deliveries::shape(row)).await?;
                after = (row.reply, row.part);
            }
            if page.len() < PAGE {
                break;
            }
        }
        for letter in &gateway.care().letters(key).await? {
            self.letter(key, letter).await?;
        }
        Ok(())
    }

    /// What they wrote in a session of others, as far as it is answered, and the answers.
    async fn traces(
        &mut self,
        gateway: &Gateway,
        key: &SessionKey,
        customer: &str,
    ) -> Result<(), Broken> {
        let Some(loaded) = gateway.store().load(key).await? else { return Ok(()) };
        let traces = gateway.traces(key, &loaded.session, customer).await?;
        self.messages(gateway, key, |seq| traces.places.contains(&seq)).await?;
        for id in &traces.turns {
            if let Some((_, row)) = gateway.store().turn(*id).await? {
                // It names its messages, and some of a group's may be somebody else's.
                let row = TurnRow { message_ids: SmallVec::new(), ..row };
                self.turn(key, &row).await?;
            }
        }
        for letter in &gateway.care().letters(key).await? {
            if *letter.body.sender == *customer {
                self.letter(key, letter).await?;
            }
        }
        Ok(())
    }

    async fn messages(
        &mut self,
        gateway: &Gateway,
        key: &SessionKey,
        wanted: impl Fn(Seq) -> bool,
    ) -> Result<(), Broken> {
        let mut after = Seq(0);
        loop {
            let page = messages::page(&**gateway.store(), key, after, PAGE).await?;
            for message in page.messages.iter().filter(|message| wanted(message.seq)) {
                self.line("message", Some(key), message).await?;
            }
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    async fn turn(&mut self, key: &SessionKey, row: &TurnRow) -> Result<(), Broken> {
        self.line("turn", None, &TurnShape::new(key, row)).await
    }

    async fn letter(&mut self, key: &SessionKey, letter: &DeadLetter) -> Result<(), Broken> {
        let shape = Letter {
            message_id: &letter.body.message_id,
            seq: letter.seq,
            turn_group_id: letter.group,
            text: &letter.body.text,
            reason: letter.reason.as_str(),
            at: Moment(letter.at),
        };
        self.line("dead_letter", Some(key), &shape).await
    }

    async fn restrictions(
        &mut self,
        gateway: &Gateway,
        tenant: &str,
        customer: &str,
    ) -> Result<(), Broken> {
        let filter = RestrictionFilter {
            tenant: Some(tenant.to_owned()),
            customer: Some(customer.to_owned()),
            lasting_at: None,
        };
        let mut after = 0;
        loop {
            let page = gateway.restrictions().restrictions(filter.clone(), after, PAGE).await?;
            for row in &page {
                self.line("restriction", None, &guard::shape(row)).await?;
                after = row.id;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn line(
        &mut self,
        sort: &'static str,
        session: Option<&SessionKey>,
        of: &(impl Serialize + Sync),
    ) -> Result<(), Broken> {
        *self.counts.entry(sort).or_default() += 1;
        self.put(&Line { sort, session: session.map(SessionKey::as_str), of }).await
    }

    async fn put(&mut self, line: &(impl Serialize + Sync)) -> Result<(), Broken> {
        // Our own shapes always serialise, and writing to a vector can't fail.
        let _ = serde_json::to_writer(&mut self.piece, line);
        self.piece.push(b'\n');
        self.lines += 1;
        if self.piece.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.out.send(Ok(piece.into())).await.map_err(|_| Broken::Left)
    }
}
