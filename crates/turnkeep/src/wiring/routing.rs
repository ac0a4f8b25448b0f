//! Who is known where: the tables that the gateway routes by, of a configuration.

use turnkeep_gateway::intake::routing::{Account, Routing, Strangers};

use crate::config::Resolved;
use crate::config::trust::Unknown;

/// The tables of this configuration.
pub(super) fn routing(resolved: &Resolved) -> Routing {
    let people = &resolved.people;
    Routing::new(accounts(resolved), people.users.clone(), people.groups.clone())
}

/// Our accounts on every channel that is listened to.
fn accounts(resolved: &Resolved) -> Vec<Account> {
    let Some(signal) = &resolved.signal else { return Vec::new() };
    let strangers = match signal.unknown {
        Unknown::Deny => Strangers::Deny,
        Unknown::Pair => Strangers::Pair,
        Unknown::Public => Strangers::Public,
    };
    let each = signal.accounts.iter().map(|account| Account {
        channel: "signal".into(),
        name: account.name.as_str().into(),
        tenant: account.tenant.as_str().into(),
        agent: account.agent.as_str().into(),
        strangers,
        stores_from: signal.attachments_trust,
    });
    each.collect()
}
