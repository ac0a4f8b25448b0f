//! How long operations on the switchboard take under many hands:
//! `cargo run --release -p turnkeep-gateway --example switchboard_load -- [SECONDS] [SESSIONS] [THREADS]`
//!
//! Each thread draws what it does next: of a hundred operations fifty read one session, twenty-five
//! a page of a hundred, five the whole list, sixteen are commits that tasks tell of, two switch a
//! seat and two give a name. Nothing of it waits for a store; what is told is the time from asking
//! to having it, the wait for the lock included.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use turnkeep_gateway::switchboard::load::Load;

const KINDS: [&str; 4] = ["point reads", "pages of 100", "whole lists", "writes"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (seconds, sessions, threads) = (number(0, 10), number(1, 10_000), number(2, 8));
    let load = Arc::new(Load::new(sessions));
    let over = Arc::new(AtomicBool::new(false));
    let hands: Vec<_> = (0..threads)
        .map(|who| {
            let (load, over) = (Arc::clone(&load), Arc::clone(&over));
            std::thread::spawn(move || work(&load, &over, who, sessions))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(seconds as u64));
    over.store(true, Ordering::Relaxed);
    let mut all: [Vec<u32>; 4] = Default::default();
    for hand in hands {
        let Ok(took) = hand.join() else { continue };
        all.iter_mut().zip(took).for_each(|(all, took)| all.extend(took));
    }
    let count: usize = all.iter().map(Vec::len).sum();
    println!(
        "{sessions} sessions, {threads} threads: {} operations a second",
        count / seconds.max(1)
    );
    println!("{:>14} {:>12} {:>9} {:>9} {:>9}", "", "count", "p50 us", "p99 us", "max us");
    for (kind, took) in KINDS.iter().zip(&mut all) {
        took.sort_unstable();
        let at = |share: usize| {
            let place = (took.len() * share / 1000).min(took.len().saturating_sub(1));
            f64::from(took.get(place).copied().unwrap_or_default()) / 1000.0
        };
        let (median, high, most) = (at(500), at(990), at(1000));
        println!("{kind:>14} {:>12} {median:>9.1} {high:>9.1} {most:>9.1}", took.len());
    }
}

fn work(load: &Load, over: &AtomicBool, who: usize, sessions: usize) -> [Vec<u32>; 4] {
    let mut took: [Vec<u32>; 4] = Default::default();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(who as u64 + 1);
    let seat: Arc<str> = format!("seat{who}").into();
    let mut turn: u64 = 0;
    while !over.load(Ordering::Relaxed) {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        turn += 1;
        let at = usize::try_from(dice >> 33).unwrap_or_default() % sessions;
        let number = u32::try_from(at + 1).unwrap_or(1);
        let name: Arc<str> = format!("name {who} {turn}").into();
        let now = i64::try_from(turn).unwrap_or_default();
        let began = Instant::now();
        let kind = match dice % 100 {
            0..50 => {
                let _ = std::hint::black_box(load.point(number));
                0
            }
            50..75 => {
                std::hint::black_box(load.page(number));
                1
            }
            75..80 => {
                std::hint::black_box(load.list());
                2
            }
            80..96 => {
                load.observe(at, turn, now);
                3
            }
            96..98 => {
                load.switch(&seat, number, now);
                3
            }
            _ => {
                load.rename(number, &name);
                3
            }
        };
        took[kind].push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    took
}
