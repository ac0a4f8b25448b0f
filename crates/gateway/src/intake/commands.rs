//! Commands, as people type them. What they do is the core's.

use turnkeep_core::policy::BusyPolicy;

/// The channels on which people type, so that a line may be a command.
const CHANNELS: [&str; 5] = ["signal", "web", "terminal", "whatsapp", "sms"];

/// The policies that a person can choose.
const POLICIES: [(&str, Option<BusyPolicy>); 6] = [
    ("absorb", Some(BusyPolicy::Absorb)),
    ("collect", Some(BusyPolicy::Collect)),
    ("queue", Some(BusyPolicy::Queue)),
    ("supersede", Some(BusyPolicy::Supersede)),
    ("reject", Some(BusyPolicy::Reject)),
    ("default", None),
];

/// What somebody wants of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A new conversation.
    New,
    /// The end of the open turn.
    Stop,
    /// Another busy policy.
    Queue(Option<BusyPolicy>),
    /// Which there are.
    QueueHelp,
    /// How the session stands.
    Status,
    /// Who answers, or shall from now on.
    Model(Option<String>),
    /// Their own sessions.
    Sessions,
    /// What there is.
    Help,
}

/// Whether lines of this channel may be commands.
pub(crate) fn has_commands(channel: &str) -> bool {
    CHANNELS.contains(&channel)
}

/// The command that a message is as a whole. Whatever else begins with a slash is a message.
pub(crate) fn parse(text: &str) -> Option<Command> {
    let mut words = text.trim().strip_prefix('/')?.split_whitespace();
    let (word, rest, more) = (words.next()?, words.next(), words.next());
    if text.trim()[1..].starts_with(char::is_whitespace) || more.is_some() {
        return None;
    }
    let command = match word.to_ascii_lowercase().as_str() {
        "queue" => return Some(queue(rest)),
        "model" => return Some(Command::Model(rest.map(str::to_owned))),
        "new" => Command::New,
        "stop" => Command::Stop,
        "status" => Command::Status,
        "sessions" => Command::Sessions,
        "help" => Command::Help,
        _ => return None,
    };
    rest.is_none().then_some(command)
}

fn queue(word: Option<&str>) -> Command {
    let word = word.map(str::to_ascii_lowercase);
    let found = POLICIES.iter().find(|(name, _)| word.as_deref() == Some(name));
    found.map_or(Command::QueueHelp, |(_, policy)| Command::Queue(*policy))
}

/// The word for a policy.
pub(super) fn policy_word(policy: BusyPolicy) -> &'static str {
    let found = POLICIES.iter().find(|(_, one)| *one == Some(policy));
    found.map_or("agent", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_message_is_a_command() {
        let check = |text: &str, expect: Option<Command>| assert_eq!(parse(text), expect, "{text}");
        check("/new", Some(Command::New));
        check("  /STOP \n", Some(Command::Stop));
        check("/Status", Some(Command::Status));
        check("/model", Some(Command::Model(None)));
        check("/MODEL Sonnet", Some(Command::Model(Some("Sonnet".to_owned()))));
        check("/sessions", Some(Command::Sessions));
        check("/help", Some(Command::Help));
        check("/queue", Some(Command::QueueHelp));
        check("/queue later", Some(Command::QueueHelp));
        check("/queue Collect", Some(Command::Queue(Some(BusyPolicy::Collect))));
        check("/queue default", Some(Command::Queue(None)));
        // One that asks the agent needs an agent that can be asked.
        check("/queue agent", Some(Command::QueueHelp));
        for text in [
            "new",
            "/",
            "/ new",
            "//new",
            "/newer",
            "/model of a ship",
            "/new york",
            "see /new",
            "/stop it, please",
            "/queue the cake for later",
            "/etc/passwd",
            "",
            "/неw",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn people_type_on_some_channels() {
        for channel in ["signal", "web", "terminal", "whatsapp", "sms"] {
            assert!(has_commands(channel), "{channel}");
        }
        for channel in ["api", "email", "voice", "pigeon"] {
            assert!(!has_commands(channel), "{channel}");
        }
    }
}
