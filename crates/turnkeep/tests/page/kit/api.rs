//! What the server itself says about a conversation, for comparison with what the page shows.

use serde_json::Value;

#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    address: String,
}

impl Api {
    pub(crate) fn new(address: String) -> Self {
        // The client insists on a TLS provider though nothing here is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { client: reqwest::Client::new(), address }
    }

    /// The conversation of `name`, oldest first.
    pub(crate) async fn messages(&self, name: &str) -> Vec<Value> {
        let url = format!("{}/messages?limit=1000", self.session_url(name));
        let page = self.json(url).await;
        assert!(page["next"].is_null(), "the test wrote more than a page");
        page["messages"].as_array().unwrap().clone()
    }

    /// The journal of `name`, to what is now its end.
    pub(crate) async fn journal(&self, name: &str) -> Vec<Value> {
        let last = self.json(self.session_url(name)).await["last_seq"].as_u64().unwrap();
        let url = format!("{}/events", self.session_url(name));
        let mut answer = self.client.get(url).send().await.unwrap();
        let (mut bytes, mut events) = (Vec::new(), Vec::<Value>::new());
        while events.last().and_then(|event| event["seq"].as_u64()) != Some(last) {
            bytes.extend(answer.chunk().await.unwrap().expect("the stream goes on"));
            // A piece may end in the middle of a line.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let text = String::from_utf8(bytes.drain(..whole).collect()).unwrap();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let parsed = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
            events.extend(parsed.filter(|event| event["seq"].is_u64()));
        }
        events
    }

    /// Steers the conversation of `name`: `what` is the last part of the address.
    pub(crate) async fn steer(&self, name: &str, what: &str, body: &Value) {
        let url = format!("{}/{what}", self.session_url(name));
        let answer = self.client.post(&url).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
    }

    fn session_url(&self, name: &str) -> String {
        let peer = name.replace('%', "%25").replace(':', "%3A");
        let mut url = reqwest::Url::parse(&self.address).unwrap();
        url.path_segments_mut().unwrap().extend(["v1", "sessions"]);
        // The key is one segment of the path, so it is encoded once more.
        url.path_segments_mut().unwrap().push(&format!("default:default:web:dm:{peer}"));
        url.to_string()
    }

    async fn json(&self, url: String) -> Value {
        let answer = self.client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{url}");
        answer.json().await.unwrap()
    }
}

/// The one event of this type; its moment in milliseconds.
pub(crate) fn moment(journal: &[Value], kind: &str) -> u64 {
    let found: Vec<_> = journal.iter().filter(|event| event["type"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind} in {journal:?}");
    found[0]["at"].as_u64().unwrap()
}
