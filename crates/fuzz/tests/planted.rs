//! Planted mistakes: the fuzzer finds them, makes the input small, and says what it was.

use turnkeep_fuzz::{Effort, Failure, Target, fuzz, hunt, is_counted};

const TARGET: Target<'static> =
    Target { name: "planted", seeds: &[b"hello 1 world"], words: &[b"magic"], length_max: 64 };

fn broken_by(check: &dyn Fn(&[u8]), inputs: u64) -> Option<Failure> {
    hunt(&TARGET, &[], Effort::Inputs(inputs), 1, check).failure
}

#[test]
fn a_panic_on_a_word_is_found_and_made_small() {
    let check = |input: &[u8]| {
        let at = input.windows(5).position(|window| window == b"magic");
        assert!(at.is_none_or(|at| at < 3), "magic behind the third byte");
    };
    let Failure { input, why } = broken_by(&check, 10_000).expect("it was planted");
    assert_eq!((input.len(), why.as_str()), (8, "magic behind the third byte"));
    assert!(input.ends_with(b"magic"));
}

#[test]
fn a_number_that_goes_over_is_found() {
    let check = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        for number in text.split(' ').filter_map(|word| word.parse::<u64>().ok()) {
            let _doubled = number.checked_mul(2).expect("a number goes over");
        }
    };
    assert_eq!(broken_by(&check, 10_000).expect("it was planted").why, "a number goes over");
}

/// Nobody throws six right bytes by chance. Where the compiler counts, each right one is noticed
/// and built upon.
#[test]
fn what_chance_does_not_find_the_counters_do() {
    let check = |input: &[u8]| {
        let is = |at: usize, byte: u8| input.get(at) == Some(&byte);
        // Not `&&`, which may become one comparison.
        if is(0, b'X') {
            std::hint::black_box(0);
            if is(1, 0xd7) {
                std::hint::black_box(1);
                if is(2, b'7') {
                    std::hint::black_box(2);
                    if is(3, 0x01) {
                        std::hint::black_box(3);
                        if is(4, b'q') {
                            std::hint::black_box(4);
                            assert!(!is(5, 0xee), "deep within");
                        }
                    }
                }
            }
        }
    };
    let inputs = if is_counted() { 3_000_000 } else { 100_000 };
    assert_eq!(broken_by(&check, inputs).is_some(), is_counted());
}

#[test]
fn the_same_inputs_come_again() {
    let inputs = || {
        let tried = std::cell::RefCell::new(Vec::new());
        let check = |input: &[u8]| tried.borrow_mut().push(input.to_vec());
        hunt(&TARGET, &[b"kept".to_vec()], Effort::Inputs(300), 7, &check);
        tried.into_inner()
    };
    let tried = inputs();
    assert_eq!(
        (tried.len(), &tried[..2]),
        (300, &[b"kept".to_vec(), b"hello 1 world".to_vec()][..])
    );
    // Where the compiler counts, it also counts what differs from run to run.
    assert!(is_counted() || tried == inputs());
}

#[test]
fn a_failure_names_the_file_that_holds_it() {
    let told = std::panic::catch_unwind(|| {
        fuzz(&TARGET, |input| assert!(!input.starts_with(b"h"), "it begins with an h"));
    });
    let told = told.expect_err("its first seed breaks it");
    let told = told.downcast_ref::<String>().expect("it says so");
    let path = told.split("which is in ").nth(1).and_then(|rest| rest.split(';').next());
    let path = path.expect("it names a file");
    assert!(told.starts_with("planted: it begins with an h"), "{told}");
    assert_eq!(std::fs::read(path).expect("the file is there"), b"h");
}
