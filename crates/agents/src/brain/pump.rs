//! One attempt of a brain: what it says goes to the turn's handle, and the answers back.

use std::collections::HashSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::Pending;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{
    Declined, Permission, Recalled, Revoked, SupersedeQuestion, TurnContext, TurnHandle,
};
use turnkeep_core::session::input::{Finished, RunFailure};
use turnkeep_core::usage::Usage;

use super::incoming::{FromBrain, Request, read};
use super::outgoing::{FinishReason, Recorded, ToBrain, Turn};
use super::{EMITS_MAX, HISTORY_MAX, REQUESTS_MAX, SAID_BYTES_MAX, Seat, USES_MAX};

/// How long a brain that has finished may take to end its stream.
const ENDING_MAX: Duration = Duration::from_secs(2);
/// Why a second question is refused: there is one user, one slot to come back to and one clock.
const ASKING: &str = "the user is being asked already; ask again after the answer";

/// Where the objects of a brain come from.
pub(crate) trait Events: Send {
    /// The next one, not looked into; none at the end. Nothing is lost if the future is dropped.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, String>> + Send;
}

/// How an attempt ended that has no result.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With this.
    Failed(RunFailure),
    /// It said so itself, and knows that the attempt is over.
    SaidFailed(RunFailure),
    /// Too much waits that it was told; the transport knows whose fault that is.
    Unread,
    /// Its stream ended before it said that it is done; the transport knows more.
    Silent,
}

/// What is said of a brain that does not read.
pub(crate) const UNREAD: &str = "it does not read what it is told";

/// The brain broke the contract; it would do so again.
pub(crate) fn breach(what: &str) -> RunFailure {
    let error = format!("the brain broke its contract: {what}").into();
    RunFailure { error, retry: false, retry_after_ms: None }
}

fn unreadable(what: &str, error: &str) -> Ended {
    let error = format!("{what} can't be read: {error}").into();
    Ended::Failed(RunFailure { error, retry: true, retry_after_ms: None })
}

/// Runs one attempt. `told` is what the brain reads; when it is dropped, the brain is told nothing
/// more.
pub(crate) async fn pump<'a>(
    context: &'a TurnContext,
    seat: &'a Seat<'a>,
    events: &mut impl Events,
    told: Sender<String>,
) -> Result<Finished, Ended> {
    let handle: &dyn TurnHandle = &*context.handle;
    let history =
        handle.history(HISTORY_MAX).await.map_err(|error| unreadable("the history", &error))?;
    let recorded = handle.recorded().await.map_err(|error| unreadable("what tools did", &error))?;
    let mut pump = Pump {
        handle,
        seat,
        told,
        line: 0,
        given: context.messages.iter().map(|message| message.seq).collect(),
        under_way: HashSet::new(),
        asking: None,
        requests: FuturesUnordered::new(),
        calls: Vec::new(),
        questions: Vec::new(),
        said_bytes: 0,
        emits: 0,
        uses: 0,
        knows_of_mail: false,
    };
    pump.tell(&ToBrain::Turn(Box::new(Turn::new(context, &history, &recorded))))?;
    drop((history, recorded));
    let finished = pump.work(events).await?;
    let line = pump.line;
    // Who is told nothing more knows that it can end.
    drop(pump);
    timeout(ENDING_MAX, ends(events, line)).await.unwrap_or(Ok(()))?;
    Ok(finished)
}

/// After its last word a brain says nothing.
async fn ends(events: &mut impl Events, mut line: u64) -> Result<(), Ended> {
    loop {
        line += 1;
        let Some(said) = events.next().await.map_err(|wrong| wrong_line(line, &wrong))? else {
            return Ok(());
        };
        match read(&said) {
            Ok(None) => {}
            Ok(Some(FromBrain::Finished(_) | FromBrain::Failed(_))) => {
                return Err(wrong_line(line, "ends a turn that had ended"));
            }
            _ => return Err(wrong_line(line, "comes after the turn had ended")),
        }
    }
}

fn wrong_line(line: u64, wrong: &str) -> Ended {
    Ended::Failed(breach(&format!("line {line} {wrong}")))
}

/// The answer to a request.
enum Said {
    Mail(Result<Vec<Pending>, Revoked>),
    Granted(Result<(), Declined>),
    Answer(Result<Option<Pending>, Declined>),
    Permission(Result<Permission, Revoked>),
    Recorded(Result<(), Revoked>),
    Filed(Result<Recalled, Revoked>),
    Recalled(Result<Recalled, Revoked>),
}

struct Pump<'a> {
    handle: &'a dyn TurnHandle,
    seat: &'a Seat<'a>,
    told: Sender<String>,
    /// The line that was read last, from 1.
    line: u64,
    /// Every message that it was given.
    given: HashSet<Seq>,
    /// The names of its requests that have no answer.
    under_way: HashSet<String>,
    /// The name of its question to the user that has no answer.
    asking: Option<String>,
    requests: FuturesUnordered<BoxFuture<'a, (String, Said)>>,
    /// Calls that it may make and has not told the outcome of.
    calls: Vec<Seq>,
    /// Questions that it was asked and has not answered.
    questions: Vec<QuestionId>,
    said_bytes: usize,
    emits: usize,
    uses: usize,
    /// It was told that mail is waiting, and has not taken it.
    knows_of_mail: bool,
}

impl<'a> Pump<'a> {
    async fn work(&mut self, events: &mut impl Events) -> Result<Finished, Ended> {
        let handle = self.handle;
        let mut question = handle.question();
        let mut arrived = handle.mail_arrived();
        let mut cancelled = handle.cancelled();
        let mut finishing = handle.finishing();
        let (mut stopped, mut finishes) = (false, false);
        loop {
            tokio::select! {
                event = events.next() => {
                    self.line += 1;
                    let Some(line) = event.map_err(|wrong| self.wrong(&wrong))? else {
                        return Err(Ended::Silent);
                    };
                    let said = read(&line).map_err(|wrong| self.wrong(&wrong))?;
                    if let Some(finished) = self.hear(said).await? {
                        return Ok(finished);
                    }
                }
                Some((id, said)) = self.requests.next() => self.answer(&id, said)?,
                asked = &mut question => {
                    question = handle.question();
                    self.question(&asked)?;
                }
                () = &mut arrived, if !self.knows_of_mail => {
                    arrived = handle.mail_arrived();
                    self.knows_of_mail = true;
                    self.tell(&ToBrain::MailWaiting)?;
                }
                // A run that was cancelled is dropped; who gets to see it is asked to wind up.
                () = &mut cancelled, if !stopped => {
                    stopped = true;
                    self.tell(&ToBrain::FinishNow { reason: FinishReason::Stopped })?;
                }
                reason = &mut finishing, if !finishes && !stopped => {
                    finishes = true;
                    self.tell(&ToBrain::FinishNow { reason: reason.into() })?;
                }
            }
        }
    }

    fn wrong(&self, wrong: &str) -> Ended {
        wrong_line(self.line, wrong)
    }

    fn tell(&self, outgoing: &ToBrain<'_>) -> Result<(), Ended> {
        match self.told.try_send(outgoing.text()) {
            Err(TrySendError::Full(_)) => Err(Ended::Unread),
            // One that has closed its ears may still finish.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn question(&mut self, asked: &SupersedeQuestion) -> Result<(), Ended> {
        self.questions.push(asked.id);
        let message = (&asked.message).into();
        self.tell(&ToBrain::Question { question_id: asked.id, message })
    }

    /// Takes what the brain says; its result, if that is what it is.
    async fn hear(&mut self, said: Option<FromBrain>) -> Result<Option<Finished>, Ended> {
        match said {
            None => {}
            Some(FromBrain::Say(text)) => {
                self.said_bytes = self.said_bytes.saturating_add(text.len());
                if self.said_bytes > SAID_BYTES_MAX {
                    let limit = format!("makes its \"say\" more than {SAID_BYTES_MAX} bytes");
                    return Err(self.wrong(&limit));
                }
                self.handle.say(&text);
            }
            Some(FromBrain::Emit { name, detail }) => {
                self.emits += 1;
                if self.emits > EMITS_MAX {
                    return Err(self.wrong(&format!("is \"emit\" number {}", self.emits)));
                }
                // Waited for here, so that it is on record before anything that is said after it.
                // Of a run that was replaced nobody wants a record.
                let _ = self.handle.emit(&name, &detail).await;
            }
            Some(FromBrain::Request(id, request)) => self.begin(id, request).await?,
            Some(FromBrain::Used(usage)) => self.use_up(usage)?,
            Some(FromBrain::Choose(question, choice)) => self.choose(question, choice)?,
            Some(FromBrain::Finished(finished)) => return self.finish(finished).map(Some),
            Some(FromBrain::Failed(failure)) => return Err(Ended::SaidFailed(failure)),
        }
        Ok(None)
    }

    fn use_up(&mut self, usage: Usage) -> Result<(), Ended> {
        self.uses += 1;
        if self.uses > USES_MAX {
            return Err(self.wrong(&format!("is \"used\" number {}", self.uses)));
        }
        self.handle.used(usage);
        Ok(())
    }

    fn choose(&mut self, question: QuestionId, choice: SupersedeChoice) -> Result<(), Ended> {
        let Some(at) = self.questions.iter().position(|asked| *asked == question) else {
            return Err(self.wrong("has a \"question_id\" that is not open"));
        };
        self.questions.remove(at);
        self.handle.answer(question, choice);
        Ok(())
    }

    fn finish(&self, finished: Finished) -> Result<Finished, Ended> {
        if !self.under_way.is_empty() {
            return Err(self.wrong("says \"finished\" while a request of its is under way"));
        }
        if finished.used.is_some_and(|used| !self.given.contains(&used)) {
            return Err(self.wrong("has a \"used\" that names no message of this turn"));
        }
        Ok(finished)
    }

    /// Starts a request; what was asked for first gets to the session first.
    async fn begin(&mut self, id: String, request: Request) -> Result<(), Ended> {
        if self.under_way.len() >= REQUESTS_MAX {
            let limit = format!("is a request while {REQUESTS_MAX} of its are under way");
            return Err(self.wrong(&limit));
        }
        if !self.under_way.insert(id.clone()) {
            return Err(self.wrong("has the \"id\" of a request that is under way"));
        }
        if let Request::Returned { call, .. } = &request {
            let Some(at) = self.calls.iter().position(|open| open == call) else {
                return Err(self.wrong("has a \"call\" that is not open, or not its own"));
            };
            self.calls.remove(at);
        }
        if let Request::Ask(..) = &request {
            // Before it touches the seat: two who come back would wait for two slots.
            if self.asking.is_some() {
                self.under_way.remove(&id);
                return self.tell(&ToBrain::Refused { id: &id, reason: ASKING });
            }
            self.asking = Some(id.clone());
        }
        let mut answer = self.ask(id, request);
        match poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            Poll::Ready((id, said)) => self.answer(&id, said),
            Poll::Pending => {
                self.requests.push(answer);
                Ok(())
            }
        }
    }

    fn ask(&self, id: String, request: Request) -> BoxFuture<'a, (String, Said)> {
        let (handle, seat) = (self.handle, self.seat);
        Box::pin(async move {
            let said = match request {
                Request::TakeMail => Said::Mail(handle.mail().await),
                Request::CommitPoint => Said::Granted(handle.commit_point().await),
                Request::Ask(text, confirm) => {
                    let outside = seat.leave();
                    let answer = match confirm {
                        true => handle.confirm(&text).await,
                        false => handle.ask(&text).await.map(Some),
                    };
                    seat.come_back(handle, outside).await;
                    Said::Answer(answer)
                }
                Request::Intend(call) => Said::Permission(handle.intend(call).await),
                Request::Returned { call, outcome, output } => {
                    Said::Recorded(handle.returned(call, outcome, &output).await)
                }
                Request::Keep(artifact) => Said::Filed(handle.keep(artifact).await),
                Request::Recall { name, inputs } => {
                    Said::Recalled(handle.recall(&name, inputs).await)
                }
            };
            (id, said)
        })
    }

    fn answer(&mut self, id: &str, said: Said) -> Result<(), Ended> {
        self.under_way.remove(id);
        self.asking.take_if(|asking| asking == id);
        match said {
            Said::Mail(Ok(mail)) => {
                self.knows_of_mail = false;
                self.given.extend(mail.iter().map(|message| message.seq));
                let messages = mail.iter().map(Into::into).collect();
                self.tell(&ToBrain::Mail { id, messages })
            }
            Said::Answer(Ok(None)) => self.tell(&ToBrain::MailFirst { id }),
            Said::Answer(Ok(Some(message))) => {
                self.given.insert(message.seq);
                self.tell(&ToBrain::Answer { id, message: (&message).into() })
            }
            Said::Granted(Ok(())) => self.tell(&ToBrain::Granted { id }),
            Said::Recorded(Ok(())) => self.tell(&ToBrain::Recorded { id }),
            Said::Filed(Ok(Recalled::Kept(_))) => self.tell(&ToBrain::Recorded { id }),
            Said::Recalled(Ok(Recalled::Kept(content))) => {
                self.tell(&ToBrain::Kept { id, content: &content })
            }
            Said::Filed(Ok(Recalled::Stale(why))) | Said::Recalled(Ok(Recalled::Stale(why))) => {
                self.tell(&ToBrain::None { id, why: why.as_str() })
            }
            Said::Filed(Ok(Recalled::Refused(reason)))
            | Said::Recalled(Ok(Recalled::Refused(reason))) => {
                self.tell(&ToBrain::Refused { id, reason })
            }
            Said::Permission(Ok(permission)) => match permission {
                Permission::Call(call) => {
                    self.calls.push(call);
                    self.tell(&ToBrain::Call { id, call })
                }
                Permission::Known(known) => {
                    self.tell(&ToBrain::Known { id, known: Recorded::from(&known) })
                }
                Permission::MailFirst => self.tell(&ToBrain::MailFirst { id }),
                Permission::Refused(reason) => self.tell(&ToBrain::Refused { id, reason }),
            },
            Said::Answer(Err(why)) | Said::Granted(Err(why)) => {
                self.tell(&ToBrain::Refused { id, reason: why.as_str() })
            }
            Said::Mail(Err(Revoked))
            | Said::Recorded(Err(Revoked))
            | Said::Filed(Err(Revoked))
            | Said::Recalled(Err(Revoked))
            | Said::Permission(Err(Revoked)) => {
                let reason = Declined::Revoked(Revoked).as_str();
                self.tell(&ToBrain::Refused { id, reason })
            }
        }
    }
}
