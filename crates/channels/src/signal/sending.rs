//! Sends a part, and says truthfully what came of it.

use std::sync::Arc;

use serde_json::{Value, json};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::ports::channel::Outgoing;
use turnkeep_core::session_key::{SessionKey, SessionKind};

use super::calls::CallError;
use super::message::Refusal;
use super::{Inner, SignalAccount};

/// Codes of signal-cli's own errors.
mod code {
    pub(super) const USER: i64 = -1;
    pub(super) const UNEXPECTED: i64 = -2;
    pub(super) const IO: i64 = -3;
    pub(super) const UNTRUSTED: i64 = -4;
    pub(super) const RATE_LIMIT: i64 = -5;
    pub(super) const INVALID_PARAMS: i64 = -32_602;
    pub(super) const INTERNAL: i64 = -32_603;
}

/// Not before this, where Signal says "not so fast" and no more.
const RATE_PAUSE_MS: u64 = 60_000;
/// Not before this, while our account is unknown to signal-cli.
const UNKNOWN_PAUSE_MS: u64 = 30_000;
/// Characters of what is quoted.
const QUOTE_CHARS_MAX: usize = 200;

/// Whom a session's parts go to.
pub(super) fn address(params: &mut Value, session: &SessionKey) {
    match session.kind() {
        SessionKind::Group => params["groupId"] = session.peer().into(),
        _ => params["recipient"] = json!([session.peer()]),
    }
}

/// Sends one part.
pub(super) async fn send(inner: &Inner, part: &Outgoing) -> DeliveryOutcome {
    let Some(account) = inner.account_of(&part.session.tenant()) else {
        let why = format!("the tenant {:?} has no Signal account", part.session.tenant());
        return failed(&why, false, None);
    };
    let Some(caller) = inner.caller() else {
        return failed("signal-cli is out of reach", true, None);
    };
    let mut params = json!({"account": &*account.number, "message": &*part.text});
    address(&mut params, &part.session);
    if let Some(quote) = &part.quote
        && let Ok(at) = quote.message_id.parse::<i64>()
    {
        params["quoteTimestamp"] = at.into();
        params["quoteAuthor"] = (&*quote.author).into();
        let text: String = quote.text.chars().take(QUOTE_CHARS_MAX).collect();
        params["quoteMessage"] = text.into();
    }
    let outcome = match caller.call("send", &params, inner.settings.patience.send).await {
        Ok(answer) => of_results(&answer, account),
        // Whether signal-cli is there shows by itself.
        Err(CallError::NotSent(why)) => return failed(&why, true, None),
        Err(CallError::Lost(why)) => return DeliveryOutcome::Unknown { error: why.into() },
        Err(CallError::Refused(refusal)) if is_unknown_account(&refusal) => {
            let why = super::unknown_account(&account.number);
            inner.health.known(&account.name, Some(&why));
            return failed(&why, true, Some(UNKNOWN_PAUSE_MS));
        }
        Err(CallError::Refused(refusal)) => refused(&refusal, account),
    };
    match &outcome {
        DeliveryOutcome::Sent => inner.health.sends(&account.name, None),
        // It may hold for others, too; what is final concerns one recipient.
        DeliveryOutcome::Failed { error, retry: true, .. } | DeliveryOutcome::Unknown { error } => {
            inner.health.sends(&account.name, Some(error));
        }
        DeliveryOutcome::Failed { .. } => {}
    }
    outcome
}

fn failed(error: &str, retry: bool, retry_after_ms: Option<u64>) -> DeliveryOutcome {
    DeliveryOutcome::Failed { error: Arc::from(error), retry, retry_after_ms }
}

fn is_unknown_account(refusal: &Refusal) -> bool {
    refusal.code == code::INVALID_PARAMS && refusal.message.contains("account")
}

fn refused(refusal: &Refusal, account: &SignalAccount) -> DeliveryOutcome {
    let said = &refusal.message;
    let results = refusal.data.get("response");
    if let Some(response) = results.filter(|response| !results_of(response).is_empty()) {
        return of_results(response, account);
    }
    match refusal.code {
        code::RATE_LIMIT => failed(&rate_words(None), true, Some(RATE_PAUSE_MS)),
        code::UNTRUSTED => failed(&untrusted_words(), false, None),
        code::IO => failed(&format!("signal-cli: {said}"), true, None),
        // It does not say how far it came. Where there was no connection, nothing left.
        code::INTERNAL | code::UNEXPECTED => {
            let none = ["ConnectException", "UnknownHostException", "NoRouteToHostException"];
            if none.iter().any(|kind| said.contains(kind)) {
                failed(&format!("signal-cli has no connection: {said}"), true, None)
            } else {
                DeliveryOutcome::Unknown { error: format!("signal-cli: {said}").into() }
            }
        }
        code::USER if said.contains("not a group member") || said.contains("Group not found") => {
            failed(&format!("we are not in this group: {said}"), false, None)
        }
        _ => failed(&format!("signal-cli refused it: {said}"), false, None),
    }
}

fn results_of(response: &Value) -> &[Value] {
    response.get("results").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What the results for the recipients mean together.
fn of_results(response: &Value, account: &SignalAccount) -> DeliveryOutcome {
    let results = results_of(response);
    let kind = |result: &Value| result.get("type").and_then(Value::as_str).map(str::to_owned);
    let failures: Vec<(&Value, String)> = results
        .iter()
        .filter_map(|result| Some((result, kind(result)?)))
        .filter(|(_, kind)| kind != "SUCCESS")
        .collect();
    if failures.len() < results.len() || results.is_empty() {
        if !failures.is_empty() {
            // Sending it again would tell it twice to everybody else.
            let kinds: Vec<&str> = failures.iter().map(|(_, kind)| kind.as_str()).collect();
            tracing::warn!(account = %account.name, ?kinds, "Signal: some of a group did not get it");
        }
        return DeliveryOutcome::Sent;
    }
    let of = |wanted: &str| failures.iter().find(|(_, kind)| kind == wanted).map(|(one, _)| *one);
    if let Some(result) = of("RATE_LIMIT_FAILURE") {
        let seconds = result.get("retryAfterSeconds").and_then(Value::as_u64);
        let pause = seconds.map_or(RATE_PAUSE_MS, |seconds| seconds.saturating_mul(1000));
        let token = result.get("token").and_then(Value::as_str);
        return failed(&rate_words(token), true, Some(pause));
    }
    if of("NETWORK_FAILURE").is_some() {
        return failed("signal-cli can't reach Signal", true, None);
    }
    if of("INVALID_PRE_KEY_FAILURE").is_some() {
        return failed("Signal gave keys of the recipient that are not right", true, None);
    }
    if of("IDENTITY_FAILURE").is_some() {
        return failed(&untrusted_words(), false, None);
    }
    if of("UNREGISTERED_FAILURE").is_some() {
        return failed("the recipient is not registered with Signal any more", false, None);
    }
    let kinds: Vec<&str> = failures.iter().map(|(_, kind)| kind.as_str()).collect();
    failed(&format!("signal-cli could not send it: {}", kinds.join(", ")), false, None)
}

fn untrusted_words() -> String {
    "the recipient's safety number changed and is not trusted: compare it, then run `turnkeep signal \
     trust`"
        .to_owned()
}

fn rate_words(token: Option<&str>) -> String {
    let more = token.map_or_else(String::new, |token| {
        format!(
            "; it wants a captcha first (signal-cli submitRateLimitChallenge, challenge {token})"
        )
    });
    format!("Signal limits how fast this account may send{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> SignalAccount {
        SignalAccount { name: "home".into(), number: "+49151".into(), tenant: "default".into() }
    }

    fn check(outcome: &DeliveryOutcome, words: &str, retry: Option<(bool, Option<u64>)>) {
        let (error, told) = match outcome {
            DeliveryOutcome::Failed { error, retry, retry_after_ms } => {
                (error, Some((*retry, *retry_after_ms)))
            }
            DeliveryOutcome::Unknown { error } => (error, None),
            DeliveryOutcome::Sent => panic!("sent"),
        };
        assert!(error.contains(words) && told == retry, "{outcome:?}");
    }

    fn results(kinds: &[&str]) -> Value {
        let results: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        json!({"timestamp": 1, "results": results})
    }

    #[test]
    fn results_of_recipients() {
        let of = |kinds: &[&str]| of_results(&results(kinds), &account());
        assert_eq!(of(&["SUCCESS"]), DeliveryOutcome::Sent);
        assert_eq!(of(&["UNREGISTERED_FAILURE", "SUCCESS"]), DeliveryOutcome::Sent);
        // A group without anybody else.
        assert_eq!(of(&[]), DeliveryOutcome::Sent);
        check(&of(&["UNREGISTERED_FAILURE"]), "not registered", Some((false, None)));
        check(&of(&["IDENTITY_FAILURE"]), "turnkeep signal trust", Some((false, None)));
        check(&of(&["NETWORK_FAILURE", "IDENTITY_FAILURE"]), "reach", Some((true, None)));
        check(&of(&["RATE_LIMIT_FAILURE"]), "how fast", Some((true, Some(60_000))));
        check(&of(&["SOMETHING_NEW"]), "SOMETHING_NEW", Some((false, None)));
    }

    #[test]
    fn refusals() {
        let of = |code, message: &str| {
            refused(&Refusal { code, message: message.into(), data: Value::Null }, &account())
        };
        check(&of(-4, "x"), "safety number", Some((false, None)));
        check(&of(-5, "x"), "how fast", Some((true, Some(60_000))));
        check(&of(-3, "x"), "signal-cli: x", Some((true, None)));
        check(&of(-1, "User is not a group member"), "not in this group", Some((false, None)));
        check(&of(-1, "else"), "else", Some((false, None)));
        check(&of(-32_603, "Failed (UnknownHostException)"), "connection", Some((true, None)));
        check(&of(-32_603, "Failed (SocketTimeoutException)"), "SocketTimeout", None);
        check(&of(-32_601, "Method not implemented"), "implemented", Some((false, None)));
    }
}
