//! Captures: the records of a mirror as a pcapng stream.
//!
//! Each port is an interface. Each packet is a frame that crossed a port: inbound from the container
//! into the switch, outbound from the switch to the container. A forwarded frame is therefore captured
//! twice. The packet comment says how the switch handled it.
//!
//! A capture encodes the next chunk after the last one was sent. While its reader is slow, records wait
//! in the mirror's queue. When that is full they are lost, and the interface statistics count them. A
//! capture itself holds one record, one chunk and a few words per interface.

mod comment;
mod pcapng;
pub(crate) mod reader;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use utoipa::{IntoParams, ToSchema};

pub(crate) use self::pcapng::segment_size;
use self::pcapng::{Flags, Packet, Time};
use super::running::{Command, Handle, MirrorReader, MirrorRequest, RunError, Stopping};
use crate::datapath::{self, CrossedFrame, MirrorRecord, MirrorSpec};
use crate::switch::PortId;
use crate::wire::filter::{Filter, FilterError};
use crate::wire::{Segments, VnetHeader};

/// Largest snapshot length, as of tcpdump. The longest frame is 64 KiB and its headers.
pub(crate) const SNAPLEN_MAX: u32 = 262_144;
/// The program's name in the section header.
pub(crate) const APPLICATION: &str = "uswitch";
/// Size at which a chunk is sent.
const CHUNK: usize = 256 * 1024;

/// What to capture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CaptureFilter {
    /// Only these ports, separated by commas [default: all].
    pub ifname: Option<String>,
    /// Only frames that cross a port in this direction [default: both].
    #[param(inline)]
    pub direction: Option<CaptureDirection>,
    /// Most bytes captured per packet [default: 262144].
    #[param(minimum = 1, maximum = 262144)]
    pub snaplen: Option<u32>,
    /// Number of packets after which the capture ends.
    pub count: Option<u64>,
    /// Whether to segment super-frames (GSO packets) and to complete checksums.
    pub segment: Option<bool>,
    /// Filter expression; `uswitch capture --help` describes it. A subset of pcap-filter(7).
    pub filter: Option<String>,
}

/// The direction in which a frame crosses a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptureDirection {
    /// From the container into the switch
    In,
    /// From the switch to the container
    Out,
    /// Both directions
    Both,
}

impl CaptureFilter {
    /// The mirror's filter, without its ports.
    fn wanted(&self) -> Result<MirrorSpec, CaptureError> {
        let snaplen = self.snaplen.unwrap_or(SNAPLEN_MAX);
        if !(1..=SNAPLEN_MAX).contains(&snaplen) {
            return Err(CaptureError::Snaplen(snaplen));
        }
        Ok(MirrorSpec {
            direction: match self.direction {
                Some(CaptureDirection::In) => Some(datapath::Direction::In),
                Some(CaptureDirection::Out) => Some(datapath::Direction::Out),
                Some(CaptureDirection::Both) | None => None,
            },
            // Segmentation needs the whole frame.
            snaplen: if self.segment == Some(true) { usize::MAX } else { snaplen as usize },
            filter: self.filter.as_deref().map(Filter::parse).transpose()?,
            ..MirrorSpec::default()
        })
    }
}

/// Why a capture cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("snaplen {0}: it is from 1 to {SNAPLEN_MAX}")]
    Snaplen(u32),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// An interface of the capture.
#[derive(Debug)]
struct CaptureInterface {
    port: PortId,
    name: String,
    captured: u64,
    /// The count in the last statistics block.
    lost: u64,
}

/// A record, and the number of crossings written so far.
#[derive(Debug)]
struct PendingRecord {
    record: MirrorRecord,
    crossings: usize,
}

/// A running capture.
#[derive(Debug)]
pub(crate) struct Capture {
    reader: MirrorReader,
    switch: Handle,
    wake: Arc<Notify>,
    snaplen: u32,
    segmentation: Segmentation,
    /// Packets left until the limit.
    left: u64,
    interfaces: Vec<CaptureInterface>,
    pending: Option<PendingRecord>,
    /// Encoded blocks that are not sent yet.
    chunk: Vec<u8>,
    over: bool,
}

/// How to write frames with unfinished offloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segmentation {
    Keep,
    Split,
}

impl Capture {
    /// Starts a capture.
    pub(crate) async fn start(switch: Handle, request: CaptureFilter) -> Result<Capture, CaptureError> {
        let wanted = request.wanted()?;
        let wake = Arc::new(Notify::new());
        let ifnames = request.ifname.map(|names| names.split(',').map(str::to_owned).collect());
        let mirror = MirrorRequest { ifnames, wanted, wake: Arc::clone(&wake) };
        let reader = switch.request(|reply| Command::Mirror(Box::new(mirror), reply)).await??;
        let mut capture = Capture {
            reader,
            switch,
            wake,
            snaplen: request.snaplen.unwrap_or(SNAPLEN_MAX),
            segmentation: if request.segment == Some(true) {
                Segmentation::Split
            } else {
                Segmentation::Keep
            },
            left: request.count.unwrap_or(u64::MAX),
            interfaces: Vec::new(),
            pending: None,
            chunk: Vec::new(),
            over: false,
        };
        let application = format!("{APPLICATION} {}", env!("CARGO_PKG_VERSION"));
        pcapng::section_header(&mut capture.chunk, &application);
        for port in capture.reader.ports.clone() {
            capture.interface(port, SystemTime::now());
        }
        Ok(capture)
    }

    /// Waits for the next blocks; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            // Checked before the last records are read, so that none is lost.
            let ended = self.reader.mirror.is_finished();
            while self.chunk.len() < CHUNK && self.left > 0 && self.advance() {}
            self.write_loss_statistics();
            if !self.chunk.is_empty() {
                return Some(std::mem::take(&mut self.chunk));
            }
            if self.over {
                return None;
            }
            let stopping = ended || self.left == 0 || {
                tokio::select! {
                    biased;
                    () = self.wake.notified() => false,
                    () = self.switch.stopping() => !self.advance(),
                }
            };
            if stopping {
                self.over = true;
                self.write_all_statistics();
            }
        }
    }

    /// Writes the next crossing of a frame. Returns whether there was one.
    fn advance(&mut self) -> bool {
        let Some(PendingRecord { record, crossings }) = self.pending.take().or_else(|| self.take()) else {
            return false;
        };
        if let Some(&(port, direction)) = record.crossings.get(crossings) {
            self.show(&record, port, direction);
            self.pending = Some(PendingRecord { record, crossings: crossings + 1 });
        }
        true
    }

    fn take(&self) -> Option<PendingRecord> {
        Some(PendingRecord { record: self.reader.mirror.take()?, crossings: 0 })
    }

    fn show(&mut self, record: &MirrorRecord, port: PortId, direction: datapath::Direction) {
        let interface = self.interface(port, record.time);
        let comment = comment::comment(record, direction, &self.reader.names);
        let flags = match direction {
            datapath::Direction::In => Flags::Inbound,
            datapath::Direction::Out => Flags::Outbound,
        };
        let CrossedFrame { bytes, length, vnet } = record.as_crossed(port, direction);
        let segment_size = vnet.is_super_frame().then_some(vnet.gso_size);
        let meta = PacketMeta { interface, time: time(record.time), flags, segment_size };
        if self.segmentation == Segmentation::Keep || vnet.is_complete() {
            return self.write(&meta, &bytes, length, &comment);
        }
        match Segments::new(&bytes, &vnet) {
            Ok(segments) => self.write_segments(&meta, segments, &vnet, &comment),
            Err(why) => {
                let comment = format!("{comment}; not segmented: {why}");
                self.write(&meta, &bytes, length, &comment);
            }
        }
    }

    fn write_segments(
        &mut self,
        meta: &PacketMeta,
        mut segments: Segments<'_>,
        vnet: &VnetHeader,
        comment: &str,
    ) {
        let meta = &PacketMeta { segment_size: None, ..*meta };
        let count = segments.remaining();
        let mut buffer = vec![0; segments.longest()];
        for number in 1..=count {
            let Some(length) = segments.next_into(&mut buffer) else { break };
            let comment = if vnet.is_super_frame() {
                format!("{comment}; segment {number} of {count}")
            } else {
                comment.to_owned()
            };
            self.write(meta, &buffer[..length], length, &comment);
        }
    }

    /// Writes one packet, unless the limit is reached.
    fn write(&mut self, meta: &PacketMeta, bytes: &[u8], length: usize, comment: &str) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let PacketMeta { interface, time, flags, segment_size } = *meta;
        self.interfaces[interface as usize].captured += 1;
        let bytes = &bytes[..bytes.len().min(self.snaplen as usize)];
        let packet = Packet { interface, time, bytes, length, flags, comment, segment_size };
        pcapng::packet(&mut self.chunk, &packet);
    }

    /// The interface number of a port with the name it had. A new interface is described first.
    #[allow(clippy::cast_possible_truncation, reason = "memory ends before 2^32 ports come and go")]
    fn interface(&mut self, port: PortId, at: SystemTime) -> u32 {
        let name = self.reader.names.of(port, at);
        // Searches from the latest: a port number may have been reused.
        let known =
            self.interfaces.iter().rposition(|interface| interface.port == port && interface.name == name);
        let number = known.unwrap_or_else(|| {
            pcapng::interface(&mut self.chunk, &name, self.snaplen);
            self.interfaces.push(CaptureInterface { port, name, captured: 0, lost: 0 });
            self.interfaces.len() - 1
        });
        number as u32
    }

    /// Writes the statistics of interfaces with new losses.
    fn write_loss_statistics(&mut self) {
        for number in 0..self.interfaces.len() {
            let interface = &self.interfaces[number];
            if self.reader.mirror.lost(interface.port) != interface.lost {
                self.write_statistics(number);
            }
        }
    }

    fn write_all_statistics(&mut self) {
        for number in 0..self.interfaces.len() {
            self.write_statistics(number);
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "memory ends before 2^32 ports come and go")]
    fn write_statistics(&mut self, number: usize) {
        let interface = &mut self.interfaces[number];
        interface.lost = self.reader.mirror.lost(interface.port);
        let counted = (interface.captured + interface.lost, interface.lost);
        pcapng::statistics(&mut self.chunk, number as u32, time(SystemTime::now()), counted);
    }
}

/// What all segments of a frame share.
#[derive(Debug, Clone, Copy)]
struct PacketMeta {
    interface: u32,
    time: Time,
    flags: Flags,
    /// Payload bytes of each segment of a super-frame that is kept whole.
    segment_size: Option<u16>,
}

fn time(time: SystemTime) -> Time {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
