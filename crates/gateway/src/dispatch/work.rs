//! The steps that a node is given which runs turns.
//!
//! A step does nothing by itself. It has the session's task look after the session, and says how
//! that went: the task runs the turn to its end whether anybody waits for its steps or not. So a
//! step that comes twice, late, or to the wrong node costs a look and harms nothing.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Epoch, TurnId};
use turnkeep_core::ports::dispatch::{
    DispatchHealth, Dispatcher, Errand, Order, Orders, StepOutcome, Task, TurnStep,
};
use turnkeep_core::ports::store::Holder;
use turnkeep_core::session::Session;

use super::{Progress, Seen, handed};
use crate::mail::Mail;
use crate::service::Gateway;

/// How many steps are seen to at once; the dispatcher has a lower limit of its own.
const STEPS_MAX: usize = 20_000;
/// How long a step waits for news before it looks by itself.
const LOOK: Duration = Duration::from_secs(10);
/// How often a session is looked after for a step, before that one is given back.
const TRIES_MAX: u32 = 3;

const OVER: &str = "the turn is over";
const STALE: &str = "the turn was taken since it was handed over";
const ELSEWHERE: &str = "another node has the session";

/// How long it takes to ask again whose a session is, where the store didn't say.
const AGAIN: Duration = Duration::from_millis(250);

/// Who is to look after a session that this node was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Another node has it.
    Another,
    /// Its turn waits for whom the dispatcher chooses.
    HandedOver,
    /// This node has it, or whoever looks may take it.
    Open,
    /// The store didn't say.
    Unknown,
}

/// Steps under way, by their errands.
#[derive(Default)]
struct Stops(Mutex<HashMap<(TurnId, Epoch), (CancellationToken, usize)>>);

impl Stops {
    fn all(&self) -> MutexGuard<'_, HashMap<(TurnId, Epoch), (CancellationToken, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self, errand: &Errand) -> CancellationToken {
        let mut all = self.all();
        let (stop, steps) = all.entry((errand.turn, errand.epoch)).or_default();
        *steps += 1;
        stop.clone()
    }

    fn ended(&self, errand: &Errand) {
        let mut all = self.all();
        let name = (errand.turn, errand.epoch);
        if let Some((_, steps)) = all.get_mut(&name) {
            *steps -= 1;
            if *steps == 0 {
                all.remove(&name);
            }
        }
    }

    fn stop(&self, turn: TurnId, epoch: Epoch) {
        if let Some((stop, _)) = self.all().get(&(turn, epoch)) {
            stop.cancel();
        }
    }
}

/// Who gives this node steps.
pub(super) struct Giver {
    dispatcher: Arc<dyn Dispatcher>,
    /// How long what nobody has is left to it.
    patience: Duration,
    /// Sessions that are.
    places: Arc<Semaphore>,
}

impl Giver {
    pub(super) fn health(&self) -> DispatchHealth {
        self.dispatcher.health()
    }
}

impl Gateway {
    /// Sees to the steps that this node is given, until it is given no more. For so long it leaves
    /// what nobody has to whom the dispatcher chooses, as far as that one seems to be there.
    pub async fn work(
        &self,
        mut orders: Box<dyn Orders>,
        dispatcher: Arc<dyn Dispatcher>,
        patience: Duration,
    ) {
        let places = Arc::new(Semaphore::new(STEPS_MAX));
        let _ = self.0.dispatch.giver.set(Giver { dispatcher, patience, places });
        let stops = Arc::new(Stops::default());
        let places = Arc::new(Semaphore::new(STEPS_MAX));
        while let Some(order) = orders.next().await {
            let task = match order {
                Order::Start(task) => task,
                Order::Stop(turn, epoch) => {
                    stops.stop(turn, epoch);
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let many: Arc<str> = "this node sees to too many steps".into();
                tokio::spawn(task.report.ended(StepOutcome::Failed(many)));
                continue;
            };
            let (gateway, stops) = (self.clone(), Arc::clone(&stops));
            let stop = stops.begun(&task.errand);
            tokio::spawn(async move {
                let Task { errand, step, report, .. } = task;
                report.begun().await;
                let outcome = tokio::select! {
                    outcome = gateway.see_to(&errand, step) => outcome,
                    () = stop.cancelled() => StepOutcome::Stopped,
                };
                stops.ended(&errand);
                tracing::debug!(
                    session_key = %errand.session, turn = %errand.turn, step = step.as_str(),
                    ?outcome, "a step ended"
                );
                report.ended(outcome).await;
                drop(place);
            });
        }
    }

    /// Whether what is new is left to whom the dispatcher chooses.
    pub(crate) fn leaves_to_engine(&self) -> bool {
        let giver = self.0.dispatch.giver.get();
        giver.is_some_and(|giver| seems_there(&*giver.dispatcher))
    }

    /// Another node wrote a session that this node has, or that nobody has who runs turns.
    pub(crate) fn answer_knock(&self, session: &SessionKey) {
        let giver = self.0.dispatch.giver.get();
        // What only one node may run no engine is asked to give.
        let is_ours = self.0.registry.has(session) || self.is_owned(session);
        let Some(giver) = giver.filter(|_| !is_ours) else { return self.look_at(session) };
        let Ok(place) = Arc::clone(&giver.places).try_acquire_owned() else {
            return self.look_at(session);
        };
        let patience = giver.patience;
        let waits = seems_there(&*giver.dispatcher);
        let (gateway, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            let _place = place;
            if waits && gateway.is_left_to_others(&session, patience).await {
                return;
            }
            gateway.look_at(&session);
        });
    }

    /// Leaves a session's turn to whom the dispatcher chooses, for as long as nobody has it; says
    /// whether another node has it then, who is told of it by itself.
    async fn is_left_to_others(&self, session: &SessionKey, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut whose = self.whose(session).await;
        while whose == Whose::Unknown && Instant::now() < until {
            // Begun here now, it might be taken away from whoever it is going to be given to; and left
            // alone, it might be this node's.
            tokio::time::sleep(AGAIN).await;
            whose = self.whose(session).await;
        }
        if whose == Whose::HandedOver {
            tokio::time::sleep_until(until).await;
            whose = self.whose(session).await;
        }
        whose == Whose::Another
    }

    async fn whose(&self, session: &SessionKey) -> Whose {
        let Ok(loaded) = self.store().load(session).await else { return Whose::Unknown };
        let Some(loaded) = loaded else { return Whose::Open };
        match self.store().holder(loaded.session.epoch) {
            Holder::Another => Whose::Another,
            Holder::Nobody if handed(&loaded.session).is_some() => Whose::HandedOver,
            _ => Whose::Open,
        }
    }

    async fn see_to(&self, errand: &Errand, step: TurnStep) -> StepOutcome {
        let mut watched = Watched::new(self, &errand.session);
        let mut tries = 0;
        loop {
            // The store first: what is stale is left alone.
            match self.store().load(&errand.session).await {
                Ok(loaded) => {
                    let session = loaded.as_ref().map(|loaded| &*loaded.session);
                    if let Some(outcome) = self.judge(errand, step, session) {
                        return outcome;
                    }
                }
                Err(error) => return StepOutcome::Failed(error.to_string().into()),
            }
            let Some(policy) = self.policy_of_stored(&errand.session) else {
                return StepOutcome::Refused("there is no such channel any more".into());
            };
            watched.forget();
            self.send(&errand.session, policy, Mail::Look);
            match tokio::time::timeout(LOOK, watched.until(errand, step)).await {
                Ok(Some(outcome)) => return outcome,
                // It was nobody's a moment ago; whose it is now is seen above.
                Ok(None) => tries += 1,
                // A turn may take its time where it is.
                Err(_) if watched.is_here(errand) => tries = 0,
                Err(_) => tries += 1,
            }
            if tries >= TRIES_MAX {
                return StepOutcome::Failed("the session could not be taken".into());
            }
        }
    }

    /// What the store says of a step, if that is all there is to say.
    fn judge(
        &self,
        errand: &Errand,
        step: TurnStep,
        session: Option<&Session>,
    ) -> Option<StepOutcome> {
        let first = step == TurnStep::Acquire;
        let over = || if first { StepOutcome::Refused(OVER.into()) } else { StepOutcome::Done };
        let Some(session) = session else { return Some(over()) };
        if session.turn.as_ref().is_none_or(|turn| turn.id != errand.turn) {
            return Some(over());
        }
        match self.store().holder(session.epoch) {
            Holder::Us => None,
            Holder::Another | Holder::Later => Some(StepOutcome::Refused(ELSEWHERE.into())),
            Holder::Nobody if first && session.epoch != errand.epoch => {
                Some(StepOutcome::Refused(STALE.into()))
            }
            Holder::Nobody => None,
        }
    }
}

/// Whether it answers, and gives this node steps.
fn seems_there(dispatcher: &dyn Dispatcher) -> bool {
    let health = dispatcher.health();
    health.link.is_none() && health.steps.is_none()
}

/// What the session's task says, as long as somebody waits for it.
struct Watched<'a> {
    gateway: &'a Gateway,
    session: &'a SessionKey,
    news: watch::Receiver<Option<Seen>>,
}

impl<'a> Watched<'a> {
    fn new(gateway: &'a Gateway, session: &'a SessionKey) -> Self {
        let dispatch = &gateway.0.dispatch;
        let mut seen = dispatch.seen.lock().unwrap_or_else(PoisonError::into_inner);
        dispatch.steps.fetch_add(1, Ordering::AcqRel);
        let news = seen.entry(session.clone()).or_default().subscribe();
        drop(seen);
        Self { gateway, session, news }
    }

    /// What was said before is old.
    fn forget(&mut self) {
        self.news.mark_unchanged();
    }

    /// Waits until the step has its ending; nothing if the session is not here.
    async fn until(&mut self, errand: &Errand, step: TurnStep) -> Option<StepOutcome> {
        loop {
            self.news.changed().await.ok()?;
            let Some(seen) = *self.news.borrow_and_update() else { continue };
            if seen.turn != Some(errand.turn) {
                return Some(StepOutcome::Done);
            }
            if !seen.here {
                return None;
            }
            if is_done(step, seen.progress) {
                return Some(StepOutcome::Done);
            }
        }
    }

    fn is_here(&self, errand: &Errand) -> bool {
        self.news.borrow().is_some_and(|seen| seen.here && seen.turn == Some(errand.turn))
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let dispatch = &self.gateway.0.dispatch;
        let mut seen = dispatch.seen.lock().unwrap_or_else(PoisonError::into_inner);
        dispatch.steps.fetch_sub(1, Ordering::AcqRel);
        // This one is still counted.
        if seen.get(self.session).is_some_and(|watched| watched.receiver_count() <= 1) {
            seen.remove(self.session);
        }
    }
}

/// Whether a turn that is here and open has done with a step.
fn is_done(step: TurnStep, progress: Progress) -> bool {
    match step {
        TurnStep::Acquire => true,
        TurnStep::Accumulate => progress > Progress::Accumulates,
        // One that waits for a person holds no place; it goes on wherever it is answered.
        TurnStep::RunAgent | TurnStep::CommitAndRespond => progress == Progress::Answered,
    }
}
