//! A capture that runs beside the screen, into a file in the current directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{env, iter};

use jiff::Zoned;
use tokio::sync::oneshot;

use crate::control::capture::CaptureFilter;
use crate::control::capture::reader::CaptureReader;
use crate::control::client::{ApiClient, ClientError, StreamEnd};
use crate::control::words::{counted, scaled};

/// Bytes of a file after which its capture ends: it has one chunk more, at most.
const LIMIT: u64 = 100_000_000;
/// Files of the same second, at most.
const NAMES: u32 = 100;

/// How large a file becomes: `100 MB at most`.
pub(super) fn most() -> String {
    format!("{}B at most", scaled(LIMIT))
}

/// Why there is no capture, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CaptureError {
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
pub(super) struct Wanted {
    pub(super) switch: String,
    /// All ports, if none is named.
    pub(super) port: Option<String>,
    pub(super) time: Zoned,
}

impl Wanted {
    /// What its file is called, but for `.pcapng`.
    fn stem(&self) -> String {
        let port = self.port.as_deref().unwrap_or("all");
        format!("{}-{port}-{}", self.switch, self.time.strftime("%Y%m%d-%H%M%S"))
    }
}

/// How far a capture is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Its file, once something has come.
    pub(super) path: Option<PathBuf>,
    pub(super) frames: usize,
    pub(super) bytes: u64,
    /// Frames that the switch left out, because this reader was slow.
    pub(super) lost: u64,
}

impl Tally {
    /// How much there is: `3 frames, 1.20 kB, 0 lost`.
    pub(super) fn amount(&self) -> String {
        format!("{}, {}B, {} lost", counted(self.frames, "frame"), scaled(self.bytes), self.lost)
    }
}

/// The captures of one screen, one at a time.
#[derive(Debug)]
pub(super) struct Captures {
    client: Arc<ApiClient>,
    running: Option<Recorder>,
    /// What became of the last one.
    last: Option<String>,
}

impl Captures {
    /// Of the switch that `client` asks.
    pub(super) fn new(client: Arc<ApiClient>) -> Captures {
        Captures { client, running: None, last: None }
    }

    /// Ends the capture that runs, or begins this one.
    pub(super) fn end_or_begin(&mut self, wanted: &Wanted) -> Result<(), CaptureError> {
        match &mut self.running {
            Some(recorder) => recorder.enough = None,
            None => self.running = Some(Recorder::begin(&self.client, wanted)?),
        }
        Ok(())
    }

    /// How far the capture is that runs.
    pub(super) fn tally(&self) -> Option<Tally> {
        self.running.as_ref().map(|recorder| lock(&recorder.tally).clone())
    }

    /// What became of one that has ended since this was last asked.
    pub(super) fn news(&mut self) -> Option<String> {
        let ended = self.running.take_if(|recorder| recorder.has_ended())?.end();
        self.last = ended;
        self.last.clone()
    }

    /// Ends what runs. What became of the last one.
    pub(super) fn finish(mut self) -> Option<String> {
        match self.running.take() {
            Some(mut recorder) => recorder.end(),
            None => self.last,
        }
    }
}

/// A thread that captures. It is ended and waited for on drop, so that no block is cut off.
#[derive(Debug)]
struct Recorder {
    /// It ends when this is dropped.
    enough: Option<oneshot::Sender<()>>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<Result<StreamEnd, CaptureError>>>,
}

impl Recorder {
    fn begin(client: &ApiClient, wanted: &Wanted) -> Result<Recorder, CaptureError> {
        let asked = CaptureFilter { ifname: wanted.port.clone(), ..CaptureFilter::default() };
        let (client, path, directory) = (client.new_connection()?, asked.path()?, env::current_dir()?);
        let (enough, ended) = oneshot::channel::<()>();
        let mut recording = Recording::new(directory, wanted.stem(), LIMIT);
        let tally = Arc::clone(&recording.tally);
        let record = move || {
            let ended = async { _ = ended.await };
            client.stream(&path, ended, |chunk| recording.take(chunk))
        };
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(record)?;
        Ok(Recorder { enough: Some(enough), tally, thread: Some(thread) })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it, and says what became of it.
    fn end(&mut self) -> Option<String> {
        self.enough = None;
        // One that has panicked has ended the process.
        let end = self.thread.take()?.join().ok()?;
        Some(told(&lock(&self.tally), end))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

/// What there is, where, and why there is no more of it, if nobody asked for the end.
fn told(tally: &Tally, end: Result<StreamEnd, CaptureError>) -> String {
    let why = match end {
        Ok(StreamEnd::ReaderDone) if tally.bytes >= LIMIT => Some(most()),
        Ok(StreamEnd::ReaderDone | StreamEnd::Interrupted) => None,
        // Its port was deleted, or the switch has stopped.
        Ok(StreamEnd::SwitchStopped) => Some("there is nothing more to capture".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    match (&tally.path, why) {
        (Some(path), Some(why)) => format!("captured {}: {why}\n{}", tally.amount(), path.display()),
        (Some(path), None) => format!("captured {}\n{}", tally.amount(), path.display()),
        (None, why) => why.unwrap_or_else(|| "captured nothing".to_owned()),
    }
}

/// What writes the file.
#[derive(Debug)]
struct Recording {
    directory: PathBuf,
    stem: String,
    limit: u64,
    reading: CaptureReader,
    /// Made when the first bytes have come, so that a capture that was refused leaves none.
    file: Option<File>,
    tally: Arc<Mutex<Tally>>,
}

impl Recording {
    fn new(directory: PathBuf, stem: String, limit: u64) -> Recording {
        let tally = Arc::default();
        Recording { directory, stem, limit, reading: CaptureReader::default(), file: None, tally }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<ControlFlow<()>, CaptureError> {
        let blocks = self.reading.add(chunk, |_, _| {});
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let (path, file) = create(&self.directory, &self.stem)?;
                lock(&self.tally).path = Some(path);
                self.file.insert(file)
            }
        };
        if let Err(error) = file.write_all(&blocks) {
            // So that it ends with a whole block; if that fails too, readers leave out the last.
            let _ = file.set_len(lock(&self.tally).bytes);
            return Err(CaptureError::Write(error));
        }
        let mut tally = lock(&self.tally);
        tally.bytes += blocks.len() as u64;
        (tally.frames, tally.lost) = (self.reading.captured(), self.reading.lost());
        Ok(if tally.bytes < self.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }
}

/// A file that was not there before.
fn create(directory: &Path, stem: &str) -> Result<(PathBuf, File), CaptureError> {
    let numbered = (2..=NAMES).map(|number| format!("{stem}-{number}.pcapng"));
    for name in iter::once(format!("{stem}.pcapng")).chain(numbered) {
        let path = directory.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(CaptureError::Create { path, source }),
        }
    }
    Err(CaptureError::Create { path: directory.join(stem), source: io::ErrorKind::AlreadyExists.into() })
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_file_has_whole_blocks_and_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let mut recording = Recording::new(directory.path().to_owned(), "uswitch0-all".to_owned(), 1000);
        let mut sent = head();
        for _ in 0..20 {
            sent.extend(packet());
        }
        // In pieces that are no blocks.
        let enough = sent.chunks(50).position(|chunk| recording.take(chunk).unwrap().is_break());
        assert_eq!(enough, Some(1060 / 50), "of 92 bytes each, behind 48, the eleventh passes the limit");
        let tally = lock(&recording.tally).clone();
        assert_eq!((tally.frames, tally.bytes, tally.lost), (11, 1060, 0));
        assert_eq!(fs::read(tally.path.clone().unwrap()).unwrap(), sent[..1060]);
        let path = tally.path.clone().unwrap();
        let asked = told(&tally, Ok(StreamEnd::ReaderDone));
        assert_eq!(asked, format!("captured 11 frames, 1.06 kB, 0 lost\n{}", path.display()));
        let full = told(&Tally { bytes: LIMIT, ..tally }, Ok(StreamEnd::ReaderDone));
        assert!(full.starts_with("captured 11 frames, 100 MB, 0 lost: 100 MB at most"), "{full}");
    }

    #[test]
    fn no_file_is_written_twice() {
        let directory = tempfile::tempdir().unwrap();
        let made = |_| create(directory.path(), "x").map(|(path, _)| path.file_name().unwrap().to_owned());
        let names: Vec<_> = (0..3).map(|n| made(n).unwrap()).collect();
        assert_eq!(names, ["x.pcapng", "x-2.pcapng", "x-3.pcapng"]);
        assert!((3..NAMES).all(|n| made(n).is_ok()));
        let error = made(NAMES).unwrap_err().to_string();
        assert!(error.contains("exists") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn what_cannot_be_written_is_told_and_cut_off() {
        let nowhere = Path::new("/proc/nowhere").to_owned();
        let error = Recording::new(nowhere, "x".to_owned(), LIMIT).take(&head()).unwrap_err();
        assert_eq!(
            told(&Tally::default(), Err(error)),
            "cannot make /proc/nowhere/x.pcapng: No such file or directory (os error 2): watch writes where it was started"
        );
        let mut recording = Recording::new(PathBuf::new(), String::new(), LIMIT);
        recording.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        lock(&recording.tally).path = Some("/dev/full".into());
        let error = recording.take(&head()).unwrap_err();
        let told = told(&lock(&recording.tally), Err(error));
        assert!(
            told.starts_with("captured 0 frames, 0 B, 0 lost: cannot write any more: No space"),
            "{told}"
        );
    }

    #[test]
    fn a_file_is_called_by_switch_port_and_time() {
        let time = "2026-11-21T15:45:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let mut wanted = Wanted { switch: "uswitch0".to_owned(), port: None, time };
        assert_eq!(wanted.stem(), "uswitch0-all-20261121-154500");
        wanted.port = Some("container1".to_owned());
        assert_eq!(wanted.stem(), "uswitch0-container1-20261121-154500");
    }
}
