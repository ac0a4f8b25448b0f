//! The life of one attempt: its agent is found, runs under watch, and what came of it is told.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Seq;
use turnkeep_core::policy::ChannelFacts;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::run_clock::Overdue;
use turnkeep_core::session::{AgentInput, RunFailure, StartRun};

use super::asks::Asks;
use super::{CANCELLED, RunHandle, RunShared, absent, artifacts, shown};
use crate::live::Live;
use crate::mail::Mail;
use crate::money::{Reports, appoint};
use crate::recent::Recent;
use crate::service::Gateway;
use crate::setup::Configured;
use crate::slots::{Coming, Slots};
use crate::trace::OpenSpan;

/// Where a run is started from.
pub(crate) struct Launch<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) key: &'a SessionKey,
    pub(crate) policy: &'a turnkeep_core::Policy,
    pub(crate) task: &'a UnboundedSender<Mail>,
    pub(crate) live: Option<&'a Arc<Live>>,
    pub(crate) recent: Option<Arc<Recent>>,
}

/// Starts an attempt. It ends by saying `Finished` or `Failed`, unless it is cancelled.
pub(crate) fn start(
    launch: &Launch<'_>,
    start: StartRun,
    (place, coming): (Option<OwnedSemaphorePermit>, Option<Coming>),
    span: Option<OpenSpan>,
) -> Arc<RunShared> {
    let shared = RunShared::new(launch.policy, &start, span);
    if let Some(live) = launch.live {
        live.set_run(Some(Arc::clone(&shared)));
    }
    let found = launch.gateway.setup().agents.get(&*launch.key.agent()).cloned();
    let (gateway, key, facts) = (launch.gateway.clone(), launch.key.clone(), launch.policy.facts);
    let (watch, task) = (Arc::clone(&shared), launch.task.clone());
    let (budgets, recent) = (launch.policy.budgets.clone(), launch.recent.clone());
    // Counted from here on, so that a drain that begins now knows of it.
    let running = found.is_some().then(|| Running::new(&gateway));
    tokio::spawn(async move {
        let mut place = place;
        let found = match found {
            Some(found) => found,
            None => match absent::wait(&gateway, &key, &watch, &mut place).await {
                Ok(found) => found,
                Err(said) => return said.into_iter().for_each(|said| tell(&task, &watch, said)),
            },
        };
        let (Configured { agent, slots }, reports) =
            appoint(&gateway, &key, budgets.as_deref(), found).await;
        if reports.of_stand_in() {
            tell(&task, &watch, AgentInput::Degraded);
        }
        let shared = Arc::clone(&watch);
        let running = running.unwrap_or_else(|| Running::new(&gateway));
        let _shown = shown::begin(&gateway, &key, &watch);
        let way_back = Way { shared, key, task: task.clone(), slots, coming, reports, recent };
        let context = way_back.context(&gateway, facts, start);
        gateway.0.metrics.runs.increment(1);
        let run = AssertUnwindSafe(attempt(&*agent, context, &watch)).catch_unwind();
        let said = run.await.unwrap_or_else(|panic| {
            running.0.0.metrics.panics.increment(1);
            watch.trace(|span| span.fail("the agent panicked"));
            Some(AgentInput::Failed(failure(panic_text(&*panic), true)))
        });
        watch.end_span(said.as_ref());
        if let Some(said) = said {
            let failed = matches!(said, AgentInput::Failed(_));
            running.0.0.metrics.run_failures.increment(u64::from(failed));
            tell(&task, &watch, said);
        }
        drop(place);
    });
    shared
}

/// What a handle is made of.
struct Way {
    shared: Arc<RunShared>,
    key: SessionKey,
    task: UnboundedSender<Mail>,
    slots: Arc<Slots>,
    coming: Option<Coming>,
    reports: Reports,
    recent: Option<Arc<Recent>>,
}

impl Way {
    /// What the agent is told of its turn, with its way back.
    fn context(self, gateway: &Gateway, facts: ChannelFacts, start: StartRun) -> TurnContext {
        let Self { shared, key, task, slots, coming, reports, recent } = self;
        let stand_in = reports.of_stand_in();
        let handle = RunHandle {
            shared,
            key: key.clone(),
            task,
            gateway: gateway.clone(),
            slots,
            coming: Mutex::new(coming),
            reports,
            history_from: start.history_from,
            recent,
            first: start.messages.first().map_or(Seq(0), |pending| pending.seq),
            last: start.messages.iter().map(|pending| pending.seq).max().unwrap_or_default(),
            first_id: start
                .messages
                .first()
                .map_or(Arc::default(), |it| it.body.message_id.clone()),
            facts,
            acts: start.acts,
            asks: Asks::new(start.answered),
            // Who stands in for the agent has models of its own.
            model: start.model.filter(|_| !stand_in),
            given: Mutex::new(artifacts::given(&start.messages)),
        };
        TurnContext {
            session: key,
            tag: start.tag,
            group: start.group,
            trust: start.trust,
            facts,
            messages: start.messages,
            resume: start.resume,
            handle: Arc::new(handle),
        }
    }
}

fn tell(task: &UnboundedSender<Mail>, watch: &RunShared, said: AgentInput) {
    let _ = task.send(Mail::Say(Box::new((watch.tag, said))));
}

/// Counts a run for as long as it lives.
struct Running(Gateway);

impl Running {
    fn new(gateway: &Gateway) -> Self {
        gateway.0.running.fetch_add(1, Ordering::AcqRel);
        Self(gateway.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs the agent until it is done, cancelled or overdue. Nothing is said of a cancelled run.
async fn attempt(agent: &dyn Agent, context: TurnContext, watch: &RunShared) -> Option<AgentInput> {
    tokio::select! {
        biased;
        () = watch.wait_for(CANCELLED) => None,
        result = agent.run(context) => Some(match result {
            Ok(finished) => AgentInput::Finished(finished),
            Err(failure) => AgentInput::Failed(failure),
        }),
        overdue = watch.overdue() => {
            let what = match overdue {
                Overdue::Turn => "the agent took longer than a turn may",
                Overdue::Silence => "the agent was silent for too long",
            };
            watch.trace(|span| span.fail(what));
            Some(AgentInput::Failed(failure(what.to_owned(), true)))
        }
    }
}

fn failure(error: String, retry: bool) -> RunFailure {
    RunFailure { error: error.into(), retry, retry_after_ms: None }
}

/// What a caught panic says, in words.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.as_deref().unwrap_or("no reason given"))
}
