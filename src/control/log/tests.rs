//! Tests of the log.

use super::*;

fn to_file(directory: &tempfile::TempDir, level: LogLevel) -> (Log, PathBuf) {
    let path = path(directory.path(), "lab");
    (Log::start(level, LogDestination::File(path.clone())).unwrap(), path)
}

#[test]
fn writes_only_enabled_levels_and_level_can_change() {
    let directory = tempfile::tempdir().unwrap();
    let (log, path) = to_file(&directory, LogLevel::Off);
    tracing::dispatcher::with_default(&log.dispatch, || {
        tracing::error!("not written");
        log.flush();
        assert!(!path.exists(), "no line, no file");
        log.set(LogLevel::Info);
        tracing::info!(port = "container1", mtu = 1500, "port added");
        tracing::debug!("too much");
        log.set(LogLevel::Debug);
        tracing::debug!("just enough");
    });
    log.flush();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(" INFO port added port=\"container1\" mtu=1500"), "{text}");
    assert!(lines[1].contains("DEBUG just enough") && lines.len() == 2, "{text}");
    assert_eq!(log.report().level, LogLevel::Debug);
    assert_eq!(log.report().to, path.display().to_string());
}

#[test]
fn rotates_file_at_size_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(directory.path(), "lab");
    fs::write(&path, "of an earlier switch").unwrap();
    let mut output = LogOutput::new(LogDestination::File(path.clone()));
    let line = [b'x'; 1 << 10];
    for _ in 0..3 * (MAX_FILE_SIZE >> 10) + 10 {
        output.write(&line).unwrap();
    }
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!((length(&path), length(&rotated(&path))), (10 << 10, MAX_FILE_SIZE));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    remove(&path);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Nothing reads the queue, as if the terminal were stopped.
#[test]
fn counts_lines_lost_when_queue_is_full() {
    let (sender, _messages) = bounded(2);
    let mut lines = LineSender { sender, lost: Arc::default() };
    for _ in 0..5 {
        lines.write_all(b"a line\n").unwrap();
    }
    assert_eq!(lines.lost.load(Ordering::Relaxed), 3);
}
