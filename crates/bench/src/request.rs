//! The requests, made ready before the run so that sending one costs next to nothing.

use std::io::Write;

use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};

use crate::Plan;

/// Longest wait that a closed run asks the server for.
pub(crate) const WAIT_S: u64 = 60;

/// What tenants' names begin with.
pub(crate) const TENANT: &str = "bench-";

/// Room for a body, so that it's one allocation.
const BODY_BYTES: usize = 192;

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// One of the users.
    User(usize),
    /// One of the customers that flood; whose turn it is follows from the message's number.
    Flood,
}

/// Every request of a run, as templates.
#[derive(Debug)]
pub(crate) struct Requests {
    waiting: Parts,
    accepting: Parts,
    metrics: Parts,
    body: BodyTemplate,
}

impl Requests {
    /// `prefix` begins every customer's name; `host` goes into the `Host` header.
    pub(crate) fn new(plan: &Plan, prefix: &str, host: &str) -> Self {
        let chat = Uri::from_static("/v1/chat");
        let chat_wait = Uri::try_from(format!("/v1/chat?wait={WAIT_S}")).unwrap_or(chat.clone());
        Self {
            waiting: head(Method::POST, chat_wait, host, plan),
            accepting: head(Method::POST, chat, host, plan),
            metrics: head(Method::GET, Uri::from_static("/metrics"), host, plan),
            body: BodyTemplate::new(plan, prefix),
        }
    }

    /// `wait`: the answer is awaited, else only the acceptance.
    pub(crate) fn chat(&self, wait: bool) -> &Parts {
        if wait { &self.waiting } else { &self.accepting }
    }

    /// The counters.
    pub(crate) fn metrics(&self) -> &Parts {
        &self.metrics
    }

    /// The sender's message number `number`.
    pub(crate) fn body(&self, sender: Sender, number: u64) -> Bytes {
        self.body.fill(sender, number)
    }
}

fn head(method: Method, uri: Uri, host: &str, plan: &Plan) -> Parts {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    parts.uri = uri;
    let host = HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static("localhost"));
    parts.headers.insert(HOST, host);
    if parts.method == Method::POST {
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let bearer = plan.api_key.as_ref().map(|key| format!("Bearer {key}"));
    if let Some(Ok(value)) = bearer.map(HeaderValue::try_from) {
        parts.headers.insert(AUTHORIZATION, value);
    }
    parts
}

/// A body in pieces; between them go the tenant, the user and the number of the message.
#[derive(Debug)]
struct BodyTemplate {
    before_tenant: String,
    tenants: Option<usize>,
    flood_tenant: Option<String>,
    flood_customers: u64,
    before_user: String,
    before_number: &'static str,
    after_number: &'static str,
    before_id: Option<String>,
}

impl BodyTemplate {
    fn new(plan: &Plan, prefix: &str) -> Self {
        let agent = match &plan.agent_id {
            Some(agent_id) => format!(r#""agent_id":"{}","#, escaped(agent_id)),
            None => String::new(),
        };
        let (channel, prefix) = (escaped(&plan.channel), escaped(prefix));
        Self {
            before_tenant: format!(r#"{{"channel":"{channel}",{agent}"#),
            tenants: plan.tenants,
            flood_tenant: plan.flood_tenant.as_deref().map(escaped),
            flood_customers: plan.flood_customers,
            before_user: format!(r#""customer_id":"{prefix}-"#),
            // A full stop tells every channel's window that the message is complete.
            before_number: r#"","message":"Please answer message "#,
            after_number: r#".""#,
            before_id: plan.ids.then(|| format!(r#","id":"{prefix}-"#)),
        }
    }

    fn fill(&self, sender: Sender, number: u64) -> Bytes {
        let mut body = Vec::with_capacity(BODY_BYTES);
        body.extend_from_slice(self.before_tenant.as_bytes());
        // Writing to a vector can't fail, so the results say nothing.
        match (sender, self.tenants, &self.flood_tenant) {
            (Sender::User(user), Some(tenants), _) => {
                let _ = write!(body, r#""tenant_id":"{TENANT}{}","#, user % tenants);
            }
            (Sender::Flood, _, Some(tenant)) => {
                let _ = write!(body, r#""tenant_id":"{tenant}","#);
            }
            (Sender::User(_), None, _) | (Sender::Flood, _, None) => {}
        }
        body.extend_from_slice(self.before_user.as_bytes());
        self.name(sender, number, &mut body);
        let _ = write!(body, "{}{number}{}", self.before_number, self.after_number);
        if let Some(before_id) = &self.before_id {
            body.extend_from_slice(before_id.as_bytes());
            self.name(sender, number, &mut body);
            let _ = write!(body, "-{number}\"");
        }
        body.push(b'}');
        Bytes::from(body)
    }

    fn name(&self, sender: Sender, number: u64, body: &mut Vec<u8>) {
        let _ = match sender {
            Sender::User(user) => write!(body, "{user}"),
            Sender::Flood if self.flood_customers == 1 => write!(body, "flood"),
            Sender::Flood => write!(body, "flood-{}", number % self.flood_customers),
        };
    }
}

/// The text as it stands inside the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(plan: &Plan, prefix: &str, expect: Value) {
        let body = Requests::new(plan, prefix, "here").body(Sender::User(7), 12);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expect);
    }

    #[test]
    fn a_body_is_json_whatever_the_names_hold() {
        check(
            &Plan::default(),
            "u",
            json!({"channel": "api", "customer_id": "u-7", "message": "Please answer message 12."}),
        );
        let plan = Plan {
            channel: "we\"b\\".to_owned(),
            agent_id: Some("a\n1".to_owned()),
            ids: true,
            ..Plan::default()
        };
        check(
            &plan,
            "ü\"",
            json!({
                "channel": "we\"b\\", "agent_id": "a\n1", "customer_id": "ü\"-7",
                "message": "Please answer message 12.", "id": "ü\"-7-12",
            }),
        );
    }

    #[test]
    fn users_are_spread_over_tenants_and_the_flood_has_its_own() {
        let plan = Plan {
            tenants: Some(5),
            flood_tenant: Some("loud".to_owned()),
            flood_customers: 10,
            ..Plan::default()
        };
        let requests = Requests::new(&plan, "u", "here");
        let check = |sender: Sender, number: u64, tenant: &str, customer: &str| {
            let body: Value = serde_json::from_slice(&requests.body(sender, number)).unwrap();
            assert_eq!(
                (&body["tenant_id"], &body["customer_id"]),
                (&json!(tenant), &json!(customer))
            );
        };
        check(Sender::User(4), 1, "bench-4", "u-4");
        check(Sender::User(7), 1, "bench-2", "u-7");
        check(Sender::Flood, 23, "loud", "u-flood-3");
    }

    #[test]
    fn only_a_waiting_request_asks_to_wait() {
        let plan = Plan { api_key: Some("k".to_owned()), ..Plan::default() };
        let requests = Requests::new(&plan, "u", "here:1");
        assert_eq!(requests.chat(true).uri, "/v1/chat?wait=60");
        assert_eq!(requests.chat(false).uri, "/v1/chat");
        assert_eq!(requests.chat(true).headers["authorization"], "Bearer k");
        assert_eq!(requests.metrics().headers["host"], "here:1");
    }
}
