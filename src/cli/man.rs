//! `uswitch man`: writes the manual pages.

use std::fs;
use std::path::PathBuf;

use clap_mangen::Man;

use super::error::CliError;

/// Write the manual pages into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  uswitch man /usr/local/share/man/man1")]
pub(super) struct ManCommand {
    /// Existing directory; gets one page for each subcommand
    directory: PathBuf,
}

impl ManCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut root = super::command().disable_help_subcommand(true);
        root.build();
        let mut commands = Vec::new();
        collect(&root, &mut commands);
        commands.iter().try_for_each(|command| {
            let path = self.directory.join(format!("{}.1", name(command)));
            let what = format!("write {}", path.display());
            let page = page(command).map_err(CliError::io(what.clone()))?;
            fs::write(&path, page).map_err(CliError::io(what))
        })
    }
}

/// The command and all below it.
fn collect(command: &clap::Command, commands: &mut Vec<clap::Command>) {
    commands.push(command.clone());
    command.get_subcommands().for_each(|below| collect(below, commands));
}

fn name(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// Date of the last change of the pages.
const DATE: &str = "2026-11-28";
/// Longest line of text in the source of a page (mandoc(1), `-T lint`).
const WIDTH: usize = 80;

const EXIT_STATUS: &str = "\
.TP
.B 0
Success.
.TP
.B 1
The command failed.
.TP
.B 2
The arguments or the configuration file are wrong.
";

const EXEC_EXIT_STATUS: &str = "\
.TP
.B 125
uswitch failed before it started the program.
.TP
.B 126
The program cannot be executed.
.TP
.B 127
The program does not exist.
.TP
.B 128 + N
Signal N ended the program.
.PP
Any other status is the program's.
";

const ENVIRONMENT: &str = "\
.TP
.B XDG_RUNTIME_DIR
Without root, the directory of the switches' sockets and ledgers is
.IR $XDG_RUNTIME_DIR/uswitch .
.TP
.B XDG_STATE_HOME
Without root, the directory of what is kept after a switch has stopped is
.IR $XDG_STATE_HOME/uswitch ;
by default it is
.IR ~/.local/state/uswitch .
.TP
.B NO_COLOR
If set and not empty,
.B uswitch watch
uses no colours.
.TP
.B TZ
Time zone of the times that are printed.
";

const FILES: &str = "\
.TP
.I /run/uswitch/NAME.sock
Socket of the API of the switch NAME, as root.
.TP
.I $XDG_RUNTIME_DIR/uswitch/NAME.sock
The same without root; without XDG_RUNTIME_DIR it is
.IR /tmp/uswitch\\-UID/NAME.sock .
.TP
.I NAME.ledger
Beside the socket: what has to be removed when the switch stops.
.TP
.I NAME.log
Beside the socket: log of a switch in the background.
.TP
.I /var/lib/uswitch/NAME.mac\\-prefix
As root, the first octets of the MAC addresses of the switch NAME, for its next
start.
.TP
.I $XDG_STATE_HOME/uswitch/NAME.mac\\-prefix
The same without root.
.TP
.I /run/netns/PORT
Network namespace of a container, as root.
";

fn page(command: &clap::Command) -> std::io::Result<String> {
    let name = name(command);
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(DATE)
        .source(format!("uswitch {}", env!("CARGO_PKG_VERSION")))
        .manual("uswitch manual");
    let mut generated = Vec::new();
    man.render_title(&mut generated)?;
    man.render_name_section(&mut generated)?;
    man.render_synopsis_section(&mut generated)?;
    man.render_description_section(&mut generated)?;
    let mut page = tidy(&String::from_utf8_lossy(&generated));
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    let (text, examples) = split_examples(&after);
    page += &paragraphs(text);
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut options)?;
    }
    page += &tidy(&String::from_utf8_lossy(&options));
    let status = if command.get_name() == "exec" { EXEC_EXIT_STATUS } else { EXIT_STATUS };
    for (heading, body) in [("EXIT STATUS", status), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)] {
        page += &format!(".SH {heading}\n{body}");
    }
    if !examples.is_empty() {
        page += &format!(".SH EXAMPLES\n.nf\n{}.fi\n", lines(examples));
    }
    Ok(page + &see_also(&name))
}

fn see_also(name: &str) -> String {
    let pages: &[&str] = if name == "uswitch" { &["ip(8)", "bridge(8)"] } else { &["uswitch(1)"] };
    let reference =
        |page: &&str| page.split_once('(').map(|(name, section)| format!(".BR {name} ({section}"));
    let references: Vec<String> = pages.iter().filter_map(reference).collect();
    format!(".SH SEE ALSO\n{}\n", references.join(" ,\n"))
}

/// The generated source as mandoc wants it: no trailing blanks, no break beside vertical space, short lines.
fn tidy(source: &str) -> String {
    let mut out = String::new();
    let mut skip_space = false;
    for line in source.lines().map(str::trim_end) {
        match line {
            "" => {}
            // Vertical space breaks the line by itself.
            ".br" => skip_space = true,
            ".sp" if skip_space => out += ".sp\n",
            _ => {
                skip_space = false;
                out += &if line.starts_with('.') { format!("{line}\n") } else { wrap(line) };
            }
        }
    }
    out
}

/// The paragraphs of a help text, with indented lines left as they are.
fn paragraphs(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        out += &match line {
            "" => ".PP\n".to_owned(),
            line if line.starts_with(' ') => format!(".nf\n{}.fi\n", lines(line)),
            line => wrap(&escape(line)),
        };
    }
    if out.is_empty() || out.starts_with(".PP") { out } else { format!(".PP\n{out}") }
}

/// What comes before the examples, and the examples.
fn split_examples(help: &str) -> (&str, &str) {
    for heading in ["Examples:\n", "Example:\n"] {
        if let Some((before, examples)) = help.split_once(heading) {
            return (before.trim_end(), examples);
        }
    }
    (help.trim_end(), "")
}

/// Lines that are not filled.
fn lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", escape(line.trim_start()))).collect()
}

fn escape(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

/// The words on lines of at most [`WIDTH`] bytes.
fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if length > 0 && length + 1 + word.len() > WIDTH {
            out.push('\n');
            length = 0;
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        if length == 0 && word.starts_with(['.', '\'']) {
            out += "\\&";
            length += 2;
        }
        out += word;
        length += word.len();
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_text_and_escapes_control_lines() {
        let text = format!("{} .next", "x".repeat(WIDTH));
        assert_eq!(wrap(&text), format!("{}\n\\&.next\n", "x".repeat(WIDTH)));
        assert_eq!(tidy("a \n.br\n\n.sp\n.br\nb"), "a\n.sp\nb\n");
        assert_eq!(split_examples("text\n\nExample:\n  do it"), ("text", "  do it"));
    }
}
