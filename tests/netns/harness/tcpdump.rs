//! Capturing frames with tcpdump.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::WAIT_LIMIT;
use super::frame::Frame;
use super::process::NsenterChild;

/// A running tcpdump.
pub struct Tcpdump {
    _tcpdump: NsenterChild,
    frames: Receiver<Frame>,
}

impl Tcpdump {
    /// Starts `command`, a tcpdump that writes pcap to its standard output, and returns when it captures.
    pub(super) fn start(mut command: Command) -> Tcpdump {
        let mut nsenter =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nsenter (util-linux) runs");
        let stderr = BufReader::new(nsenter.stderr.take().expect("it is piped"));
        let mut messages = stderr.lines().map_while(Result::ok);
        let ready = messages.by_ref().find(|line| line.contains("listening on"));
        assert!(ready.is_some(), "tcpdump did not start: {command:?}");
        thread::spawn(move || messages.for_each(drop));
        let stdout = nsenter.stdout.take().expect("it is piped");
        let (sender, frames) = channel();
        thread::spawn(move || {
            PcapReader::new(BufReader::new(stdout)).try_for_each(|frame| sender.send(frame))
        });
        Tcpdump { _tcpdump: NsenterChild::new(nsenter), frames }
    }

    /// The next frame; `None` if none comes for [`WAIT_LIMIT`].
    pub fn next(&self) -> Option<Frame> {
        self.frames.recv_timeout(WAIT_LIMIT).ok()
    }

    /// The frames that arrive before `last`. Panics if `last` does not arrive.
    #[track_caller]
    pub fn until(&self, last: &Frame) -> Vec<Frame> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                Some(frame) if frame == *last => return before,
                Some(frame) => before.push(frame),
                None => panic!("the last frame did not arrive; received: {:02x?}", headers(&before)),
            }
        }
    }
}

/// The headers of the latest frames, for a panic message.
fn headers(frames: &[Frame]) -> Vec<&[u8]> {
    frames.iter().rev().take(10).map(|frame| &frame[..frame.len().min(40)]).collect()
}

/// The frames of a pcap file (draft-ietf-opsawg-pcap, in the byte order of this machine).
struct PcapReader<R> {
    file: R,
}

impl<R: Read> PcapReader<R> {
    /// Skips the file's header, 24 bytes.
    fn new(mut file: R) -> PcapReader<R> {
        let header = file.read_exact(&mut [0; 24]);
        // A file that ends early ends the iterator, too.
        drop(header);
        PcapReader { file }
    }
}

impl<R: Read> Iterator for PcapReader<R> {
    type Item = Frame;

    /// A record has a header of 16 bytes, whose third word is the captured length.
    fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 16];
        self.file.read_exact(&mut header).ok()?;
        let length = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let mut frame = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact(&mut frame).ok()?;
        Some(frame)
    }
}
