//! Readers of streams that don't read, and places in a journal that are none.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::kit::{Answer, HEALTHY, Home, Line, PATIENCE, Request, attacker};

const EVENTS: &str = "GET /v1/sessions/default:default:api:dm:talker/events";

/// Readers that open a long stream and then read nothing.
const IDLE_READERS: usize = 100;
/// What each of them may cost while it lasts: a page of the journal and the sockets' buffers.
const READER_BYTES_MAX: u64 = 3 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_cut_off() {
    let home = Home::new("[agents.default]\nkind = \"echo\"\n");
    let server = home.serve("warn", &[]);
    let text = "x".repeat(60_000);
    for number in 0..100 {
        let body = format!(r#"{{"customer_id":"talker","id":"{number}","message":"{text}"}}"#);
        let answer = server.ask(HEALTHY, &Request::post("/v1/chat?wait=60", "", &body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let before = server.resident();
    let mut readers = Vec::new();
    for number in 0..IDLE_READERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind((attacker(number), 0).into()).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        stream.write_all(&Request::of(EVENTS, "").bytes()).await.unwrap();
        readers.push(stream);
    }
    // Who reads is served meanwhile.
    server.is_well("").await;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut most = 0;
    // One that is still there would be served to no end once it reads.
    let all_gone = async {
        while server.connections() > 0 {
            most = most.max(server.resident());
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(2 * PATIENCE, all_gone).await.is_ok(), "they are still there");
    let grown = most.saturating_sub(before);
    println!("{IDLE_READERS} readers of 12 MB that read nothing: {} MB more", grown >> 20);
    assert!(grown < READER_BYTES_MAX * IDLE_READERS as u64, "{grown} bytes more");
    // What they get in the end is a stream that broke off.
    let mut rest = Vec::new();
    let _ = readers.remove(0).read_to_end(&mut rest).await;
    assert!(rest.len() < 8 << 20, "{} bytes", rest.len());
    server.is_well("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_for_a_place_is_refused_cheaply() {
    const MANY: usize = 100_000;
    const AT_ONCE: usize = 200;
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    let before = server.resident();
    let mut line = Line::new(server.dial(attacker(7)).await.unwrap());
    let pieces =
        ["-1", "1e9", "0x7", "17-4-1", "a", "99999999999999999999", "\u{e9}", "1,2", "*", "--"];
    for round in 0..MANY / AT_ONCE {
        let mut bytes = Vec::new();
        for number in 0..AT_ONCE {
            let place = format!("{}{}", pieces[number % pieces.len()], "!".repeat(round % 7));
            let events = if number % 2 == 0 { EVENTS } else { "GET /v1/events" };
            let place = if events == EVENTS || place != "17-4" { place } else { "-".to_owned() };
            let request = Request::of(events, "").with("last-event-id", &place).staying();
            bytes.extend(request.bytes());
        }
        line.send(&bytes).await;
        for _ in 0..AT_ONCE {
            let answer = line.next().await.expect("it goes on");
            assert_eq!(answer.status, 400, "{}", answer.text);
        }
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    server.is_well("").await;
}

/// The beginning of a stream, as far as it comes at once.
async fn opening(server: &super::kit::Server, line: &str, place: &str) -> Answer {
    let mut stream = server.dial(attacker(7)).await.unwrap();
    let request = Request::of(line, "").with("last-event-id", place);
    stream.write_all(&request.bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, async {
        let mut piece = [0; 1024];
        while !bytes.ends_with(b"\n\n\r\n") {
            let count = stream.read(&mut piece).await.unwrap();
            assert!(count > 0, "it ended");
            bytes.extend_from_slice(&piece[..count]);
        }
    });
    assert!(read.await.is_ok(), "nothing came");
    Answer::of(&bytes)
}

/// Places that nothing has reached yet: the reader is told to begin anew, and nobody waits for them.
#[tokio::test]
async fn places_beyond_the_end_are_reset() {
    let home = Home::new("");
    let server = home.serve("warn", &[]);
    for place in ["18446744073709551615", "9223372036854775808", "1000000"] {
        for line in [EVENTS, "GET /v1/events"] {
            let answer = opening(&server, line, place).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert!(answer.body().contains("event: reset"), "{line} {place}: {}", answer.text);
        }
    }
    let answer = opening(&server, "GET /v1/events", "18446744073709551615-18446744073709551615");
    assert!(answer.await.body().contains("event: reset"));
    server.is_well("").await;
}
