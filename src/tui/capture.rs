//! A capture that runs beside the screen, into a file in the current directory.

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

/// Bytes of a file after which its capture ends: it has one chunk more, at most.
const MAX_FILE_SIZE: u64 = 100_000_000;
/// Files of the same second, at most.
const MAX_NUMBER: u32 = 100;

/// How large a file becomes: `100 MB at most`.
pub(super) fn size_limit() -> String {
    format!("{}B at most", scaled(MAX_FILE_SIZE))
}

/// Why there is no capture, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchCaptureError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot capture: {0}")]
    Begin(#[from] io::Error),
    #[error("cannot ask for this: {0}")]
    Query(#[from] serde_urlencoded::ser::Error),
    #[error("cannot make {}: {source}: watch writes where it was started", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write any more: {0}")]
    Write(io::Error),
}

/// What to capture, and when it was asked for.
#[derive(Debug, Clone)]
pub(super) struct CaptureRequest {
    pub(super) switch: String,
    /// All ports, if none is named.
    pub(super) port: Option<String>,
    pub(super) time: Zoned,
}

impl CaptureRequest {
    /// What its file is called, but for `.pcapng`.
    fn stem(&self) -> String {
        let port = self.port.as_deref().unwrap_or("all");
        format!("{}-{port}-{}", self.switch, self.time.strftime("%Y%m%d-%H%M%S"))
    }
}

/// How far a capture is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CaptureProgress {
    /// Its file, once something has come.
    pub(super) path: Option<PathBuf>,
    pub(super) frames: usize,
    pub(super) bytes: u64,
    /// Frames that the switch left out, because this reader was slow.
    pub(super) lost: u64,
}

impl CaptureProgress {
    /// How much there is: `3 frames, 1.20 kB, 0 lost`.
    pub(super) fn amount(&self) -> String {
        format!("{}, {}B, {} lost", counted(self.frames, "frame"), scaled(self.bytes), self.lost)
    }
}

/// The captures of one screen, one at a time.
#[derive(Debug)]
pub(super) struct Captures {
    client: Arc<ApiClient>,
    running: Option<CaptureThread>,
    /// What became of the last one.
    last: Option<String>,
}

impl Captures {
    /// Of the switch that `client` asks.
    pub(super) fn new(client: Arc<ApiClient>) -> Captures {
        Captures { client, running: None, last: None }
    }

    /// Ends the capture that runs, or begins this one.
    pub(super) fn toggle(&mut self, request: &CaptureRequest) -> Result<(), WatchCaptureError> {
        match &mut self.running {
            Some(thread) => thread.stop = None,
            None => self.running = Some(CaptureThread::begin(&self.client, request)?),
        }
        Ok(())
    }

    /// How far the capture is that runs.
    pub(super) fn progress(&self) -> Option<CaptureProgress> {
        self.running.as_ref().map(|thread| lock(&thread.progress).clone())
    }

    /// What became of one that has ended since this was last asked.
    pub(super) fn take_outcome(&mut self) -> Option<String> {
        let ended = self.running.take_if(|thread| thread.has_ended())?.end();
        self.last = ended;
        self.last.clone()
    }

    /// Ends what runs. What became of the last one.
    pub(super) fn finish(mut self) -> Option<String> {
        match self.running.take() {
            Some(mut thread) => thread.end(),
            None => self.last,
        }
    }
}

/// A thread that captures. It is ended and waited for on drop, so that no block is cut off.
#[derive(Debug)]
struct CaptureThread {
    /// It ends when this is dropped.
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

    /// Ends it, and says what became of it.
    fn end(&mut self) -> Option<String> {
        self.stop = None;
        // One that has panicked has ended the process.
        let end = self.thread.take()?.join().ok()?;
        Some(outcome_text(&lock(&self.progress), end))
    }
}

impl Drop for CaptureThread {
    fn drop(&mut self) {
        self.end();
    }
}

/// What there is, where, and why there is no more of it, if nobody asked for the end.
fn outcome_text(progress: &CaptureProgress, end: Result<StreamEnd, WatchCaptureError>) -> String {
    let why = match end {
        Ok(StreamEnd::ReaderDone) if progress.bytes >= MAX_FILE_SIZE => Some(size_limit()),
        Ok(StreamEnd::ReaderDone | StreamEnd::Interrupted) => None,
        // Its port was deleted, or the switch has stopped.
        Ok(StreamEnd::SwitchStopped) => Some("there is nothing more to capture".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    match (&progress.path, why) {
        (Some(path), Some(why)) => format!("captured {}: {why}\n{}", progress.amount(), path.display()),
        (Some(path), None) => format!("captured {}\n{}", progress.amount(), path.display()),
        (None, why) => why.unwrap_or_else(|| "captured nothing".to_owned()),
    }
}

/// What writes the file.
#[derive(Debug)]
struct CaptureFile {
    directory: PathBuf,
    stem: String,
    limit: u64,
    reading: CaptureReader,
    /// Made when the first bytes have come, so that a capture that was refused leaves none.
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

/// A file that was not there before.
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

    /// One of 60 bytes, in a block of 92.
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
        // In pieces that are no blocks.
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
            "cannot make /proc/nowhere/x.pcapng: No such file or directory (os error 2): watch writes where it was started"
        );
        let mut capture_file = CaptureFile::new(PathBuf::new(), String::new(), MAX_FILE_SIZE);
        capture_file.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        lock(&capture_file.progress).path = Some("/dev/full".into());
        let error = capture_file.take(&head()).unwrap_err();
        let told = outcome_text(&lock(&capture_file.progress), Err(error));
        assert!(
            told.starts_with("captured 0 frames, 0 B, 0 lost: cannot write any more: No space"),
            "{told}"
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
