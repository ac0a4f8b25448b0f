//! What each address of the API needs of whoever asks: one table for all of them.
//!
//! An address that is missing here is open to nobody but the operator, and a test names it.

use turnkeep_core::access::Scope;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use super::sign_in::COOKIE;

use Need::{Key, Nobody, Operator, Person, Socket};
use Scope::{Admin, Read, Send};

/// What an address needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nobody,
    /// A key with this scope, or somebody who signed in on the web page.
    Person(Scope),
    /// A key with this scope.
    Key(Scope),
    /// A key of the operator, for every tenant, with this scope.
    Operator(Scope),
    /// The unix socket: what it does is worth the rights of the server's own user, who owns that.
    Socket,
}

/// What an address needs that the table does not know.
pub(super) const UNKNOWN: Need = Operator(Admin);

/// What a message needs, past the router.
pub(super) const CHAT: Need = Person(Send);

const TABLE: &[(&str, &str, Need)] = &[
    ("GET", "/", Nobody),
    ("GET", "/assets/{file}", Nobody),
    ("GET", "/healthz", Nobody),
    ("GET", "/readyz", Nobody),
    ("GET", "/openapi.json", Nobody),
    ("GET", "/metrics", Operator(Read)),
    ("POST", "/chat", CHAT),
    ("POST", "/v1/chat", CHAT),
    ("POST", "/v1/messages", Key(Send)),
    ("GET", "/v1/sessions", Key(Read)),
    ("GET", "/v1/sessions/{session}", Person(Read)),
    ("GET", "/v1/sessions/{session}/turns", Person(Read)),
    ("GET", "/v1/sessions/{session}/messages", Person(Read)),
    ("GET", "/v1/sessions/{session}/events", Person(Read)),
    ("GET", "/v1/sessions/{session}/file", Key(Read)),
    ("POST", "/v1/sessions/file", Key(Send)),
    ("POST", "/v1/sessions/{session}/stop", Person(Send)),
    ("POST", "/v1/sessions/{session}/new", Person(Send)),
    ("POST", "/v1/sessions/{session}/close", Person(Send)),
    ("POST", "/v1/sessions/{session}/typing", Person(Send)),
    ("POST", "/v1/sessions/{session}/queue", Person(Send)),
    ("POST", "/v1/sessions/{session}/pause", Key(Send)),
    ("POST", "/v1/sessions/{session}/hand_back", Key(Send)),
    ("POST", "/v1/sessions/{session}/reply", Key(Send)),
    ("POST", "/v1/sessions/{session}/opt-in", Person(Send)),
    ("POST", "/v1/sessions/{session}/opt-out", Person(Send)),
    ("GET", "/v1/sessions/{session}/deliveries", Key(Read)),
    ("POST", "/v1/sessions/{session}/deliveries/{reply}/{part}/resend", Key(Admin)),
    ("GET", "/v1/turns/{turn_id}", Person(Read)),
    ("GET", "/v1/customers/{tenant}/{customer}/export", Key(Admin)),
    ("DELETE", "/v1/customers/{tenant}/{customer}", Key(Admin)),
    ("GET", "/v1/deliveries", Key(Read)),
    ("GET", "/v1/deadletters", Key(Read)),
    ("POST", "/v1/deadletters/{id}/retry", Key(Admin)),
    ("POST", "/v1/deadletters/{id}/discard", Key(Admin)),
    ("GET", "/v1/events", Key(Read)),
    ("GET", "/v1/listeners", Operator(Read)),
    ("GET", "/v1/listeners/{name}/dead", Operator(Read)),
    ("POST", "/v1/listeners/{name}/dead/{id}/retry", Operator(Admin)),
    ("POST", "/v1/listeners/{name}/dead/{id}/discard", Operator(Admin)),
    ("GET", "/v1/signal", Operator(Read)),
    ("GET", "/v1/signal/groups", Operator(Read)),
    ("POST", "/v1/signal/trust", Operator(Admin)),
    ("GET", "/v1/usage", Key(Read)),
    ("GET", "/v1/switchboard", Key(Read)),
    ("POST", "/v1/switchboard", Key(Send)),
    ("GET", "/v1/switchboard/events", Key(Read)),
    ("GET", "/v1/switchboard/stats", Key(Read)),
    ("POST", "/v1/switchboard/cleanup", Key(Send)),
    ("GET", "/v1/switchboard/{which}", Key(Read)),
    ("PUT", "/v1/switchboard/{which}/name", Key(Send)),
    ("POST", "/v1/switchboard/{which}/switch", Key(Send)),
    ("POST", "/v1/switchboard/{which}/close", Key(Send)),
    ("POST", "/v1/switchboard/{which}/touch", Key(Send)),
    ("POST", "/v1/switchboard/{which}/read", Key(Send)),
    ("GET", "/v1/restrictions", Key(Read)),
    ("POST", "/v1/restrictions", Key(Admin)),
    ("GET", "/v1/restrictions/{id}", Key(Read)),
    ("POST", "/v1/restrictions/{id}/lift", Key(Admin)),
    ("POST", "/v1/restrictions/{id}/appeal", Key(Admin)),
    ("GET", "/v1/pairing", Operator(Read)),
    ("POST", "/v1/pairing", Operator(Admin)),
    ("POST", "/v1/pairing/{id}/revoke", Operator(Admin)),
    ("GET", "/v1/cron", Key(Read)),
    ("POST", "/v1/cron", Key(Admin)),
    ("DELETE", "/v1/cron/{name}", Key(Admin)),
    ("GET", "/v1/cron/{name}/times", Key(Read)),
    ("POST", "/v1/cron/{name}/pause", Key(Admin)),
    ("POST", "/v1/cron/{name}/resume", Key(Admin)),
    ("POST", "/v1/cron/{name}/run", Key(Admin)),
    ("GET", "/v1/reminders", Key(Read)),
    ("POST", "/v1/reminders", Key(Admin)),
    ("DELETE", "/v1/reminders/{name}", Key(Admin)),
    ("GET", "/v1/keys", Key(Admin)),
    ("POST", "/v1/keys", Key(Admin)),
    ("POST", "/v1/keys/{id}/revoke", Key(Admin)),
    ("POST", "/v1/keys/{id}/rotate", Key(Admin)),
    ("POST", "/v1/keys/{id}/forget", Key(Admin)),
    ("GET", "/v1/worktrees", Operator(Read)),
    ("POST", "/v1/worktrees/{id}/remove", Operator(Admin)),
    ("POST", "/v1/reload", Operator(Admin)),
    ("POST", "/v1/backup", Socket),
    ("POST", "/v1/sign-ins", Key(Send)),
    ("GET", "/v1/sign-in", Nobody),
    ("POST", "/v1/sign-in", Nobody),
    ("POST", "/v1/sign-out", Nobody),
];

/// What this address needs; none if the table has no such address.
pub(super) fn of(method: &str, path: &str) -> Option<Need> {
    // Where a GET is answered, a HEAD is.
    let method = if method == "HEAD" { "GET" } else { method };
    let found = TABLE.iter().find(|(verb, template, _)| *verb == method && *template == path);
    found.map(|(.., need)| *need)
}

/// How an address can be asked, as `Allow` has it; empty if the table has no such address.
pub(super) fn allowed(path: &str) -> String {
    let known = TABLE.iter().filter(|(_, template, _)| *template == path);
    let methods: Vec<&str> = known.map(|(verb, ..)| *verb).collect();
    let head = if methods.contains(&"GET") { ",HEAD" } else { "" };
    methods.join(",") + head
}

/// Whether an address needs nobody, however it is asked.
pub(super) fn is_open(path: &str) -> bool {
    let mut known = TABLE.iter().filter(|(_, template, _)| *template == path);
    known.all(|(.., need)| *need == Nobody)
}

impl Need {
    /// As the OpenAPI document says it.
    fn words(self) -> String {
        match self {
            Nobody => "nobody".to_owned(),
            Person(scope) => format!("person or key: {}", scope.as_str()),
            Key(scope) => format!("key: {}", scope.as_str()),
            Operator(scope) => format!("key of the operator: {}", scope.as_str()),
            Socket => "the unix socket".to_owned(),
        }
    }
}

/// Writes into the document what each address needs, and how it answers who has not got it.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let cookie = ApiKey::Cookie(ApiKeyValue::new(COOKIE));
    let schemes =
        [("key", SecurityScheme::Http(bearer)), ("person", SecurityScheme::ApiKey(cookie))];
    components
        .security_schemes
        .extend(schemes.map(|(name, scheme)| (name.to_owned(), RefOr::T(scheme))));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("POST", &mut item.post),
            ("PUT", &mut item.put),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let (Some(operation), Some(need)) = (operation.as_mut(), of(method, path)) {
                describe_one(operation, need, path);
            }
        }
    }
}

fn describe_one(operation: &mut Operation, need: Need, path: &str) {
    let words = ExtensionsBuilder::new().add("x-needs", need.words()).build();
    operation.extensions.get_or_insert_default().merge(words);
    let mut answers = vec![
        ("400", "The request makes no sense as HTTP"),
        ("403", "A foreign page asks"),
        ("421", "The server has another name than it was called by"),
    ];
    if need != Nobody {
        let none: [&str; 0] = [];
        let mut ways = vec![SecurityRequirement::new("key", none)];
        if matches!(need, Person(_)) {
            ways.push(SecurityRequirement::new("person", none));
        }
        operation.security = Some(ways);
        answers = vec![
            ("400", "The request makes no sense as HTTP"),
            ("401", "No key, or none that opens"),
            ("403", "The key lacks the scope, which is named; or a foreign page asks"),
            ("421", "The server has another name than it was called by"),
            ("429", "Too many wrong keys from this address"),
            ("503", "The store is down, or the server is starting or ending"),
        ];
    }
    if operation.request_body.is_some() {
        answers.extend([
            ("408", "The body came too slowly"),
            ("413", "The body is too large"),
            ("415", "The body is not JSON, or it is compressed"),
        ]);
    }
    if path.starts_with("/v1/") {
        answers.push(("422", "The query has a parameter that is not known here"));
    }
    if path.contains('{') {
        answers.push(("404", "There is no such thing within reach"));
        answers.push(("422", "What the path names is not of its form"));
    }
    for (status, description) in answers {
        let problem = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(problem)).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build();
        operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_stands_twice() {
        let mut addresses: Vec<_> = TABLE.iter().map(|(method, path, _)| (method, path)).collect();
        addresses.sort_unstable();
        let before = addresses.len();
        addresses.dedup();
        assert_eq!(addresses.len(), before);
        assert_eq!(of("HEAD", "/healthz"), Some(Nobody));
        assert_eq!(allowed("/v1/sign-in"), "GET,POST,HEAD");
        assert_eq!(allowed("/v1/sign-ins"), "POST");
        assert_eq!(allowed("/v1/nothing"), "");
        assert!(is_open("/v1/sign-in") && !is_open("/v1/sessions"));
        assert_eq!(of("DELETE", "/healthz"), None);
    }
}
