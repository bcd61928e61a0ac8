//! Takes requests apart, with limits, and says what is wrong as JSON.

use std::time::Duration;

use axum::body::{HttpBody, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Longest body, in bytes: room for the longest frame in hexadecimal digits.
pub(super) const MAX_BODY: usize = 192 * 1024;
/// How long a body may take to come.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body, whatever its content type says: `curl -d` says that it is a form. (On a Unix socket with mode 0600 no
/// browser sends one.)
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Body<T>, ApiError> {
        let body = request.into_body();
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(ApiError::BodyTooLong);
        }
        let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await;
        let bytes = bytes.map_err(|_| ApiError::BodyTimeout)?.map_err(|_| ApiError::BodyTooLong)?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Body).map_err(|error| ApiError::BadRequest(format!("the body: {error}")))
    }
}

/// The words after the `?`.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, ApiError> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(error) => Err(ApiError::BadRequest(format!("the query: {}", error.body_text()))),
        }
    }
}
