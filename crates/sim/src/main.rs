//! The simulator's command line.

use turnkeep_sim::{Stock, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let stock = Stock::prepare().unwrap_or_else(|error| panic!("{error}"));
    let mut world = World::new(&stock);
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|one| one.parse().ok()).collect();
    if let [seed] = args[..] {
        let (verdict, log) = world.play_logged(seed, None);
        println!("{log}\n{verdict:?}");
        return;
    }
    let count = args[1];
    let began = std::time::Instant::now();
    let (mut steps, mut bad) = (0_u64, 0);
    let mut seen: std::collections::BTreeMap<String, (u32, u64)> = Default::default();
    for seed in args[0]..args[0] + count {
        let verdict = world.play(seed, None);
        steps += u64::from(verdict.steps);
        if let Some(first) = verdict.violations.first() {
            bad += 1;
            let kind: String = first.chars().filter(|c| !c.is_ascii_digit()).take(110).collect();
            seen.entry(kind).or_insert((0, seed)).0 += 1;
        }
    }
    let took = began.elapsed().as_secs_f64();
    for (what, (count, seed)) in seen { println!("{count:>6} seed {seed}: {what}"); }
    println!("{bad} bad of {count}, {:.0} schedules/s, {:.0} steps/s, {:.1} steps each", count as f64 / took, steps as f64 / took, steps as f64 / count as f64);
}
