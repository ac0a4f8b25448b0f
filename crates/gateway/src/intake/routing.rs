//! Who somebody is, how far they are trusted, and where what they say goes: looked up in tables,
//! without IO.
//!
//! People are known by the names that their provider vouches for. What they call themselves is
//! never looked at.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use turnkeep_core::policy::Trust;
use turnkeep_core::ports::intake::Person;

/// What becomes of somebody unknown who writes to us alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strangers {
    /// Nothing is answered.
    #[default]
    Deny,
    /// A one-time code makes them known.
    Pair,
    /// They are answered with the least trust.
    Public,
}

/// One of our own accounts at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The channel it is on.
    pub channel: Arc<str>,
    /// Its configured name.
    pub name: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Who answers there, where nothing else says so.
    pub agent: Arc<str>,
    /// What becomes of somebody unknown.
    pub strangers: Strangers,
    /// Attachments of people who are trusted less are not stored.
    pub stores_from: Trust,
}

/// A person, or a sort of people, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What we call them.
    pub name: Arc<str>,
    /// Where they are known.
    pub tenant: Arc<str>,
    /// How far they are trusted.
    pub trust: Trust,
    /// Who answers them in direct chats, where that is not the account's agent.
    pub agent: Option<Arc<str>>,
    /// Channel and name there; a `*` at its end stands for anything.
    pub ids: Vec<(Arc<str>, Arc<str>)>,
}

/// What tells that a message in a group is for us.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// It names us, or refers to something that we said.
    Mention,
    /// It was said there.
    Always,
    /// The same as a mention, or this is found in it.
    Regex(Regex),
    /// The same as a mention, or this agent says so.
    Llm(Arc<str>),
}

/// The largest automaton that a pattern may become, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

impl Trigger {
    /// The trigger of a regular expression, or why it is none.
    pub fn regex(pattern: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
        built.map(Self::Regex).map_err(|error| error.to_string().replace('\n', " "))
    }
}

/// A group in which we take part.
#[derive(Clone, Debug)]
pub struct Group {
    /// What we call it.
    pub name: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The channel it is on.
    pub channel: Arc<str>,
    /// The channel's own name of it.
    pub id: Arc<str>,
    /// Who answers there, where that is not the account's agent.
    pub agent: Option<Arc<str>>,
    /// What tells that a message is for us.
    pub trigger: Trigger,
    /// Words that name us, beside a real mention.
    pub names: Vec<String>,
    /// Nobody is trusted more there.
    pub ceiling: Trust,
}

/// Somebody who is not just anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What we call them; none where only the sort of people is known that they belong to.
    pub name: Option<Arc<str>>,
    /// How far they are trusted.
    pub trust: Trust,
    /// Who answers them in direct chats, where that is not the account's agent.
    pub agent: Option<Arc<str>>,
    /// By which of their names their direct chat goes: the configured one, so that whatever is told
    /// to a user stands in the conversation that they have. None for the provider's own.
    pub peer: Option<Arc<str>>,
}

type Place = (Arc<str>, Arc<str>, Arc<str>);

/// All of it. Replaced as a whole.
#[derive(Default)]
pub struct Routing {
    accounts: HashMap<(Arc<str>, Arc<str>), Account>,
    users: HashMap<Arc<str>, Arc<User>>,
    exact: HashMap<Place, Arc<User>>,
    /// Tenant, channel and what a name begins with; the longest first.
    patterns: Vec<(Place, Arc<User>)>,
    groups: HashMap<Place, Arc<Group>>,
}

impl fmt::Debug for Routing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Routing")
            .field("accounts", &self.accounts.len())
            .field("users", &self.users.len())
            .field("groups", &self.groups.len())
            .finish()
    }
}

impl Routing {
    /// Of tables in which no name stands twice.
    #[must_use]
    pub fn new(accounts: Vec<Account>, users: Vec<User>, groups: Vec<Group>) -> Self {
        let mut routing = Self::default();
        for account in accounts {
            let name = (Arc::clone(&account.channel), Arc::clone(&account.name));
            routing.accounts.insert(name, account);
        }
        for user in users {
            let user = Arc::new(user);
            for (channel, id) in &user.ids {
                let place = |id| (Arc::clone(&user.tenant), Arc::clone(channel), id);
                match id.strip_suffix('*') {
                    Some(begins) => {
                        routing.patterns.push((place(begins.into()), Arc::clone(&user)));
                    }
                    None => {
                        routing.exact.insert(place(Arc::clone(id)), Arc::clone(&user));
                    }
                }
            }
            routing.users.insert(Arc::clone(&user.name), user);
        }
        routing.patterns.sort_by_key(|((_, _, begins), _)| std::cmp::Reverse(begins.len()));
        for group in groups {
            let place =
                (Arc::clone(&group.tenant), Arc::clone(&group.channel), Arc::clone(&group.id));
            routing.groups.insert(place, Arc::new(group));
        }
        routing
    }

    /// One of our accounts.
    #[must_use]
    pub fn account(&self, channel: &str, name: &str) -> Option<&Account> {
        self.accounts.get(&(channel.into(), name.into()))
    }

    /// The account of a tenant on a channel; there is one at most.
    #[must_use]
    pub fn account_of(&self, tenant: &str, channel: &str) -> Option<&Account> {
        self.accounts
            .values()
            .find(|account| &*account.tenant == tenant && &*account.channel == channel)
    }

    /// A configured user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// Whether a user is called so, in whatever case.
    #[must_use]
    pub fn is_name(&self, tenant: &str, name: &str) -> bool {
        let name = name.to_lowercase();
        let mut own = self.users.values().filter(|user| &*user.tenant == tenant);
        own.any(|user| user.name.to_lowercase() == name)
    }

    /// A group that is listed.
    #[must_use]
    pub fn group(&self, tenant: &str, channel: &str, id: &str) -> Option<&Arc<Group>> {
        self.groups.get(&(tenant.into(), channel.into(), id.into()))
    }

    /// The user one of whose names somebody has: the provider's lasting one before the others.
    #[must_use]
    pub fn exact(&self, tenant: &str, channel: &str, person: &Person) -> Option<&Arc<User>> {
        let find = |id: &str| self.exact.get(&(tenant.into(), channel.into(), id.into()));
        names(person).find_map(find)
    }

    /// The user whose pattern fits somebody; of several the longest.
    #[must_use]
    pub fn sort_of(&self, tenant: &str, channel: &str, person: &Person) -> Option<&Arc<User>> {
        let fits = |begins: &str| names(person).any(|name| name.starts_with(begins));
        let found = self
            .patterns
            .iter()
            .find(|((of, on, begins), _)| &**of == tenant && &**on == channel && fits(begins));
        found.map(|(_, user)| user)
    }

    /// Who somebody is. A name of the configuration wins over one that they were `paired` with,
    /// and that over a pattern. A pattern fits many, so it tells how far somebody is trusted and
    /// not who they are.
    #[must_use]
    pub fn known(
        &self,
        tenant: &str,
        channel: &str,
        person: &Person,
        paired: Option<(Arc<str>, Trust)>,
    ) -> Option<Known> {
        if let Some(user) = self.exact(tenant, channel, person) {
            let listed =
                |name: &&str| user.ids.iter().any(|(on, id)| &**on == channel && &**id == *name);
            let peer = names(person).find(listed).map(Arc::from);
            return Some(Known { name: Some(Arc::clone(&user.name)), peer, ..Known::of(user) });
        }
        if let Some((name, trust)) = paired {
            let configured = self.user(&name).filter(|user| &*user.tenant == tenant);
            let known = configured.map(|user| Known::of(user));
            let known = known.unwrap_or(Known { name: None, trust, agent: None, peer: None });
            return Some(Known { name: Some(name), ..known });
        }
        self.sort_of(tenant, channel, person).map(|user| Known::of(user))
    }
}

impl Known {
    /// All but the name.
    fn of(user: &User) -> Self {
        Self { name: None, trust: user.trust, agent: user.agent.clone(), peer: None }
    }
}

/// Everything that the provider vouches for.
fn names(person: &Person) -> impl Iterator<Item = &str> {
    std::iter::once(&*person.id).chain(person.also.iter().map(|name| &**name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, trust: Trust, ids: &[&str]) -> User {
        let ids = ids.iter().map(|id| ("signal".into(), (*id).into())).collect();
        User { name: name.into(), tenant: "default".into(), trust, agent: None, ids }
    }

    fn person(id: &str, also: &[&str], name: Option<&str>) -> Person {
        let also = also.iter().map(|name| (*name).into()).collect();
        Person { id: id.into(), also, name: name.map(Arc::from) }
    }

    fn routing() -> Routing {
        let users = vec![
            user("alice", Trust::Owner, &["uuid-a", "+491"]),
            user("bob", Trust::Inner, &["+4922"]),
            user("germans", Trust::Familiar, &["+49*"]),
            user("berlin", Trust::Inner, &["+4930*"]),
            user("everybody", Trust::Public, &["*"]),
            User { tenant: "other".into(), ..user("olga", Trust::Owner, &["uuid-o"]) },
        ];
        let account = |name: &str, tenant: &str| Account {
            channel: "signal".into(),
            name: name.into(),
            tenant: tenant.into(),
            agent: "default".into(),
            strangers: Strangers::Deny,
            stores_from: Trust::Familiar,
        };
        let accounts = vec![account("home", "default"), account("work", "other")];
        Routing::new(accounts, users, Vec::new())
    }

    #[test]
    fn people_are_known_by_what_is_vouched_for() {
        let routing = routing();
        let check = |id: &str, also: &[&str], expect: (Option<&str>, Trust)| {
            let known = routing.known("default", "signal", &person(id, also, None), None);
            let known = known.map(|known| (known.name, known.trust));
            assert_eq!(known, Some((expect.0.map(Arc::from), expect.1)), "{id} {also:?}");
        };
        check("uuid-a", &[], (Some("alice"), Trust::Owner));
        check("uuid-x", &["+491"], (Some("alice"), Trust::Owner));
        // The lasting name wins over a number that is somebody else's too.
        check("uuid-a", &["+4922"], (Some("alice"), Trust::Owner));
        check("+4922", &["+491"], (Some("bob"), Trust::Inner));
        // Exact before pattern, longer before shorter; and a pattern is nobody's name.
        check("uuid-x", &["+4922"], (Some("bob"), Trust::Inner));
        check("uuid-x", &["+4930123"], (None, Trust::Inner));
        check("uuid-x", &["+4940123"], (None, Trust::Familiar));
        check("uuid-x", &["+33"], (None, Trust::Public));
        check("uuid-o", &[], (None, Trust::Public));
    }

    #[test]
    fn what_people_call_themselves_is_not_looked_at() {
        let (routing, named) = (routing(), person("uuid-x", &[], Some("alice")));
        assert_eq!(routing.exact("default", "signal", &named), None);
        let named = person("uuid-x", &[], Some("uuid-a"));
        assert_eq!(routing.exact("default", "signal", &named), None);
    }

    #[test]
    fn pairings_stand_between_names_and_patterns() {
        let routing = routing();
        let check = |person: Person, paired: (&str, Trust), expect: (&str, Trust)| {
            let paired = Some((Arc::from(paired.0), paired.1));
            let known = routing.known("default", "signal", &person, paired).unwrap();
            assert_eq!((known.name.as_deref(), known.trust), (Some(expect.0), expect.1));
        };
        check(person("+4930", &[], None), ("carol", Trust::Full), ("carol", Trust::Full));
        check(person("uuid-a", &[], None), ("carol", Trust::Full), ("alice", Trust::Owner));
        // A user who is configured is trusted as the configuration says.
        check(person("x", &[], None), ("bob", Trust::Full), ("bob", Trust::Inner));
        // One of another tenant is another one.
        check(person("x", &[], None), ("olga", Trust::Familiar), ("olga", Trust::Familiar));
    }

    #[test]
    fn tenants_and_channels_are_kept_apart() {
        let routing = routing();
        let olga = person("uuid-o", &[], None);
        let tenant_of = |account: &str| routing.account("signal", account).unwrap().tenant.clone();
        assert_eq!(routing.exact(&tenant_of("home"), "signal", &olga), None);
        assert_eq!(&*routing.exact(&tenant_of("work"), "signal", &olga).unwrap().name, "olga");
        assert_eq!(routing.exact("other", "whatsapp", &olga), None);
        assert_eq!(&*routing.account_of("other", "signal").unwrap().name, "work");
        assert!(routing.account("signal", "nothing").is_none());
    }
}
