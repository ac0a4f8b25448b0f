//! People: they write, write again when nobody answered, type, stop, and tidy up.

use turnkeep_core::ids::Token;
use turnkeep_core::message::{Decision, Inbound, InboundKind, Rejection};
use turnkeep_core::ports::store::FirstDecision;
use turnkeep_core::session::{Control, Controlled, Input};
use turnkeep_gateway::driver::duplicate_of;

use crate::coverage::Kind;
use crate::operators;
use crate::plan::{Act, StopAt};
use crate::shell::{Waiter, Who};
use crate::unasked;
use crate::world::{What, World, note};

impl World<'_> {
    /// A person does something; to a gateway that is down they do it again later.
    pub(crate) fn person_acts(&mut self, seat: usize, act: Act) {
        let Some(process) = self.spoken_to() else {
            let after = self.rng.between(100, 2000);
            return self.schedule(after, What::Act(seat, act));
        };
        match act {
            Act::Send(number) => {
                self.messages += 1;
                self.submit(process, seat, act, number);
            }
            Act::Again(number) | Act::Forge(number) | Act::Unnamed(number) => {
                self.submit(process, seat, act, number);
            }
            Act::Type => self.push(process, seat, Kind::Typing, Input::UserTyping),
            Act::Retry | Act::Discard => self.tidies(process, seat, act),
            Act::Resend => self.resends(process, seat),
            Act::Stop(at) => {
                let open = self.store.rows[seat].session.turn.as_ref().map(|turn| turn.id);
                let turn = match at {
                    StopAt::Anything => None,
                    StopAt::Open => open,
                    StopAt::Other => Some(self.fresh_turn()),
                };
                let shown = self.rng.permille(500).then(|| self.stock.shown.clone());
                self.control(process, seat, act, Control::Stop { turn, shown });
            }
            Act::New => self.control(process, seat, act, Control::New),
            Act::Close => self.control(process, seat, act, Control::Close),
            Act::SetBusy(busy) => self.control(process, seat, act, Control::SetBusy(busy)),
            Act::OptIn(wanted) => self.control(process, seat, act, Control::OptIn(wanted)),
            Act::Notify(number) => {
                let control = unasked::control(self.stock, seat, number);
                self.control(process, seat, act, control);
            }
            Act::Pause(_) if !self.is_wild() => {}
            // A pause may be on its way still, at a slow node: nobody goes home before it is there.
            Act::HandBack if self.pause_is_under_way(seat) => {
                self.schedule(1000, What::Act(seat, act));
            }
            Act::Pause(_) | Act::Reply(_) | Act::HandBack => {
                let control = operators::control(self.stock, seat, act);
                self.control(process, seat, act, control);
            }
        }
    }

    pub(crate) fn spoken_to(&mut self) -> Option<usize> {
        if self.cluster.is_there() {
            return self.any_node();
        }
        let process = self.listener()?;
        // A process that was replaced and does not know it may still be talked to.
        if self.rng.permille(60) {
            let other = self.rng.index(self.processes.len());
            if self.processes[other].alive && !self.processes[other].draining {
                return Some(other);
            }
        }
        Some(process)
    }

    fn submit(&mut self, process: usize, seat: usize, act: Act, number: usize) {
        let prepared = &self.stock.messages[seat][number];
        let inbound = match act {
            Act::Forge(_) => &prepared.forged,
            Act::Unnamed(_) => &prepared.unnamed,
            _ => &prepared.inbound,
        };
        let inbound = inbound.clone();
        let token = self.token(process, seat, Who::Person(act));
        let trust = self.plan.trust[seat][number];
        let refused = self.guard.refuses(token);
        let kind = self.aside.kind(seat, number).clone();
        let input = match kind {
            InboundKind::Command(_) => Kind::Command,
            InboundKind::Context => Kind::Context,
            InboundKind::Message | InboundKind::Unclear(_) => Kind::Message,
        };
        let answers = self.answers.names(token, &kind, &self.store.rows[seat].session);
        let inbound = Inbound { token, trust, refused, kind, answers, ..inbound };
        self.push(process, seat, input, Input::Message(inbound));
    }

    fn control(&mut self, process: usize, seat: usize, act: Act, control: Control) {
        let kind = match act {
            Act::Stop(_) => Kind::Stop,
            Act::New => Kind::New,
            Act::Close => Kind::Close,
            Act::Retry => Kind::Retry,
            Act::Discard => Kind::Discard,
            Act::Notify(_) => Kind::Notify,
            Act::OptIn(_) => Kind::OptIn,
            Act::Pause(_) => Kind::Pause,
            Act::Reply(_) => Kind::Reply,
            Act::HandBack => Kind::HandBack,
            _ => Kind::SetBusy,
        };
        let token = self.token(process, seat, Who::Person(act));
        self.push(process, seat, kind, Input::Control(token, control));
    }

    fn tidies(&mut self, process: usize, seat: usize, act: Act) {
        let Some((_, letter)) = self.store.dead.iter().find(|(owner, _)| *owner == seat) else {
            // Nothing is dead yet; there may be something later.
            if self.is_wild() {
                let after = self.rng.between(1000, 4000);
                self.schedule(after, What::Act(seat, act));
            }
            return;
        };
        let control = if act == Act::Discard {
            Control::Discard { seq: letter.seq }
        } else {
            Control::Retry {
                seq: letter.seq,
                group: letter.group,
                trust: letter.trust,
                body: letter.body.clone(),
            }
        };
        self.control(process, seat, act, control);
    }

    fn pause_is_under_way(&self, seat: usize) -> bool {
        let pauses = [Act::Pause(0), Act::Pause(1)];
        let last = self.cluster.is_there() && !self.is_wild();
        last && pauses.into_iter().any(|pause| self.waits_for(seat, pause))
    }

    fn waits_for(&self, seat: usize, act: Act) -> bool {
        let theirs = |waiter: &Waiter| waiter.seat == seat && waiter.who == Who::Person(act);
        self.waiters.iter().any(|waiter| waiter.open && theirs(waiter))
    }

    /// Takes a waiter off the list; none if it was told before, which must not happen.
    pub(crate) fn close_waiter(&mut self, token: Token) -> Option<Who> {
        let index = usize::try_from(token.0).unwrap_or(usize::MAX);
        let waiter = self.waiters.get_mut(index)?;
        if !std::mem::take(&mut waiter.open) {
            self.judge.broken("I2", || format!("token {token} is answered twice"));
            return None;
        }
        Some(waiter.who)
    }

    pub(crate) fn told_decision(&mut self, token: Token, decision: Decision) {
        let (seat, asked) = self.seat_of(token);
        let Some(Who::Person(act)) = self.close_waiter(token) else { return };
        self.judge.decided((seat, act), (asked, self.now), &decision, &self.store.rows[seat]);
        let wrong = self.answers.told(token, seat, &decision, &self.store.rows[seat]);
        wrong.into_iter().for_each(|what| self.judge.complain(what));
        if self.guard.is_ignored(token, &decision) {
            self.judge.broken("I13", || "a message that the guard refused is taken".to_owned());
        }
        if matches!(decision.rejection, Some(Rejection::RateLimited { .. })) {
            self.tries_again(seat, act);
        }
    }

    pub(crate) fn told_duplicate(&mut self, token: Token, first: &FirstDecision) {
        note!(self, "  duplicate of {}", first.seq);
        let (seat, asked) = self.seat_of(token);
        let Some(Who::Person(act)) = self.close_waiter(token) else { return };
        let decision = duplicate_of(first);
        if *self.aside.key(self.stock, seat) == first.session {
            self.judge.decided((seat, act), (asked, self.now), &decision, &self.store.rows[seat]);
        } else {
            self.judge.broken("I11", || "a twin is told of another session's message".to_owned());
        }
    }

    pub(crate) fn told_control(&mut self, token: Token, controlled: Controlled) {
        let (seat, asked) = self.seat_of(token);
        let Some(Who::Person(act)) = self.close_waiter(token) else { return };
        let row = &self.store.rows[seat];
        if let Act::Notify(number) = act {
            let told = self.unasked.told((seat, number), (asked, self.now), &controlled, row);
            return told.into_iter().for_each(|what| self.judge.complain(what));
        }
        if let Act::Reply(number) = act {
            let told = self.desk.told((seat, number), (asked, self.now), &controlled, row);
            return told.into_iter().for_each(|what| self.judge.complain(what));
        }
        self.judge.controlled(seat, act, &controlled, row);
        self.judge_resend(token, &controlled);
        self.judge_nothing_runs(token, act, &controlled);
    }

    /// Nobody knows whether it was taken: whoever named the message sends it again.
    pub(crate) fn told_unavailable(&mut self, token: Token) {
        let (seat, _) = self.seat_of(token);
        match self.close_waiter(token) {
            Some(Who::Person(act)) => self.tries_again(seat, act),
            Some(Who::Run(run)) => self.runs[run].ends(),
            None => {}
        }
    }

    pub(crate) fn tries_again(&mut self, seat: usize, act: Act) {
        let again = match act {
            Act::Send(number) | Act::Again(number) => Act::Again(number),
            Act::Stop(_) | Act::New | Act::Retry | Act::Notify(_) | Act::OptIn(_) => act,
            Act::Pause(_) | Act::Reply(_) | Act::HandBack => act,
            _ => return,
        };
        // Whoever goes home hands back, however often it takes.
        if act == Act::HandBack || self.rng.permille(850) {
            let after = self.rng.between(50, 3000);
            self.schedule(after, What::Act(seat, again));
        }
    }

    /// Where it was asked, and when.
    fn seat_of(&self, token: Token) -> (usize, u64) {
        let index = usize::try_from(token.0).unwrap_or(usize::MAX);
        self.waiters.get(index).map_or((0, 0), |waiter| (waiter.seat, waiter.since))
    }
}
