//! Rendered metrics, shared by all clients that ask at about the same time.
//!
//! So many scrapers cost the control task no more time than one, and unread responses a bounded amount of
//! memory.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::render;
use crate::control::running::{Command, Handle, Stopping};

/// A response may be this old.
const MAX_AGE: Duration = Duration::from_millis(250);
/// Most texts in memory. While unread responses hold that many, clients get the latest one again.
const MAX_TEXTS: usize = 4;

/// The metrics of a switch as text.
#[derive(Debug, Clone)]
pub(crate) struct SharedMetrics {
    switch: Handle,
    texts: Arc<Mutex<Texts>>,
}

#[derive(Debug, Default)]
struct Texts {
    latest: Option<(Instant, Arc<[u8]>)>,
    /// All texts that are still held, the latest included.
    held: Vec<Weak<[u8]>>,
}

impl SharedMetrics {
    pub(crate) fn new(switch: Handle) -> SharedMetrics {
        SharedMetrics { switch, texts: Arc::default() }
    }

    /// The text, rendered anew if the latest is too old.
    pub(crate) async fn text(&self) -> Result<Arc<[u8]>, Stopping> {
        // Locked while rendering, so that clients that wait get the same text.
        let mut texts = self.texts.lock().await;
        texts.held.retain(|text| text.strong_count() > 0);
        if let Some((rendered, text)) = &texts.latest
            && (rendered.elapsed() < MAX_AGE || texts.held.len() >= MAX_TEXTS)
        {
            return Ok(Arc::clone(text));
        }
        let snapshot = self.switch.request(Command::Metrics).await?;
        let text: Arc<[u8]> = render(&snapshot).into_bytes().into();
        texts.held.push(Arc::downgrade(&text));
        texts.latest = Some((Instant::now(), Arc::clone(&text)));
        Ok(text)
    }
}
