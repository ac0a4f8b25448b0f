//! Signal: the adapter that is configured, kept over a reload, and what the command line wants of it.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};
use turnkeep_channels::signal::{
    self, Attachments, Patience, SignalAccount, SignalChannel, SignalSettings, Trusting, Way,
};

use super::Wired;
use crate::config::Resolved;
use crate::config::signal::SignalWay;

/// Where attachments are stored, also while nothing stores any: the same for as long as the process
/// lives.
pub(super) fn attachments(resolved: &Resolved, before: Option<&Wired>) -> Arc<Attachments> {
    let bytes_max = resolved.signal.as_ref().map(|signal| signal.attachments_total_bytes_max);
    let Some(before) = before.filter(|before| before.resolved.data_dir == resolved.data_dir) else {
        return Arc::new(Attachments::new(&resolved.data_dir, bytes_max.unwrap_or_default()));
    };
    before.attachments.limit(bytes_max.unwrap_or_default());
    Arc::clone(&before.attachments)
}

/// The channel, if it is configured; the same as before where nothing of it changed.
pub(super) fn channel(
    resolved: &Resolved,
    attachments: &Arc<Attachments>,
    before: Option<&Wired>,
) -> anyhow::Result<Option<Arc<SignalChannel>>> {
    let Some(settings) = settings(resolved, attachments) else { return Ok(None) };
    let same = before.filter(|before| {
        before.resolved.signal == resolved.signal && before.resolved.data_dir == resolved.data_dir
    });
    if let Some(channel) = same.and_then(|before| before.signal.clone()) {
        return Ok(Some(channel));
    }
    Ok(Some(Arc::new(SignalChannel::new(settings).context("[signal]")?)))
}

fn settings(resolved: &Resolved, attachments: &Arc<Attachments>) -> Option<SignalSettings> {
    let signal = resolved.signal.as_ref()?;
    let accounts = signal.accounts.iter().map(|account| SignalAccount {
        name: account.name.as_str().into(),
        number: account.number.as_str().into(),
        tenant: account.tenant.as_str().into(),
    });
    Some(SignalSettings {
        accounts: accounts.collect(),
        way: way(&signal.way),
        data_dir: resolved.data_dir.clone(),
        attachments_bytes_max: signal.attachments_bytes_max,
        attachments: Arc::clone(attachments),
        receipts: signal.receipts,
        patience: Patience::default(),
    })
}

fn way(way: &SignalWay) -> Way {
    match way.clone() {
        SignalWay::Child { command, config_dir } => Way::Child { command, config_dir },
        SignalWay::Unix(path) => Way::Unix(path),
        SignalWay::Tcp(place) => Way::Tcp(place),
        SignalWay::Http(url) => Way::Http(url),
    }
}

/// How signal-cli is reached: as configured, else as it would be without anything configured.
fn way_or_default(resolved: &Resolved) -> Way {
    match &resolved.signal {
        Some(signal) => way(&signal.way),
        None => Way::Child {
            command: vec!["signal-cli".to_owned()],
            config_dir: resolved.data_dir.join("signal"),
        },
    }
}

/// Links this machine to a phone's account: shows what has to be scanned, waits for that, and says
/// which number it was.
pub(crate) async fn link(
    resolved: &Resolved,
    name: &str,
    show: impl FnOnce(&str) -> anyhow::Result<()> + Send,
) -> anyhow::Result<String> {
    let mut shown = Ok(());
    let linked = signal::link(&way_or_default(resolved), name, |uri| shown = show(uri)).await;
    shown?;
    linked.context("it was not linked")
}

/// The numbers that signal-cli knows.
pub(crate) async fn accounts(resolved: &Resolved) -> anyhow::Result<Vec<String>> {
    let listed = signal::list_accounts(&way_or_default(resolved)).await;
    listed.context("signal-cli does not tell its accounts")
}

/// The groups of these accounts, as a server tells them.
pub(crate) async fn groups(
    resolved: &Resolved,
    accounts: &[crate::config::signal::SignalAccount],
) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for account in accounts {
        let known = signal::groups(&way_or_default(resolved), &account.number).await;
        let known = known.context("signal-cli does not tell the groups")?;
        all.extend(known.iter().map(|group| {
            json!({
                "account": account.name,
                "id": format!("signal:{}", group.id),
                "title": group.title.as_deref(),
                "members": group.members,
                "member": group.member,
                "blocked": group.blocked,
            })
        }));
    }
    Ok(all)
}

/// Has an account trust the new key of somebody, by their safety number if it was compared.
pub(crate) async fn trust(
    resolved: &Resolved,
    account: &str,
    who: &str,
    safety_number: Option<String>,
) -> anyhow::Result<()> {
    let how = safety_number.map_or(Trusting::AllKnownKeys, Trusting::SafetyNumber);
    let trusted = signal::trust(&way_or_default(resolved), account, who, &how).await;
    trusted.with_context(|| format!("{who} is not trusted"))
}
