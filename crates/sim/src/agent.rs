//! The scripted agent: takes mail, passes commit points, asks, fails, hangs, finishes, and now and
//! then goes on talking after it was cancelled.

use std::sync::Arc;

use turnkeep_core::Trust;
use turnkeep_core::accumulation::Hint;
use turnkeep_core::ids::{QuestionId, RunTag, Seq, Token, TurnGroupId};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::Pending;
use turnkeep_core::run_clock::RunClock;
use turnkeep_core::session::{AgentAnswer, AgentInput, Finished, Input, RunFailure, StartRun};

use crate::artifacts::Bench;
use crate::coverage::Kind;
use crate::plan::Curse;
use crate::shell::Who;
use crate::stock::number_of;
use crate::tools::Hands;
use crate::world::{What, World};

/// One attempt, as the agent lives it.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) process: usize,
    pub(crate) seat: usize,
    pub(crate) tag: RunTag,
    pub(crate) group: TurnGroupId,
    trust: Trust,
    resume: bool,
    acted: bool,
    doomed: bool,
    poisoned: bool,
    /// Everything it was given or took, in order.
    seen: Vec<Seq>,
    state: State,
    steps_left: u64,
    /// What it does with its tools.
    pub(crate) hands: Hands,
    /// What it does with artifacts.
    pub(crate) bench: Bench,
    question: Option<QuestionId>,
    /// What the user answered when no run was there.
    answered: Option<QuestionId>,
    clock: Option<RunClock>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Working,
    /// Waits for the answer to what it asked of its session.
    Blocked,
    /// Waits for the user.
    AskedUser,
    /// Does nothing any more; only the watch ends it.
    Hangs,
    /// Cancelled, and talks on for a moment.
    Ghost,
    Over,
}

impl Run {
    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.state, State::Working | State::Blocked | State::AskedUser | State::Hangs)
    }

    /// It was asked to end soon.
    pub(crate) const fn hurry(&mut self) {
        self.steps_left = 0;
    }

    /// It was asked to finish without new work, and takes its time.
    pub(crate) fn lingers(&mut self, steps: u64) {
        self.steps_left = self.steps_left.min(steps);
    }

    pub(crate) const fn ends(&mut self) {
        self.state = State::Over;
    }
}

impl World<'_> {
    pub(crate) fn start_run(&mut self, process: usize, seat: usize, start: StartRun) {
        let live =
            self.runs.iter().any(|run| run.process == process && run.seat == seat && run.is_live());
        if live {
            self.judge.broken("I1", || "an attempt starts while another one still runs".to_owned());
        }
        self.judge_start(process, seat, start.tag.turn);
        self.judge.started(&start, &self.store.rows[seat]);
        self.judge_acts(seat, &start);
        if start.quarantined {
            let place = self.processes[process].place;
            if place != Some((seat, start.tag.turn)) {
                self.judge.broken("I21", || "a suspect turn runs without its place".to_owned());
            }
        }
        let cursed = |number: usize| {
            start.messages.iter().any(|pending| number_of(&pending.body) == Some(number))
        };
        let run = Run {
            process,
            seat,
            tag: start.tag,
            group: start.group,
            trust: start.trust,
            resume: start.resume,
            acted: false,
            doomed: matches!(self.plan.curse, Curse::Doomed(at, number) if at == seat && cursed(number)),
            poisoned: matches!(self.plan.curse, Curse::Poisoned(at, number) if at == seat && cursed(number)),
            seen: start.messages.iter().map(|pending| pending.seq).collect(),
            state: State::Working,
            steps_left: self.rng.below(24),
            hands: Hands::default(),
            bench: Bench::default(),
            question: None,
            answered: start.answered,
            clock: None,
        };
        self.runs.push(run);
        if start.finishing.is_some() {
            self.finish_run(self.runs.len() - 1);
        }
        self.agent_soon(self.runs.len() - 1);
    }

    /// It shall finish without new work. Those with tools want some more all the same.
    pub(crate) fn finish_run(&mut self, run: usize) {
        if self.tools.are_there() {
            self.runs[run].lingers(3);
        } else {
            self.runs[run].hurry();
        }
    }

    fn agent_soon(&mut self, run: usize) {
        let after = self.rng.between(1, self.plan.agent_ms);
        self.schedule(after, What::Agent(run));
    }

    /// A run does one thing.
    pub(crate) fn agent_step(&mut self, run: usize) {
        if !self.processes[self.runs[run].process].alive {
            return;
        }
        if matches!(self.runs[run].state, State::Ghost | State::Working) {
            self.run_reports(run);
            if !self.processes[self.runs[run].process].alive {
                return;
            }
        }
        match self.runs[run].state {
            State::Ghost => self.ghost_talks(run),
            State::Working => self.agent_works(run),
            State::Blocked | State::AskedUser | State::Hangs | State::Over => {}
        }
    }

    fn agent_works(&mut self, run: usize) {
        if self.runs[run].poisoned {
            return self.crash_now(self.runs[run].process);
        }
        if self.runs[run].doomed {
            return self.run_fails(run, true);
        }
        if self.strikes(self.plan.odds.agent) {
            return match self.rng.below(4) {
                0 => self.run_fails(run, false),
                1 => self.run_hangs(run),
                _ => self.run_fails(run, true),
            };
        }
        if let Some((call, outcome)) = self.runs[run].hands.done.take() {
            return self.run_returns(run, call, outcome);
        }
        if self.runs[run].steps_left == 0 {
            return self.run_finishes(run);
        }
        self.runs[run].steps_left -= 1;
        let wild = self.is_wild();
        match self.rng.below(100) {
            0..=39 => self.run_asks(run, Kind::TakeMail, AgentInput::TakeMail),
            40..=49 => self.run_asks(run, Kind::CommitPoint, AgentInput::CommitPoint),
            50..=55 if self.runs[run].answered.is_some() => {
                let question = self.runs[run].answered.take().unwrap_or_default();
                self.run_asks(run, Kind::Ask, |token| AgentInput::AskAgain(token, question));
            }
            50..=55 if wild => {
                let question = Arc::clone(&self.stock.question);
                let confirms = self.tools.are_there() && run.is_multiple_of(2);
                self.run_asks(run, Kind::Ask, |token| match confirms {
                    true => AgentInput::Confirm(token, question),
                    false => AgentInput::Ask(token, question),
                });
            }
            56..=89 if self.tools.are_there() => self.run_intends(run),
            56..=89 => {
                let record = Arc::clone(&self.stock.record);
                self.run_asks(run, Kind::Emit, |token| {
                    AgentInput::Emit(token, Arc::clone(&record), record)
                });
            }
            _ => self.agent_soon(run),
        }
    }

    /// Sends something that has an answer, and waits for it.
    pub(crate) fn run_asks(
        &mut self,
        run: usize,
        kind: Kind,
        said: impl FnOnce(Token) -> AgentInput,
    ) {
        let Run { process, seat, tag, .. } = self.runs[run];
        let token = self.token(process, seat, Who::Run(run));
        if self.runs[run].is_live() {
            self.runs[run].state = State::Blocked;
        }
        self.push(process, seat, kind, Input::Agent(tag, said(token)));
    }

    /// Says something that has no answer.
    fn run_says(&mut self, run: usize, kind: Kind, said: AgentInput) {
        let Run { process, seat, tag, .. } = self.runs[run];
        self.push(process, seat, kind, Input::Agent(tag, said));
    }

    fn run_finishes(&mut self, run: usize) {
        self.runs[run].ends();
        let reply = match self.rng.below(20) {
            0..=11 => Some(Arc::clone(&self.stock.replies[0])),
            12..=16 => Some(Arc::clone(&self.stock.replies[1])),
            17 => Some(Arc::clone(&self.stock.replies[2])),
            18 => None,
            _ if self.is_wild() => Some(Arc::clone(&self.stock.replies[3])),
            _ => None,
        };
        let reply = self.aside.quiet().or(reply);
        let used = if self.rng.permille(400) {
            let at = self.rng.index(self.runs[run].seen.len().max(1));
            self.runs[run].seen.get(at).copied()
        } else {
            None
        };
        let hint = self.rng.pick(&[Hint::None, Hint::AwaitingField, Hint::FollowupExpected]);
        self.run_says(
            run,
            Kind::Finished,
            AgentInput::Finished(Finished { reply, used, hint, version: None }),
        );
    }

    fn run_fails(&mut self, run: usize, retry: bool) {
        self.runs[run].ends();
        let retry_after_ms = if self.rng.permille(100) { Some(3000) } else { None };
        let error = Arc::clone(&self.stock.error);
        let failure = RunFailure { error, retry, retry_after_ms };
        self.run_says(run, Kind::Failed, AgentInput::Failed(failure));
    }

    fn run_hangs(&mut self, run: usize) {
        self.runs[run].state = State::Hangs;
        let clock = RunClock::start(&self.plan.policies[self.runs[run].seat], self.now);
        let look = clock.next_look().unwrap_or(self.now);
        self.runs[run].clock = Some(clock);
        self.schedule(look - self.now, What::Watch(run));
    }

    /// The watch: a run that is silent for too long is killed, which is a failure like any other.
    pub(crate) fn watch(&mut self, run: usize) {
        let hangs = self.runs[run].state == State::Hangs;
        if !hangs || !self.processes[self.runs[run].process].alive {
            return;
        }
        let Some(clock) = &self.runs[run].clock else { return };
        if clock.overdue(self.now).is_some() {
            return self.run_fails(run, true);
        }
        let look = clock.next_look().unwrap_or(self.now + 1000).max(self.now + 1);
        self.schedule(look - self.now, What::Watch(run));
    }

    pub(crate) fn cancel_run(&mut self, process: usize, seat: usize, tag: RunTag) {
        let Some(run) = self.find_run(process, seat, tag) else { return };
        self.runs[run].ends();
        if self.rng.permille(200) {
            self.runs[run].state = State::Ghost;
            self.agent_soon(run);
        }
    }

    /// A cancelled run did not notice yet.
    fn ghost_talks(&mut self, run: usize) {
        self.runs[run].ends();
        match self.rng.below(5) {
            0 => self.run_finishes(run),
            1 => self.run_fails(run, true),
            2 => self.run_asks(run, Kind::TakeMail, AgentInput::TakeMail),
            3 => self.run_asks(run, Kind::CommitPoint, AgentInput::CommitPoint),
            _ => {
                let question = Arc::clone(&self.stock.question);
                self.run_asks(run, Kind::Ask, |token| AgentInput::Ask(token, question));
            }
        }
    }

    /// The session answers a run.
    pub(crate) fn run_is_told(&mut self, token: Token, answer: AgentAnswer) {
        let Some(run) = self.close_waiter(token) else { return };
        let Who::Run(run) = run else { return };
        let live = self.runs[run].state == State::Blocked;
        match answer {
            AgentAnswer::Revoked => {
                if live {
                    // It stops working; some agents report that as a failure, some just end.
                    if self.rng.permille(500) {
                        self.run_fails(run, true);
                    } else {
                        self.runs[run].ends();
                    }
                }
                return;
            }
            AgentAnswer::Mail(mail) => self.mail_is_taken(run, live, &mail),
            AgentAnswer::Granted => self.act_for_good(run, live),
            AgentAnswer::Asked(question) => {
                if live {
                    self.runs[run].state = State::AskedUser;
                    self.runs[run].question = Some(question);
                }
                return;
            }
            AgentAnswer::Call(call) => self.call_tool(run, live, call),
            AgentAnswer::Known(act) => self.judge_known(run, &act),
            AgentAnswer::Recorded => self.judge_kept(run),
            AgentAnswer::Recalled(told) => {
                self.judge_recalled(run, told.as_deref().map_err(|why| *why));
            }
            AgentAnswer::MailFirst | AgentAnswer::NotAllowed(_) | AgentAnswer::Refused => {
                self.is_denied(run);
            }
        }
        if live {
            self.runs[run].state = State::Working;
            self.agent_soon(run);
        }
    }

    fn mail_is_taken(&mut self, run: usize, live: bool, mail: &[Pending]) {
        if mail.is_empty() {
            return;
        }
        let Run { seat, tag, trust, .. } = self.runs[run];
        if !live {
            self.judge.broken("I18", || "a run that is over is given mail".to_owned());
        }
        self.judge.mail_taken(tag, trust, mail, &self.store.rows[seat]);
        self.runs[run].seen.extend(mail.iter().map(|pending| pending.seq));
    }

    /// The irreversible act, unless an earlier attempt may have done it.
    fn act_for_good(&mut self, run: usize, live: bool) {
        if !live {
            self.judge
                .broken("I18", || "a run that is over is granted its commit point".to_owned());
        }
        let Run { seat, tag, group, resume, acted, .. } = self.runs[run];
        self.judge.granted(tag, &self.store.rows[seat]);
        if resume || acted {
            return;
        }
        self.runs[run].acted = true;
        self.judge.acts(seat, tag.turn, group);
    }

    pub(crate) fn ask_run(
        &mut self,
        process: usize,
        seat: usize,
        tag: RunTag,
        question: QuestionId,
    ) {
        let Some(run) = self.find_run(process, seat, tag) else { return };
        if self.rng.permille(300) || self.runs[run].state == State::Hangs {
            return;
        }
        let choice = self.rng.pick(&[
            SupersedeChoice::Supersede,
            SupersedeChoice::AbsorbContinue,
            SupersedeChoice::AbsorbRestart,
            SupersedeChoice::Queue,
            SupersedeChoice::ForceComplete,
        ]);
        let after = self.rng.between(1, self.plan.agent_ms);
        self.schedule(after, What::Choose(run, question, choice));
    }

    /// The answer goes out, even if the run ended meanwhile.
    pub(crate) fn choose(&mut self, run: usize, question: QuestionId, choice: SupersedeChoice) {
        if self.processes[self.runs[run].process].alive {
            self.run_says(run, Kind::Answer, AgentInput::Answer(question, choice));
        }
    }

    /// The user's answer reaches the run.
    pub(crate) fn answer_run(
        &mut self,
        process: usize,
        seat: usize,
        tag: RunTag,
        question: QuestionId,
        message: &Pending,
    ) {
        let Some(run) = self.find_run(process, seat, tag) else {
            return self.judge.broken("I8", || "an answer finds no run that asked".to_owned());
        };
        let taken = &mut self.runs[run];
        if taken.state != State::AskedUser || taken.question != Some(question) {
            return self.judge.broken("I8", || "an answer finds a run that did not ask".to_owned());
        }
        taken.state = State::Working;
        // One that it began with answers what an attempt before it had asked.
        if !taken.seen.contains(&message.seq) {
            taken.seen.push(message.seq);
        }
        self.agent_soon(run);
    }
}
