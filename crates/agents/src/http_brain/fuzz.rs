//! Bytes against what a server may stream.

use turnkeep_fuzz::{Target, fuzz};

use super::sse::{EVENT_BYTES_MAX, Event, Events};

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Result<Event, String>> {
    let mut events = Events::default();
    chunks.for_each(|chunk| events.feed(chunk));
    std::iter::from_fn(|| events.next()).collect()
}

#[test]
fn fuzz_brain_stream() {
    let target = Target {
        name: "brain_stream",
        seeds: &[
            b"id: 1\ndata: {\"type\":\"say\",\"text\":\"a\"}\n\n",
            b"\xef\xbb\xbfdata: a\r\ndata: b\r\n\r\n: alive\r\r",
            b"event: x\nid: 12\nretry: 5\ndata\n\nunknown: y\n",
        ],
        words: &[
            b"data:",
            b"data: ",
            b"id: ",
            b"id",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b":",
            b": ",
            b"0",
            b"18446744073709551616",
            b"\xef\xbb\xbf",
            b"\xff",
            b"\0",
        ],
        length_max: 4096,
    };
    fuzz(&target, |input| {
        let whole = read(std::iter::once(input));
        assert_eq!(whole, read(input.chunks(1)), "it matters how the bytes are cut");
        assert_eq!(whole, read(input.chunks(3)), "it matters how the bytes are cut");
        let said =
            |event: &Result<Event, String>| event.as_ref().map_or(0, |event| event.data.len());
        assert!(whole.iter().map(said).sum::<usize>() <= input.len().min(EVENT_BYTES_MAX));
        let wrong = whole.iter().position(Result::is_err);
        assert!(wrong.is_none_or(|at| at + 1 == whole.len()), "something comes after a mistake");
    });
}
