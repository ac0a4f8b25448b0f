//! Signal, as typed and as used.

use std::os::unix::fs::PermissionsExt as _;

use turnkeep_core::policy::Trust;

use super::{check, load_text};
use crate::config::signal::{SignalAccount, SignalSettings, SignalWay};
use crate::config::trust::Unknown;

fn account(name: &str, number: &str, tenant: &str, agent: &str) -> SignalAccount {
    let [name, number, tenant, agent] = [name, number, tenant, agent].map(str::to_owned);
    SignalAccount { name, number, tenant, agent }
}

#[test]
fn a_number_is_enough() {
    let resolved = load_text("data_dir = \"/d\"\n[signal]\nnumber = \"+4915112345678\"\n").unwrap();
    let expect = SignalSettings {
        accounts: vec![account("default", "+4915112345678", "default", "default")],
        way: SignalWay::Child {
            command: vec!["signal-cli".to_owned()],
            config_dir: "/d/signal".into(),
        },
        unknown: Unknown::Deny,
        attachments_bytes_max: 26_214_400,
        attachments_total_bytes_max: 5_368_709_120,
        attachments_trust: Trust::Familiar,
        receipts: true,
    };
    assert_eq!(resolved.signal, Some(expect));
    assert_eq!(load_text("").unwrap().signal, None);
}

#[test]
fn accounts_have_names_and_tenants_of_their_own() {
    let text = "[signal]\naddress = \"http://127.0.0.1:8080/\"\nunknown = \"pair\"\nreceipts = false\n\
                attachments_bytes_max = 0\nattachments_total_bytes_max = 7\nattachments_trust = \"owner\"\n\
                [signal.accounts.home]\nnumber = \"+4915112345678\"\n\
                [signal.accounts.shop]\nnumber = \"+4915112345679\"\ntenant = \"acme\"\n\
                agent = \"two\"\n\
                [agents.default]\nkind = \"echo\"\n[agents.two]\nkind = \"echo\"\n";
    let resolved = load_text(text).unwrap();
    let expect = SignalSettings {
        accounts: vec![
            account("home", "+4915112345678", "default", "default"),
            account("shop", "+4915112345679", "acme", "two"),
        ],
        way: SignalWay::Http("http://127.0.0.1:8080".to_owned()),
        unknown: Unknown::Pair,
        attachments_bytes_max: 0,
        attachments_total_bytes_max: 7,
        attachments_trust: Trust::Owner,
        receipts: false,
    };
    assert_eq!(resolved.signal, Some(expect));
    assert_eq!(resolved.notes, Vec::<String>::new());
}

#[test]
fn signal_cli_is_reached_in_four_ways() {
    let way = |keys: &str| {
        let text = format!("[signal]\nnumber = \"+4915112345678\"\n{keys}\n");
        load_text(&text).unwrap().signal.unwrap().way.to_string()
    };
    assert_eq!(
        way("command = [\"/opt/signal-cli/bin/signal-cli\", \"-v\"]"),
        "/opt/signal-cli/bin/signal-cli"
    );
    assert_eq!(way("address = \"unix:/run/signal-cli/socket\""), "unix:/run/signal-cli/socket");
    assert_eq!(way("address = \"unix:///run/s\""), "unix:/run/s");
    assert_eq!(way("address = \"tcp://localhost:7583\""), "tcp://localhost:7583");
    assert_eq!(way("address = \"tcp://[::1]:7583\""), "tcp://[::1]:7583");
    assert_eq!(way("address = \"http://127.0.0.1:8080\""), "http://127.0.0.1:8080");
}

#[test]
fn every_mistake_is_told() {
    const ONE: &str = "[signal]\nnumber = \"+4915112345678\"\n";
    let more = |text: &str, expect: &str| check(&format!("{ONE}{text}"), expect);
    check(
        "[signal]\n",
        "turnkeep.toml:1: [signal] needs \"number\", or a [signal.accounts.NAME] for each account",
    );
    check(
        "[signal]\nnumber = \"015112345678\"\n",
        "turnkeep.toml:2: \"number\" in [signal] must be a telephone number with its country, like \
         \"+4915112345678\", not \"015112345678\"\n\
         turnkeep.toml:1: [signal] needs \"number\", or a [signal.accounts.NAME] for each account"
            .lines().rev().collect::<Vec<_>>().join("\n").as_str(),
    );
    more(
        "nummber = \"+49\"\n",
        "turnkeep.toml:3: unknown key \"nummber\" in [signal]; did you mean \"number\"?",
    );
    more(
        "command = \"signal-cli\"\naddress = \"unix:/s\"\n",
        "turnkeep.toml:4: \"command\" and \"address\" in [signal] exclude each other",
    );
    more(
        "config_dir = \"/x\"\naddress = \"unix:/s\"\n",
        "turnkeep.toml:3: \"config_dir\" in [signal] is of no use with \"address\": whoever started \
         that signal-cli told it its folder",
    );
    more(
        "address = \"127.0.0.1:7583\"\n",
        "turnkeep.toml:3: \"address\" in [signal] must be like \"unix:/run/signal-cli/socket\", \
         \"tcp://127.0.0.1:7583\" or \"http://127.0.0.1:8080\", not \"127.0.0.1:7583\"",
    );
    more(
        "command = \"signal-cli -v\"\n",
        "turnkeep.toml:3: \"command\" in [signal] is started without a shell; it must be a list, like \
         [\"python3\", \"brain.py\"]",
    );
    more(
        "unknown = \"nobody\"\n",
        "turnkeep.toml:3: \"unknown\" in [signal] must be one of deny, pair, public, not \"nobody\"",
    );
    more(
        "attachments_trust = \"family\"\n",
        "turnkeep.toml:3: \"attachments_trust\" in [signal] must be one of owner, full, inner, \
         familiar, public, not \"family\"; did you mean \"familiar\"?",
    );
    more(
        "agent = \"defualt\"\n",
        "turnkeep.toml:3: \"agent\" in [signal]: there is no [agents.defualt]; did you mean \
         \"default\"?",
    );
    more(
        "[signal.accounts.home]\nnumber = \"+4915112345679\"\n",
        "turnkeep.toml:2: \"number\" in [signal] belongs into [signal.accounts.NAME] where there are \
         any",
    );
    more(
        "[channels.signal]\nspool = \"out\"\n",
        "turnkeep.toml:4: \"spool\" in [channels.signal] and [signal] exclude each other: replies \
         leave through one of them",
    );
}

#[test]
fn every_mistake_of_several_accounts_is_told() {
    let more = |text: &str, expect: &str| {
        check(&format!("[signal.accounts.home]\nnumber = \"+4915112345678\"\n{text}"), expect);
    };
    more("[signal.accounts.shop]\n", "turnkeep.toml:3: [signal.accounts.shop] needs \"number\"");
    more(
        "[signal.accounts.shop]\nnumber = \"+4915112345679\"\n",
        "turnkeep.toml:3: [signal.accounts.shop] and [signal.accounts.home] are both of the tenant \
         \"default\": a tenant has one account, from which its replies are sent",
    );
    more(
        "[signal.accounts.shop]\nnumber = \"+4915112345678\"\ntenant = \"acme\"\n",
        "turnkeep.toml:4: [signal.accounts.shop] has the number of [signal.accounts.home]: each \
         account stands here once",
    );
    more(
        "[signal.accounts.\"a b\"]\nnumber = \"+4915112345679\"\ntenant = \"acme\"\n",
        "turnkeep.toml:3: the name of an account has 1 to 32 of a-z, A-Z, 0-9, - and _",
    );
    check(
        "[signal]\naccounts = 7\n",
        "turnkeep.toml:1: [signal] needs \"number\", or a [signal.accounts.NAME] for each account\n\
         turnkeep.toml:2: [signal.accounts] must be a section, not 7",
    );
}

#[test]
fn what_others_could_read_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    let open = |mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.path().join("data"), mode).unwrap();
        let dir = dir.path().display();
        let text = format!("[signal]\nnumber = \"+4915112345678\"\nconfig_dir = \"{dir}\"\n");
        load_text(&text).unwrap().notes
    };
    assert_eq!(open(0o700), Vec::<String>::new());
    let notes = open(0o755);
    assert!(notes[0].contains("data is open to everybody on this machine"), "{notes:?}");
    let text = "[signal]\nnumber = \"+4915112345678\"\naddress = \"tcp://10.0.0.7:7583\"\n";
    let notes = load_text(text).unwrap().notes;
    assert!(notes[0].contains("whoever reaches 10.0.0.7 can read every message"), "{notes:?}");
}
