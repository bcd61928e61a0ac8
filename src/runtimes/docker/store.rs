//! The state of the plugin: a JSON file for each network, endpoint and address pool.
//!
//! A file is complete and on the disk when its name appears, so a crash at any time leaves the state before or after
//! a request.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::DockerError;
use crate::sys::replace_file::{Durability, replace_file};

/// What is kept in a file.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The directory of these records.
    const DIRECTORY: &'static str;

    /// The name of its file, without the suffix.
    fn key(&self) -> String;
}

/// The files of the plugin.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    /// Held by a request that reads a record and replaces it.
    changing: Mutex<()>,
    /// Held while the plugin runs.
    _lock: Flock<File>,
}

impl Store {
    /// Creates the directory if it is missing, and locks it.
    pub(super) fn open(directory: &Path) -> Result<Store, DockerError> {
        let failed = |what| move |source| file_error(what, directory)(source);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create"))?;
        let file = File::open(directory).map_err(failed("open"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            Errno::EWOULDBLOCK => DockerError::StateInUse(directory.to_owned()),
            error => failed("lock")(error.into()),
        })?;
        Ok(Store { directory: directory.to_owned(), changing: Mutex::default(), _lock: lock })
    }

    /// Excludes other requests that change records.
    pub(super) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record with this key, if there is one.
    pub(super) fn load<R: Record>(&self, key: &str) -> Result<Option<R>, DockerError> {
        read(&self.path::<R>(key)?)
    }

    /// All records of this kind.
    pub(super) fn all<R: Record>(&self) -> Result<Vec<R>, DockerError> {
        let directory = self.directory.join(R::DIRECTORY);
        let files = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(file_error("read", &directory))?,
        };
        let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == SUFFIX));
        paths.sort_unstable();
        // One that was removed meanwhile is not an error.
        paths.iter().filter_map(|path| read(path).transpose()).collect()
    }

    /// Writes a record. It survives a crash when this returns.
    pub(super) fn save<R: Record>(&self, record: &R) -> Result<(), DockerError> {
        let path = self.path::<R>(&record.key())?;
        let directory = self.directory.join(R::DIRECTORY);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(file_error("create", &directory))?;
        let json = serde_json::to_vec(record)
            .map_err(|source| DockerError::Record { path: path.clone(), source })?;
        replace_file(&path, Durability::Synced, |file| file.write_all(&json))
            .map_err(file_error("write", &path))
    }

    /// Removes a record. One that is gone already is not an error.
    pub(super) fn remove<R: Record>(&self, key: &str) -> Result<(), DockerError> {
        let path = self.path::<R>(key)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The file of a record.
    pub(super) fn path<R: Record>(&self, key: &str) -> Result<PathBuf, DockerError> {
        const LONGEST: usize = 128;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-');
        if key.is_empty() || key.len() > LONGEST || key.starts_with('.') || !key.chars().all(is_plain) {
            return Err(DockerError::Id(key.to_owned()));
        }
        Ok(self.directory.join(R::DIRECTORY).join(format!("{key}.{SUFFIX}")))
    }
}

/// File name extension of a record.
const SUFFIX: &str = "json";

fn read<R: Record>(path: &Path) -> Result<Option<R>, DockerError> {
    let json = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        json => json.map_err(file_error("read", path))?,
    };
    let record = serde_json::from_slice(&json);
    record.map(Some).map_err(|source| DockerError::Record { path: path.to_owned(), source })
}

pub(super) fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DockerError {
    let path = path.to_owned();
    move |source| DockerError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Word(String);

    impl Record for Word {
        const DIRECTORY: &'static str = "words";

        fn key(&self) -> String {
            self.0.clone()
        }
    }

    #[test]
    fn records_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!((store.load::<Word>("a").unwrap(), store.all::<Word>().unwrap()), (None, vec![]));
        for word in ["a", "b", "a"] {
            store.save(&Word(word.to_owned())).unwrap();
        }
        drop(store);
        // A crash in the middle of a write leaves this.
        fs::write(directory.path().join("words/c.json.new"), "{").unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.remove::<Word>("b").unwrap();
        store.remove::<Word>("b").unwrap();
        assert_eq!(store.all::<Word>().unwrap(), [Word("a".to_owned())]);
    }

    #[test]
    fn refuses_a_second_plugin_and_names_that_are_no_ids() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let second = Store::open(directory.path()).unwrap_err().to_string();
        assert!(second.contains("another docker-plugin uses /"), "{second}");
        for wrong in ["", "..", "a/b", "../a", "a\n", &"x".repeat(129)] {
            assert!(matches!(store.load::<Word>(wrong), Err(DockerError::Id(_))), "{wrong}");
        }
    }

    #[test]
    fn reports_the_file_that_is_broken() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.save(&Word("a".to_owned())).unwrap();
        fs::write(directory.path().join("words/a.json"), "").unwrap();
        let error = store.all::<Word>().unwrap_err().to_string();
        assert!(error.contains("words/a.json: EOF"), "{error}");
    }
}
