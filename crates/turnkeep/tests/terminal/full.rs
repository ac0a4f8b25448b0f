//! The full screen.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;

use crate::kit::{Home, Terminal, said};

pub(crate) const SIZE: (u16, u16) = (100, 30);

/// How often a text stands on a screen.
fn count(screen: &str, text: &str) -> usize {
    screen.matches(text).count()
}

/// Waits until the line that names the shown session begins so.
pub(crate) async fn head(terminal: &Terminal<'_>, title: &str, state: &str) {
    let words = format!("{title}  {state}");
    // News from before a switch may show the other session once more for a moment.
    let looks = Cell::new(0);
    let stays = |screen: &str| {
        looks.set(if screen.contains(&words) { looks.get() + 1 } else { 0 });
        looks.get() == 10
    };
    terminal.until(&words, stays).await;
}

/// The numbers of the colours that a screen's escapes choose.
fn colours(screen: &str) -> Vec<u32> {
    let escapes = screen.split("\u{1b}[").skip(1).filter_map(|rest| Some(rest.split_once('m')?.0));
    let numbers = escapes.flat_map(|codes| codes.split(';')).filter_map(|code| code.parse().ok());
    numbers.filter(|code| matches!(code, 30..=38 | 40..=48 | 90..=107)).collect()
}

/// Leaves as a person does.
pub(crate) async fn leave(terminal: Terminal<'_>) {
    terminal.press_twice("C-c");
    assert_eq!(terminal.ended().await, "0");
}

#[tokio::test]
async fn three_sessions_work_at_once_and_a_kill_loses_nothing() {
    let home = Home::started();
    let terminal = home.attach(SIZE, &[]);
    terminal.shows("nobody waits for you").await;
    terminal.enter("/new api work --agent slow");
    head(&terminal, "1 \"api work\"", "· idle").await;
    terminal.enter("rewrite the tests");
    head(&terminal, "1 \"api work\"", "» works").await;
    terminal.enter("/new branches --agent careful");
    head(&terminal, "2 branches", "· idle").await;
    terminal.enter("tidy up");
    terminal.shows("! y or n: May I delete the branch old-api?").await;
    terminal.enter("/new chat");
    head(&terminal, "3 chat", "· idle").await;
    terminal.enter("hello");
    terminal.shows("echo: hello").await;
    terminal.shows("1 waits for you: 2 branches (Ctrl-N)").await;
    // One is stopped while the others go on.
    terminal.enter("/switch api work");
    head(&terminal, "1 \"api work\"", "» works").await;
    terminal.press("C-x");
    head(&terminal, "1 \"api work\"", "· idle").await;
    terminal.enter("and once more");
    head(&terminal, "1 \"api work\"", "» works").await;
    // In another one somebody is asked.
    terminal.press("C-n");
    head(&terminal, "2 branches", "! approve").await;
    terminal.enter("y");
    terminal.shows("The branch old-api is deleted.").await;
    terminal.shows("nobody waits for you").await;
    terminal.enter("/switch 3");
    head(&terminal, "3 chat", "· idle").await;
    home.kill();
    terminal.shows("connection lost").await;
    terminal.enter("are you back?");
    let waits = |screen: &str| screen.contains("you  next…") || screen.contains("not sent yet");
    terminal.until("a message that waits for the server", waits).await;
    home.start();
    let screen = terminal.shows("echo: are you back?").await;
    assert_eq!(count(&screen, "echo: are you back?"), 1, "{screen}");
    let back = |screen: &str| {
        let all = ["1 api work", "2 branches", "3 chat", "nobody waits"];
        all.iter().all(|text| screen.contains(text))
    };
    terminal.until("every session", back).await;
    terminal.enter("/switch branches");
    let screen = terminal.shows("The branch old-api is deleted.").await;
    assert_eq!(count(&screen, "The branch old-api is deleted."), 1, "{screen}");
    terminal.enter("/switch 1");
    head(&terminal, "1 \"api work\"", "» works").await;
    let all =
        |screen: &str| screen.contains("and once more") && screen.contains("rewrite the tests");
    terminal.until("what was said there", all).await;
    terminal.press("C-c");
    terminal.shows("Ctrl-C again leaves").await;
    leave(terminal).await;
    assert!(home.prints(&["audit"]).contains("every invariant holds"));
}

#[tokio::test]
async fn two_terminals_have_active_sessions_of_their_own() {
    let home = Home::started();
    let first = home.attach(SIZE, &[]);
    first.shows("Turnkeep t1").await;
    first.enter("/new one");
    head(&first, "1 one", "·").await;
    first.enter("/new two");
    head(&first, "2 two", "·").await;
    let second = home.attach(SIZE, &["--session", "one"]);
    second.shows("Turnkeep t2").await;
    head(&second, "1 one", "·").await;
    second.enter("from the second");
    second.shows("echo: from the second").await;
    // The first shows its own session, and that there is something to read in the other.
    head(&first, "2 two", "·").await;
    first.enter("/switch one");
    first.shows("echo: from the second").await;
    first.enter("from the first");
    second.shows("echo: from the first").await;
    second.enter("/rename the common one");
    first.shows("1 \"the common one\"").await;
    second.enter("/switch two");
    head(&second, "2 two", "·").await;
    first.shows("1 \"the common one\"").await;
    // What the last line said before is read and put away.
    first.press("Escape");
    first.shows("● connected").await;
    // It is closed by somebody else while it is open there.
    second.enter("/close 1");
    first.shows("the session was closed elsewhere").await;
    head(&first, "2 two", "·").await;
    leave(first).await;
    leave(second).await;
    // Whoever comes back has the first seat, and finds what was active there.
    let again = home.attach(SIZE, &[]);
    again.shows("Turnkeep t1").await;
    head(&again, "2 two", "·").await;
    leave(again).await;
}

#[tokio::test]
async fn any_size_will_do() {
    let home = Home::started();
    let terminal = home.attach((80, 24), &["--no-color"]);
    terminal.shows("Turnkeep t1").await;
    terminal.enter("漢字 and 🎉");
    terminal.shows("echo: 漢字 and 🎉").await;
    let screen = terminal.colours();
    assert!(screen.contains('\u{1b}'), "nothing stands out: {screen:?}");
    assert!(colours(&screen).is_empty(), "{screen:?}");
    terminal.resize((20, 5));
    let small = |screen: &str| {
        screen.lines().count() <= 5 && screen.contains("漢字") && !screen.contains("connected")
    };
    terminal.until("the end of the conversation in 20x5", small).await;
    terminal.write("typed when small");
    terminal.shows("when small").await;
    terminal.resize((120, 40));
    terminal.shows("typed when small").await;
    terminal.press("C-u");
    terminal.paste("one\ntwo\nthree");
    terminal
        .until("three lines of input", |screen| {
            let lines: Vec<_> = screen.lines().collect();
            lines.windows(3).any(|three| {
                three[0].contains("one") && three[1].contains("two") && three[2].contains("three")
            })
        })
        .await;
    terminal.press("Enter");
    terminal.shows("echo: one").await;
    leave(terminal).await;
}

#[tokio::test]
async fn whatever_ends_it_the_terminal_is_given_back() {
    let home = Home::started();
    for (signal, code) in [("TERM", "143"), ("HUP", "129"), ("INT", "130")] {
        let terminal = home.attach((80, 24), &["--mouse"]);
        terminal.shows("Turnkeep t1").await;
        assert_eq!(terminal.fact("alternate_on"), "1");
        assert_eq!(terminal.fact("mouse_any_flag"), "1");
        terminal.signal(signal);
        assert_eq!(terminal.ended().await, code, "{signal}");
        assert_eq!(terminal.fact("alternate_on"), "0", "{signal}");
        assert_eq!(terminal.fact("mouse_any_flag"), "0", "{signal}");
        assert_eq!(terminal.fact("cursor_flag"), "1", "{signal}");
    }
    let terminal = home.attach((80, 24), &[]);
    terminal.shows("Turnkeep t1").await;
    terminal.vanish().await;
}

#[tokio::test]
async fn of_two_that_start_a_server_at_once_both_have_one() {
    let home = Home::new();
    let outputs = std::thread::scope(|scope| {
        let home = &home;
        let both = ["a", "b"]
            .map(|seat| scope.spawn(move || home.plain(&["--start", "--seat", seat], "hello\n")));
        both.map(|one| one.join().unwrap())
    });
    for output in outputs {
        assert!(output.status.success(), "{}", said(&output));
    }
    home.end_started().await;
}

#[tokio::test]
async fn a_server_is_started_when_asked_for_and_outlives_the_terminal() {
    let home = Home::new();
    let terminal = home.attach((80, 24), &["--start"]);
    terminal.shows("nobody waits for you").await;
    terminal.enter("hello");
    terminal.shows("echo: hello").await;
    terminal.press_twice("C-c");
    assert_eq!(terminal.ended().await, "0");
    let said = terminal.screen();
    assert!(said.contains("started a server (process "), "{said}");
    assert!(said.contains("`turnkeep attach` comes back"), "{said}");
    drop(terminal);
    assert!(home.prints(&["sessions"]).contains("terminal"));
    let log = std::fs::read_to_string(home.path("data/serve.log")).unwrap();
    assert!(log.contains("listening on http://127.0.0.1:"), "{log}");
    let terminal = home.attach((80, 24), &["--start"]);
    terminal.shows("echo: hello").await;
    leave(terminal).await;
    home.end_started().await;
}

#[tokio::test]
async fn a_session_is_saved_and_loaded() {
    let home = Home::started();
    let terminal = home.attach(SIZE, &[]);
    terminal.shows("Turnkeep t1").await;
    terminal.enter("/new talk");
    head(&terminal, "1 talk", "· idle").await;
    terminal.enter("hello");
    terminal.shows("echo: hello").await;
    terminal.enter("/save ~/talk.ndjson");
    terminal.shows("saved ").await;
    let saved = std::fs::metadata(home.path("talk.ndjson")).unwrap();
    assert_eq!(saved.permissions().mode() & 0o777, 0o600);
    terminal.enter("/save talk.ndjson");
    terminal.shows("talk.ndjson: it is there already").await;
    terminal.enter("/load talk.ndjson");
    // From here on the loaded one is shown, and what is typed is for it.
    terminal.shows("loaded talk.ndjson").await;
    terminal.shows("2 sessions").await;
    terminal.shows("echo: hello").await;
    terminal.enter("/load nothing.ndjson");
    terminal.shows("nothing.ndjson: No such file").await;
    leave(terminal).await;
}
