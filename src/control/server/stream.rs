//! Response bodies that last until the client disconnects or the switch stops.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;

use crate::control::capture::Capture;
use crate::control::report::FdbFilter;
use crate::control::running::{Command, FdbPage, Handle, Stopping};
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

/// The forwarding database, read page by page as the client takes it.
pub(super) struct FdbPages {
    switch: Handle,
    filter: FdbFilter,
    page: FdbPage,
    position: Position,
}

/// How much of the JSON array is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Start,
    AfterEntry,
    End,
}

impl FdbPages {
    /// Reads the first page.
    pub(super) async fn start(switch: Handle, filter: FdbFilter) -> Result<FdbPages, Stopping> {
        let first = filter.clone();
        let page = switch.request(|reply| Command::FdbPage(first, 0, reply)).await?;
        Ok(FdbPages { switch, filter, page, position: Position::Start })
    }

    /// The next part of the JSON array, which is never empty; `None` at the end. The client sees a response
    /// that breaks off when the switch stops.
    async fn next(&mut self) -> Result<Option<Bytes>, Stopping> {
        if self.position == Position::End {
            return Ok(None);
        }
        while self.page.entries.is_empty()
            && let Some(start) = self.page.next
        {
            let filter = self.filter.clone();
            self.page = self.switch.request(|reply| Command::FdbPage(filter, start, reply)).await?;
        }
        let mut json = Vec::new();
        for entry in std::mem::take(&mut self.page.entries) {
            json.push(if self.position == Position::Start { b'[' } else { b',' });
            self.position = Position::AfterEntry;
            // Writing to a vector cannot fail, and the keys are strings.
            let _ = serde_json::to_writer(&mut json, &entry);
        }
        if self.page.next.is_none() {
            json.extend_from_slice(if self.position == Position::Start { b"[]" } else { b"]" });
            self.position = Position::End;
        }
        Ok(Some(json.into()))
    }
}

/// A stream of forwarding database entries as one JSON array.
pub(super) fn fdb(pages: FdbPages) -> Response {
    let chunks = stream::try_unfold(pages, async |mut pages| {
        let chunk = pages.next().await?;
        Ok::<_, Stopping>(chunk.map(|chunk| (chunk, pages)))
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(chunks)).into_response()
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
