//! Jobs, as typed and as used.

use turnkeep_core::Trust;
use turnkeep_core::schedule::{MadeBy, Misfire, Overlap, Target, Task, When};

use super::{check, load_text};

const ALICE: &str = "[users.alice]\nids = \"signal:+491\"\n";

#[test]
fn a_job_has_its_times_its_task_and_its_target() {
    let text = format!(
        "{ALICE}[cron.news]\nschedule = \"0 7 * * mon-fri\"\nzone = \"Europe/Berlin\"\n\
         prompt = \"What is new?\"\nto = \"alice\"\nmisfire = \"all\"\noverlap = \"queue\"\n\
         [cron.bins]\nschedule = \"@daily\"\nzone = \"UTC\"\ntext = \"The bins.\"\n\
         customer = \"bob\"\nchannel = \"web\"\npaused = true\ntrust = \"inner\"\n"
    );
    let jobs = load_text(&text).unwrap().jobs;
    let [bins, news] = &jobs[..] else { panic!("{jobs:?}") };
    let when = When::Cron { schedule: "0 7 * * mon-fri".into(), zone: "Europe/Berlin".into() };
    assert_eq!((&*news.name, &news.when), ("news", &when));
    assert_eq!(news.task, Task::Prompt("What is new?".into()));
    assert_eq!(news.to, Target::User { name: "alice".into(), channel: None });
    assert_eq!((news.misfire, news.overlap), (Misfire::All, Overlap::Queue));
    assert_eq!((news.trust, &news.made_by), (Trust::Owner, &MadeBy::Configuration));
    assert!(!news.paused && bins.paused);
    assert_eq!((bins.misfire, bins.overlap), (Misfire::Once, Overlap::Skip));
    assert_eq!((&bins.task, bins.trust), (&Task::Text("The bins.".into()), Trust::Inner));
    let Target::Session(key) = &bins.to else { panic!("{bins:?}") };
    assert_eq!(key.as_str(), "default:default:web:dm:bob");
    // Without a zone it is the machine's own, which has a name.
    let text =
        "[cron.a]\nschedule = \"@daily\"\ntext = \"x\"\ncustomer = \"b\"\nchannel = \"web\"\n";
    let own = &load_text(text).unwrap().jobs[0];
    assert_eq!(own.zone(), crate::config::machine_zone());
}

#[test]
fn every_mistake_is_told() {
    let check = |text: &str, expect: &str| check(&format!("{ALICE}[cron.news]\n{text}"), expect);
    check(
        "",
        "turnkeep.toml:3: [cron.news] needs \"schedule\"\n\
         turnkeep.toml:3: [cron.news] needs \"prompt\" or \"text\"\n\
         turnkeep.toml:3: [cron.news] needs \"to\" or \"session\" or \"customer\"",
    );
    let rest = "text = \"x\"\nto = \"alice\"\nzone = \"UTC\"\n";
    check(
        &format!("{rest}schedule = \"@daily\"\nchannel = \"web\"\n"),
        "turnkeep.toml:8: \"channel\" in [cron.news]: alice has no name there that can be written to",
    );
    check(
        &format!("{rest}schedule = \"0 7 * *\"\n"),
        "turnkeep.toml:7: \"schedule\" in [cron.news] has 4 fields; it takes 5 (minute, hour, day, \
         month, weekday), or 6 with the second before them",
    );
    check(
        &format!("{rest}schedule = \"0 0 30 2 *\"\n"),
        "turnkeep.toml:7: \"schedule\" in [cron.news] names a day that never comes",
    );
    check(
        &format!("{rest}schedule = \"0 25 * * *\"\n"),
        "turnkeep.toml:7: \"schedule\" in [cron.news] makes no sense: the hour \"25\" is not \
         within 0 to 23",
    );
    check(
        "schedule = \"@daily\"\ntext = \"x\"\nto = \"alice\"\nzone = \"Europe/Berln\"\n",
        "turnkeep.toml:7: \"zone\" in [cron.news]: no time zone is called \"Europe/Berln\"; did you \
         mean \"Europe/Berlin\"?",
    );
}

#[test]
fn a_target_that_there_is_not_is_told() {
    let check = |text: &str, expect: &str| check(&format!("{ALICE}[cron.news]\n{text}"), expect);
    let right = "schedule = \"@daily\"\nzone = \"UTC\"\n";
    check(
        &format!("{right}text = \"x\"\nto = \"alise\"\n"),
        "turnkeep.toml:7: \"to\" in [cron.news]: no user is called \"alise\"; did you mean \
         \"alice\"?",
    );
    check(
        &format!("{right}text = \"x\"\nto = \"alice\"\nchannel = \"signl\"\n"),
        "turnkeep.toml:8: \"channel\" in [cron.news]: there is no channel \"signl\"; did you mean \
         \"signal\"?",
    );
    check(
        &format!("{right}text = \"x\"\nto = \"many\"\n[users.many]\nids = \"signal:+49*\"\n"),
        "turnkeep.toml:7: \"to\" in [cron.news]: many has patterns only, which many people fit; name \
         one of them, or use \"customer\" and \"channel\"",
    );
    check(
        &format!("{right}text = \"x\"\ncustomer = \"bob\"\n"),
        "turnkeep.toml:7: \"customer\" in [cron.news] needs \"channel\" beside it",
    );
    check(
        &format!("{right}text = \"x\"\nsession = \"nonsense\"\n"),
        "turnkeep.toml:7: \"session\" in [cron.news] is no session's key: a session key has five \
         parts, tenant:agent:channel:kind:peer; this has 1",
    );
    check(
        &format!("{right}text = \"x\"\nsession = \"acme:default:web:dm:x\"\n"),
        "turnkeep.toml:7: \"session\" in [cron.news] is of another tenant than \"default\"",
    );
    check(
        &format!("{right}text = \" \"\nto = \"alice\"\n"),
        "turnkeep.toml:6: \"text\" in [cron.news] must be a text that is not empty, not \" \"",
    );
    check(
        &format!("{right}text = \"x\"\nprompt = \"y\"\nto = \"alice\"\n"),
        "turnkeep.toml:6: \"prompt\" and \"text\" in [cron.news] exclude each other",
    );
    check(
        &format!("{right}text = \"x\"\nto = \"alice\"\ncustomer = \"bob\"\n"),
        "turnkeep.toml:3: \"to\", \"session\" and \"customer\" in [cron.news] exclude each other",
    );
    check(
        &format!("{right}prompt = \"x\"\nto = \"alice\"\nagent = \"defalt\"\n"),
        "turnkeep.toml:8: \"agent\" in [cron.news]: no agent is called \"defalt\"; did you mean \
         \"default\"?",
    );
    check(
        &format!("{right}prompt = \"x\"\nto = \"alice\"\nmisfire = \"never\"\n"),
        "turnkeep.toml:8: \"misfire\" in [cron.news] must be one of skip, once, all, not \"never\"",
    );
}

#[test]
fn a_name_that_no_path_could_have_is_told() {
    let text = "[cron.\"a/b\"]\nschedule = \"@daily\"\nzone = \"UTC\"\ntext = \"x\"\n\
                customer = \"b\"\nchannel = \"web\"\n";
    check(text, "turnkeep.toml:1: the name of a job has 1 to 64 of a-z, A-Z, 0-9, - and _");
}
