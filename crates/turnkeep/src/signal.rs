//! How the accounts of Signal are doing, as metrics.

use std::fmt::Write as _;

use turnkeep_core::ports::intake::{AccountHealth, Pulse};

/// One line of each number for each account, in the Prometheus text format; nothing where there are
/// no accounts, or where another server has them.
pub(crate) fn metrics(accounts: &[AccountHealth]) -> String {
    let mut text = String::new();
    let here = accounts.iter().filter(|one| one.receiving != Pulse::Elsewhere);
    let accounts: Vec<&AccountHealth> = here.collect();
    if accounts.is_empty() {
        return text;
    }
    let works = |pulse: &Pulse| u64::from(*pulse == Pulse::Working);
    let mut family = |name: &str, kind: &str, about: &str, of: &dyn Fn(&AccountHealth) -> u64| {
        // A String takes everything.
        let _ = writeln!(text, "# HELP {name} {about}\n# TYPE {name} {kind}");
        for account in &accounts {
            let _ = writeln!(text, "{name}{{account=\"{}\"}} {}", account.account, of(account));
        }
    };
    let about = "1 while messages of an account of Signal come in";
    family("turnkeep_signal_receiving", "gauge", about, &|one| works(&one.receiving));
    let about = "1 while messages of an account of Signal go out";
    family("turnkeep_signal_sending", "gauge", about, &|one| works(&one.sending));
    let about = "How often the way to signal-cli broke and was made again";
    family("turnkeep_signal_restarts_total", "counter", about, &|one| one.restarts);
    text
}
