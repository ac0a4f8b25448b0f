//! Ports for what has to be told its own before it starts.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that systems give to outgoing connections: until somebody listens there, and
/// while they are down, nobody else gets it by chance.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One where nobody listens, and that nobody else in this process is told.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test runs beside each other begin at different places, with room between them.
    let begin = u16::try_from(std::process::id() * 37 % 11_000).unwrap();
    loop {
        let port = PORTS.start + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        assert!(PORTS.contains(&port));
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
