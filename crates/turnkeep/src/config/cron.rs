//! Jobs that stand in the configuration.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use turnkeep_core::policy::{CHANNELS, Trust, channel_facts};
use turnkeep_core::schedule::{
    CalendarError, Job, MadeBy, Misfire, NAME_BYTES_MAX, Overlap, TEXT_BYTES_MAX, Target, Task,
    When, is_name, zone_names,
};
use turnkeep_core::session_key::{SessionKey, SessionKind};

use super::people::{PeopleRaw, UserRaw};
use super::problem::{Origin, Problems, suggestion};
use super::resolved::{or, text};
use super::value::{Range, Scalar, Set, Setting};

/// Whose jobs are that name no tenant.
const TENANT: &str = "default";
/// Who is asked where no agent is named.
const AGENT: &str = "default";
/// Jobs at most.
const JOBS_MAX: usize = 500;

section! {
    /// A job that is run at its times.
    struct CronKeys {
        /// When: a cron expression of five fields (minute, hour, day, month, weekday), or six with
        /// the second before them, or `@daily` and its like. Required.
        schedule: String => "\"0 7 * * mon-fri\"";
        /// The time zone that is meant. Without it the machine's own.
        zone: String => "\"Europe/Berlin\"";
        /// What an agent is asked then; its answer is told. This or `text`.
        prompt: String => "\"What is in the news? Three lines.\"";
        /// What is told then as it stands.
        text: String => "\"Put the bins out.\"";
        /// Which user is told, of those in `[users.NAME]`. This, `session` or `customer`.
        to: String => "\"alice\"";
        /// On which channel; without it the one that the user used last. With `customer` it is
        /// required.
        channel: String => "\"signal\"";
        /// Which customer is told, by the channel's own name of them.
        customer: String => "\"+4915112345678\"";
        /// In which session it is told.
        session: String => "\"default:default:signal:group:tL9rJ0cD3hUb6Ej4GZkq2w==\"";
        /// Which agent is asked.
        agent: String = "\"default\"";
        /// What becomes of times that were missed, because the machine was off or asleep: nothing
        /// (`skip`), one run for all of them (`once`), or a run for each (`all`, the last 100).
        misfire: Misfire = "\"once\"";
        /// What becomes of a time that comes while the one before is under way: nothing (`skip`), or
        /// it waits (`queue`).
        overlap: Overlap = "\"skip\"";
        /// It rests.
        paused: bool = "false";
        /// How far its question is trusted: `owner`, `full`, `inner`, `familiar` or `public`.
        trust: Trust = "\"owner\"";
        /// Whose job it is.
        tenant: String = "\"default\"";
    }
}

macro_rules! setting {
    ($type:ty) => {
        impl Setting for $type {
            fn expected(_: Range) -> String {
                let words: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                format!("one of {}", words.join(", "))
            }

            fn schema(_: Range) -> Value {
                let words: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                json!({"enum": words})
            }

            fn read(scalar: &Scalar, _: Range) -> Option<Self> {
                Self::named(scalar.text()?)
            }

            fn shown(&self) -> String {
                format!("{:?}", self.as_str())
            }
        }
    };
}

setting!(Misfire);
setting!(Overlap);

/// One job as typed.
#[derive(Clone, Debug)]
pub(super) struct CronRaw {
    pub(super) at: Origin,
    pub(super) keys: CronKeys,
}

/// Makes the jobs of what was typed; `agents` are the names of those that are configured.
pub(super) fn jobs(
    raw: &BTreeMap<String, CronRaw>,
    people: &PeopleRaw,
    agents: &[String],
    problems: &mut Problems,
) -> Vec<Job> {
    if let Some(raw) = raw.values().nth(JOBS_MAX) {
        problems.add(&raw.at, format!("there may be at most {JOBS_MAX} jobs"));
    }
    let mut jobs = Vec::new();
    for (name, raw) in raw.iter().take(JOBS_MAX) {
        let mut typed = Typed { place: format!("[cron.{name}]"), raw, problems };
        jobs.extend(typed.job(name, people, agents));
    }
    jobs
}

/// The machine's own time zone, where it has a name.
pub(crate) fn machine_zone() -> String {
    let zone = jiff::tz::TimeZone::system();
    zone.iana_name().unwrap_or("UTC").to_owned()
}

/// What is wrong with a schedule or a zone, with the name that was probably meant.
pub(crate) fn calendar_words(error: &CalendarError) -> String {
    let CalendarError::Zone(zone) = error else { return error.to_string() };
    // All of them would be no help.
    let names: Vec<(String, String)> =
        zone_names().into_iter().map(|name| (name.to_lowercase(), name)).collect();
    let near = super::problem::nearest(zone, names.iter().map(|(small, _)| small.as_str()));
    let near = near.and_then(|near| names.iter().find(|(small, _)| small == near));
    format!("{error}{}", super::problem::did_you_mean(near.map(|(_, name)| name.as_str())))
}

struct Typed<'a> {
    place: String,
    raw: &'a CronRaw,
    problems: &'a mut Problems,
}

impl Typed<'_> {
    /// A mistake in one key.
    fn wrong<T>(&mut self, key: &str, set: &Set<T>, why: &str) {
        let place = &self.place;
        let blank = if why.starts_with(':') { "" } else { " " };
        self.problems.add(&set.origin, format!("\"{key}\" in {place}{blank}{why}"));
    }

    /// Something that is missing.
    fn lacks(&mut self, keys: &[&str]) {
        let place = &self.place;
        let words: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let text = format!("{place} needs {}", words.join(" or "));
        self.problems.lacks(place, keys, &self.raw.at, &text);
    }

    fn job(&mut self, name: &str, people: &PeopleRaw, agents: &[String]) -> Option<Job> {
        if !is_name(name) {
            let rule = format!("1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, - and _");
            self.problems.add(&self.raw.at, format!("the name of a job has {rule}"));
        }
        let keys = &self.raw.keys;
        if let Some(set) = &keys.agent
            && !agents.contains(&set.value)
        {
            let known: Vec<&str> = agents.iter().map(String::as_str).collect();
            let why =
                format!(": no agent is called {:?}{}", set.value, suggestion(&set.value, &known));
            self.wrong("agent", set, &why);
        }
        let when = self.when();
        let task = self.task();
        let tenant = text(keys.tenant.as_ref()).unwrap_or_else(|| TENANT.to_owned());
        let to = self.target(&tenant, people);
        let job = Job {
            tenant,
            name: name.to_owned(),
            when: when?,
            task: task?,
            agent: text(keys.agent.as_ref()).unwrap_or_else(|| AGENT.to_owned()),
            to: to?,
            misfire: or(keys.misfire.as_ref(), Misfire::default()),
            overlap: or(keys.overlap.as_ref(), Overlap::default()),
            paused: or(keys.paused.as_ref(), false),
            trust: or(keys.trust.as_ref(), Trust::Owner),
            made_by: MadeBy::Configuration,
        };
        if let Err(error) = job.session() {
            let place = &self.place;
            self.problems.add(&self.raw.at, format!("{place}: {error}"));
            return None;
        }
        Some(job)
    }

    fn when(&mut self) -> Option<When> {
        let keys = &self.raw.keys;
        let Some(schedule) = &keys.schedule else {
            self.lacks(&["schedule"]);
            return None;
        };
        let zone = text(keys.zone.as_ref()).unwrap_or_else(machine_zone);
        match turnkeep_core::schedule::Calendar::new(&schedule.value, &zone) {
            Ok(_) => Some(When::Cron { schedule: schedule.value.clone(), zone }),
            Err(error) => {
                let why = calendar_words(&error);
                match (&error, &keys.zone) {
                    (CalendarError::Zone(_), Some(set)) => {
                        self.wrong("zone", set, &format!(": {why}"))
                    }
                    (CalendarError::Zone(_), None) => {
                        let text =
                            format!("{} needs \"zone\": {why}, the machine's own", self.place);
                        self.problems.add(&self.raw.at, text);
                    }
                    (CalendarError::Expression(_), _) => {
                        self.wrong("schedule", schedule, &format!("makes no sense: {why}"));
                    }
                    _ => self.wrong("schedule", schedule, &why),
                }
                None
            }
        }
    }

    fn task(&mut self) -> Option<Task> {
        let keys = &self.raw.keys;
        let (key, set, task) = match (&keys.prompt, &keys.text) {
            (Some(set), None) => ("prompt", set, Task::Prompt(set.value.clone())),
            (None, Some(set)) => ("text", set, Task::Text(set.value.clone())),
            (Some(_), Some(set)) => {
                let text = format!("\"prompt\" and \"text\" in {} exclude each other", self.place);
                self.problems.add(&set.origin, text);
                return None;
            }
            (None, None) => {
                self.lacks(&["prompt", "text"]);
                return None;
            }
        };
        let control = |one: char| one.is_control() && !matches!(one, '\n' | '\r' | '\t');
        let why = if set.value.len() > TEXT_BYTES_MAX {
            format!("is longer than {TEXT_BYTES_MAX} bytes")
        } else if set.value.chars().any(control) {
            "holds a control character".to_owned()
        } else {
            return Some(task);
        };
        self.wrong(key, set, &why);
        None
    }

    fn target(&mut self, tenant: &str, people: &PeopleRaw) -> Option<Target> {
        let keys = &self.raw.keys;
        let channel = keys.channel.as_ref();
        if let Some(set) = channel.filter(|set| channel_facts(&set.value).is_none()) {
            let known: Vec<&str> = CHANNELS.iter().map(|facts| facts.name).collect();
            let why =
                format!(": there is no channel {:?}{}", set.value, suggestion(&set.value, &known));
            self.wrong("channel", set, &why);
            return None;
        }
        match (&keys.to, &keys.session, &keys.customer) {
            (Some(set), None, None) => self.user(set, people),
            (None, Some(set), None) => {
                let key: Result<SessionKey, _> = set.value.parse();
                match key {
                    Ok(key) if key.tenant() != tenant => {
                        let why = format!("is of another tenant than {tenant:?}");
                        self.wrong("session", set, &why);
                        None
                    }
                    Ok(key) if channel_facts(&key.channel()).is_none() => {
                        self.wrong("session", set, "is on a channel that there is not");
                        None
                    }
                    Ok(key) => Some(Target::Session(key)),
                    Err(error) => {
                        self.wrong("session", set, &format!("is no session's key: {error}"));
                        None
                    }
                }
            }
            (None, None, Some(set)) => {
                let Some(channel) = channel else {
                    self.wrong("customer", set, "needs \"channel\" beside it");
                    return None;
                };
                let agent = text(keys.agent.as_ref()).unwrap_or_else(|| AGENT.to_owned());
                let key =
                    SessionKey::new(tenant, &agent, &channel.value, SessionKind::Dm, &set.value);
                match key {
                    Ok(key) => Some(Target::Session(key)),
                    Err(error) => {
                        self.wrong("customer", set, &format!(": {error}"));
                        None
                    }
                }
            }
            (None, None, None) => {
                self.lacks(&["to", "session", "customer"]);
                None
            }
            _ => {
                let text = format!(
                    "\"to\", \"session\" and \"customer\" in {} exclude each other",
                    self.place
                );
                self.problems.add(&self.raw.at, text);
                None
            }
        }
    }

    fn user(&mut self, set: &Set<String>, people: &PeopleRaw) -> Option<Target> {
        let keys = &self.raw.keys;
        let name = &set.value;
        if !people.users.contains_key(name) {
            let known: Vec<&str> = people.users.keys().map(String::as_str).collect();
            let why = format!(": no user is called {name:?}{}", suggestion(name, &known));
            self.wrong("to", set, &why);
            return None;
        }
        let channel = text(keys.channel.as_ref());
        if let Some(user) = people.users.get(name)
            && is_many(user)
        {
            let why = format!(
                ": {name} has patterns only, which many people fit; name one of them, or use \
                 \"customer\" and \"channel\""
            );
            self.wrong("to", set, &why);
            return None;
        }
        if let (Some(on), Some(user)) = (&keys.channel, people.users.get(name))
            && !may_be_told(user, &on.value)
        {
            let why = format!(": {name} has no name there that can be written to");
            self.wrong("channel", on, &why);
            return None;
        }
        Some(Target::User { name: name.clone(), channel })
    }
}

/// Whether everything that a user is known by is a pattern.
fn is_many(user: &UserRaw) -> bool {
    let mut names = user.keys.ids.iter().flat_map(|set| &set.value.0).peekable();
    names.peek().is_some() && names.all(|name| name.ends_with('*'))
}

/// Whether a user has a name on this channel, or may get one by a pairing code.
fn may_be_told(user: &UserRaw, channel: &str) -> bool {
    let names = user.keys.ids.iter().flat_map(|set| &set.value.0);
    let mut own = names.filter_map(|name| name.split_once(':')).filter(|(on, _)| *on == channel);
    channel == "signal" || own.any(|(_, name)| !name.ends_with('*'))
}
