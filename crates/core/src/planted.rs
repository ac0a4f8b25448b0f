//! Mistakes that only the simulator can plant, to see that it finds them. Without the `mutants`
//! feature, which nothing that ships enables, every question here is the constant `false`.

/// A mistake in the rules or in their driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Planted {
    MailboxForgotten,
    RunTagUnchecked,
    TimerIdForgotten,
    TrustIgnored,
    SupersedeAfterCommit,
    ErrorsUncounted,
    UnreadLost,
    RequeueAtBack,
    AttemptKept,
    SecondPartEarly,
    UnknownResent,
    StopForgetsMailbox,
    NewKeepsQueue,
    ClampForgotten,
    ResumeForgotten,
    QuarantineSkipped,
    RefusalUnguarded,
    RedeliverForgotten,
    TypingLeftOn,
    FenceForgotten,
    ConflictForgotten,
    CommitErrorTrusted,
    RefusedTaken,
    QuestionUnchecked,
    AnyGapLearnt,
    RhythmIgnored,
    NewForgetsRhythm,
    NoticeInTurn,
    NoticeForgotten,
    NoticeUnguarded,
    ConsentIgnored,
    OptOutKeepsNotices,
    CheckSkipped,
    CheckWithoutEnd,
    HeldOvertaken,
    HeldUncounted,
    RulingIgnored,
    NewKeepsHeld,
    QueueSwitchIgnored,
    ActRepeated,
    UnknownCalledAgain,
    MailUnread,
    CommitPointForgotten,
    ResultForgotten,
    CallsUnpaired,
    LateUsageDropped,
    UsageBookedTwice,
    UsageUncounted,
    PauseIgnored,
    PauseKeepsTurn,
    PauseLeavesRun,
    HandBackForgotten,
    OperatorMissesLast,
    ReplyUnguarded,
    FinishIgnored,
    UndoneUnchecked,
    UndoneForgotten,
    UndoneTwice,
    InputsIgnored,
    DependencyIgnored,
    ArtifactsForgotten,
    ConfirmedBefore,
    CommandUnguarded,
    CommandQueued,
    CommandTrustIgnored,
    CommandUnanswered,
    ContextTaken,
    SilenceSent,
    UnaddressedTaken,
    TriggerSkipped,
    SessionTaken,
    GuestActs,
    GuestTimers,
    OldAnswer,
    AdoptedTwice,
    StrayKept,
    ResendUnguarded,
    OwnedKept,
}

#[cfg(feature = "mutants")]
thread_local! {
    static NOW: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a mistake in everything that this thread steps, or takes it away.
#[cfg(feature = "mutants")]
#[doc(hidden)]
pub fn plant(mistake: Option<Planted>) {
    NOW.set(mistake);
}

/// Whether this mistake is planted.
#[cfg(feature = "mutants")]
#[doc(hidden)]
#[must_use]
pub fn planted(mistake: Planted) -> bool {
    NOW.get() == Some(mistake)
}

/// Whether this mistake is planted.
#[cfg(not(feature = "mutants"))]
#[doc(hidden)]
#[must_use]
pub const fn planted(_: Planted) -> bool {
    false
}
