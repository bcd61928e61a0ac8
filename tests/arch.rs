//! Architecture rules that the compiler does not check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use uswitch::switch::DropReason;

/// From the lowest layer up. A layer may name only itself and the layers before it. `sys` is beside them.
const LAYERS: [&str; 9] =
    ["wire", "switch", "fastpath", "datapath", "control", "runtimes", "bench", "tui", "cli"];

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
    /// The whole file is tests: `tests.rs`, `worker_tests.rs`, `tests/keys.rs`.
    fn is_test(&self) -> bool {
        let folder = self.path.parent().and_then(Path::file_name);
        [self.path.file_stem(), folder]
            .into_iter()
            .flatten()
            .any(|name| name.to_string_lossy().ends_with("tests"))
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
    let others = [
        "crate::switch",
        "crate::datapath",
        "crate::control",
        "crate::fastpath",
        "crate::runtimes",
        "crate::bench",
        "crate::tui",
        "crate::cli",
    ];
    none_of(&others, "src/sys", "sys names a layer");
}

/// The command line adds advice about its own flags. `control` has no types of the command line, only the values.
#[test]
fn lower_layers_know_no_command_line() {
    for layer in
        ["src/wire", "src/switch", "src/datapath", "src/fastpath", "src/sys", "src/control", "src/runtimes"]
    {
        none_of(&["clap"], layer, "types of the command line are in cli");
    }
    for layer in ["src/wire", "src/switch", "src/datapath", "src/fastpath", "src/sys"] {
        let mentions = |text: &str| text.contains("`uswitch ") || names_flag(text);
        for source in sources(layer) {
            let places: Vec<_> = source.code().filter(|(_, line)| mentions(line)).collect();
            assert!(places.is_empty(), "{} names a flag or command: {places:?}", source.path.display());
        }
    }
}

/// The types that the API describes are in `control::report`.
#[test]
fn lower_layers_know_no_api() {
    for layer in ["src/wire", "src/switch", "src/datapath", "src/sys", "src/fastpath"] {
        none_of(&["utoipa", "ToSchema"], layer, "the schemas of the API are in control");
    }
}

/// Whether a line has a word like `--no-offload`.
fn names_flag(line: &str) -> bool {
    line.match_indices("--").any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + 2..].chars().next();
        before.is_none_or(|c| " '`\"(".contains(c)) && after.is_some_and(|c| c.is_ascii_lowercase())
    })
}

/// What a program needs to know of another is in a typed report. Text is for people.
#[test]
fn own_text_is_not_parsed() {
    let bench = sources("src/bench/lab");
    let bench = bench.iter().find(|source| source.path.ends_with("uswitch.rs")).expect("it starts uswitch");
    let parses = bench.places(&["split_once", "strip_prefix", "parse(", "find("]);
    assert!(parses.is_empty(), "the output of `uswitch start` is parsed:\n{}", parses.join("\n"));
    for layer in ["src/cli", "src/tui", "src/bench"] {
        let reads: Vec<_> =
            sources(layer).iter().flat_map(|source| source.places(&["OptionCode::Comment"])).collect();
        let shown = reads.iter().all(|place| place.contains("src/cli/capture.rs"));
        assert!(shown, "packet comments are only shown, by `uswitch capture`:\n{}", reads.join("\n"));
    }
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

/// The type that a line defines. An associated type is not a definition of its own.
fn defined_type(line: &str) -> Option<&str> {
    let item = line.trim_start();
    let item =
        item.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")).map_or(item, |(_, item)| item);
    let item = item.strip_prefix("pub ").unwrap_or(item);
    let (keyword, rest) = item.strip_prefix("unsafe ").unwrap_or(item).split_once(' ')?;
    let is_associated = keyword == "type" && line.starts_with(' ');
    let is_type = ["struct", "enum", "trait", "union", "type"].contains(&keyword) && !is_associated;
    let name = rest.split(|c: char| !c.is_alphanumeric()).next()?;
    (is_type && name.starts_with(|c: char| c.is_uppercase())).then_some(name)
}

/// A reader who searches for a name finds one meaning. Put the noun of the module in front of the less central one.
#[test]
fn type_names_are_unique() {
    let sources = sources("src");
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in &sources {
        for (number, line) in source.code() {
            if let Some(name) = defined_type(line) {
                places.entry(name).or_default().push(format!("{}:{number}", source.path.display()));
            }
        }
    }
    assert!(places.len() > 500, "only {} types were found", places.len());
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "types with the same name: {places:#?}");
}

/// They panic if no thread can be started, at a limit of processes (`RLIMIT_NPROC`, `pids.max`).
#[test]
fn threads_are_started_by_functions_that_can_fail() {
    let panicking = ["thread::spawn(", "scope.spawn(", "spawn_blocking("];
    none_of(&panicking, "src", "use thread::Builder or sys::blocking");
}

/// The drop reasons that come about when the datapath carries a verdict out, each with the test that produces it. The
/// others are produced by `switch::tests::produces_every_drop_reason`, one by one.
const DROPPED_BY_DATAPATH: [(DropReason, &str, &str); 7] = [
    (DropReason::IngressLoss, "impaired_tests.rs", "loses_frames_on_their_side"),
    (DropReason::EgressLoss, "impaired_tests.rs", "loses_frames_on_their_side"),
    (DropReason::IngressDelayFull, "impaired_tests.rs", "drops_frames_beyond_the_queue"),
    (DropReason::EgressDelayFull, "impaired_tests.rs", "drops_frames_beyond_the_queue"),
    (
        DropReason::EgressThrottled,
        "worker_tests.rs",
        "drops_frames_for_a_slow_port_that_has_too_many_waiting",
    ),
    (DropReason::EgressQueueFull, "worker_tests.rs", "full_egress_queue_is_counted_at_egress"),
    (DropReason::EgressRefused, "worker_tests.rs", "maps_every_write_error_to_a_drop_reason"),
];

/// The body of a test function.
fn test_body<'a>(sources: &'a [Source], file: &str, name: &str) -> &'a str {
    let source = sources.iter().find(|source| source.path.ends_with(file));
    let text = &source.unwrap_or_else(|| panic!("there is no {file}")).text;
    let start = text.find(&format!("#[test]\nfn {name}() {{\n"));
    let body = &text[start.unwrap_or_else(|| panic!("there is no test {name} in {file}"))..];
    &body[..body.find("\n}\n").map_or(body.len(), |end| end)]
}

/// The match in `src/switch/tests/drop_reasons.rs` says of each reason which frame produces it, or that only the datapath does. The
/// compiler sees to it that none is missing.
#[test]
fn every_drop_reason_is_produced_by_a_test() {
    let sources = sources("src");
    for (reason, file, name) in DROPPED_BY_DATAPATH {
        let body = test_body(&sources, &format!("datapath/{file}"), name);
        let asserts = body.contains("assert_eq!(") && body.contains(&format!("DropReason::{reason:?}"));
        assert!(asserts, "{name} does not produce {reason:?}");
    }
    let decisions = test_body(&sources, "switch/tests/drop_reasons.rs", "produces_every_drop_reason");
    assert!(decisions.contains("in DropReason::ALL") && decisions.contains("assert_eq!(decide(), expected)"));
    let matches = &sources
        .iter()
        .find(|source| source.path.ends_with("switch/tests/drop_reasons.rs"))
        .expect("it is there")
        .text;
    let (_, arms) = matches.split_once("fn producer(").expect("the match");
    let left_out = arms.split_once("=> Datapath,").expect("the last arm").0;
    let left_out = &left_out[left_out.rfind(")),\n").expect("the arm before")..];
    let expected = DROPPED_BY_DATAPATH.map(|(reason, ..)| format!("DropReason::{reason:?}"));
    assert!(expected.iter().all(|reason| left_out.contains(reason)));
    assert_eq!(
        left_out.matches("DropReason::").count(),
        expected.len(),
        "only these are left to the datapath"
    );
}
