//! A capture into a file in the current directory, while the screen runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{env, iter};

use jiff::Zoned;
use tokio::sync::oneshot;

use crate::control::capture::CaptureFilter;
use crate::control::capture::reader::{CaptureReader, write_blocks};
use crate::control::client::{ApiClient, ClientError, StreamEnd};
use crate::control::format::{counted, scaled};

/// Size of a file at which its capture ends, in bytes; the last chunk may exceed it.
const MAX_FILE_SIZE: u64 = 100_000_000;
/// Most files with the same second in their name.
const MAX_NUMBER: u32 = 100;

/// The limit of a file's size as a text: `100 MB at most`.
pub(super) fn size_limit() -> String {
    format!("{}B at most", scaled(MAX_FILE_SIZE))
}

/// Why a capture did not start or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchCaptureError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot capture: {0}")]
    Begin(#[from] io::Error),
    #[error("cannot send the request: {0}")]
    Query(#[from] serde_urlencoded::ser::Error),
    #[error("cannot make {}: {source}: watch writes into the directory where it was started", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write the file: {0}")]
    Write(io::Error),
}

/// What to capture, and the time of the request.
#[derive(Debug, Clone)]
pub(super) struct CaptureRequest {
    pub(super) switch: String,
    /// One port; none for all ports.
    pub(super) port: Option<String>,
    pub(super) time: Zoned,
}

impl CaptureRequest {
    /// Name of the file without `.pcapng`.
    fn stem(&self) -> String {
        let port = self.port.as_deref().unwrap_or("all");
        format!("{}-{port}-{}", self.switch, self.time.strftime("%Y%m%d-%H%M%S"))
    }
}

/// Progress of a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CaptureProgress {
    /// The file, once it has been created.
    pub(super) path: Option<PathBuf>,
    pub(super) frames: usize,
    pub(super) bytes: u64,
    /// Frames lost because this reader was slow.
    pub(super) lost: u64,
}

impl CaptureProgress {
    /// The amount as a text: `3 frames, 1.20 kB, 0 lost`.
    pub(super) fn amount(&self) -> String {
        format!("{}, {}B, {} lost", counted(self.frames, "frame"), scaled(self.bytes), self.lost)
    }
}

/// The captures of one screen, one at a time.
#[derive(Debug)]
pub(super) struct Captures {
    client: Arc<ApiClient>,
    running: Option<CaptureThread>,
    /// Outcome of the last capture.
    last: Option<String>,
}

impl Captures {
    /// Captures on the switch of `client`.
    pub(super) fn new(client: Arc<ApiClient>) -> Captures {
        Captures { client, running: None, last: None }
    }

    /// Stops the running capture, or starts one.
    pub(super) fn toggle(&mut self, request: &CaptureRequest) -> Result<(), WatchCaptureError> {
        match &mut self.running {
            Some(thread) => thread.stop = None,
            None => self.running = Some(CaptureThread::begin(&self.client, request)?),
        }
        Ok(())
    }

    /// Progress of the running capture.
    pub(super) fn progress(&self) -> Option<CaptureProgress> {
        self.running.as_ref().map(|thread| lock(&thread.progress).clone())
    }

    /// Outcome of a capture that has ended since the last call.
    pub(super) fn take_outcome(&mut self) -> Option<String> {
        let ended = self.running.take_if(|thread| thread.has_ended())?.end();
        self.last = ended;
        self.last.clone()
    }

    /// Stops the running capture, and returns the outcome of the last one.
    pub(super) fn finish(mut self) -> Option<String> {
        match self.running.take() {
            Some(mut thread) => thread.end(),
            None => self.last,
        }
    }
}

/// A thread that captures. Dropping it stops the thread and waits for it, so that no block is truncated.
#[derive(Debug)]
struct CaptureThread {
    /// Dropping this stops the thread.
    stop: Option<oneshot::Sender<()>>,
    progress: Arc<Mutex<CaptureProgress>>,
    thread: Option<JoinHandle<Result<StreamEnd, WatchCaptureError>>>,
}

impl CaptureThread {
    fn begin(client: &ApiClient, request: &CaptureRequest) -> Result<CaptureThread, WatchCaptureError> {
        let asked = CaptureFilter { ifname: request.port.clone(), ..CaptureFilter::default() };
        let (client, path, directory) = (client.new_connection()?, asked.path()?, env::current_dir()?);
        let (stop, ended) = oneshot::channel::<()>();
        let mut capture_file = CaptureFile::new(directory, request.stem(), MAX_FILE_SIZE);
        let progress = Arc::clone(&capture_file.progress);
        let record = move || {
            let ended = async { _ = ended.await };
            client.stream(&path, ended, |chunk| capture_file.take(chunk))
        };
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(record)?;
        Ok(CaptureThread { stop: Some(stop), progress, thread: Some(thread) })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the capture and returns its outcome.
    fn end(&mut self) -> Option<String> {
        self.stop = None;
        // A panic has ended the process already.
        let end = self.thread.take()?.join().ok()?;
        Some(outcome_text(&lock(&self.progress), end))
    }
}

impl Drop for CaptureThread {
    fn drop(&mut self) {
        self.end();
    }
}

/// Amount, file, and the reason of the end if the user did not ask for it.
fn outcome_text(progress: &CaptureProgress, end: Result<StreamEnd, WatchCaptureError>) -> String {
    let why = match end {
        Ok(StreamEnd::ReaderDone) if progress.bytes >= MAX_FILE_SIZE => Some(size_limit()),
        Ok(StreamEnd::ReaderDone | StreamEnd::Interrupted) => None,
        // The port was deleted, or the switch has stopped.
        Ok(StreamEnd::SwitchStopped) => Some("the port or the switch is gone".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    match (&progress.path, why) {
        (Some(path), Some(why)) => format!("captured {}: {why}\n{}", progress.amount(), path.display()),
        (Some(path), None) => format!("captured {}\n{}", progress.amount(), path.display()),
        (None, why) => why.unwrap_or_else(|| "captured nothing".to_owned()),
    }
}

/// Writes the file.
#[derive(Debug)]
struct CaptureFile {
    directory: PathBuf,
    stem: String,
    limit: u64,
    reading: CaptureReader,
    /// Created when the first bytes arrive, so that a refused capture leaves no file.
    file: Option<File>,
    progress: Arc<Mutex<CaptureProgress>>,
}

impl CaptureFile {
    fn new(directory: PathBuf, stem: String, limit: u64) -> CaptureFile {
        let progress = Arc::default();
        CaptureFile { directory, stem, limit, reading: CaptureReader::default(), file: None, progress }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<ControlFlow<()>, WatchCaptureError> {
        let blocks = self.reading.add(chunk, |_, _| {});
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let (path, file) = create(&self.directory, &self.stem)?;
                lock(&self.progress).path = Some(path);
                self.file.insert(file)
            }
        };
        write_blocks(file, &blocks).map_err(WatchCaptureError::Write)?;
        let mut progress = lock(&self.progress);
        progress.bytes += blocks.len() as u64;
        (progress.frames, progress.lost) = (self.reading.captured(), self.reading.lost());
        Ok(if progress.bytes < self.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }
}

/// Creates a file that did not exist.
fn create(directory: &Path, stem: &str) -> Result<(PathBuf, File), WatchCaptureError> {
    let numbered = (2..=MAX_NUMBER).map(|number| format!("{stem}-{number}.pcapng"));
    for name in iter::once(format!("{stem}.pcapng")).chain(numbered) {
        let path = directory.join(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(WatchCaptureError::Create { path, source }),
        }
    }
    Err(WatchCaptureError::Create { path: directory.join(stem), source: io::ErrorKind::AlreadyExists.into() })
}

fn lock(progress: &Mutex<CaptureProgress>) -> MutexGuard<'_, CaptureProgress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    fn block(kind: u32, body: &[u32]) -> Vec<u8> {
        let length = 12 + 4 * u32::try_from(body.len()).unwrap();
        [&[kind, length], body, &[length]].concat().into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// A section with an interface.
    fn head() -> Vec<u8> {
        [block(0x0a0d_0d0a, &[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]), block(1, &[1, 0])].concat()
    }

    /// A packet of 60 bytes, in a block of 92.
    fn packet() -> Vec<u8> {
        block(6, &[&[0, 0, 0, 60, 60], [0; 15].as_slice()].concat())
    }

    #[test]
    fn capture_file_has_whole_blocks_and_size_limit() {
        let directory = tempfile::tempdir().unwrap();
        let mut capture_file = CaptureFile::new(directory.path().to_owned(), "uswitch0-all".to_owned(), 1000);
        let mut sent = head();
        for _ in 0..20 {
            sent.extend(packet());
        }
        // The chunks are not blocks.
        let stop = sent.chunks(50).position(|chunk| capture_file.take(chunk).unwrap().is_break());
        assert_eq!(stop, Some(1060 / 50), "of 92 bytes each, behind 48, the eleventh passes the limit");
        let progress = lock(&capture_file.progress).clone();
        assert_eq!((progress.frames, progress.bytes, progress.lost), (11, 1060, 0));
        assert_eq!(fs::read(progress.path.clone().unwrap()).unwrap(), sent[..1060]);
        let path = progress.path.clone().unwrap();
        let asked = outcome_text(&progress, Ok(StreamEnd::ReaderDone));
        assert_eq!(asked, format!("captured 11 frames, 1.06 kB, 0 lost\n{}", path.display()));
        let full =
            outcome_text(&CaptureProgress { bytes: MAX_FILE_SIZE, ..progress }, Ok(StreamEnd::ReaderDone));
        assert!(full.starts_with("captured 11 frames, 100 MB, 0 lost: 100 MB at most"), "{full}");
    }

    #[test]
    fn never_overwrites_a_capture_file() {
        let directory = tempfile::tempdir().unwrap();
        let made = |_| create(directory.path(), "x").map(|(path, _)| path.file_name().unwrap().to_owned());
        let names: Vec<_> = (0..3).map(|n| made(n).unwrap()).collect();
        assert_eq!(names, ["x.pcapng", "x-2.pcapng", "x-3.pcapng"]);
        assert!((3..MAX_NUMBER).all(|n| made(n).is_ok()));
        let error = made(MAX_NUMBER).unwrap_err().to_string();
        assert!(error.contains("exists") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn write_error_is_reported_and_file_truncated() {
        let nowhere = Path::new("/proc/nowhere").to_owned();
        let error = CaptureFile::new(nowhere, "x".to_owned(), MAX_FILE_SIZE).take(&head()).unwrap_err();
        assert_eq!(
            outcome_text(&CaptureProgress::default(), Err(error)),
            "cannot make /proc/nowhere/x.pcapng: No such file or directory (os error 2): watch writes into the directory where it was started"
        );
        let mut capture_file = CaptureFile::new(PathBuf::new(), String::new(), MAX_FILE_SIZE);
        capture_file.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        lock(&capture_file.progress).path = Some("/dev/full".into());
        let error = capture_file.take(&head()).unwrap_err();
        let outcome = outcome_text(&lock(&capture_file.progress), Err(error));
        assert!(
            outcome.starts_with("captured 0 frames, 0 B, 0 lost: cannot write the file: No space"),
            "{outcome}"
        );
    }

    #[test]
    fn capture_file_name_has_switch_port_and_time() {
        let time = "2026-11-21T15:45:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let mut request = CaptureRequest { switch: "uswitch0".to_owned(), port: None, time };
        assert_eq!(request.stem(), "uswitch0-all-20261121-154500");
        request.port = Some("container1".to_owned());
        assert_eq!(request.stem(), "uswitch0-container1-20261121-154500");
    }
}
