//! A server that is a brain over HTTP, as scripted: by the type of what is posted to it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::timeout;
use turnkeep_agents::{HttpBrainAgent, HttpBrainSettings};
use turnkeep_core::ports::agent::Agent as _;
use turnkeep_core::session::input::{Finished, RunFailure};

use crate::handle::FakeHandle;
use crate::server::{Request, Server, Step};

/// Nothing here takes long; what does is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &[u8] = b"the secret that both sides know";

/// A brain that answers what is posted by its type, each in order; what nobody scripted is taken.
pub(crate) struct Brain {
    pub(crate) server: Server,
    pub(crate) handle: Arc<FakeHandle>,
}

impl Brain {
    pub(crate) async fn start(
        scripts: impl IntoIterator<Item = (&'static str, Vec<Step>)>,
    ) -> Self {
        let mut by_type: HashMap<&str, VecDeque<Vec<Step>>> = HashMap::new();
        for (kind, steps) in scripts {
            by_type.entry(kind).or_default().push_back(steps);
        }
        let server = Server::start_by(move |request| {
            let scripts = by_type.get_mut(request.body["type"].as_str().unwrap());
            Some(scripts.and_then(VecDeque::pop_front).unwrap_or_else(taken))
        });
        Self { server: server.await, handle: FakeHandle::new() }
    }

    pub(crate) fn agent(&self) -> HttpBrainAgent {
        self.agent_within(PATIENCE)
    }

    /// One whose stream has to begin within this time.
    pub(crate) fn agent_within(&self, begin_timeout: Duration) -> HttpBrainAgent {
        // Another test may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let secrets = vec![b"a newer one".to_vec(), SECRET.to_vec()];
        HttpBrainAgent::new(&HttpBrainSettings {
            connections_max: 2,
            begin_timeout,
            retry_pause: Duration::from_millis(1),
            name: "shop".to_owned(),
            ..HttpBrainSettings::new(format!("{}?key=SECRET", self.server.base_url), secrets)
        })
        .unwrap()
    }

    /// What is said of a failure of the way to it, behind its name and address.
    pub(crate) fn said_of(&self, failure: &RunFailure) -> String {
        let origin = self.server.base_url.strip_suffix("/v1").unwrap();
        let whom = format!("agent \"shop\" at {origin}: ");
        let said = failure.error.strip_prefix(&*whom);
        said.unwrap_or_else(|| panic!("{whom} in {failure:?}")).to_owned()
    }

    /// Answers one turn.
    pub(crate) async fn run(&self) -> Result<Finished, RunFailure> {
        let agent = self.agent();
        let answer = agent.run(self.handle.turn(&["a", "b"]));
        timeout(PATIENCE, answer).await.expect("the brain hangs")
    }

    /// What was posted with this type, each signed as it should be, and as the contract says.
    pub(crate) fn posted(&self, kind: &str) -> Vec<Request> {
        let requests = self.server.requests().into_iter();
        let posted = requests.filter(|request| request.body["type"] == kind);
        posted.inspect(check_signature).inspect(check_schema).collect()
    }

    /// Everything that it was told, in order, each once.
    pub(crate) fn told(&self) -> Vec<Value> {
        let mut told = Vec::new();
        for request in self.posted("told") {
            assert_eq!(request.body["first"], told.len() + 1);
            told.extend(request.body["objects"].as_array().unwrap().iter().cloned());
        }
        told
    }

    pub(crate) async fn until_posted(&self, kind: &str) {
        let posted = async {
            let mut count = 1;
            while self.posted(kind).is_empty() {
                self.server.until_requests(count).await;
                count = self.server.requests().len() + 1;
            }
        };
        timeout(PATIENCE, posted).await.expect("it is never posted");
    }
}

fn check_signature(request: &Request) {
    let header = |name| request.header(name).unwrap();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let content = format!("{id}.{at}.{}", request.text);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let fits = format!("v1,{}", STANDARD.encode(ring::hmac::sign(&key, content.as_bytes())));
    let signatures: Vec<&str> = header("webhook-signature").split(' ').collect();
    assert!(signatures.len() == 2 && signatures[1] == fits, "{signatures:?}");
}

/// What is posted fits the schema of the contract.
fn check_schema(request: &Request) {
    static POSTED: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let text = include_str!("../../../../docs/brain/contract.schema.json");
        let mut schema: Value = serde_json::from_str(text).unwrap();
        schema["oneOf"] = json!([{ "$ref": "#/$defs/posted" }]);
        jsonschema::validator_for(&schema).unwrap()
    });
    let mut body = request.body.clone();
    // The handle of these tests counts from 0.
    body["attempt"] = 1.into();
    assert!(POSTED.is_valid(&body), "{body} is not what the contract says");
}

/// What is taken without a word.
pub(crate) fn taken() -> Vec<Step> {
    vec![Step::Respond(204, vec![], String::new())]
}

/// A refusal with these words.
pub(crate) fn refused(status: u16, words: &str) -> Vec<Step> {
    vec![Step::Respond(status, vec![("content-type", "text/plain".to_owned())], words.to_owned())]
}

/// An event with its number.
pub(crate) fn event(id: u64, said: &Value) -> Step {
    Step::Raw(format!("id: {id}\ndata: {said}\n\n"))
}

pub(crate) fn say(id: u64, text: &str) -> Step {
    event(id, &json!({"type": "say", "text": text}))
}

pub(crate) fn finished(id: u64, reply: &str) -> Step {
    event(id, &json!({"type": "finished", "reply": reply}))
}
