//! A session's task: the doing half of [`crate::driver`]. It leaves when there is nothing to do.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use turnkeep_core::ids::{QuestionId, Seq, Token};
use turnkeep_core::message::{CommandAct, InboundKind};
use turnkeep_core::session::{AgentAnswer, Control, Controlled, Input, Stage, Wake};
use turnkeep_core::{Policy, SessionKey};

use crate::clock;
use crate::cluster::Taken;
use crate::dispatch::Post;
use crate::driver::{Driver, Outcome, Request};
use crate::follow::{Settled, find_asked, find_settled};
use crate::live::Live;
use crate::mail::{Mail, Ruled, Submit};
use crate::metrics::Standing;
use crate::outbox::Typing;
use crate::recent::Memory;
use crate::run::RunShared;
use crate::service::Gateway;
use crate::slots::Coming;

mod effects;
mod news;
mod places;
mod record;
mod spans;

pub(crate) use record::Away;
use record::Loads;
use spans::TurnSpans;

/// How long a session rests whose task died of a panic.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// A sleep that only mail ends.
const FAR: Duration = Duration::from_secs(3600);
/// Sessions whose next timer is further away than this may leave; the sweep wakes them in time.
const NEAR_MS: u64 = 60_000;

/// Who waits for the answer to an input.
enum Waiter {
    Submit(Box<Submit>),
    Control(oneshot::Sender<Result<Controlled, String>>),
    Agent(oneshot::Sender<AgentAnswer>),
}

pub(crate) struct SessionTask {
    gateway: Gateway,
    driver: Driver,
    /// The way to itself, for runs and deliveries.
    sender: UnboundedSender<Mail>,
    mail: UnboundedReceiver<Mail>,
    /// Few at a time, so looking through them is cheaper than hashing.
    waiters: Vec<(Token, Waiter)>,
    last_token: u64,
    followers: Vec<(Seq, oneshot::Sender<Settled>)>,
    live: Option<Arc<Live>>,
    run: Option<Arc<RunShared>>,
    place: Option<OwnedSemaphorePermit>,
    /// It is on its way into this node's hands.
    taken: Option<Taken>,
    /// Its turn accumulates, and is going to want a slot.
    coming: Option<Coming>,
    /// Held messages whose checks are under way.
    checking: Vec<Seq>,
    typing: Option<Typing>,
    /// What hides the one before it.
    hiding: Option<JoinHandle<()>>,
    /// The deadline that the sleep below is for, and when the monotonic clock reaches it.
    armed: Option<(Wake, Instant)>,
    idle_since: Instant,
    /// How long it stays without anything to do.
    idle: Duration,
    /// This node may run the session.
    may_run: bool,
    /// The number of the configuration that its policy is of.
    setup: u64,
    releasing: bool,
    /// It is run here in the place of those that run turns.
    post: Option<Post>,
    /// Another owner has the session now.
    lost: bool,
    /// What this session adds to the gauges.
    standing: Standing,
    loads: Loads,
    /// What was said last, for its runs.
    memory: Memory,
    /// Its spans, where somebody collects them.
    spans: Option<Box<TurnSpans>>,
}

impl SessionTask {
    pub(crate) fn spawn(
        gateway: Gateway,
        key: SessionKey,
        policy: Arc<Policy>,
        sender: UnboundedSender<Mail>,
        mail: UnboundedReceiver<Mail>,
    ) {
        let live = gateway.0.lives.get(&key);
        let driver = Driver::new(key.clone(), gateway.0.store.epoch(), policy);
        let shared = gateway.store().is_shared();
        let driver = if shared { driver.among_others() } else { driver };
        let may_run = gateway.may_run(&key);
        let mut task = Self {
            driver: match (may_run, gateway.runs_turns()) {
                (true, _) => driver,
                (false, true) => driver.of_others(),
                (false, false) => driver.without_running(),
            },
            may_run,
            gateway: gateway.clone(),
            sender,
            mail,
            waiters: Vec::new(),
            last_token: 0,
            followers: Vec::new(),
            live,
            run: None,
            place: None,
            taken: None,
            coming: None,
            checking: Vec::new(),
            typing: None,
            hiding: None,
            armed: None,
            idle_since: Instant::now(),
            idle: Duration::from_millis(gateway.setup().settings.idle_ms),
            // Whoever found the policy may have looked before a replacement.
            setup: 0,
            releasing: false,
            post: None,
            lost: false,
            standing: gateway.0.standings.take_up(&key),
            loads: Loads::default(),
            memory: Memory::new(Arc::clone(&gateway.0.kept), &key),
            spans: gateway.spans().map(|_| Box::default()),
        };
        tokio::spawn(async move {
            let ended = AssertUnwindSafe(task.live_on()).catch_unwind().await;
            if let Some(run) = &task.run {
                run.cancel();
            }
            // Behind this, another task may begin.
            task.lay_down();
            drop(task);
            gateway.0.registry.ended(&key);
            if let Err(panic) = ended {
                gateway.0.metrics.panics.increment(1);
                let reason = crate::run::panic_text(&*panic);
                tracing::error!(session_key = %key, reason, "a session's task died; it is begun anew");
                // Its state is in the store; whatever was in flight is repaired from there. If it is
                // the state that kills it, the pause keeps it from taking a core with it.
                tokio::time::sleep(PANIC_PAUSE).await;
                if let Some(policy) = gateway.policy_of_stored(&key) {
                    gateway.send(&key, policy, Mail::Tend);
                }
            }
        });
    }

    async fn live_on(&mut self) {
        loop {
            self.drive().await;
            let laid_down = self.releasing && self.driver.is_idle() && self.run.is_none();
            if (self.lost || laid_down) && self.try_leave() {
                return;
            }
            // Whoever takes the session up next has its timers too.
            let wake = if self.releasing { None } else { self.arm() };
            let idle = self.idle_since + self.idle;
            let until = match (wake, self.may_leave()) {
                (Some(at), true) => at.min(idle),
                (Some(at), false) => at,
                (None, true) => idle,
                (None, false) => Instant::now() + FAR,
            };
            tokio::select! {
                biased;
                mail = self.mail.recv() => {
                    let Some(mail) = mail else { return };
                    self.idle_since = Instant::now();
                    self.take(mail);
                }
                () = tokio::time::sleep_until(until.into()) => {
                    if wake.is_some_and(|at| at <= Instant::now()) {
                        if let Some((wake, ..)) = self.armed.take() {
                            self.driver.push(Input::Timer(wake));
                        }
                    } else if self.try_leave() {
                        return;
                    }
                }
            }
        }
    }

    /// Lives by the new policy where the configuration was replaced, and runs the session where this
    /// node came to own its channel.
    fn renew(&mut self) {
        if !self.may_run && self.gateway.may_run(self.driver.key()) {
            self.may_run = true;
            self.driver.may_run(self.gateway.store().epoch());
        }
        let replaced = self.gateway.replaced();
        if replaced == self.setup {
            return;
        }
        self.setup = replaced;
        if let Some(policy) = self.gateway.policy_of_stored(self.driver.key()) {
            self.driver.set_policy(policy);
        }
    }

    /// Steps and commits until nothing waits.
    async fn drive(&mut self) {
        loop {
            while let Ok(mail) = self.mail.try_recv() {
                self.take(mail);
            }
            // After the mail was taken: what came behind a replacement meets the new policy.
            self.renew();
            let mut outcome = Outcome::default();
            let request = self.driver.next(clock::now(), &mut clock::fresh_turn, &mut outcome);
            self.lost |= outcome.lost;
            self.act(outcome);
            let mut outcome = Outcome::default();
            let mut told = None;
            match request {
                None => break,
                Some(Request::Load) => self.load(&mut outcome).await,
                Some(Request::Commit(commit)) => told = self.commit(*commit, &mut outcome).await,
            }
            let failed = outcome.store_failed;
            self.lost |= outcome.lost;
            self.act(outcome);
            if let Some(news) = told {
                self.tell(news);
            }
            if self.lost {
                break;
            }
            if failed {
                // What can't be read keeps no place from what is on its way, either.
                self.taken = None;
                self.pause().await;
            }
        }
        if self.place.is_some() && !self.is_quarantined() {
            self.place = None;
        }
        self.await_slot();
        if self.driver.is_guest() {
            self.show_elsewhere();
        } else if let Some(session) = self.driver.session() {
            let now = Standing::of(session);
            self.stand(now);
            self.gateway.0.cluster.unfollow(self.driver.key());
        }
        if let Some(session) = self.driver.session() {
            self.gateway.stands(self.driver.key(), session, !self.driver.is_guest());
        }
        if self.post.is_some() && self.driver.step_back() {
            self.post = None;
        }
        // Most of a hundred thousand open sessions do nothing but wait: they hold no spare room.
        self.waiters.shrink_to_fit();
        self.driver.shrink();
    }

    fn stand(&mut self, now: Standing) {
        let gateway = &self.gateway.0;
        let (key, kept) = (self.driver.key(), &mut self.standing);
        gateway.standings.change(&gateway.metrics, key, kept, now);
    }

    /// What the session adds to the gauges is no longer this task's to change.
    fn lay_down(&mut self) {
        self.end_loads();
        if self.lost {
            // Whoever has the session now counts it.
            self.stand(Standing::default());
        }
        self.gateway.0.standings.lay_down(self.driver.key(), &mut self.standing);
    }

    /// Another node has the session: it counts it there, and watchers here see what it stored.
    fn show_elsewhere(&mut self) {
        self.stand(Standing::default());
        let cluster = &self.gateway.0.cluster;
        let Some(session) = self.driver.session() else { return };
        cluster.follow(self.driver.key(), session.last_seq, !self.followers.is_empty());
        if let Some(live) = &self.live {
            let working = session.turn.as_ref().is_some_and(|turn| {
                matches!(turn.stage, Stage::Processing | Stage::Backoff { .. })
            });
            live.typing(working);
        }
    }

    fn is_quarantined(&self) -> bool {
        self.driver
            .session()
            .and_then(|session| session.turn.as_ref())
            .is_some_and(|turn| matches!(turn.stage, Stage::Quarantined))
    }

    /// When the session's next deadline is, by the clock that never jumps.
    fn arm(&mut self) -> Option<Instant> {
        let Some((wait_ms, wake)) = self.driver.next_wait(clock::now()) else {
            self.armed = None;
            return None;
        };
        if let Some((armed, when)) = self.armed
            && armed == wake
            && matches!(wake, Wake::Armed(_))
        {
            return Some(when);
        }
        let when = Instant::now() + Duration::from_millis(wait_ms);
        self.armed = Some((wake, when));
        Some(when)
    }

    fn may_leave(&self) -> bool {
        let near =
            self.driver.next_wait(clock::now()).is_some_and(|(wait_ms, _)| wait_ms < NEAR_MS);
        self.driver.is_idle() && self.run.is_none() && self.followers.is_empty() && !near
    }

    fn try_leave(&mut self) -> bool {
        if !(self.releasing || self.lost || self.may_leave()) {
            return false;
        }
        // Before it leaves: the next task may begin at the same moment.
        self.gateway.0.cluster.unfollow(self.driver.key());
        self.gateway.0.switchboard.given_back(self.driver.key());
        self.lay_down();
        let left = self.gateway.0.registry.leave(self.driver.key(), &self.mail);
        if !left {
            self.standing = self.gateway.0.standings.take_up(self.driver.key());
            self.show_loaded();
        }
        left
    }

    fn token(&mut self, waiter: Waiter) -> Token {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.waiters.push((token, waiter));
        token
    }

    fn waiter(&mut self, token: Token) -> Option<Waiter> {
        let at = self.waiters.iter().position(|(waiting, _)| *waiting == token)?;
        Some(self.waiters.swap_remove(at).1)
    }

    fn take(&mut self, mail: Mail) {
        match mail {
            Mail::Submit(submit) => {
                let mut inbound = submit.inbound.clone();
                self.fill_draft(&mut inbound.kind);
                inbound.token = self.token(Waiter::Submit(submit));
                self.driver.push(Input::Message(inbound));
            }
            Mail::Control(control, reply) => {
                let token = self.token(Waiter::Control(reply));
                self.driver.push(Input::Control(token, self.with_draft(*control)));
            }
            Mail::Ask(ask) => {
                let crate::mail::Ask { tag, input, reply } = *ask;
                let token = self.token(Waiter::Agent(reply));
                self.driver.push(Input::Agent(tag, input(token)));
            }
            Mail::Say(said) => {
                let (tag, said) = *said;
                self.driver.push(Input::Agent(tag, said));
            }
            Mail::Delivered(delivered) => {
                let crate::mail::Delivered { reply, part, attempt, outcome } = *delivered;
                self.driver.push(Input::Delivered { reply, part, attempt, outcome });
            }
            Mail::Ruled(ruled) => {
                let Ruled { seq, ruled } = *ruled;
                self.checking.retain(|checking| *checking != seq);
                if let Some((ruling, reason)) = ruled {
                    self.driver.push(Input::Ruling { seq, ruling, reason });
                }
            }
            Mail::Quarantine(granted) => {
                let (turn, place) = *granted;
                self.place = Some(place);
                self.driver.push(Input::QuarantineGranted(turn));
            }
            Mail::Follow(seq, settle) => self.follow(seq, settle),
            Mail::Watch(live) => self.watch(live),
            Mail::UserTyping => self.driver.push(Input::UserTyping),
            // The store says that something is open: if nothing is here, a commit that was reported
            // as failed may have landed since.
            Mail::Tend if self.driver.is_idle() && !self.driver.has_open_work() => {
                self.driver.refresh();
            }
            Mail::Look => self.driver.look(),
            Mail::Take(taken) => {
                self.taken = Some(taken);
                self.driver.look();
            }
            Mail::RunHere(asked) => {
                let (number, post) = *asked;
                self.post = Some(post);
                self.driver.run_here(number);
            }
            // The next step looks anyway; this one only wakes.
            Mail::Tend | Mail::Renew => {}
            Mail::Weigh => self.weigh(),
            Mail::Rest => {
                self.memory.clear();
                self.idle_since = Instant::now().checked_sub(self.idle).unwrap_or(self.idle_since);
            }
            Mail::Release => {
                self.releasing = true;
                self.driver.push(Input::Release);
            }
        }
    }

    /// Stop commits the part that was shown.
    fn with_draft(&self, control: Control) -> Control {
        match control {
            Control::Stop { turn, shown: None } => Control::Stop { turn, shown: self.drafted() },
            other => other,
        }
    }

    /// So does a stop that comes as a command.
    fn fill_draft(&self, kind: &mut InboundKind) {
        if let InboundKind::Command(CommandAct::Stop { shown }) = kind {
            *shown = self.drafted();
        }
    }

    fn drafted(&self) -> Option<Arc<str>> {
        self.run.as_ref().and_then(|run| run.drafted())
    }

    fn watch(&mut self, live: Arc<Live>) {
        if let Some(session) = self.driver.session() {
            live.journal(session.last_seq);
        }
        live.typing(self.run.is_some());
        live.set_run(self.run.clone());
        self.live = Some(live);
    }

    /// The question that this message's turn waits with.
    fn asked_for(&self, seq: Seq) -> Option<QuestionId> {
        let turn = self.driver.session()?.turn.as_ref()?;
        let Stage::Waiting { question, .. } = turn.stage else { return None };
        let mut messages = turn.messages.iter().chain(&turn.mailbox);
        messages.any(|pending| pending.seq == seq).then_some(question)
    }

    /// Tells now how a message ended or what its turn asks, or later when there is such a thing.
    fn follow(&mut self, seq: Seq, settle: oneshot::Sender<Settled>) {
        let asked = self.asked_for(seq);
        let open = self
            .driver
            .session()
            .is_none_or(|session| session.pending().any(|pending| pending.seq == seq));
        if open && asked.is_none() {
            self.followers.push((seq, settle));
            return;
        }
        let (store, key) = (Arc::clone(&self.gateway.0.store), self.driver.key().clone());
        tokio::spawn(async move {
            let found = match asked {
                Some(question) => find_asked(&*store, &key, seq, question).await,
                None => find_settled(&*store, &key, seq).await,
            };
            if let Ok(Some(settled)) = found {
                let _ = settle.send(settled);
            }
        });
    }

    /// Effects may have been lost with the store: whoever still waits asks again from the start.
    fn refollow(&mut self) {
        for (seq, settle) in std::mem::take(&mut self.followers) {
            let _ = self.sender.send(Mail::Follow(seq, settle));
        }
    }
}
