//! Keeps the leases in a file of the state directory, so that clients have the same addresses after a restart.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::leases::{KeptLease, Leases};
use crate::sys::replace_file::{Durability, replace_file};
use crate::sys::state_dir;

/// File name extension of the leases.
const SUFFIX: &str = "leases";
/// Longest file that is read: more than all leases take, with the longest DUIDs (130 bytes).
const LONGEST: u64 = 16 << 20;

/// The file of the leases of a switch.
#[derive(Debug, Clone)]
pub(crate) struct LeaseFile(PathBuf);

impl LeaseFile {
    /// The file of the switch `name` in the state directory.
    pub(crate) fn new(state: &Path, name: &str) -> LeaseFile {
        LeaseFile(state.join(format!("{name}.{SUFFIX}")))
    }

    /// The leases in the file; none if it does not exist.
    ///
    /// # Errors
    /// It cannot be read, or is not valid.
    pub(crate) fn load(&self) -> io::Result<Leases> {
        // The file is in a directory of this user. Nevertheless, never follow a link or wait for a pipe.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Leases::default()),
            opened => opened?,
        };
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        let kept: Vec<KeptLease> = serde_json::from_str(&text)?;
        Ok(Leases::from_kept(kept))
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&self, leases: &Leases) -> io::Result<()> {
        if let Some(directory) = self.0.parent() {
            state_dir::create(directory)?;
        }
        let text = serde_json::to_vec(&leases.kept())?;
        // Without leases a client gets another address. That is not worth waiting for the disk.
        replace_file(&self.0, Durability::Cached, |file| file.write_all(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;

    use super::*;
    use crate::control::services::dhcp::leases::{Client, ClientId};
    use crate::wire::Mac;

    #[test]
    fn leases_are_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let file = LeaseFile::new(&state, "uswitch0");
        assert_eq!(file.load().unwrap(), Leases::default());
        let mut leases = Leases::default();
        let client = Client { port: "web".to_owned(), id: ClientId::Mac(Mac([2, 0, 0, 0, 0, 1])) };
        leases.bind(client, IpAddr::from([172, 16, 0, 2]), 1_800_000_000);
        file.save(&leases).unwrap();
        assert_eq!(file.load().unwrap(), leases);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn invalid_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = LeaseFile::new(directory.path(), "uswitch0");
        for text in ["", "{", "[{}]", r#"[{"port":"a","mac":"x","address":"1.2.3.4","expires":1}]"#] {
            fs::write(&file.0, text).unwrap();
            assert!(file.load().is_err(), "{text}");
        }
    }
}
