//! Parses request bodies and queries within limits. Errors are JSON.

use std::time::Duration;

use axum::body::{HttpBody, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::connection::Connection;
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
        let connection = request.extensions().get::<Connection>().cloned();
        let body = request.into_body();
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(ApiError::BodyTooLong);
        }
        let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await;
        let bytes = bytes.map_err(|_| ApiError::BodyTimeout)?.map_err(|_| ApiError::BodyTooLong)?;
        if let Some(connection) = connection {
            connection.request_received();
        }
        parse_object(&bytes).map(Body)
    }
}

/// Parses a JSON object. Serde would accept an array with the fields in order too.
fn parse_object<T: DeserializeOwned>(json: &[u8]) -> Result<T, ApiError> {
    match json.trim_ascii_start() {
        [] => {
            return Err(ApiError::BadRequest(
                "request body: it is empty, but must be a JSON object".to_owned(),
            ));
        }
        [b'{', ..] => {}
        _ => return Err(ApiError::BadRequest("request body: it must be a JSON object".to_owned())),
    }
    serde_json::from_slice(json).map_err(|error| ApiError::BadRequest(format!("request body: {error}")))
}

/// The parsed query string.
pub(super) struct QueryString<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for QueryString<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<QueryString<T>, ApiError> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(query)) => Ok(QueryString(query)),
            Err(error) => Err(ApiError::BadRequest(format!("query: {}", error.body_text()))),
        }
    }
}

/// The path parameter.
pub(super) struct Path(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(parameter)) => Ok(Path(parameter)),
            Err(_) => Err(ApiError::BadRequest("path: it is not valid UTF-8".to_owned())),
        }
    }
}
