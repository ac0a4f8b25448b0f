//! Reads what stands in the path.

use axum::extract::{FromRequestParts, Path};
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use turnkeep_core::SessionKey;

use super::access::{Asker, nowhere};
use super::problem::{Kind, Problem};
use super::shape::session_key;

/// The segments that a route names, decoded.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(Problem::new(Kind::BadRequest, rejection.body_text())),
        }
    }
}

/// The session that the path names, within the asker's reach; it need not exist.
pub(super) struct KeyPath(pub(super) SessionKey);

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asker = Asker::from_request_parts(parts, state).await?;
        let Segments(text) = Segments::<String>::from_request_parts(parts, state).await?;
        let key = session_key("session", &text)?;
        asker.reach(&key, || nowhere(&key))?;
        Ok(Self(key))
    }
}
