//! Several people, one agent: everybody is answered at once, and in their own session only.

use std::collections::HashMap;

use serde_json::Value;

use crate::crash_kit::audit;
use crate::kit::{Household, Phone, repository};

const ANNA: Phone = Phone(1);
const BEN: Phone = Phone(2);
/// Who is told what the job has to say.
const CLOCK: Phone = Phone(1000);
/// So long that ten messages are taken meanwhile, however slow the disk is.
const AGENT: &str = "[agents.default]\nkind = \"echo\"\ndelay_ms = 1000\n";
/// Echoes, and not before the file `hold` is gone.
const PATIENT: &str = "\
import os, time
def answer(turn):
    while os.path.exists('hold'):
        time.sleep(0.01)
    return 'echo: ' + '\\n'.join(message.text for message in turn.messages)
";

/// A household whose agent is this function `answer`, in Python; its server does not run yet.
fn with_brain(answer: &str) -> Household {
    let kit = repository("examples/brains/python");
    let home = Household::new(
        "[agents.default]\nkind = \"command\"\ncommand = [\"python3\", \"brain.py\"]\n\
         env = { PYTHONDONTWRITEBYTECODE = \"1\" }\n",
    );
    let begin = format!("import sys\nsys.path.insert(0, {kit:?})\nfrom brain import run\n");
    std::fs::write(home.path("brain.py"), begin + answer + "run(answer)\n").unwrap();
    home
}

/// Where in the journal of all sessions a turn of this session began, and where it was complete.
fn span(journal: &[Value], session: &str) -> (usize, usize) {
    let place = |kind: &str| {
        let is = |event: &Value| event["session"] == session && event["type"] == kind;
        journal.iter().position(is).unwrap_or_else(|| panic!("{session} has no {kind}"))
    };
    (place("turn.started"), place("turn.completed"))
}

/// It is shown, perhaps more often to keep it up, and hidden once; again and again.
fn is_paired(typing: &[bool]) -> bool {
    let mut is_shown = false;
    for on in typing {
        if !on && !is_shown {
            return false;
        }
        is_shown = *on;
    }
    !typing.is_empty() && !is_shown
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_are_answered_at_the_same_time() {
    let mut home = with_brain(PATIENT);
    std::fs::write(home.path("hold"), "").unwrap();
    home.start();
    home.say(&[(ANNA, "one from anna"), (BEN, "one from ben")]);
    // Nobody is answered before both turns have begun.
    home.until("two turns", async || {
        let journal = home.journal().await;
        journal.iter().filter(|event| event["type"] == "turn.started").count() == 2
    })
    .await;
    std::fs::remove_file(home.path("hold")).unwrap();
    home.until("both answers", async || !home.got(ANNA).is_empty() && !home.got(BEN).is_empty())
        .await;
    assert_eq!(home.got(ANNA), ["echo: one from anna"]);
    assert_eq!(home.got(BEN), ["echo: one from ben"]);
    // Each turn began before the other was complete.
    let journal = home.journal().await;
    let (anna, ben) = (span(&journal, &ANNA.session()), span(&journal, &BEN.session()));
    assert!(anna.0 < ben.1 && ben.0 < anna.1, "{anna:?} {ben:?}");
    for phone in [ANNA, BEN] {
        home.until("an end of typing", async || is_paired(&home.typing(phone))).await;
        let said = home.said(phone, "user").await;
        let texts: Vec<&Value> = said.iter().map(|line| &line["text"]).collect();
        let name = if phone == ANNA { "anna" } else { "ben" };
        assert_eq!(texts, [&format!("one from {name}")]);
    }
    home.end();
    assert!(audit(&home.data()).is_ok(), "{:?}", audit(&home.data()));
}

/// Fifty people, three messages each, all at once, and a job every second beside them.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_anybody_among_fifty() {
    const PEOPLE: u32 = 50;
    let cron = format!(
        "[cron.tick]\nschedule = \"* * * * * *\"\nzone = \"UTC\"\nprompt = \"tick\"\n\
         channel = \"signal\"\ncustomer = \"{}\"\n",
        CLOCK.uuid()
    );
    let mut home = Household::started(&format!("{AGENT}{cron}"));
    home.until("the first tick", async || !home.got(CLOCK).is_empty()).await;
    let phones: Vec<Phone> = (1..=PEOPLE).map(Phone).collect();
    let texts: Vec<[String; 3]> = phones
        .iter()
        .map(|phone| [1, 2, 3].map(|number| format!("{number} from {}", phone.0)))
        .collect();
    let burst = |number: usize| -> Vec<(Phone, &str)> {
        phones.iter().zip(&texts).map(|(phone, texts)| (*phone, &*texts[number])).collect()
    };
    home.say(&[burst(0), burst(1), burst(2)].concat());
    home.until("every answer", async || {
        for (phone, texts) in phones.iter().zip(&texts) {
            let got = home.got(*phone).join("\n");
            if !texts.iter().all(|text| got.contains(text.as_str())) {
                return false;
            }
        }
        true
    })
    .await;
    for (phone, texts) in phones.iter().zip(&texts) {
        home.until("an end of typing", async || is_paired(&home.typing(*phone))).await;
        each_in_one_turn(&home, *phone, texts).await;
    }
    overlaps(&home.journal().await);
    let before = home.got(CLOCK).len();
    home.until("another tick", async || home.got(CLOCK).len() > before).await;
    let ticks = home.got(CLOCK);
    assert!(ticks.iter().all(|text| text == "echo: tick"), "{ticks:?}");
    home.end();
    assert!(audit(&home.data()).is_ok(), "{:?}", audit(&home.data()));
}

/// Every message stands in exactly one turn, of its own session, in its order; every turn has one
/// reply to exactly its messages, sent once.
async fn each_in_one_turn(home: &Household, phone: Phone, texts: &[String; 3]) {
    let said = home.said(phone, "user").await;
    let heard: Vec<&str> = said.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(heard, texts.each_ref().map(String::as_str));
    let mut turns: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in &said {
        let (turn, text) = (line["turn_id"].as_str().unwrap(), line["text"].as_str().unwrap());
        match turns.last_mut().filter(|last| last.0 == turn) {
            Some(last) => last.1.push(text),
            None => turns.push((turn, vec![text])),
        }
    }
    let replies: Vec<String> =
        turns.iter().map(|(_, texts)| format!("echo: {}", texts.join("\n"))).collect();
    assert_eq!(home.got(phone), replies);
}

/// Before the first turn of all was complete, others had begun.
fn overlaps(journal: &[Value]) {
    let mut begun: HashMap<&str, usize> = HashMap::new();
    let mut most = 0;
    for event in journal {
        let turn = event["turn_id"].as_str().unwrap_or_default();
        match event["type"].as_str() {
            Some("turn.started") => drop(begun.insert(turn, 1)),
            Some("turn.completed") => drop(begun.remove(turn)),
            _ => {}
        }
        most = most.max(begun.len());
    }
    assert!(most >= 10, "at most {most} turns at once");
    println!("up to {most} turns at once");
}

/// An agent that says only NO_REPLY is silent, and the turn is complete.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_where_nothing_is_to_be_said() {
    let mut home = with_brain(
        "def answer(turn):\n\
         \x20   text = turn.messages[-1].text\n\
         \x20   return ' NO_REPLY\\n' if text == 'thanks' else 'ok: ' + text\n",
    );
    home.start();
    home.say(&[(ANNA, "thanks")]);
    home.until("a silent turn", async || {
        let journal = home.said(ANNA, "user").await;
        journal.iter().any(|line| line["turn_id"].is_string())
    })
    .await;
    home.say(&[(ANNA, "and now?")]);
    home.until("an answer", async || !home.got(ANNA).is_empty()).await;
    assert_eq!(home.got(ANNA), ["ok: and now?"]);
    home.until("an end of typing", async || is_paired(&home.typing(ANNA))).await;
    home.end();
    assert!(audit(&home.data()).is_ok(), "{:?}", audit(&home.data()));
}
