//! What a session looks like on the switchboard, and what is counted of all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use turnkeep_core::SessionKind;
use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::{Resources, Row, Waiting, WaitingKind};
use utoipa::ToSchema;

use crate::http::shape::Moment;
use crate::switchboard::{OpenFiles, OpenFor, Recommendation, Stats};

/// A session as the switchboard shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardRow)]
pub(super) struct RowShape<'a> {
    /// Its place in the order, from 1 on; no other session of the tenant ever has it.
    number: u32,
    /// Twelve hexadecimal digits that are always the same for this session.
    id: String,
    /// What people call it; null while it has no name.
    name: Option<&'a str>,
    /// Its key.
    session: &'a str,
    /// Which agent answers.
    agent_id: String,
    /// The way its messages come and go.
    channel: String,
    /// Who talks to it, or which group.
    customer_id: String,
    /// `dm`, `group`, `main`, `cron`, `isolated` or `subagent`.
    #[schema(value_type = String)]
    kind: SessionKind,
    /// `idle`, `accumulating`, `processing`, `waiting_for_input`, `waiting_for_operator`,
    /// `hibernated`, `closed`, `failed`.
    #[schema(value_type = String)]
    state: SessionStatus,
    /// Replies and notices that nobody has read; 100 stands for more than 99.
    unread: u32,
    /// Accepted messages that no turn has taken.
    queued: u32,
    /// What of a person it waits for; null while it waits for nobody.
    waiting: Option<WaitingShape<'a>>,
    /// Where its journal ends.
    #[schema(value_type = u64)]
    last_seq: Seq,
    /// Up to where it was read, at any seat.
    #[schema(value_type = u64)]
    read_seq: Seq,
    /// The seats that look at it.
    #[schema(value_type = Vec<String>)]
    active: &'a [Arc<str>],
    /// Since when it stands on the switchboard.
    #[schema(value_type = String, format = DateTime)]
    created_at: Moment,
    /// When anything in the conversation last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Moment,
    /// When somebody last had to do with it here.
    #[schema(value_type = String, format = DateTime)]
    touched_at: Moment,
    /// What it takes.
    resources: ResourcesShape,
}

/// What a session waits for.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardWaiting)]
pub(super) struct WaitingShape<'a> {
    /// `question`, `approval`, `error` or `operator`.
    #[schema(value_type = String)]
    kind: WaitingKind,
    /// What is asked, or what went wrong, cut short.
    text: &'a str,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Moment,
    /// Which question; null where none is open.
    #[schema(value_type = Option<u64>)]
    question_id: Option<QuestionId>,
}

/// What a session takes.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardResources)]
pub(super) struct ResourcesShape {
    /// What is kept of it in memory, in bytes.
    buffer_bytes: u64,
    /// What was said in it, as far as that is kept in memory.
    messages: u64,
    /// Attempts of its agent that are under way.
    runs: u32,
    /// Files and connections that are open for it, in the processes of its agent too; null where
    /// nobody knows, or those were not counted yet, which is done once a second.
    open_files: Option<u32>,
    /// Tokens that its runs used so far.
    tokens: u64,
}

impl ResourcesShape {
    fn new(resources: &Resources, open_files: Option<u32>) -> Self {
        let Resources { buffer_bytes, messages, runs, tokens } = *resources;
        Self { buffer_bytes, messages, runs, open_files, tokens }
    }
}

impl<'a> From<&'a Waiting> for WaitingShape<'a> {
    fn from(waiting: &'a Waiting) -> Self {
        Self {
            kind: waiting.kind,
            text: &waiting.text,
            since: Moment(waiting.since),
            question_id: waiting.question_id,
        }
    }
}

impl<'a> RowShape<'a> {
    /// The row, and what is open for its session.
    pub(super) fn new(row: &'a Row, open: &OpenFiles) -> Self {
        let key = &row.key;
        Self {
            number: row.number,
            id: row.id.to_string(),
            name: row.name.as_deref(),
            session: key.as_str(),
            agent_id: key.agent(),
            channel: key.channel(),
            customer_id: key.peer(),
            kind: key.kind(),
            state: row.state,
            unread: row.unread,
            queued: row.queued,
            waiting: row.waiting.as_ref().map(WaitingShape::from),
            last_seq: row.last_seq,
            read_seq: row.read_seq,
            active: &row.active,
            created_at: Moment(row.created_at),
            updated_at: Moment(row.updated_at),
            touched_at: Moment(row.touched_at),
            resources: ResourcesShape::new(&row.resources, open.of(key)),
        }
    }
}

/// The same for many.
pub(super) fn shapes<'a>(rows: &'a [Arc<Row>], open: &OpenFiles) -> Vec<RowShape<'a>> {
    rows.iter().map(|row| RowShape::new(row, open)).collect()
}

/// What the sessions of a tenant take.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardStats)]
pub(super) struct StatsShape<'a> {
    /// How many there are: by state, `waiting` for a person, and in all, `total`.
    #[schema(value_type = HashMap<String, usize>)]
    sessions: &'a BTreeMap<&'static str, usize>,
    /// What they take.
    resources: TakenShape,
    /// The sessions for which most is open, at most twenty; first those of which nobody can tell.
    most_open: Vec<OpenForShape>,
    /// What they may take.
    limits: LimitsShape,
    /// What a person should look at.
    recommendations: Vec<AdviceShape<'a>>,
}

/// What all sessions of a tenant take, and the process that serves them.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardTaken)]
pub(super) struct TakenShape {
    /// What is kept of them in memory, in bytes.
    buffer_bytes: u64,
    /// What was said in them, as far as that is kept in memory, and messages that wait.
    messages: u64,
    /// Attempts of agents that are under way.
    runs: u64,
    /// Tokens that their runs used so far.
    tokens: u64,
    /// Files and connections that are open for the sessions, in the processes of their agents too;
    /// null where nobody knows it of one of them.
    sessions_open_files: Option<u64>,
    /// Files and sockets that the process has open; null where the system does not say.
    open_files: Option<u64>,
    /// How many it may have open; null where the system does not say.
    open_files_limit: Option<u64>,
    /// Memory of the process that is in use; null where the system does not say.
    memory_bytes: Option<u64>,
}

/// A session for which something is open.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardOpenFor)]
pub(super) struct OpenForShape {
    /// Its number.
    number: u32,
    /// Files and connections; null where nobody knows, or they were not counted yet.
    open_files: Option<u32>,
}

/// What the sessions of a tenant may take.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardLimits)]
pub(super) struct LimitsShape {
    /// Sessions on the switchboard.
    sessions_max: u64,
    /// Idle for longer than this, a session goes to sleep.
    hibernate_after_ms: u64,
    /// Text that is kept in memory of so many sessions, of all tenants together.
    buffer_bytes: u64,
    /// Attempts of agents at once, over all agents; null for no limit.
    runs: Option<u64>,
}

/// Something that a person should look at.
#[derive(Serialize, ToSchema)]
#[schema(as = SwitchboardAdvice)]
pub(super) struct AdviceShape<'a> {
    /// What sort of thing, as one word.
    code: &'a str,
    /// What it is, and what to do.
    text: &'a str,
    /// The sessions that it is about, by their numbers; at most twenty.
    sessions: &'a [u32],
}

impl<'a> From<&'a Recommendation> for AdviceShape<'a> {
    fn from(advice: &'a Recommendation) -> Self {
        Self { code: advice.code, text: &advice.text, sessions: &advice.sessions }
    }
}

impl<'a> From<&'a Stats> for StatsShape<'a> {
    fn from(stats: &'a Stats) -> Self {
        let Stats { sessions, resources, most_open, process, limits, recommendations } = stats;
        let open_for =
            |one: &OpenFor| OpenForShape { number: one.number, open_files: one.open_files };
        Self {
            sessions,
            resources: TakenShape {
                buffer_bytes: resources.buffer_bytes,
                messages: resources.messages,
                runs: resources.runs,
                tokens: resources.tokens,
                sessions_open_files: resources.open_files,
                open_files: process.open_files,
                open_files_limit: process.open_files_limit,
                memory_bytes: process.memory_bytes,
            },
            most_open: most_open.iter().map(open_for).collect(),
            limits: LimitsShape {
                sessions_max: limits.sessions,
                hibernate_after_ms: limits.hibernate_after_ms,
                buffer_bytes: limits.buffer_bytes,
                runs: limits.runs,
            },
            recommendations: recommendations.iter().map(AdviceShape::from).collect(),
        }
    }
}
