//! What the page tells whoever writes: what is wrong with a name, what the agent does, and that nothing
//! was heard.

use fantoccini::key::Key;

use crate::kit::browser::Browser;
use crate::kit::server::Server;
use crate::meanwhile::GATED;

#[tokio::test]
async fn a_server_that_hangs_is_noticed() {
    let server = Server::start(100, "");
    let browser = Browser::start().await;
    let mut anna = browser.window(&server).await;
    anna.be_impatient().await;
    anna.reload().await;
    anna.enter("Anna").await;
    anna.write("before").await;
    anna.until("status('before') === 'answered' && !visible('offline')").await;
    server.halt();
    anna.until("visible('offline')").await;
    anna.holds("document.querySelector('#offline-text').textContent.startsWith('Connection lost')")
        .await;
    anna.write("are you there?").await;
    server.go_on();
    anna.until("status('are you there?') === 'answered' && !visible('offline')").await;
    anna.compare(&server.api()).await;
}

#[tokio::test]
async fn a_name_has_something_to_see() {
    let server = Server::start(100, "");
    let browser = Browser::start().await;
    let mut anna = browser.window(&server).await;
    anna.until("visible('name-input')").await;
    let enter = char::from(Key::Enter);
    for nothing in ["\u{200b}", "\u{2060}\u{feff} \u{ad}", "\u{3164}\u{2800}", "\u{200d}\u{fe0f}"] {
        anna.run("document.querySelector('#name-input').value = ''").await;
        anna.run("document.querySelector('#name-error').textContent = ''").await;
        anna.fill("name-input", &format!("{nothing}{enter}")).await;
        anna.until("document.querySelector('#name-error').textContent.includes('visible')").await;
        anna.holds("!visible('message-input')").await;
    }
    anna.holds("faint(4.5).length === 0").await;
    anna.run("document.querySelector('#name-input').value = ''").await;
    // Whoever looks like Anna is Anna.
    anna.enter("\u{feff}An\u{200b}na").await;
    anna.holds("document.querySelector('#person-name').textContent === 'Anna'").await;
    anna.write("hello").await;
    anna.until("status('hello') === 'answered'").await;
    // A joiner between letters is seen.
    anna.click("person").await;
    anna.enter("نیم\u{200c}روز").await;
    anna.holds("document.querySelector('#person-name').textContent === 'نیم\u{200c}روز'").await;
    anna.write("hello").await;
    anna.until("status('hello') === 'answered'").await;
    browser.is_content().await;
}

#[tokio::test]
async fn what_was_announced_is_not_left_standing() {
    let server = Server::with_brain(GATED);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("one").await;
    anna.until("announced() === 'The agent is working'").await;
    anna.write("two").await;
    anna.until("announced() === 'Your message: joined this answer'").await;
    server.let_through(2);
    anna.until("status('one') === 'answered' && status('two') === 'answered'").await;
    anna.until("announced() === 'Answered'").await;
    anna.reload().await;
    anna.until("replies().length === 2").await;
    anna.holds("announced() === ''").await;
    browser.is_content().await;
}
