//! Thousands of slow connections, too many from one address, more names than anybody has customers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::kit::{HEALTHY, Home, Line, Request, Server, attacker};

/// Of each sort, where the system lets us have so many.
const SLOW: usize = 2_000;
/// What a flood of names may go on for. As many as fit; nothing is asserted of how many.
const FLOOD: Duration = Duration::from_secs(8);
/// No crowd of names or keys may cost more memory than this, in bytes.
const RESIDENT_MAX: u64 = 400 << 20;

/// Raises the limit of open files as far as it goes, for the server as well; how many there are.
fn raise_file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "the standard library can't raise limits")]
    // SAFETY: both calls get a whole rlimit that lives through them.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// What the slow connections have come to.
#[derive(Default)]
struct Crowd {
    open: AtomicUsize,
    cut_off: AtomicUsize,
    over: AtomicBool,
}

/// Holds one connection after the other until it is over. `drips` sends a byte of a head every
/// now and then, and never all of it.
async fn hold(to: Arc<Server>, from: Ipv4Addr, crowd: Arc<Crowd>, drips: bool) {
    while !crowd.over.load(Ordering::Relaxed) {
        let Ok(mut stream) = to.dial(from).await else { continue };
        crowd.open.fetch_add(1, Ordering::Relaxed);
        let mut head =
            b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-".iter().chain(b"x".iter().cycle());
        let mut drip = tokio::time::interval(Duration::from_millis(400));
        let mut scratch = [0; 256];
        loop {
            tokio::select! {
                read = stream.read(&mut scratch) => match read {
                    Ok(1..) => {}
                    _ => break,
                },
                _ = drip.tick() => {
                    if crowd.over.load(Ordering::Relaxed) {
                        return;
                    }
                    let byte = [*head.next().unwrap_or(&b'x')];
                    if drips && stream.write_all(&byte).await.is_err() {
                        break;
                    }
                }
            }
        }
        crowd.open.fetch_sub(1, Ordering::Relaxed);
        crowd.cut_off.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_client_is_answered_among_thousands_of_slow_ones() {
    let files = raise_file_limit();
    let slow = SLOW.min((files / 2).saturating_sub(500) / 2);
    if slow < SLOW {
        println!("the limit of {files} open files leaves room for {slow} of each only");
    }
    let home =
        Home::new("[gateway]\nheader_timeout_seconds = 6\n[agents.default]\nkind = \"echo\"\n");
    let server = Arc::new(home.serve("warn", &[]));
    let (crowd, mut tasks) = (Arc::new(Crowd::default()), JoinSet::new());
    for number in 0..2 * slow {
        let drips = number % 2 == 0;
        tasks.spawn(hold(Arc::clone(&server), attacker(number / 2), Arc::clone(&crowd), drips));
    }
    // They stand before the healthy one comes, and go on until each was cut off once.
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while crowd.open.load(Ordering::Relaxed) + crowd.cut_off.load(Ordering::Relaxed) < 2 * slow {
        tick.tick().await;
    }
    let mut times = Vec::new();
    while times.len() < 200 || crowd.cut_off.load(Ordering::Relaxed) < 2 * slow {
        assert!(times.len() < 100_000, "they are not cut off");
        let name = format!("customer {}", times.len());
        let body = format!(r#"{{"customer_id": "{name}", "message": "hello"}}"#);
        let began = Instant::now();
        let answer = server.ask(HEALTHY, &Request::post("/v1/chat?wait=30", "", &body)).await;
        times.push(began.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    crowd.over.store(true, Ordering::Relaxed);
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_millis();
    println!(
        "{} slow connections at a time, {} cut off: a healthy client got {} answers, p50 {} ms, \
         p99 {} ms, longest {} ms",
        2 * slow,
        crowd.cut_off.load(Ordering::Relaxed),
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(server.resident() < RESIDENT_MAX, "{}", server.resident());
    while tasks.join_next().await.is_some() {}
}

#[tokio::test]
async fn one_address_can_be_held_to_its_share() {
    // Whoever is held stays, whatever else the machine does.
    let config = "[gateway]\nconnections_per_address_max = 20\nheader_timeout_seconds = 3600\n";
    let home = Home::new(config);
    let server = home.serve("warn", &[]);
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut line = Line::new(server.dial(attacker(0)).await.unwrap());
        line.send(&Request::of("GET /healthz", "").staying().bytes()).await;
        assert_eq!(line.next().await.unwrap().status, 200);
        held.push(line);
    }
    for _ in 0..20 {
        let refused = server.ask(attacker(0), &Request::of("GET /healthz", "")).await;
        assert!(matches!(refused.status, 0 | 503), "{}", refused.text);
    }
    server.is_well("").await;
}

/// Sends what `request` makes of each number over eight connections, sixty-four at once, until the
/// time is over; how many there were, and which statuses came.
async fn flood<F>(server: &Server, request: F) -> (usize, BTreeSet<u16>)
where
    F: Fn(usize) -> Vec<u8> + Copy,
{
    const AT_ONCE: usize = 64;
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let one = |number: usize| {
        let next = &next;
        async move {
            let mut line = Line::new(server.dial(attacker(number)).await.unwrap());
            let mut statuses = BTreeSet::new();
            while began.elapsed() < FLOOD {
                let first = next.fetch_add(AT_ONCE, Ordering::Relaxed);
                let bytes: Vec<u8> = (first..first + AT_ONCE).flat_map(request).collect();
                line.send(&bytes).await;
                for _ in 0..AT_ONCE {
                    statuses.insert(line.next().await.expect("it goes on").status);
                }
            }
            statuses
        }
    };
    let all = futures_util::future::join_all((0..8).map(one)).await;
    (next.into_inner(), all.into_iter().flatten().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_names_costs_no_memory() {
    // Nearly all are refused, so what is asked is what a name costs that nobody serves.
    let config = "[gateway]\nglobal_rate_per_minute = 60\nglobal_rate_burst = 10\n";
    let home = Home::new(config);
    let server = home.serve("warn", &[]);
    let (names, statuses) = flood(&server, |number| {
        let body = format!(r#"{{"customer_id": "name {number}", "message": "hello"}}"#);
        Request::post("/v1/chat", "", &body).staying().bytes()
    })
    .await;
    assert!(statuses.contains(&429) && !statuses.contains(&500), "{statuses:?}");
    println!("{names} distinct names: {} MB in use", server.resident() >> 20);
    assert!(server.resident() < RESIDENT_MAX, "{}", server.resident());
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_keys_and_addresses_cost_no_memory() {
    // Whoever is believed when it speaks for others could speak for a million of them.
    let home = Home::new("trusted_proxies = [\"127.0.0.0/8\"]\n");
    let server = home.serve("warn", &[]);
    let key = home.key(&["--tenant", "acme", "--scope", "send"]);
    let (keys, statuses) = flood(&server, |number| {
        let client = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap()).to_string();
        let made_up = format!("tk_{number:08}_{number:043}");
        Request::of("GET /v1/sessions", &made_up).with("x-forwarded-for", &client).staying().bytes()
    })
    .await;
    assert_eq!(statuses, BTreeSet::from([401]));
    println!("{keys} distinct keys from as many addresses: {} MB in use", server.resident() >> 20);
    assert!(server.resident() < RESIDENT_MAX, "{}", server.resident());
    server.is_well(&key).await;
}
