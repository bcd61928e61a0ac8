//! Parses request bodies and queries within limits. Errors are JSON.

use std::time::Duration;

use axum::body::{HttpBody, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Longest request body, in bytes. It fits the longest frame in hexadecimal digits.
pub(super) const MAX_BODY: usize = 192 * 1024;
/// A client must send its body within this time.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A JSON body. The content type is ignored, because `curl -d` declares a form. (The Unix socket has
/// mode 0600, so no browser can send a cross-site form.)
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
        parsed.map(Body).map_err(|error| ApiError::BadRequest(format!("request body: {error}")))
    }
}

/// The parsed query string.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, ApiError> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(error) => Err(ApiError::BadRequest(format!("query: {}", error.body_text()))),
        }
    }
}
