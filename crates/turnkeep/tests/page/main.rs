//! The chat page in a real browser, with the real server behind it.
//!
//! Nothing here depends on how fast anything is: a turn that must still run is given an agent that
//! takes forever and is then stopped or killed, or one that goes on when the test lets it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod acts;
mod attention;
mod kit;
mod meanwhile;
#[path = "../port_kit/mod.rs"]
mod port_kit;
mod standing;
#[path = "../store_kit/mod.rs"]
mod store_kit;

use fantoccini::key::Key;
use kit::browser::Browser;
use kit::server::{FOREVER_MS, Server};
use serde_json::Value;

#[tokio::test]
async fn nobody_sees_or_stops_what_somebody_else_does() {
    let server = Server::start(FOREVER_MS, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    let bert = browser.person(&server, "Bert").await;
    anna.write("a long one").await;
    anna.until("status('a long one') === 'processing'").await;
    bert.holds("rows().length === 0 && !visible('stop')").await;
    bert.write("another").await;
    bert.until("status('another') === 'processing' && wasDrawn('typing')").await;
    bert.click("stop").await;
    bert.until("status('another') === 'stopped' && !visible('stop')").await;
    anna.holds("status('a long one') === 'processing' && visible('stop')").await;
    // The same name in another window is the same person.
    let again = browser.person(&server, "Anna").await;
    again.until("status('a long one') === 'processing' && visible('stop')").await;
    again.click("stop").await;
    anna.until("status('a long one') === 'stopped' && !visible('stop')").await;
    browser.is_content().await;
}

#[tokio::test]
async fn a_burst_is_answered_as_one() {
    // It waits so long for more that nothing comes too late, however slow the machine is.
    let window = "window_mode = \"fixed\"\nwindow_ms = 8000\nwindow_total_ms = 60000";
    let server = Server::start(400, window);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    for text in ["hi", "I have a question", "about my order"] {
        anna.write(text).await;
    }
    anna.until("status('hi') === 'answered' && status('about my order') === 'answered'").await;
    anna.holds("replies().length === 1").await;
    anna.holds("replies()[0] === 'echo: hi\\nI have a question\\nabout my order'").await;
    anna.holds("new Set(rows().map((row) => row.turn)).size === 1 && rows()[0].turn !== ''").await;
    let journal = server.api().journal("Anna").await;
    assert_eq!(journal.iter().filter(|event| event["type"] == "turn.completed").count(), 1);
    anna.compare(&server.api()).await;
    browser.is_content().await;
}

#[tokio::test]
async fn what_is_queued_is_shown_as_queued() {
    let server = Server::start(FOREVER_MS, "busy_policy = \"queue\"");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("first").await;
    anna.until("status('first') === 'processing'").await;
    anna.write("second").await;
    anna.write("third").await;
    anna.until("chip('second') === 'queued · 1 ahead'").await;
    anna.until("chip('third') === 'queued · 2 ahead'").await;
    anna.click("stop").await;
    anna.until("status('first') === 'stopped' && status('second') === 'processing'").await;
    anna.until("chip('third') === 'queued · 1 ahead'").await;
    anna.click("stop").await;
    anna.until("status('second') === 'stopped' && status('third') === 'processing'").await;
    anna.click("stop").await;
    anna.until("status('third') === 'stopped'").await;
    anna.holds("new Set(rows().map((row) => row.turn)).size === 3").await;
    anna.compare(&server.api()).await;
    browser.is_content().await;
}

#[tokio::test]
async fn stop_keeps_what_was_shown() {
    let server = Server::start(120_000, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    let words: Vec<String> = (1..=400).map(|number| format!("word{number}")).collect();
    let text = words.join(" ");
    anna.paste(&text).await;
    anna.send().await;
    anna.until("draft().startsWith('echo: word1 word2 word3')").await;
    let before = anna.ask("draft()").await.as_str().unwrap().to_owned();
    anna.click("stop").await;
    anna.until("rows().some((row) => row.role === 'agent' && row.status === 'stopped')").await;
    anna.holds("replies().length === 1 && draft() === '' && !visible('stop')").await;
    anna.holds("rows()[0].status === 'stopped'").await;
    let kept = anna.ask("replies()[0]").await.as_str().unwrap().to_owned();
    assert!(kept.starts_with(&before), "{before} was shown, {kept} is kept");
    assert!(format!("echo: {text}").starts_with(&kept) && kept.len() < text.len(), "{kept}");
    anna.compare(&server.api()).await;
    // The conversation goes on.
    anna.write("next").await;
    anna.until("status('next') === 'processing'").await;
    browser.is_content().await;
}

#[tokio::test]
async fn a_new_conversation_gives_up_the_old_one() {
    let mut server = Server::start(FOREVER_MS, "busy_policy = \"queue\"");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("stopped").await;
    anna.until("status('stopped') === 'processing'").await;
    for text in ["old", "older plans", "dreams"] {
        anna.write(text).await;
        anna.until(&format!("status('{text}') === 'queued'")).await;
    }
    anna.click("stop").await;
    anna.until("status('old') === 'processing'").await;
    anna.click("new").await;
    anna.until("['old', 'older plans', 'dreams'].every((text) => status(text) === 'cancelled')")
        .await;
    anna.until("rows().at(-1).status === 'divider' && !visible('stop')").await;
    anna.compare(&server.api()).await;
    browser.is_content().await;
    server.kill();
    server.start_again(100);
    anna.write("a fresh start").await;
    anna.until("replies().includes('echo: a fresh start')").await;
    anna.holds("replies().length === 1 && status('old') === 'cancelled'").await;
    server.audit();
}

#[tokio::test]
async fn what_finds_no_room_can_be_sent_again() {
    let server = Server::start(FOREVER_MS, "busy_policy = \"queue\"\nmax_queue_size = 1");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("first").await;
    anna.until("status('first') === 'processing'").await;
    anna.write("second").await;
    anna.until("status('second') === 'queued'").await;
    anna.write("third").await;
    anna.until("status('third') === 'refused'").await;
    anna.holds("chip('third').startsWith('refused: too many messages are waiting')").await;
    anna.click("edit").await;
    anna.until("status('third') === undefined").await;
    anna.holds("document.querySelector('#message-input').value === 'third'").await;
    anna.write(" time").await;
    anna.until("status('third time') === 'refused'").await;
    let order = "rows().filter((row) => row.role === 'user').map((row) => row.text).join(' ')";
    anna.holds(&format!("{order} === 'first second third time'")).await;
    anna.click("stop").await;
    anna.until("status('second') === 'processing'").await;
    anna.holds(&format!("{order} === 'first second third time'")).await;
    anna.click("retry").await;
    anna.until("status('third time') === 'queued'").await;
    anna.compare(&server.api()).await;
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("429")), "{complaints:?}");
}

#[tokio::test]
async fn a_reload_keeps_everything() {
    let server = Server::start(FOREVER_MS, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("first").await;
    anna.until("status('first') === 'processing'").await;
    anna.click("stop").await;
    anna.until("status('first') === 'stopped'").await;
    anna.write("second").await;
    anna.until("status('second') === 'processing'").await;
    anna.begin("half writ").await;
    let before = anna.ask("rows()").await;
    anna.reload().await;
    anna.until("status('second') === 'processing' && visible('typing') && visible('stop')").await;
    assert_eq!(anna.ask("rows()").await, before);
    anna.holds("document.querySelector('#message-input').value === 'half writ'").await;
    anna.holds("document.querySelector('#person-name').textContent === 'Anna'").await;
    anna.write("ten").await;
    anna.until("status('half written') === 'joined'").await;
    anna.click("new").await;
    anna.until("rows().at(-1).status === 'divider'").await;
    anna.reload().await;
    anna.until("rows().at(-1)?.status === 'divider' && status('half written') === 'cancelled'")
        .await;
    browser.is_content().await;
}

#[tokio::test]
async fn a_killed_server_loses_and_doubles_nothing() {
    let mut server = Server::start(300, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    let bert = browser.person(&server, "Bert").await;
    anna.write("before").await;
    bert.write("before that").await;
    anna.until("status('before') === 'answered'").await;
    bert.until("status('before that') === 'answered'").await;
    browser.is_content().await;
    server.kill();
    server.start_again(FOREVER_MS);
    anna.until("!visible('offline')").await;
    anna.write("in the middle").await;
    bert.write("in between").await;
    anna.until("status('in the middle') === 'processing'").await;
    bert.until("status('in between') === 'processing'").await;
    anna.write("and this").await;
    anna.until("status('and this') === 'joined'").await;

    server.kill();
    anna.until("visible('offline')").await;
    bert.until("visible('offline')").await;
    server.start_again(300);
    anna.until("replies().includes('echo: in the middle\\nand this')").await;
    bert.until("replies().includes('echo: in between')").await;
    for person in [&anna, &bert] {
        person.until("!visible('offline') && !visible('stop')").await;
        person.holds("replies().length === 2 && window.drawn instanceof Set").await;
        person.holds("rows().every((row) => ['answered', 'complete'].includes(row.status))").await;
        person.compare(&server.api()).await;
        person.write("afterwards").await;
        person.until("status('afterwards') === 'answered'").await;
        person.compare(&server.api()).await;
    }
    server.audit();
    let network = |line: &String| line.contains("net::ERR_");
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(network), "{complaints:?}");
}

#[tokio::test]
async fn what_is_written_without_a_server_is_sent_once() {
    let mut server = Server::start(300, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("before").await;
    anna.until("status('before') === 'answered'").await;

    server.kill();
    anna.until("visible('offline')").await;
    anna.write("while it is away").await;
    anna.until("status('while it is away') === 'retrying'").await;
    anna.write("and then I left").await;
    anna.until("status('and then I left') === 'sending'").await;
    // The tab goes on where it was, also after it showed something else.
    anna.leave().await;
    server.start_again(300);
    anna.come_back(&server).await;
    anna.until("status('while it is away') === 'answered'").await;
    anna.until("status('and then I left') === 'answered'").await;
    anna.compare(&server.api()).await;

    // The server has it and dies before it can say so: nobody knows whether it arrived.
    server.restart_to_die_at("accept.after", 300);
    anna.until("!visible('offline')").await;
    anna.write("did you get this?").await;
    server.ended();
    anna.until("status('did you get this?') === 'retrying'").await;
    server.start_again(300);
    anna.until("status('did you get this?') === 'answered' && !visible('offline')").await;
    let times = |messages: &[Value], text: &str| {
        messages.iter().filter(|one| one["role"] == "user" && one["text"] == text).count()
    };
    let messages = server.api().messages("Anna").await;
    for text in ["while it is away", "and then I left", "did you get this?"] {
        assert_eq!(times(&messages, text), 1, "{text}: {messages:?}");
    }
    anna.compare(&server.api()).await;
    server.audit();
}

#[tokio::test]
async fn hostile_text_is_only_text() {
    let server = Server::start(50, "");
    let browser = Browser::start().await;
    let hostile = "a:b%<i>/?&#\"";
    let mallory = browser.person(&server, hostile).await;
    let long = "x".repeat(5_000);
    let texts = [
        "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>",
        "[click](javascript:document.title='broken%20in') ![](http://127.0.0.1:9/x.png)",
        long.as_str(),
        "👩‍👩‍👧‍👦 ☃️ e\u{301}",
        "שלום, 4711! \u{202e}gnp.exe",
    ];
    for text in texts {
        mallory.paste(text).await;
        mallory.send().await;
        let shown = serde_json::to_string(text).unwrap();
        mallory.until(&format!("status({shown}) === 'answered' && replies().length > 0")).await;
    }
    mallory.compare(&server.api()).await;
    let planted = "#rows :is(img, script, iframe, object, style, [onerror], [href^=javascript])";
    mallory.holds(&format!("document.querySelectorAll('{planted}').length === 0")).await;
    mallory.holds("document.title.endsWith('Turnkeep')").await;
    mallory.holds("document.documentElement.scrollWidth <= innerWidth").await;
    mallory.holds("document.querySelector('#log').scrollWidth <= innerWidth").await;
    let name = serde_json::to_string(hostile).unwrap();
    mallory.holds(&format!("document.querySelector('#person-name').textContent === {name}")).await;
    browser.is_content().await;
    // The alarm works: what the page's policy forbids is complained about.
    mallory.run("const one = document.createElement('script'); one.textContent = '1'; document.body.append(one)").await;
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().any(|line| line.contains("Content Security Policy")),
        "{complaints:?}"
    );
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let server = Server::start(FOREVER_MS, "");
    let browser = Browser::start().await;
    let anna = browser.window(&server).await;
    let focus = "document.activeElement.dataset.testid";
    anna.until(&format!("{focus} === 'name-input'")).await;
    anna.press(&Key::Enter).await;
    anna.holds("!visible('message-input')").await;
    anna.press(&("Anna".to_owned() + &Key::Enter)).await;
    anna.until(&format!("{focus} === 'message-input'")).await;
    let shifted = format!("{}{}{}", Key::Shift, Key::Enter, Key::Shift);
    anna.press(&format!("one{shifted}two{}", Key::Enter)).await;
    anna.until("status('one\\ntwo') === 'processing'").await;
    anna.holds(&format!("{focus} === 'message-input'")).await;
    anna.press(&Key::Escape).await;
    anna.until("status('one\\ntwo') === 'stopped'").await;

    anna.press("more").await;
    anna.press(&Key::Enter).await;
    anna.until("status('more') === 'processing'").await;
    anna.press("x").await;
    for stop in ["stop", "send"] {
        anna.press(&Key::Tab).await;
        anna.holds(&format!("{focus} === '{stop}'")).await;
    }
    let back = format!("{}{}{}", Key::Shift, Key::Tab, Key::Shift);
    for stop in ["stop", "message-input", "log", "person", "new"] {
        anna.press(&back).await;
        anna.holds(&format!("{focus} === '{stop}'")).await;
    }
    // Everything works by its key, and the focus is always seen.
    anna.holds("getComputedStyle(document.activeElement).outlineStyle !== 'none'").await;
    anna.press(&Key::Enter).await;
    anna.until("rows().at(-1).status === 'divider'").await;
    browser.is_content().await;
}

#[tokio::test]
async fn a_screen_reader_finds_its_way() {
    let server = Server::start(FOREVER_MS, "");
    let browser = Browser::start().await;
    let mut anna = browser.window(&server).await;
    let spoken = |role: &str, name: &str| (role.to_owned(), name.to_owned());
    anna.until("visible('name-input')").await;
    assert_eq!(anna.spoken("name-input").await, spoken("textbox", "Your name"));
    assert_eq!(anna.spoken("name-submit").await, spoken("button", "Start chatting"));
    anna.enter("Anna").await;
    anna.write("hello").await;
    anna.until("visible('stop')").await;
    assert_eq!(anna.spoken("log").await, spoken("log", "Conversation"));
    assert_eq!(anna.spoken("message-input").await, spoken("textbox", "Message"));
    assert_eq!(anna.spoken("send").await, spoken("button", "Send"));
    assert_eq!(anna.spoken("stop").await, spoken("button", "Stop the answer"));
    assert_eq!(anna.spoken("new").await, spoken("button", "New conversation"));
    let (role, name) = anna.spoken("person").await;
    assert!(role == "button" && name.contains("You write as Anna"), "{role} {name}");
    anna.holds("document.querySelector('[data-testid=log]').ariaLive === 'polite'").await;
    anna.until("document.querySelector('#announcer').textContent !== ''").await;
    anna.holds("document.querySelector('#announcer').role === 'status'").await;
    anna.holds("document.querySelector('#log').ariaBusy === 'false'").await;
    anna.holds("document.documentElement.lang === 'en' && document.title === 'Anna · Turnkeep'")
        .await;
    browser.is_content().await;
}

#[tokio::test]
async fn everything_can_be_read_by_day_and_by_night() {
    let server = Server::start(FOREVER_MS, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("first").await;
    anna.until("status('first') === 'processing'").await;
    anna.click("stop").await;
    anna.until("status('first') === 'stopped'").await;
    anna.write("second").await;
    anna.until("status('second') === 'processing'").await;
    anna.write("third").await;
    anna.until("status('third') === 'joined'").await;
    let mut pages = Vec::new();
    for scheme in ["light", "dark"] {
        anna.prefer(scheme).await;
        // Colours fade into each other; only where they end is of interest.
        anna.run("for (const one of document.getAnimations()) if (one instanceof CSSTransition) one.finish()").await;
        let faint = anna.ask("faint(4.5)").await;
        assert_eq!(faint, serde_json::json!([]), "{scheme}");
        pages.push(anna.ask("getComputedStyle(document.body).backgroundColor").await);
    }
    assert_ne!(pages[0], pages[1]);
    browser.is_content().await;
}

#[tokio::test]
async fn with_keys_one_signs_in_as_one_customer() {
    let server = Server::start(100, "");
    server.turnkeep(&["keys", "create", "--tenant", "acme", "--scope", "send,read"]);
    let link = |customer: &str| {
        server.turnkeep(&["keys", "sign-in", "--tenant", "acme", "--customer", customer])
    };
    let browser = Browser::start().await;
    let mut anna = browser.window(&server).await;
    anna.until("visible('code-input') && !visible('name-input')").await;
    assert_eq!(anna.spoken("code-input").await, ("textbox".to_owned(), "Your code".to_owned()));
    anna.holds("faint(4.5).length === 0").await;
    browser.is_content().await;
    // Whoever pastes the whole link means the code in it.
    anna.fill("code-input", &link("anna")).await;
    anna.click("code-submit").await;
    anna.until("visible('message-input')").await;
    anna.holds("document.querySelector('#person-name').textContent === 'anna'").await;
    anna.write("hello").await;
    anna.until("replies().includes('echo: hello')").await;
    anna.reload().await;
    anna.until("replies().includes('echo: hello')").await;
    browser.is_content().await;
    // The cookie can't be read by scripts, and another window is the same person.
    anna.holds("document.cookie === ''").await;
    anna.click("person").await;
    anna.until("visible('code-input')").await;
    anna.holds("sessionStorage.length === 0").await;
    browser.is_content().await;
    // A link signs in by itself, once, and leaves no code in the address.
    let link = link("bert");
    let bert = browser.window_at(&link).await;
    bert.until("visible('message-input') && location.hash === ''").await;
    bert.holds("replies().length === 0").await;
    browser.is_content().await;
    anna = browser.window_at(&link).await;
    anna.until("document.querySelector('#code-error').textContent.includes('used already')").await;
    assert_eq!(browser.complaints().await.len(), 1, "the refused code");
}
