//! What is found again: by whoever comes back, and after the server was killed.

use crate::full::{SIZE, head, leave};
use crate::kit::{Home, said};

#[tokio::test]
async fn sessions_that_wait_still_wait_after_a_kill_and_can_be_answered() {
    let home = Home::started();
    let terminal = home.attach(SIZE, &[]);
    terminal.shows("nobody waits for you").await;
    terminal.enter("/new branches --agent careful");
    head(&terminal, "1 branches", "· idle").await;
    terminal.enter("tidy up");
    terminal.shows("! y or n: May I delete the branch old-api?").await;
    terminal.enter("/new look --agent curious");
    head(&terminal, "2 look", "· idle").await;
    terminal.enter("look at it");
    terminal.shows("? Which branch?").await;
    terminal.enter("/new chat");
    head(&terminal, "3 chat", "· idle").await;
    home.kill();
    terminal.shows("connection lost").await;
    home.start();
    // Nobody has to touch them first.
    terminal.shows("2 wait for you: 1 branches, 2 look (Ctrl-N)").await;
    head(&terminal, "3 chat", "z asleep").await;
    terminal.press("C-n");
    head(&terminal, "1 branches", "! approve").await;
    terminal.shows("! y or n: May I delete the branch old-api?").await;
    terminal.enter("y");
    terminal.shows("The branch old-api is deleted.").await;
    // Whoever comes only now sees the other one.
    home.kill();
    home.start();
    let second = home.attach(SIZE, &["--seat", "second", "--session", "look"]);
    second.shows("1 waits for you: 2 look").await;
    head(&second, "2 look", "? asks").await;
    second.enter("main");
    second.shows("Looking at main.").await;
    terminal.shows("nobody waits for you").await;
    leave(second).await;
    leave(terminal).await;
    assert!(home.prints(&["audit"]).contains("every invariant holds"));
}

#[tokio::test]
async fn what_is_unread_stays_so_until_somebody_looks() {
    let home = Home::started();
    let terminal = home.attach(SIZE, &[]);
    terminal.shows("nobody waits for you").await;
    terminal.enter("/new one");
    head(&terminal, "1 one", "· idle").await;
    home.prints(&["send", "first"]);
    home.prints(&["send", "second"]);
    let marked = |screen: &str| {
        let row = screen.lines().find(|line| line.starts_with(" 2 anna@api"));
        row.is_some_and(|row| row.contains("· idle    2│")) && screen.contains("2 unread")
    };
    terminal.press("Escape");
    terminal.until("two that are unread", marked).await;
    leave(terminal).await;
    let again = home.attach(SIZE, &[]);
    again.until("two that are unread, again", marked).await;
    leave(again).await;
    home.kill();
    home.start();
    let again = home.attach(SIZE, &[]);
    again
        .until("two that are unread after a restart", |screen| {
            // It may sleep by now.
            let row = screen.lines().find(|line| line.starts_with(" 2 anna@api"));
            row.is_some_and(|row| row.contains(" 2│")) && screen.contains("2 unread")
        })
        .await;
    again.press("M-2");
    again.shows("echo: second").await;
    again.until("nothing that is unread", |screen| !screen.contains("unread")).await;
    leave(again).await;
    home.kill();
    home.start();
    let again = home.attach(SIZE, &[]);
    again.shows("echo: second").await;
    again
        .until("nothing that is unread", |screen| {
            screen.contains("● connected") && !screen.contains("unread")
        })
        .await;
    leave(again).await;
}

#[tokio::test]
async fn what_could_not_be_sent_is_told_by_whoever_leaves() {
    let home = Home::started();
    let terminal = home.attach(SIZE, &[]);
    terminal.shows("nobody waits for you").await;
    terminal.enter("/new one");
    head(&terminal, "1 one", "· idle").await;
    home.kill();
    terminal.shows("connection lost").await;
    terminal.enter("important");
    terminal.press("C-c");
    terminal.shows("not there yet: 1 message; Ctrl-C leaves without").await;
    // If that was too long ago by now, it is said once more, and then it leaves.
    terminal.press_twice("C-c");
    assert_eq!(terminal.ended().await, "0");
    let screen = terminal.screen();
    assert!(screen.contains("not sent to 1 one: important"), "{screen}");
}

#[tokio::test]
async fn without_a_standard_output_nothing_is_taken_and_nothing_stays() {
    let home = Home::started();
    let terminal = home.does(SIZE, "\"$0\" attach >&-");
    terminal.shows("no terminal").await;
    assert_eq!(terminal.ended().await, "1");
    let output = home.turnkeep(&["attach"]).stdout(std::process::Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    // The terminal goes, and no signal says so: nobody is left before nothing.
    let terminal = home.does(SIZE, "setsid \"$0\" attach");
    terminal.shows("Turnkeep t1").await;
    terminal.vanish().await;
    let again = home.attach(SIZE, &[]);
    again.shows("Turnkeep t1").await;
    leave(again).await;
}
