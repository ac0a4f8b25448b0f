//! What every schedule is made of: keys, messages and texts, prepared once by the ingress that
//! ships, so that a schedule only clones handles.

use std::sync::Arc;

use turnkeep_core::message::{Inbound, MessageBody, Seen};
use turnkeep_core::policy::channel_facts;
use turnkeep_core::session_key::SessionKind;
use turnkeep_core::{Policy, SessionKey};
use turnkeep_gateway::ingress::{
    OperatorReply, Policies, Submission, UnknownPart, admit, admit_reply, admit_unasked,
};

/// Sessions in a schedule.
pub const SESSIONS: usize = 2;
/// Different messages that a session may get in a schedule.
pub const MESSAGES: usize = 12;
/// Different notices that a session may get in a schedule.
pub const NOTICES: usize = 4;
/// Different replies that operators may give in a session.
pub const REPLIES: usize = 4;

/// The longest text that is let in.
const BYTES_MAX: usize = 1000;
/// A store's secret.
const SALT: &[u8] = b"simulated";

const TEXTS: [&str; MESSAGES] = [
    "hi",
    "where is my parcel now?",
    "well I think that...",
    "it is about order #",
    "send me the invoice copy please",
    "and one more thing,",
    "tell me about the weather today",
    "yes",
    "no",
    "4711",
    "Hello!",
    "the second part of the story goes like this",
];

/// A named message and the same name with another text.
#[derive(Debug)]
pub struct Prepared {
    /// As it was first sent.
    pub inbound: Inbound,
    /// The same id with another body.
    pub forged: Inbound,
    /// The same message without an id of its own.
    pub unnamed: Inbound,
}

/// A named notice.
#[derive(Debug)]
pub struct PreparedNotice {
    /// Its dedupe key.
    pub seen: Option<Seen>,
    /// What it says.
    pub body: Arc<MessageBody>,
}

/// Everything that is prepared.
#[derive(Debug)]
pub struct Stock {
    /// The sessions' keys.
    pub keys: [SessionKey; SESSIONS],
    /// The keys of groups in their place.
    pub groups: [SessionKey; SESSIONS],
    /// Messages by session.
    pub messages: [Vec<Prepared>; SESSIONS],
    /// Notices by session.
    pub notices: [Vec<PreparedNotice>; SESSIONS],
    /// The names of operators.
    pub operators: [Arc<str>; 2],
    /// What they say, by session.
    pub operator_replies: [Vec<PreparedNotice>; SESSIONS],
    /// What agents reply; the last one is longer than any policy allows.
    pub replies: Vec<Arc<str>>,
    /// What agents ask.
    pub question: Arc<str>,
    /// What agents put on record.
    pub record: Arc<str>,
    /// What goes wrong.
    pub error: Arc<str>,
    /// What was shown before a stop.
    pub shown: Arc<str>,
}

/// Knows every channel of the table.
struct BuiltIn;

impl Policies for BuiltIn {
    fn policy(&self, _: &str, _: &str, channel: &str) -> Result<Arc<Policy>, UnknownPart> {
        let facts = channel_facts(channel).ok_or(UnknownPart::Channel)?;
        Ok(Arc::new(Policy::built_in(*facts)))
    }
}

impl Stock {
    /// Prepares it all, or says what the ingress did not like.
    pub fn prepare() -> Result<Self, String> {
        let (one, first) = prepare_session("web", "ann")?;
        let (two, second) = prepare_session("signal", "ben")?;
        Ok(Self {
            operators: ["ann".into(), "bob".into()],
            operator_replies: [prepare_replies(&one)?, prepare_replies(&two)?],
            notices: [prepare_notices("web", "ann")?, prepare_notices("signal", "ben")?],
            replies: [
                "done",
                "first part. second part. third part.",
                "",
                "a much longer answer than \
                 any channel of this world lets through, whichever way it is cut",
            ]
            .map(Arc::from)
            .to_vec(),
            question: "which one?".into(),
            record: "step".into(),
            error: "the provider is busy".into(),
            shown: "so far".into(),
            groups: [group_of(&one)?, group_of(&two)?],
            keys: [one, two],
            messages: [first, second],
        })
    }
}

fn group_of(key: &SessionKey) -> Result<SessionKey, String> {
    let (tenant, agent, channel) = (key.tenant(), key.agent(), key.channel());
    SessionKey::new(&tenant, &agent, &channel, SessionKind::Group, "home")
        .map_err(|error| error.to_string())
}

fn prepare_session(channel: &str, customer: &str) -> Result<(SessionKey, Vec<Prepared>), String> {
    let mut key = None;
    let mut prepared = Vec::with_capacity(MESSAGES);
    for (index, text) in TEXTS.iter().enumerate() {
        let mut let_in = |text: &str, named: bool| -> Result<Inbound, String> {
            let submission = Submission {
                customer: Some(customer.to_owned()),
                channel: Some(channel.to_owned()),
                text: text.to_owned(),
                message_id: named.then(|| format!("{customer}-{index}")),
                // Some are known by the name of their request as well.
                request_name: (named && index % 4 == 1).then(|| format!("{customer}-{index}")),
                ..Submission::default()
            };
            let admitted = admit(submission, &BuiltIn, SALT, BYTES_MAX, || format!("made-{index}"))
                .map_err(|error| error.to_string())?;
            key = Some(admitted.key);
            Ok(admitted.inbound)
        };
        prepared.push(Prepared {
            inbound: let_in(text, true)?,
            forged: let_in("something else", true)?,
            unnamed: let_in(text, false)?,
        });
    }
    let key = key.ok_or("no message was prepared")?;
    Ok((key, prepared))
}

fn prepare_notices(channel: &str, customer: &str) -> Result<Vec<PreparedNotice>, String> {
    let prepare = |index| {
        let submission = Submission {
            customer: Some(customer.to_owned()),
            channel: Some(channel.to_owned()),
            text: format!("your parcel is {index} streets away"),
            message_id: Some(format!("note-{customer}-{index}")),
            ..Submission::default()
        };
        let admitted = admit_unasked(submission, &BuiltIn, SALT, BYTES_MAX, String::new)
            .map_err(|error| error.to_string())?;
        Ok(PreparedNotice { seen: admitted.seen, body: admitted.body })
    };
    (0..NOTICES).map(prepare).collect()
}

fn prepare_replies(key: &SessionKey) -> Result<Vec<PreparedNotice>, String> {
    let prepare = |index| {
        let reply = OperatorReply {
            by: "ann".into(),
            text: format!("a person says {index}"),
            id: Some(format!("reply-{index}")),
        };
        let admitted = admit_reply(key, reply, SALT, BYTES_MAX, String::new)
            .map_err(|error| error.to_string())?;
        Ok(PreparedNotice { seen: admitted.seen, body: admitted.body })
    };
    (0..REPLIES).map(prepare).collect()
}

/// Which prepared message a body is, by its id.
#[must_use]
pub fn number_of(body: &MessageBody) -> Option<usize> {
    number_in(&body.message_id)
}

/// The number at the end of a prepared message's id.
pub(crate) fn number_in(message_id: &str) -> Option<usize> {
    let digits = message_id.bytes().rev().take_while(u8::is_ascii_digit);
    let (number, scale) = digits.fold((0, 1), |(number, scale), digit| {
        (number + usize::from(digit - b'0') * scale, scale * 10)
    });
    (scale > 1).then_some(number)
}
