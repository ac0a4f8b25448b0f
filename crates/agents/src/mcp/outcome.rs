//! What came of a call, as far as anybody can say.
//!
//! `failed` lets the same act be tried again, so it is said only where nothing can have been done:
//! the request never left, the server knows no calls, or what the tool does may be done again anyway.
//! Everything else is `unknown`, whatever the server's error is called: handlers throw errors half
//! way, and SDKs answer "invalid params" where the *result* of a tool that ran does not fit its schema.

use std::error::Error as _;

use rmcp::ServiceError;
use rmcp::model::{CallToolResponse, ErrorCode};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use super::content::{bounded, label, text};
use super::stdio::UNUSABLE;
use crate::provider_http::causes;
use crate::tools::Said;

/// What servers say where they refuse a call, and also where they fail after it.
const REFUSALS: [ErrorCode; 3] =
    [ErrorCode::INVALID_PARAMS, ErrorCode::INVALID_REQUEST, ErrorCode::PARSE_ERROR];

/// It was certainly not done.
pub(super) fn failed(why: impl AsRef<str>) -> Said {
    Said { outcome: ToolOutcome::Failed, output: bounded(why.as_ref()) }
}

/// Nobody knows whether it was done.
pub(super) fn unknown(why: impl AsRef<str>) -> Said {
    Said { outcome: ToolOutcome::Unknown, output: bounded(why.as_ref()) }
}

/// What an answer means.
pub(super) fn of_response(
    response: &CallToolResponse,
    effects: SideEffects,
    errors_mean_not_done: bool,
) -> Said {
    match response {
        CallToolResponse::Complete(result) => {
            let output = text(result);
            let outcome = match result.is_error {
                Some(true) if errors_mean_not_done || effects == SideEffects::Pure => {
                    ToolOutcome::Failed
                }
                // It may have failed half way.
                Some(true) => ToolOutcome::Unknown,
                _ => ToolOutcome::Done,
            };
            Said { outcome, output }
        }
        CallToolResponse::InputRequired(_) => unknown(
            "the tool asks for something in the middle of its work, which it can't get here",
        ),
        CallToolResponse::Task(_) => {
            unknown("the tool goes on by itself and gave no result; what comes of it is not known")
        }
        _ => unknown("the tool's answer is of no kind that is known here"),
    }
}

/// What a failure means, and whether the connection is to be doubted.
pub(super) fn of_error(
    error: &ServiceError,
    effects: SideEffects,
    errors_mean_not_done: bool,
) -> (Said, bool) {
    match error {
        ServiceError::McpError(error) => {
            let said = label(&error.message);
            if error.code == UNUSABLE {
                return (unknown(format!("the tool's answer can't be used: {said}")), false);
            }
            let code = error.code.0;
            let harmless = matches!(effects, SideEffects::Pure | SideEffects::Idempotent);
            let believed = harmless || errors_mean_not_done;
            // A server without such a method has no tools that could have begun.
            let refused = error.code == ErrorCode::METHOD_NOT_FOUND
                || (believed && REFUSALS.contains(&error.code));
            let said = if refused {
                failed(format!("the tool server refused the call with {code}: {said}"))
            } else {
                unknown(format!("the tool server answered with error {code}: {said}"))
            };
            (said, false)
        }
        ServiceError::TransportSend(error) => (of_transport(error), true),
        ServiceError::TransportClosed => {
            (unknown("the connection to the tool server ended before it answered"), true)
        }
        ServiceError::UnexpectedResponse => (unknown("the tool's answer makes no sense"), false),
        other => (unknown(label(&other.to_string())), false),
    }
}

/// Of what went wrong on the way, only some says that the request never arrived.
pub(super) fn of_transport(error: &DynamicTransportError) -> Said {
    type Http = StreamableHttpError<reqwest::Error>;
    match error.error.downcast_ref::<Http>() {
        Some(Http::Client(error)) if error.is_connect() => {
            failed("the tool server can't be reached; the call was not sent")
        }
        Some(Http::AuthRequired(_) | Http::InsufficientScope(_)) => {
            failed("the tool server refused the call: its key is missing or not enough")
        }
        Some(Http::SessionExpired) => {
            failed("the tool server has forgotten the connection and refused the call")
        }
        Some(Http::HttpStatus(status)) if status.status == 429 => {
            failed("the tool server refused the call: too many requests")
        }
        Some(Http::HttpStatus(status)) => {
            unknown(format!("the tool server answered with status {}", status.status))
        }
        Some(Http::ResponseBodyTooLarge { max_size }) => {
            unknown(format!("the tool's answer can't be used: more than {max_size} bytes"))
        }
        Some(Http::UnexpectedServerResponse(said)) => {
            let said = label(said.trim_end_matches([':', ' ']));
            unknown(format!("the tool server answered: {said}"))
        }
        Some(other) => unknown(format!("no answer of the tool server: {}", label(&words(other)))),
        None => unknown("the tool server's standard input is closed"),
    }
}

/// An error with its causes; none of ours holds a secret.
fn words(error: &StreamableHttpError<reqwest::Error>) -> String {
    match error {
        // Its words name the address, which may hold one.
        StreamableHttpError::Client(error) => {
            let beneath = error.source().map(causes);
            beneath.map_or_else(
                || "the request failed".to_owned(),
                |beneath| format!("the request failed: {beneath}"),
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::{CallToolResult, ContentBlock, ErrorData};

    #[test]
    fn an_error_of_the_tool_is_no_proof_that_nothing_was_done() {
        let check = |is_error, effects, trusted, expect| {
            let content = vec![ContentBlock::text("well")];
            let result = if is_error {
                CallToolResult::error(content)
            } else {
                CallToolResult::success(content)
            };
            let said = of_response(&CallToolResponse::Complete(result), effects, trusted);
            assert_eq!((said.outcome, said.output.as_str()), (expect, "well"), "{effects:?}");
        };
        for effects in [SideEffects::Compensatable, SideEffects::Irreversible] {
            check(false, effects, false, ToolOutcome::Done);
            check(true, effects, false, ToolOutcome::Unknown);
            check(true, effects, true, ToolOutcome::Failed);
        }
        check(true, SideEffects::Pure, false, ToolOutcome::Failed);
        check(true, SideEffects::Idempotent, false, ToolOutcome::Unknown);
    }

    #[test]
    fn an_error_of_the_protocol_is_no_proof_either() {
        let check = |code, effects, trusted, expect: Said| {
            let error =
                ServiceError::McpError(ErrorData::new(ErrorCode(code), "no\nsuch tool", None));
            let said = of_error(&error, effects, trusted);
            assert_eq!(said, (expect, false), "{code} {effects:?} {trusted}");
        };
        let refused = |code: i32| {
            failed(format!("the tool server refused the call with {code}: no such tool"))
        };
        let broke = |code: i32| {
            unknown(format!("the tool server answered with error {code}: no such tool"))
        };
        for code in [-32602, -32600, -32700] {
            check(code, SideEffects::Irreversible, false, broke(code));
            check(code, SideEffects::Compensatable, false, broke(code));
            check(code, SideEffects::Irreversible, true, refused(code));
            check(code, SideEffects::Idempotent, false, refused(code));
            check(code, SideEffects::Pure, false, refused(code));
        }
        check(-32601, SideEffects::Irreversible, false, refused(-32601));
        for (effects, trusted) in [(SideEffects::Irreversible, true), (SideEffects::Pure, false)] {
            check(-32603, effects, trusted, broke(-32603));
            let unusable = unknown("the tool's answer can't be used: no such tool");
            check(-32099, effects, trusted, unusable);
        }
    }

    #[test]
    fn a_connection_that_ends_leaves_it_unknown() {
        for (error, doubted) in
            [(ServiceError::TransportClosed, true), (ServiceError::UnexpectedResponse, false)]
        {
            let (said, doubts) = of_error(&error, SideEffects::Pure, true);
            assert_eq!((said.outcome, doubts), (ToolOutcome::Unknown, doubted), "{error}");
        }
    }
}
