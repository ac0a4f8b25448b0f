//! The real binary where the environment names a proxy: it sees a tunnel to a provider of models, and
//! nothing else of all that the server sends.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{interval, timeout};

use crate::crash_kit::{Server, client};
use crate::http::secret;
use crate::kit::{LOOK, PATIENCE, Place};
use crate::parrot;

const KEY: &str = "nobody-sees-this-key";

/// Takes whatever comes and gives everybody the same answer.
struct Ear {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Ear {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let heard = Arc::clone(&heard);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await.unwrap_or_default() == 0 {
                            break;
                        }
                    }
                    heard.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                    // Who is gone needs no answer.
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { address, heads }
    }

    /// The first lines of what came.
    fn heard(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }

    async fn until(&self, line: &str) {
        let heard = async {
            let mut look = interval(LOOK);
            while !self.heard().iter().any(|heard| heard == line) {
                look.tick().await;
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("{line} in {:?}", self.heard()));
    }
}

/// A server whose environment names the proxy in every way there is.
fn start(place: &Place, config: &str, proxy: &Ear) -> Server {
    let path = place.path().join("turnkeep.toml");
    std::fs::write(&path, config).unwrap();
    let secret = secret();
    let mut env = vec![("KEY", KEY), ("SECRET", &*secret), ("NO_PROXY", ""), ("no_proxy", "")];
    let names =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    env.extend(names.map(|name| (name, &*proxy.address)));
    Server::start(&path, &place.data(), &env).unwrap()
}

async fn ask(server: &Server, agent: &str) -> Value {
    let url = format!("{}/v1/chat?wait=60", server.address);
    let body = json!({
        "customer_id": "anna", "channel": "web", "message": "moin", "agent_id": agent,
    });
    let answer = client().post(url).json(&body).send().await.unwrap();
    answer.json().await.unwrap()
}

/// The agents of both servers: one that asks a model here, one that asks a model far away, a brain.
async fn agents() -> String {
    let model = parrot::start().await;
    format!(
        "[agents.default]\n{model}\napi_key_env = \"KEY\"\n\
         [agents.far]\nkind = \"openai\"\nbase_url = \"https://provider.invalid/v1\"\nmodel = \"m\"\n\
         api_key_env = \"KEY\"\nmax_retries = 0\nerrors_max = 1\n\
         [agents.brain]\nkind = \"http\"\nurl = \"https://brain.invalid/turns?key={KEY}\"\n\
         secret_env = \"SECRET\"\nerrors_max = 1\n\
         [channels.web]\nwindow_ms = 0\n"
    )
}

const REFUSES: &str = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const ALLOWS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\
                      connection: close\r\n\r\n{\"allow\":true}";

#[tokio::test]
async fn only_a_provider_is_reached_through_a_proxy_and_only_by_a_tunnel() {
    let (place, proxy, here) = (Place::new(), Ear::start(REFUSES).await, Ear::start(ALLOWS).await);
    let around = format!(
        "[guard]\nmoderation_url = \"{0}/check\"\nmoderation_secret_env = \"KEY\"\n\
         [telemetry]\notlp_endpoint = \"{0}\"\n",
        here.address
    );
    let server = start(&place, &(agents().await + &around), &proxy);
    assert_eq!(ask(&server, "default").await["reply"], "moin");
    here.until("POST /check HTTP/1.1").await;
    here.until("POST /v1/traces HTTP/1.1").await;
    assert_eq!(proxy.heard(), [""; 0], "all of this was plain");

    let answer = ask(&server, "brain").await;
    let error = answer["error"].to_string();
    let expect = "agent \\\"brain\\\" at https://brain.invalid: the brain can't be reached: ";
    assert!(error.contains(expect) && !error.contains(KEY), "{answer}");
    assert_eq!(proxy.heard(), [""; 0], "a brain is somebody of ours");

    ask(&server, "far").await;
    assert_eq!(proxy.heard(), ["CONNECT provider.invalid:443 HTTP/1.1"]);
    let heads = proxy.heads.lock().unwrap().concat();
    assert!(!heads.contains(KEY), "{heads}");
}

#[tokio::test]
async fn neither_what_checks_messages_nor_what_takes_spans_is_reached_through_a_proxy() {
    let (place, proxy) = (Place::new(), Ear::start(REFUSES).await);
    // Nobody listens there, which is known at once, without a word to a name server.
    let around = "[guard]\nmoderation_url = \"https://127.0.0.1:1/\"\nmoderation_timeout_ms = 1000\n\
                  moderation_secret_env = \"KEY\"\n\
                  [telemetry]\notlp_endpoint = \"https://127.0.0.1:1\"\n";
    let server = start(&place, &(agents().await + around), &proxy);
    assert_eq!(ask(&server, "default").await["reply"], "moin");
    let lost = async {
        let mut look = interval(LOOK);
        loop {
            look.tick().await;
            let numbers = client().get(format!("{}/metrics", server.address)).send().await.unwrap();
            let numbers = numbers.text().await.unwrap();
            if !numbers.contains("turnkeep_spans_dropped_total 0\n") {
                return numbers;
            }
        }
    };
    let numbers = timeout(PATIENCE, lost).await.expect("the spans went somewhere");
    let tried = "turn_gateway_guard_total{check=\"moderation\",outcome=\"error\"}";
    assert!(numbers.contains(tried), "{numbers}");
    assert_eq!(proxy.heard(), [""; 0]);
}
