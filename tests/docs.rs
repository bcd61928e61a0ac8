//! Checks the documents: commands parse, links have targets, named tests exist, lines wrap.

use std::fs;
use std::path::{Path, PathBuf};

use uswitch::control::event::EventType;
use uswitch::control::{Config, Options, OptionsFile};
use uswitch::switch::DropReason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A document with its path, for messages.
struct Document {
    path: PathBuf,
    text: String,
}

fn document(name: &str) -> Document {
    let path = root().join(name);
    Document { text: read(&path), path }
}

/// README.md, docs/ and docs/labs/.
fn documents() -> Vec<Document> {
    let mut documents = vec![document("README.md")];
    for directory in ["docs", "docs/labs"] {
        for entry in fs::read_dir(root().join(directory)).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(Document { text: read(&path), path });
            }
        }
    }
    documents
}

impl Document {
    /// The code blocks in this language, without their fences.
    fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        let mut open: Option<(bool, Vec<&str>)> = None;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(word), None) => open = Some((word == language, Vec::new())),
                (Some(_), Some(_)) => {
                    blocks
                        .extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, lines)| lines.join("\n")));
                }
                (None, Some((_, lines))) => lines.push(line),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a code block has no end", self.path.display());
        blocks
    }

    /// Commands that the reader types: the lines of `sh` blocks, and the lines of `console` blocks with a
    /// prompt.
    fn commands(&self) -> Vec<String> {
        let typed = self.blocks("sh").into_iter().flat_map(|block| owned(block.lines()));
        let shown = self.blocks("console").into_iter().flat_map(|block| {
            owned(block.lines().filter_map(|line| line.strip_prefix("$ ").or(line.strip_prefix("# "))))
        });
        typed.chain(shown).collect()
    }

    /// Targets of links inside this repository.
    fn relative_links(&self) -> Vec<&str> {
        let targets = self.text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target).filter(|target| !target.contains("://")).collect()
    }

    /// Headings as anchors.
    fn anchors(&self) -> Vec<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-")).collect()
    }

    /// The `code` spans in the text.
    fn code_spans(&self) -> impl Iterator<Item = &str> {
        self.text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
    }
}

fn owned<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    lines.map(str::to_owned).collect()
}

/// The words of a `uswitch` command in a shell line. `None` if there is no such command.
fn words_of_uswitch(line: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(String::new()),
            ('|' | '>' | '#' | ';' | '&', None) => break,
            _ => words.last_mut()?.push(c),
        }
    }
    words.retain(|word| !word.is_empty() && word != "sudo");
    (words.first()? == "uswitch").then_some(words)
}

#[test]
fn documented_commands_parse() {
    let mut count = 0;
    for document in documents() {
        for line in document.commands() {
            let Some(words) = words_of_uswitch(&line) else { continue };
            count += 1;
            if let Err(error) = uswitch::cli::command().try_get_matches_from(words) {
                panic!("{}: `{line}`: {error}", document.path.display());
            }
        }
    }
    assert!(count > 10, "only {count} commands found");
}

/// Table rows, code blocks and links cannot be wrapped.
#[test]
fn lines_wrap_at_100_columns() {
    for document in documents() {
        let mut in_code = false;
        for (number, line) in (1..).zip(document.text.lines()) {
            in_code ^= line.starts_with("```");
            let may_be_long = in_code || line.starts_with('|') || line.contains("](");
            let length = line.chars().count();
            let path = document.path.display();
            assert!(may_be_long || length <= 100, "{path}:{number} has {length} columns");
        }
    }
}

#[test]
fn links_have_targets() {
    for document in documents() {
        for link in document.relative_links() {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let here = document.path.parent().expect("a document is in a directory");
            let target = if file.is_empty() { document.path.clone() } else { here.join(file) };
            assert!(target.exists(), "{}: {link} has no target", document.path.display());
            let there = Document {
                text: if anchor.is_empty() { String::new() } else { read(&target) },
                path: target,
            };
            let found = anchor.is_empty() || there.anchors().iter().any(|heading| heading == anchor);
            assert!(found, "{}: {link}: no such heading", document.path.display());
        }
    }
}

#[test]
fn documents_every_start_option() {
    let (readme, config) = (document("README.md"), document("docs/CONFIG.md"));
    let command = uswitch::cli::command();
    let start = command.find_subcommand("start").expect("there is `uswitch start`");
    for flag in start.get_arguments().filter_map(clap::Arg::get_long) {
        let key = format!("\n{flag} = ");
        let known = readme.text.contains(&format!("--{flag}"));
        assert!(known, "README.md does not mention --{flag}");
        let in_file = config.text.contains(&key) || config.text.contains(&key.replace('\n', "\n# "));
        assert!(in_file || flag == "config", "docs/CONFIG.md has no key {flag}");
    }
}

/// The first file in docs/CONFIG.md equals the defaults, and all files there are valid.
#[test]
fn example_configuration_files_are_valid() {
    let files = document("docs/CONFIG.md").blocks("toml");
    let configs = files.iter().map(|text| {
        let file = OptionsFile::parse(Path::new("CONFIG.md"), text).unwrap_or_else(|error| panic!("{error}"));
        Config::new(Options::default(), Some(file)).unwrap_or_else(|error| panic!("{error}"))
    });
    let configs: Vec<Config> = configs.collect();
    assert_eq!(configs.first(), Config::new(Options::default(), None).ok().as_ref());
}

#[test]
fn documents_every_drop_reason() {
    let api = document("docs/API.md");
    let row = |reason: &DropReason| {
        format!("| `{}` | {} | {} |", reason.name(), reason.side().name(), reason.text())
    };
    let rows: Vec<String> = DropReason::ALL.iter().map(row).collect();
    assert!(api.text.contains(&rows.join("\n")), "docs/API.md should have:\n{}", rows.join("\n"));
}

#[test]
fn documents_every_event_type() {
    let api = document("docs/API.md").text;
    for kind in EventType::ALL {
        let name = kind.name();
        assert!(api.contains(&format!("`{name}`")), "docs/API.md does not mention {name}");
    }
}

/// Tests named in docs/SPEC.md exist.
#[test]
fn named_tests_exist() {
    let spec = document("docs/SPEC.md");
    let mut count = 0;
    for (file, test) in spec.code_spans().filter_map(|span| span.split_once(".rs::")) {
        count += 1;
        let path = root().join(format!("{file}.rs"));
        let text = read(&path);
        // A function, or a line that a macro expands to one.
        let names = [format!("fn {test}("), format!("fn {test}<"), format!("    {test}: ")];
        assert!(
            names.iter().any(|name| text.contains(name)),
            "there is no test {test} in {}",
            path.display()
        );
    }
    assert!(count > 50, "only {count} tests found");
}

/// docs/dependencies.md has a row for each dependency and no other rows.
#[test]
fn documents_every_dependency() {
    let text = document("docs/dependencies.md").text;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut explained: Vec<&str> = rows.map(|(name, _)| name).collect();
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("Cargo.toml is TOML");
    let sections = ["dependencies", "dev-dependencies"].map(|section| &manifest[section]);
    let tables = sections.iter().filter_map(|section| section.as_table());
    let mut declared: Vec<&str> = tables.flat_map(toml::Table::keys).map(String::as_str).collect();
    for names in [&mut explained, &mut declared] {
        names.sort_unstable();
        names.dedup();
    }
    assert_eq!(explained, declared);
}
