//! Architecture rules that the compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

use uswitch::switch::DropReason;

/// From the lowest layer up. A layer may name only itself and the layers before it. `sys` is beside them.
const LAYERS: [&str; 7] = ["wire", "switch", "datapath", "control", "bench", "tui", "cli"];

/// Names that would give a pure layer a device, a clock or a thread.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "nix::",
    "libc::",
    "tokio::",
    "io_uring::",
    "crate::sys",
    "println!",
];

/// A source file.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The whole file is tests: `tests.rs`, `worker_tests.rs`.
    fn is_test(&self) -> bool {
        self.path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
    }

    /// Its code and its tests. A test module within a file is the last item in it.
    fn split(&self) -> (&str, &str) {
        match self.text.split_once("#[cfg(test)]\nmod tests {") {
            _ if self.is_test() => ("", &self.text),
            Some(parts) => parts,
            None => (&self.text, ""),
        }
    }

    /// Its lines that are neither comments nor tests, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.split().0.lines();
        lines
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(i, line)| (i + 1, line))
    }

    /// The lines of its code that contain one of `words`.
    fn places(&self, words: &[&str]) -> Vec<String> {
        let found = self.code().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        found.map(|(number, line)| format!("{}:{number}: {}", self.path.display(), line.trim())).collect()
    }
}

/// All Rust files in a directory of the project, recursively.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("Rust is UTF-8");
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "no source in {folder}");
    found
}

/// Fails with the lines in `folder` that contain one of `words`.
#[track_caller]
fn none_of(words: &[&str], folder: &str, rule: &str) {
    let places: Vec<_> = sources(folder).iter().flat_map(|source| source.places(words)).collect();
    assert!(places.is_empty(), "{rule}:\n{}", places.join("\n"));
}

#[test]
fn lower_layers_do_not_name_upper_ones() {
    for (i, layer) in LAYERS.iter().enumerate() {
        let upper: Vec<_> = LAYERS[i + 1..].iter().map(|upper| format!("crate::{upper}")).collect();
        let words: Vec<_> = upper.iter().map(String::as_str).collect();
        none_of(&words, &format!("src/{layer}"), &format!("{layer} names a layer above it"));
    }
}

/// It may use the types of `wire`, which are bytes and their names.
#[test]
fn sys_is_a_leaf() {
    let others =
        ["crate::switch", "crate::datapath", "crate::control", "crate::bench", "crate::tui", "crate::cli"];
    none_of(&others, "src/sys", "sys names a layer");
}

#[test]
fn decisions_are_pure() {
    none_of(IMPURE, "src/wire", "wire is only bytes and types");
    none_of(IMPURE, "src/switch", "the switch has no device, clock or thread of its own");
}

#[test]
fn unsafe_only_in_sys() {
    for source in sources("src") {
        let in_sys = source.path.components().any(|part| part.as_os_str() == "sys");
        let places = source.places(&["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]);
        assert!(in_sys || places.is_empty(), "unsafe outside of sys:\n{}", places.join("\n"));
    }
}

/// A drop reason that no test produces may never be counted, or counted for something else.
#[test]
fn every_drop_reason_is_tested() {
    let mut tests: Vec<String> = sources("tests")
        .into_iter()
        .filter(|source| !source.path.ends_with("tests/arch.rs"))
        .map(|source| source.text)
        .collect();
    tests.extend(sources("src").iter().map(|source| source.split().1.to_owned()));
    let named = |reason: DropReason| {
        let (variant, name) = (format!("DropReason::{reason:?}"), format!("\"{}\"", reason.name()));
        tests.iter().any(|text| text.contains(&variant) || text.contains(&name))
    };
    let missing: Vec<_> = DropReason::ALL.iter().filter(|&&reason| !named(reason)).collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
}
