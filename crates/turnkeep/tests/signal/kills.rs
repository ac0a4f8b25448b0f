//! The stand-in for signal-cli, the server, and both are killed again and again while people write:
//! nothing that was heard is lost, and nothing is answered twice.

use std::collections::HashMap;

use crate::crash_kit::audit;
use crate::kit::{Household, Phone};

/// How often, unless `TURNKEEP_SIGNAL_KILLS` says otherwise.
const KILLS: u32 = 18;
const PEOPLE: [Phone; 3] = [Phone(1), Phone(2), Phone(3)];
const SEED: u64 = 20_261_121;

/// A seeded source of small numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_answered_twice() {
    let kills = std::env::var("TURNKEEP_SIGNAL_KILLS").ok().and_then(|text| text.parse().ok());
    let kills: u32 = kills.unwrap_or(KILLS);
    let mut dice = Dice(SEED);
    let mut home = Household::started("[agents.default]\nkind = \"echo\"\ndelay_ms = 20\n");
    let mut written: HashMap<u32, Vec<String>> = HashMap::new();
    for round in 0..kills {
        // Whatever these messages cause comes behind this.
        let before = home.noted("sent.jsonl").len();
        for number in 0..2 {
            let texts: Vec<(Phone, String)> =
                PEOPLE.map(|phone| (phone, format!("{round}.{number} from {}", phone.0))).into();
            for (phone, text) in &texts {
                written.entry(phone.0).or_default().push(text.clone());
            }
            home.say(&texts.iter().map(|(phone, text)| (*phone, &**text)).collect::<Vec<_>>());
        }
        // Somewhere among what these messages cause: typing, receipts, replies.
        let wanted = before + usize::try_from(dice.below(12)).unwrap();
        home.until("something to interrupt", async || home.noted("sent.jsonl").len() >= wanted)
            .await;
        match round % 3 {
            0 => home.kill_daemon(),
            1 => home.kill(),
            _ => {
                home.kill();
                home.kill_daemon();
            }
        }
        if home.server.is_none() {
            home.start();
        }
    }
    let told = everything_came_to_its_end(&home, &written).await;
    println!("{kills} kills: {told}");
    home.end();
    let report = audit(&home.data()).unwrap();
    assert!(report.contains("every invariant holds"), "{report}");
}

/// What came of it, in words.
async fn everything_came_to_its_end(
    home: &Household,
    written: &HashMap<u32, Vec<String>>,
) -> String {
    let (mut messages, mut parts, mut unknown, mut missing) = (0, 0, 0, 0);
    for phone in PEOPLE {
        let texts = &written[&phone.0];
        home.until("every message in a turn that is complete", async || {
            let said = home.said(phone, "user").await;
            said.len() >= texts.len() && said.iter().all(|line| line["turn_id"].is_string())
        })
        .await;
        let said = home.said(phone, "user").await;
        let heard: Vec<&str> = said.iter().map(|line| line["text"].as_str().unwrap()).collect();
        assert_eq!(heard, texts.iter().map(String::as_str).collect::<Vec<_>>(), "{phone:?}");
        home.until("every reply on its way or parked", async || {
            let parts = home.deliveries(phone).await;
            parts.iter().all(|part| ["sent", "unknown"].contains(&part["state"].as_str().unwrap()))
        })
        .await;
        messages += texts.len();
        let got = home.got(phone);
        for part in home.deliveries(phone).await {
            let (text, state) = (part["text"].as_str().unwrap(), part["state"].as_str().unwrap());
            let times = got.iter().filter(|got| *got == text).count();
            // Of what is unknown nobody knows whether it arrived; it never arrives twice.
            let right = times == 1 || (times == 0 && state == "unknown");
            parts += 1;
            unknown += usize::from(state == "unknown");
            missing += usize::from(times == 0);
            assert!(right, "{phone:?} got {text:?} {times} times, and it is {state}");
        }
    }
    let starts = home.noted("starts.jsonl").len();
    format!(
        "{messages} messages, each in one turn; {parts} replies, none sent twice, {unknown} of them \
         unknown ({missing} of these never went out); {starts} starts of signal-cli"
    )
}
