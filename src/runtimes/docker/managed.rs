//! The source of a managed plugin (`docker plugin create NAME DIRECTORY`), so that the plugin of this machine has a
//! name that tools can be given, with a tag.
//!
//! dockerd runs a managed plugin in a container, and connects to a socket in a directory that it shares with it
//! (`moby/plugin/manager_linux.go`). This container makes a symbolic link there to the socket of the plugin of this
//! machine, and waits. So no request passes through it, it needs no privileges, and nothing is lost when it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::error::DockerError;
use super::store::file_error;

/// The directory that dockerd shares with the container, there.
const SHARED: &str = "/run/docker/plugins";
/// The name of the link.
const LINK: &str = "uswitch.sock";
/// The programs of the container: copies of this machine's.
const PROGRAMS: [&str; 3] = ["/bin/sh", "/bin/ln", "/bin/sleep"];
/// Makes the link, and waits. A signal does not end an init process by itself.
const SCRIPT: &str = r#"ln -sf "$0" "$1"; trap exit TERM; sleep 2147483647 & wait"#;

/// Writes the source of a managed plugin that leads to `socket`. On an error there is none.
///
/// # Errors
/// The directory exists, or a file cannot be written.
pub(crate) fn write_source(directory: &Path, socket: &Path) -> Result<(), DockerError> {
    let socket = std::path::absolute(socket).map_err(file_error("find", socket))?;
    fs::create_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            DockerError::Conflict(format!("{} exists: choose another directory", directory.display()))
        }
        _ => file_error("create", directory)(error),
    })?;
    write_files(directory, &socket).inspect_err(|_| {
        // The first error is reported.
        let _ = fs::remove_dir_all(directory);
    })
}

fn write_files(directory: &Path, socket: &Path) -> Result<(), DockerError> {
    let root = directory.join("rootfs");
    for program in PROGRAMS {
        copy(Path::new(program), &root)?;
        libraries(program)?.iter().try_for_each(|library| copy(library, &root))?;
    }
    let path = directory.join("config.json");
    fs::write(&path, config(socket).to_string()).map_err(file_error("write", &path))
}

/// What dockerd reads (`moby/api/types/plugin.go`, `PluginConfig`).
fn config(socket: &Path) -> Value {
    json!({
        "description": "Leads to the plugin of uswitch on this machine",
        "entrypoint": ["/bin/sh", "-ec", SCRIPT, socket.to_string_lossy(), format!("{SHARED}/{LINK}")],
        "workdir": "/",
        "interface": { "socket": LINK, "types": ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"] },
    })
}

/// Copies a file to the same path below `root`.
fn copy(file: &Path, root: &Path) -> Result<(), DockerError> {
    let copy = root.join(file.strip_prefix("/").unwrap_or(file));
    if let Some(parent) = copy.parent() {
        fs::create_dir_all(parent).map_err(file_error("create", parent))?;
    }
    fs::copy(file, &copy).map(|_| ()).map_err(file_error("copy", file))
}

/// The libraries of a program. A static program has none.
fn libraries(program: &str) -> Result<Vec<PathBuf>, DockerError> {
    let mut command = Command::new("ldd");
    let output = command.arg(program).stdin(Stdio::null()).output();
    let output = output.map_err(|source| DockerError::Io("run ldd", source))?;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)` or `/lib64/ld-linux-x86-64.so.2 (0x...)`
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_contains_the_programs_and_a_link_to_the_socket() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("plugin");
        write_source(&directory, Path::new("/run/docker/plugins/uswitch.sock")).unwrap();
        let config: Value =
            serde_json::from_slice(&fs::read(directory.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["entrypoint"][3], "/run/docker/plugins/uswitch.sock");
        let library = libraries("/bin/sh").unwrap().pop().expect("sh is dynamic here");
        let library = library.strip_prefix("/").unwrap();
        for file in [Path::new("bin/sh"), Path::new("bin/ln"), Path::new("bin/sleep"), library] {
            assert!(directory.join("rootfs").join(file).is_file(), "{}", file.display());
        }
    }

    #[test]
    fn existing_directory_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mine"), "").unwrap();
        let error = write_source(directory.path(), Path::new("/run/x.sock")).unwrap_err().line();
        assert_eq!(error, format!("{} exists: choose another directory", directory.path().display()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
