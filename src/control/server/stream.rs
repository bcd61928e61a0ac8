//! Response bodies that last until the client disconnects or the switch stops.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;

use crate::control::capture::Capture;
use crate::control::subscription::{Delivery, Subscription};

/// A stream of JSON lines (NDJSON). `missed` makes the line for missed items.
pub(super) fn ndjson<T>(subscription: Subscription<T>, missed: impl Fn(u64) -> T + Send + 'static) -> Response
where
    T: Serialize + Send + 'static,
{
    bytes("application/x-ndjson", subscription, move |delivery| {
        let item = match delivery {
            Delivery::Item(item) => item,
            Delivery::Missed(count) => missed(count),
        };
        // Serialization fails only for maps with non-string keys, and the API has none.
        let mut line = serde_json::to_vec(&item).unwrap_or_default();
        line.push(b'\n');
        line.into()
    })
}

/// A stream of what `encode` makes of each delivery.
pub(super) fn bytes<T: Send + 'static>(
    content_type: &'static str,
    mut subscription: Subscription<T>,
    encode: impl Fn(Delivery<T>) -> Bytes + Send + 'static,
) -> Response {
    let chunks = stream::poll_fn(move |context| {
        subscription.poll_next(context).map(|delivery| Some(Ok::<_, Infallible>(encode(delivery?))))
    });
    ([(CONTENT_TYPE, content_type)], Body::from_stream(chunks)).into_response()
}

/// Media type of [`pcapng`].
pub(super) const PCAPNG: &str = "application/x-pcapng";

/// A stream of pcapng blocks.
pub(super) fn pcapng(capture: Capture) -> Response {
    let chunks = stream::unfold(capture, async |mut capture| {
        let chunk = capture.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), capture))
    });
    ([(CONTENT_TYPE, PCAPNG)], Body::from_stream(chunks)).into_response()
}
