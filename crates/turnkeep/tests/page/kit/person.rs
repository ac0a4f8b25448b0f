//! One window of the browser, and the person who writes in it.

use fantoccini::key::Key;
use fantoccini::wd::WindowHandle;
use fantoccini::{Client, Locator};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::browser::Extra;
use super::server::Server;

const LOOK: &str = include_str!("look.js");
/// How long a condition is waited for; the machine may be busy with other tests.
const DEADLINE_MS: u64 = 60_000;
/// The width at which the page is neither a phone's nor a wide screen's.
const WINDOW: (u32, u32) = (900, 760);

pub(crate) struct Person {
    client: Client,
    window: WindowHandle,
    pub(crate) name: String,
}

impl Person {
    /// Opens the page in a window of its own.
    pub(crate) async fn arrive(client: Client, address: &str) -> Self {
        let window = client.new_window(false).await.unwrap().handle;
        let person = Self { client, window, name: String::new() };
        person.look_here().await;
        person.client.set_window_size(WINDOW.0, WINDOW.1).await.unwrap();
        person.client.goto(address).await.unwrap();
        person.run("watch()").await;
        person
    }

    pub(crate) async fn enter(&mut self, name: &str) {
        self.name = name.to_owned();
        self.until("visible('name-input')").await;
        self.type_into("name-input", &format!("{name}{}", char::from(Key::Enter))).await;
        self.until("visible('message-input')").await;
    }

    /// Types a message and sends it.
    pub(crate) async fn write(&self, text: &str) {
        self.begin(text).await;
        self.send().await;
    }

    /// Types a message and leaves it in the box.
    pub(crate) async fn begin(&self, text: &str) {
        self.look_here().await;
        self.type_into("message-input", text).await;
    }

    /// Puts a text into the box at once, as pasting does.
    pub(crate) async fn paste(&self, text: &str) {
        let script = "document.querySelector('#message-input').focus();
                      document.execCommand('insertText', false, arguments[0]);";
        self.look_here().await;
        self.client.execute(script, vec![json!(text)]).await.unwrap();
    }

    /// Sends what stands in the box.
    pub(crate) async fn send(&self) {
        self.look_here().await;
        self.type_into("message-input", &char::from(Key::Enter).to_string()).await;
    }

    /// Types into any field.
    pub(crate) async fn fill(&self, testid: &str, text: &str) {
        self.look_here().await;
        self.type_into(testid, text).await;
    }

    pub(crate) async fn click(&self, testid: &str) {
        self.look_here().await;
        self.find(testid).await.click().await.unwrap();
    }

    /// Presses keys wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        self.look_here().await;
        self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    pub(crate) async fn leave(&self) {
        self.look_here().await;
        self.client.goto("about:blank").await.unwrap();
    }

    pub(crate) async fn come_back(&self, server: &Server) {
        self.look_here().await;
        self.client.goto(&server.address()).await.unwrap();
        self.run("watch()").await;
    }

    pub(crate) async fn reload(&self) {
        self.look_here().await;
        self.client.refresh().await.unwrap();
        self.run("watch()").await;
    }

    /// Waits until this JavaScript expression holds; `look.js` has its words.
    pub(crate) async fn until(&self, condition: &str) {
        let script = format!(
            "{LOOK}\nuntil(() => ({condition}), {DEADLINE_MS}, arguments[arguments.length - 1]);"
        );
        self.look_here().await;
        let held = self.client.execute_async(&script, Vec::new()).await;
        let held = held.unwrap_or_else(|error| panic!("{condition}: {error}"));
        if held != Value::Bool(true) {
            let shown = self.ask("document.body.innerText").await;
            panic!("{}: never {condition}; the page shows\n{}", self.name, shown.as_str().unwrap());
        }
    }

    /// The value of a JavaScript expression now.
    pub(crate) async fn ask(&self, expression: &str) -> Value {
        self.run(&format!("return ({expression})")).await
    }

    /// Fails unless this JavaScript expression holds now.
    pub(crate) async fn holds(&self, condition: &str) {
        let held = self.ask(condition).await;
        assert_eq!(
            held,
            Value::Bool(true),
            "{}: {condition}: {}",
            self.name,
            self.ask("rows()").await
        );
    }

    /// Runs statements in the page.
    pub(crate) async fn run(&self, statements: &str) -> Value {
        self.look_here().await;
        self.client.execute(&format!("{LOOK}\n{statements}"), Vec::new()).await.unwrap()
    }

    /// Role and name of an element, as a screen reader gets them.
    pub(crate) async fn spoken(&self, testid: &str) -> (String, String) {
        self.look_here().await;
        let element = self.find(testid).await.element_id();
        let (role, label) =
            (self.computed(&element, "role").await, self.computed(&element, "label").await);
        (role, label)
    }

    async fn computed(&self, element: &str, what: &str) -> String {
        let path = format!("element/{element}/computed{what}");
        let said = self.client.issue_cmd(Extra::new(Method::GET, path, None)).await.unwrap();
        said.as_str().unwrap().to_owned()
    }

    /// Lets the system of this window prefer `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &media).await;
    }

    /// Lets what the page would do after ten seconds or more, up to a minute, come twenty times as
    /// early, from the next load on.
    pub(crate) async fn be_impatient(&self) {
        let source = "const later = window.setTimeout;
                      window.setTimeout = (act, ms, ...given) =>
                        later(act, ms >= 10_000 && ms < 60_000 ? ms / 20 : ms, ...given);";
        let script = json!({"source": source});
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &script).await;
    }

    async fn devtools(&self, what: &str, params: &Value) {
        self.look_here().await;
        let body = json!({"cmd": what, "params": params});
        let command = Extra::new(Method::POST, "goog/cdp/execute", Some(body));
        self.client.issue_cmd(command).await.unwrap();
    }

    /// The page shows what the server has, in its order: nothing is missing, nothing doubled.
    pub(crate) async fn compare(&self, api: &Api) {
        let line = |seq: &Value, role: &Value, text: &Value| {
            let text = text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            // Who answers in the agent's place stands on its side of the page.
            let role = role.as_str().unwrap().replace("operator", "agent");
            (seq.as_u64().unwrap(), role, text)
        };
        let messages = api.messages(&self.name).await;
        let kept: Vec<_> =
            messages.iter().map(|one| line(&one["seq"], &one["role"], &one["text"])).collect();
        let rows = self
            .ask("rows().filter((row) => row.kind === 'message' && row.status !== 'divider')")
            .await;
        let rows = rows.as_array().unwrap().iter();
        let shown: Vec<_> = rows.map(|row| line(&row["seq"], &row["role"], &row["text"])).collect();
        assert_eq!(shown, kept, "{}", self.name);
    }

    async fn look_here(&self) {
        self.client.switch_to_window(self.window.clone()).await.unwrap();
    }

    async fn find(&self, testid: &str) -> fantoccini::elements::Element {
        let selector = format!("[data-testid=\"{testid}\"]");
        self.client.find(Locator::Css(&selector)).await.unwrap()
    }

    async fn type_into(&self, testid: &str, keys: &str) {
        self.find(testid).await.send_keys(keys).await.unwrap();
    }
}
