//! Mistakes planted on purpose, to see that the simulator finds them: those of the store and the
//! shell are made by the simulator itself, those of the rules need the `mutants` feature.

use turnkeep_core::planted::Planted;

/// A mistake that the simulator makes around the types that ship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapped {
    /// The store does not compare versions.
    VersionUnchecked,
    /// Dedupe keys are gone after a restart.
    DedupeInMemory,
    /// A commit loses its last journal entry.
    TornCommit,
    /// Messages are acknowledged before their commit.
    AcknowledgedEarly,
    /// Work that is open at boot is not looked for.
    OpenWorkForgotten,
    /// A node that was put out still writes.
    GateOpen,
    /// A node that came since the last look counts as gone.
    NewcomerGone,
    /// Nobody is told of what others write.
    KnocksForgotten,
    /// Who is told already is not told of a commit that can't be seen yet.
    KnockKept,
    /// What a node was told is crossed out after it looked, by its name.
    KnocksClearedLate,
    /// Nobody asks what is left behind.
    LeftBehindForgotten,
    /// Who runs turns in the place of others has no number for that: it counts as running none.
    StandInUncounted,
    /// Whoever runs turns takes sessions of a channel that has one owner.
    OwnerIgnored,
    /// Who may not run a session writes it under its own number.
    GuestSigns,
    /// Who comes to own a channel leaves to others what it left to them before.
    GuestForGood,
    /// Who runs turns in the place of others does so for a channel that has one owner.
    StandInForOwner,
}

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Around the types that ship.
    Wrapped(Wrapped),
    /// Inside of them.
    Planted(Planted),
}

/// Every mistake: what it is, and within how many schedules it has to be found.
pub const MUTANTS: [(Mutant, &str, u64); 94] = [
    (Mutant::Wrapped(Wrapped::VersionUnchecked), "the store does not compare versions", 2000),
    (Mutant::Wrapped(Wrapped::DedupeInMemory), "dedupe keys are gone after a restart", 2000),
    (Mutant::Wrapped(Wrapped::TornCommit), "a commit loses its last entry", 200),
    (Mutant::Wrapped(Wrapped::AcknowledgedEarly), "acknowledged before the commit", 2000),
    (Mutant::Wrapped(Wrapped::OpenWorkForgotten), "open work is not looked for at boot", 2000),
    (planted(Planted::MailboxForgotten), "a turn ends without a look at its mailbox", 2000),
    (planted(Planted::RunTagUnchecked), "epoch and attempt of a run are not checked", 5000),
    (planted(Planted::TimerIdForgotten), "any timer counts as the armed one", 20_000),
    (planted(Planted::TrustIgnored), "trust does not keep messages apart", 2000),
    (planted(Planted::SupersedeAfterCommit), "superseded after the commit point", 5000),
    (planted(Planted::ErrorsUncounted), "failed attempts are not counted", 2000),
    (planted(Planted::UnreadLost), "mail that the agent did not use is lost", 5000),
    (planted(Planted::RequeueAtBack), "unread mail goes behind the queue", 5000),
    (planted(Planted::AttemptKept), "a recovery keeps the attempt's number", 2000),
    (planted(Planted::SecondPartEarly), "the second part leaves before the first arrived", 2000),
    (planted(Planted::UnknownResent), "an unknown delivery is sent again, policy or not", 5000),
    (planted(Planted::StopForgetsMailbox), "stop forgets the mailbox", 5000),
    (planted(Planted::NewKeepsQueue), "/new keeps the queue", 5000),
    (planted(Planted::ClampForgotten), "deadlines are not clamped after a clock jump", 20_000),
    (planted(Planted::ResumeForgotten), "a retry after the commit point starts over", 5000),
    (planted(Planted::QuarantineSkipped), "suspect turns run without their place", 5000),
    (planted(Planted::RefusalUnguarded), "a refusal does not ask whether it is a twin", 2000),
    (planted(Planted::RedeliverForgotten), "a part whose effect was lost is never sent", 20_000),
    (planted(Planted::TypingLeftOn), "typing is left on when effects were lost", 5000),
    (planted(Planted::FenceForgotten), "an owner that was replaced goes on", 2000),
    (planted(Planted::ConflictForgotten), "inputs are dropped on a conflict", 2000),
    (planted(Planted::CommitErrorTrusted), "a failed commit counts as done", 2000),
    (planted(Planted::RefusedTaken), "a message that the guard refused is taken", 2000),
    (planted(Planted::QuestionUnchecked), "an answer is taken for another question", 2000),
    (planted(Planted::QueueSwitchIgnored), "messages wait where none may", 2000),
    (planted(Planted::AnyGapLearnt), "gaps that are no typing are learnt", 2000),
    (planted(Planted::RhythmIgnored), "what was learnt changes no window", 2000),
    (planted(Planted::NewForgetsRhythm), "/new forgets the customer's rhythm", 5000),
    (planted(Planted::NoticeInTurn), "a notice is told in the middle of a turn", 2000),
    (planted(Planted::NoticeForgotten), "a turn ends without a look at what is to be told", 5000),
    (planted(Planted::NoticeUnguarded), "a notice does not ask whether it is a twin", 2000),
    (planted(Planted::ConsentIgnored), "told to customers who did not opt in", 2000),
    (planted(Planted::OptOutKeepsNotices), "who opts out is still told what waits", 5000),
    (planted(Planted::CheckSkipped), "messages to a running turn are not checked", 2000),
    (planted(Planted::CheckWithoutEnd), "a check that is not answered has no end", 2000),
    (planted(Planted::HeldOvertaken), "messages are let go in the order of their checks", 2000),
    (planted(Planted::HeldUncounted), "held messages are not counted in the inbox", 5000),
    (planted(Planted::RulingIgnored), "what a check refused goes on", 2000),
    (planted(Planted::NewKeepsHeld), "/new keeps what is held", 5000),
    (planted(Planted::ActRepeated), "an act that was done is let through again", 2000),
    (planted(Planted::UnknownCalledAgain), "what may have been done is let through again", 2000),
    (planted(Planted::MailUnread), "what can't be undone is let through before the mail", 5000),
    (planted(Planted::CommitPointForgotten), "what can't be undone has no commit point", 2000),
    (planted(Planted::ResultForgotten), "the result of an act is not remembered", 5000),
    (planted(Planted::CallsUnpaired), "an attempt ends and leaves calls without a result", 2000),
    (planted(Planted::FinishIgnored), "a turn that finishes is let through to tools", 20_000),
    (planted(Planted::UndoneUnchecked), "whatever was called may be undone", 2000),
    (planted(Planted::UndoneForgotten), "what was undone still counts as done", 5000),
    (planted(Planted::UndoneTwice), "what was undone is undone again", 5000),
    (planted(Planted::InputsIgnored), "an artifact of other inputs is taken", 2000),
    (planted(Planted::DependencyIgnored), "an artifact is taken though its base changed", 20_000),
    (planted(Planted::ArtifactsForgotten), "the next attempt finds nothing that was kept", 5000),
    (planted(Planted::ConfirmedBefore), "what was said before a question allows an act", 5000),
    (planted(Planted::PauseIgnored), "attempts begin while an operator has the session", 2000),
    (planted(Planted::PauseKeepsTurn), "a pause leaves the open turn to its agent", 2000),
    (planted(Planted::PauseLeavesRun), "a pause does not end the run that it laid down", 2000),
    (planted(Planted::HandBackForgotten), "what waited for an operator is not handed back", 2000),
    (planted(Planted::OperatorMissesLast), "an operator's reply leaves a message out", 5000),
    (
        planted(Planted::ReplyUnguarded),
        "an operator's reply does not ask whether it is a twin",
        2000,
    ),
    (planted(Planted::LateUsageDropped), "what a run used that is over does not count", 2000),
    (planted(Planted::UsageBookedTwice), "a report that comes again is booked again", 2000),
    (planted(Planted::CommandUnguarded), "a command does not ask whether it is a twin", 2000),
    (planted(Planted::CommandQueued), "a command is given to the agent", 2000),
    (planted(Planted::CommandTrustIgnored), "a command cancels what is trusted further", 5000),
    (planted(Planted::CommandUnanswered), "a command is done and not answered", 2000),
    (planted(Planted::ContextTaken), "what is not said to the agent starts a turn", 2000),
    (planted(Planted::SilenceSent), "an agent's silence is sent", 2000),
    (planted(Planted::UnaddressedTaken), "what is not for the agent goes on to it", 2000),
    (planted(Planted::TriggerSkipped), "nobody is asked whether it is for the agent", 2000),
    (planted(Planted::UsageUncounted), "what was used is on record and not in the sums", 2000),
    (Mutant::Wrapped(Wrapped::GateOpen), "a node that was put out still writes", 20_000),
    (Mutant::Wrapped(Wrapped::NewcomerGone), "a node that came since counts as gone", 20_000),
    (Mutant::Wrapped(Wrapped::KnocksForgotten), "nobody is told of what others write", 20_000),
    (Mutant::Wrapped(Wrapped::KnockKept), "who was told is not told of what comes then", 100_000),
    (Mutant::Wrapped(Wrapped::KnocksClearedLate), "what was told is crossed out by name", 50_000),
    (Mutant::Wrapped(Wrapped::LeftBehindForgotten), "nobody asks what is left behind", 20_000),
    (Mutant::Wrapped(Wrapped::StandInUncounted), "who stands in counts as running none", 20_000),
    (Mutant::Wrapped(Wrapped::OwnerIgnored), "what has one owner is taken by anybody", 20_000),
    (Mutant::Wrapped(Wrapped::GuestSigns), "who may not run a session signs what it wrote", 20_000),
    (Mutant::Wrapped(Wrapped::GuestForGood), "who comes to own a channel does not run it", 20_000),
    (Mutant::Wrapped(Wrapped::StandInForOwner), "somebody stands in for the owner", 20_000),
    (planted(Planted::SessionTaken), "an open session is taken from who lives", 20_000),
    (planted(Planted::GuestActs), "a guest does what it decided", 20_000),
    (planted(Planted::GuestTimers), "a guest keeps the deadlines", 20_000),
    (planted(Planted::OldAnswer), "answers are given from what was known long ago", 20_000),
    (planted(Planted::AdoptedTwice), "two loads adopt twice", 20_000),
    (planted(Planted::StrayKept), "who takes a session keeps what ran there before", 100_000),
    (planted(Planted::ResendUnguarded), "what somebody else had sent again is sent again", 20_000),
    (planted(Planted::OwnedKept), "who may not run what it had does not give it away", 20_000),
];

const fn planted(mistake: Planted) -> Mutant {
    Mutant::Planted(mistake)
}

impl Mutant {
    /// The simulator's own part in it.
    #[must_use]
    pub const fn wrapped(self) -> Option<Wrapped> {
        match self {
            Self::Wrapped(wrapped) => Some(wrapped),
            Self::Planted(_) => None,
        }
    }

    /// Whether this build can plant it.
    #[must_use]
    pub const fn is_available(self) -> bool {
        matches!(self, Self::Wrapped(_)) || cfg!(feature = "mutants")
    }
}

/// Plants a mistake in everything that this thread steps, or takes it away.
pub(crate) fn plant(mutant: Option<Mutant>) {
    #[cfg(feature = "mutants")]
    turnkeep_core::planted::plant(match mutant {
        Some(Mutant::Planted(mistake)) => Some(mistake),
        _ => None,
    });
    #[cfg(not(feature = "mutants"))]
    let _ = mutant;
}
