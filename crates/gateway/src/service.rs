//! The gateway as everybody else sees it: submit, steer, watch, read.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;
use turnkeep_core::ids::{Seq, TurnId};
use turnkeep_core::message::{Decision, Rejection};
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::care::CareStore;
use turnkeep_core::ports::channel::Channel;
use turnkeep_core::ports::hints::Hints;
use turnkeep_core::ports::moderator::Moderator;
use turnkeep_core::ports::schedule::ScheduleStore;
use turnkeep_core::ports::store::{FirstDecision, Store};
use turnkeep_core::ports::switchboard::SwitchboardStore;
use turnkeep_core::ports::trace::Tracer;
use turnkeep_core::ports::usage::UsageStore;
use turnkeep_core::schedule::Job;
use turnkeep_core::session::{Control, Controlled};
use turnkeep_core::switchboard::Limits;
use turnkeep_core::trace::SpanContext;
use turnkeep_core::{Policy, SessionKey};

use crate::care::Care;
use crate::cluster::Cluster;
use crate::dispatch::Dispatch;
use crate::driver::duplicate_of;
use crate::follow::{Settled, find_settled};
use crate::guard::{Guard, GuardParts, GuardSettings};
use crate::hearing::Hearing;
use crate::hints::Hinting;
use crate::ingress::{Admitted, FieldError, Policies, Submission, admit};
use crate::intake::Desk;
use crate::intake::routing::Routing;
use crate::listeners::{ListenerParts, Listeners};
use crate::live::{Lives, Subscription};
use crate::mail::{Mail, Submit};
use crate::metrics::{Metrics, Standings};
use crate::money::{Ledger, Prices};
use crate::overload::{Overload, UNDECIDED_MAX};
use crate::people::People;
use crate::recent::Kept;
use crate::registry::Registry;
use crate::schedule::Schedule;
use crate::setup::{Current, Setup, configured};
use crate::switchboard::Switchboard;
use crate::task::Away;
use crate::trace::{Spans, decided};

/// What the gateway lives by, beside the policies.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest message, in bytes.
    pub message_bytes_max: usize,
    /// Messages that may wait to be decided; more are refused.
    pub undecided_max: usize,
    /// How long a session's task stays without anything to do.
    pub idle_ms: u64,
    /// How long running turns may go on once the process was asked to end.
    pub shutdown_grace_ms: u64,
    /// How often open work that nobody looks after is looked for.
    pub sweep_ms: u64,
    /// Texts of messages may stand in the log.
    pub log_text: bool,
    /// What requests to providers cost.
    pub prices: Arc<Prices>,
    /// Who is known on the channels that adapters listen to, and where they are.
    pub routing: Arc<Routing>,
    /// Jobs that stand in the configuration.
    pub jobs: Arc<[Job]>,
    /// How many sessions the switchboard shows, and when they go to sleep.
    pub switchboard: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 * 1024,
            undecided_max: UNDECIDED_MAX,
            idle_ms: 10_000,
            shutdown_grace_ms: 10_000,
            sweep_ms: 1000,
            log_text: false,
            prices: Arc::default(),
            routing: Arc::default(),
            jobs: Arc::default(),
            switchboard: Limits::default(),
        }
    }
}

/// What wiring puts together.
pub struct Parts {
    /// Where sessions live.
    pub store: Arc<dyn Store>,
    /// The same, for keeping and forgetting.
    pub care: Arc<dyn CareStore>,
    /// The same, for what was used.
    pub usage: Arc<dyn UsageStore>,
    /// The same, for who became known by a code.
    pub people: Arc<dyn turnkeep_core::ports::people::People>,
    /// The same, for jobs and reminders.
    pub schedule: Arc<dyn ScheduleStore>,
    /// The same, for the switchboard.
    pub switchboard: Arc<dyn SwitchboardStore>,
    /// Agents by their configured names.
    pub agents: HashMap<String, Arc<dyn Agent>>,
    /// Adapters of the channels that are pushed to, by name.
    pub channels: HashMap<String, Arc<dyn Channel>>,
    /// The policy of each address.
    pub policies: Arc<dyn Policies>,
    /// Who is told of events by callbacks.
    pub listeners: ListenerParts,
    /// Who is let in.
    pub guard: GuardParts,
    /// Who checks messages, where a policy wants so.
    pub moderator: Option<Arc<dyn Moderator>>,
    /// Who collects spans, if somebody does.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// What other nodes are told beside the record.
    pub hints: Arc<dyn Hints>,
    /// Whether turns run on this node, or only on others that have the same store.
    pub runs: bool,
    /// Everything else.
    pub settings: Settings,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A field is wrong.
    Field(FieldError),
    /// The session's rules say no.
    Rejected(Rejection),
    /// Too many messages wait to be decided; nothing was looked at, so nothing was accepted.
    Overloaded,
    /// The store is down or the process is ending; nothing was accepted.
    Unavailable(String),
}

/// An accepted message.
#[derive(Debug)]
pub struct Submitted {
    /// Its session.
    pub key: SessionKey,
    /// Its id, which the gateway made if the sender did not.
    pub message_id: Arc<str>,
    /// What was decided.
    pub decision: Decision,
    /// Resolves when the message has its ending; none unless asked for.
    pub follow: Option<Follow>,
}

/// Resolves with the ending of one message, whatever it went through.
pub struct Follow(Pin<Box<dyn Future<Output = Option<Settled>> + Send>>);

impl std::fmt::Debug for Follow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Follow")
    }
}

impl Future for Follow {
    type Output = Option<Settled>;

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Open work is being taken up.
    Starting = 0,
    /// Taking messages.
    Ready = 1,
    /// Taking no more.
    Draining = 2,
}

/// A cheap handle on the running gateway.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    /// Whether it answers those who load sessions.
    pub(crate) away: Away,
    pub(crate) care: Care,
    pub(crate) ledger: Ledger,
    /// What is configured; see [`crate::setup`].
    pub(crate) setup: Current<Setup>,
    /// Counts how often it was replaced.
    pub(crate) replaced: watch::Sender<u64>,
    /// Held while it is.
    pub(crate) replacing: tokio::sync::Mutex<()>,
    pub(crate) registry: Registry,
    /// Other nodes with the same store.
    pub(crate) cluster: Cluster,
    /// What is told to other nodes, and heard of them.
    pub(crate) hints: Hinting,
    pub(crate) lives: Lives,
    /// Every session at a glance.
    pub(crate) switchboard: Switchboard,
    /// Turns that something outside gives to one of several nodes.
    pub(crate) dispatch: Dispatch,
    pub(crate) listeners: Listeners,
    /// Who became known by a code.
    pub(crate) people: People,
    /// Jobs and reminders.
    pub(crate) schedule: Schedule,
    /// What was heard lately.
    pub(crate) desk: Desk,
    /// Who hears what comes in by itself.
    pub(crate) hearing: Hearing,
    pub(crate) guard: Guard,
    pub(crate) overload: Overload,
    pub(crate) metrics: Metrics,
    /// Begins spans, where they are collected.
    pub(crate) spans: Option<Spans>,
    pub(crate) standings: Standings,
    /// Whatever shows and hides "typing".
    pub(crate) typing: TaskTracker,
    /// How much tasks remember of what was said.
    pub(crate) kept: Arc<Kept>,
    /// The one place in which turns run that may be what kills the process.
    pub(crate) quarantine: Arc<tokio::sync::Semaphore>,
    /// Places for checks of held messages.
    pub(crate) checks: tokio::sync::Semaphore,
    /// Runs under way.
    pub(crate) running: AtomicUsize,
    phase: AtomicU8,
}

impl Gateway {
    /// Puts the parts together; nothing runs before [`Gateway::start`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let limits = parts.settings.switchboard;
        let setup = Setup {
            agents: configured(parts.agents, None),
            channels: parts.channels,
            policies: parts.policies,
            guard: parts.guard.settings,
            moderator: parts.moderator,
            settings: parts.settings,
        };
        Self(Arc::new(Inner {
            switchboard: Switchboard::new(parts.switchboard, limits),
            store: parts.store,
            away: Away::default(),
            care: Care::new(parts.care),
            ledger: Ledger::new(parts.usage),
            setup: setup.into(),
            replaced: watch::Sender::new(0),
            replacing: tokio::sync::Mutex::default(),
            registry: Registry::default(),
            cluster: Cluster::new(parts.runs),
            hints: Hinting::new(parts.hints),
            lives: Lives::default(),
            dispatch: Dispatch::default(),
            listeners: Listeners::new(parts.listeners),
            people: People::new(parts.people),
            schedule: Schedule::new(parts.schedule),
            desk: Desk::default(),
            hearing: Hearing::default(),
            guard: Guard::new(parts.guard.record),
            overload: Overload::new(),
            metrics: Metrics::new(),
            spans: parts.tracer.map(Spans::new),
            standings: Standings::default(),
            typing: TaskTracker::new(),
            kept: Arc::default(),
            quarantine: Arc::new(tokio::sync::Semaphore::new(1)),
            checks: crate::moderation::places(),
            running: AtomicUsize::new(0),
            phase: AtomicU8::new(Phase::Starting as u8),
        }))
    }

    /// The store, for reads.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Ready to take messages, or why not.
    pub fn readiness(&self) -> Result<(), String> {
        match self.0.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Starting as u8 => Err("starting".to_owned()),
            phase if phase == Phase::Draining as u8 => {
                Err("draining: the process is ending".to_owned())
            }
            _ => self.0.store.health(),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) == Phase::Draining as u8
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    /// Accepts a message durably, or says why not. With `follow`, its ending can be awaited.
    pub async fn submit(
        &self,
        mut submission: Submission,
        follow: bool,
    ) -> Result<Submitted, Refusal> {
        self.readiness().map_err(Refusal::Unavailable)?;
        let setup = self.setup();
        let _undecided = self.enter(setup.settings.undecided_max)?;
        let bytes_max = setup.settings.message_bytes_max;
        let made_id = || crate::clock::fresh_uuid().to_string();
        let sent_by = submission.trace.take();
        let admitted = admit(submission, &*setup.policies, self.salt()?, bytes_max, made_id);
        let admitted = self.recognised(admitted.map_err(Refusal::Field)?).await;
        let span = self.spans().and_then(|spans| spans.decide(sent_by.as_ref(), &admitted));
        let trace = span.as_ref().map(|span| span.context().clone());
        let outcome = self.decide(admitted, &setup.guard, follow, trace).await;
        decided(span, &outcome);
        outcome
    }

    /// Lets an admitted message in or not, and has its session decide on it.
    async fn decide(
        &self,
        Admitted { key, policy, mut inbound }: Admitted,
        guard: &GuardSettings,
        follow: bool,
        trace: Option<SpanContext>,
    ) -> Result<Submitted, Refusal> {
        let since = Instant::now();
        self.guard(&key, (&policy, guard), &mut inbound, since).await?;
        self.within_budget(&key, &policy, &mut inbound, since).await?;
        let message_id = Arc::clone(&inbound.body.message_id);
        let (reply, answer) = oneshot::channel();
        let (settle, settled) = if follow {
            let (settle, settled) = oneshot::channel();
            (Some(settle), Some(settled))
        } else {
            (None, None)
        };
        let submit = Submit { inbound, reply, settle, since, trace };
        self.send(&key, policy, Mail::Submit(Box::new(submit)));
        let accepted = answer.await.map_err(|_| interrupted())?.map_err(Refusal::Unavailable)?;
        let (decision, follow) = match accepted {
            Accepted::Decided(decision) => {
                let follow = settled.map(|settled| {
                    let (gateway, key, seq) = (self.clone(), key.clone(), decision.seq);
                    Follow(Box::pin(async move { gateway.settled(settled, key, seq).await }))
                });
                (decision, follow)
            }
            Accepted::Duplicate(first) => {
                let decision = duplicate_of(&first);
                let follow = follow.then(|| self.follow(first.session.clone(), first.seq));
                return Ok(Submitted { key: first.session, message_id, decision, follow });
            }
        };
        match decision.rejection {
            Some(rejection) => Err(Refusal::Rejected(rejection)),
            None => Ok(Submitted { key, message_id, decision, follow }),
        }
    }

    /// Waits for the session's task; if it went away, the journal knows.
    async fn settled(
        &self,
        settled: oneshot::Receiver<Settled>,
        key: SessionKey,
        seq: Option<Seq>,
    ) -> Option<Settled> {
        match settled.await {
            Ok(settled) => Some(settled),
            Err(_) => self.follow(key, seq?).await,
        }
    }

    /// Follows a message that was accepted some time ago.
    #[must_use]
    pub fn follow(&self, key: SessionKey, seq: Seq) -> Follow {
        let gateway = self.clone();
        Follow(Box::pin(async move {
            let policy = gateway.policy_of_stored(&key)?;
            let (settle, settled) = oneshot::channel();
            gateway.send(&key, policy, Mail::Follow(seq, settle));
            match settled.await {
                Ok(settled) => Some(settled),
                Err(_) => find_settled(&*gateway.0.store, &key, seq).await.ok().flatten(),
            }
        }))
    }

    /// Steers a session.
    pub async fn control(&self, key: &SessionKey, control: Control) -> Result<Controlled, Refusal> {
        self.readiness().map_err(Refusal::Unavailable)?;
        // This one may be the first that is heard of a session, so there must be somebody for it.
        let policy = match control {
            Control::OptIn(true) | Control::Import(_) => self.policy_of(key),
            _ => self.policy_of_stored(key),
        };
        let policy = policy.ok_or_else(unknown_session)?;
        let (reply, answer) = oneshot::channel();
        self.send(key, policy, Mail::Control(Box::new(control), reply));
        answer.await.map_err(|_| interrupted())?.map_err(Refusal::Unavailable)
    }

    /// Stops the open turn, or only the named one.
    pub async fn stop(
        &self,
        key: &SessionKey,
        turn: Option<TurnId>,
    ) -> Result<Controlled, Refusal> {
        self.control(key, Control::Stop { turn, shown: None }).await
    }

    /// The user is typing: a gathering burst waits a little longer.
    pub fn user_typing(&self, key: &SessionKey) {
        if let Some(policy) = self.policy_of(key)
            && self.readiness().is_ok()
        {
            self.send(key, policy, Mail::UserTyping);
        }
    }

    /// Watches a session; it need not exist yet. None if its agent or channel isn't configured.
    #[must_use]
    pub fn subscribe(&self, key: &SessionKey) -> Option<Subscription> {
        let policy = self.policy_of(key)?;
        let live = self.0.lives.open(key);
        self.watch_elsewhere(key, &live);
        self.send(key, policy, Mail::Watch(Arc::clone(&live)));
        Some(Subscription::new(live, self.connection_for(key)))
    }

    pub(crate) fn send(&self, key: &SessionKey, policy: Arc<Policy>, mail: Mail) {
        self.0.registry.send(self, key, policy, mail);
    }
}

/// What a session's task answers to a submission.
pub(crate) enum Accepted {
    Decided(Decision),
    Duplicate(FirstDecision),
}

fn interrupted() -> Refusal {
    Refusal::Unavailable("the session's task was interrupted; please send it again".to_owned())
}

fn unknown_session() -> Refusal {
    Refusal::Field(FieldError {
        field: "session",
        why: "its agent or channel is not configured".to_owned(),
    })
}
