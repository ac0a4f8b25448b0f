//! The requests, made ready before the run so that sending one costs next to nothing.

use std::io::Write;

use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri};

use crate::Plan;

/// Longest wait that a closed run asks the server for.
pub(crate) const WAIT_S: u64 = 60;

/// Room for a body, so that it's one allocation.
const BODY_BYTES: usize = 192;

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

    /// The user's message number `number`.
    pub(crate) fn body(&self, user: &dyn std::fmt::Display, number: u64) -> Bytes {
        self.body.fill(user, number)
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

/// A body in pieces; between them go the user and the number of the message.
#[derive(Debug)]
struct BodyTemplate {
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
            before_user: format!(r#"{{"channel":"{channel}",{agent}"customer_id":"{prefix}-"#),
            // A full stop tells every channel's window that the message is complete.
            before_number: r#"","message":"Please answer message "#,
            after_number: r#".""#,
            before_id: plan.ids.then(|| format!(r#","id":"{prefix}-"#)),
        }
    }

    fn fill(&self, user: &dyn std::fmt::Display, number: u64) -> Bytes {
        let mut body = Vec::with_capacity(BODY_BYTES);
        // Writing to a vector can't fail, so the results say nothing.
        let _ = write!(body, "{}{user}", self.before_user);
        let _ = write!(body, "{}{number}{}", self.before_number, self.after_number);
        if let Some(before_id) = &self.before_id {
            let _ = write!(body, "{before_id}{user}-{number}\"");
        }
        body.push(b'}');
        Bytes::from(body)
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
        let body = Requests::new(plan, prefix, "here").body(&7, 12);
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
    fn only_a_waiting_request_asks_to_wait() {
        let plan = Plan { api_key: Some("k".to_owned()), ..Plan::default() };
        let requests = Requests::new(&plan, "u", "here:1");
        assert_eq!(requests.chat(true).uri, "/v1/chat?wait=60");
        assert_eq!(requests.chat(false).uri, "/v1/chat");
        assert_eq!(requests.chat(true).headers["authorization"], "Bearer k");
        assert_eq!(requests.metrics().headers["host"], "here:1");
    }
}
