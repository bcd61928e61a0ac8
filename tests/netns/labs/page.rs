//! Parses the commands and expected output of a page.

/// A command and its expected output.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Line number in the page.
    pub line: usize,
    /// The command as typed. Several lines in an `sh` block.
    pub command: String,
    /// Expected lines, in the notation of [`super::shown`].
    pub shown: Vec<String>,
}

impl Step {
    /// Whether the prompt returns before the command has ended.
    pub fn in_background(&self) -> bool {
        self.command.ends_with('&')
    }
}

/// The steps of a page, in order.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block = None;
    for (line, text) in (1..).zip(page.lines()) {
        match (text.strip_prefix("```"), block) {
            (Some(language), None) => {
                block = Some(language);
                if language == "sh" {
                    steps.push(Step { line, command: String::new(), shown: Vec::new() });
                }
            }
            (Some(_), Some(_)) => block = None,
            (None, Some("sh")) => {
                let step = steps.last_mut().expect("made where the block began");
                step.command += &format!("{text}\n");
            }
            (None, Some("console")) => match text.strip_prefix("# ").or(text.strip_prefix("$ ")) {
                Some(command) => steps.push(Step { line, command: command.to_owned(), shown: Vec::new() }),
                None => steps.last_mut().expect("a block begins with a command").shown.push(text.to_owned()),
            },
            _ => {}
        }
    }
    steps
}

/// The section of a page with this heading. Lines keep their numbers.
pub fn part(page: &str, heading: &str) -> String {
    let begin = page.find(&format!("\n{heading}\n")).expect("the page has the heading") + 1;
    let (before, rest) = page.split_at(begin);
    let part = rest.split("\n## ").next().unwrap_or(rest);
    "\n".repeat(before.lines().count()) + part
}

#[test]
fn parses_commands_and_output() {
    let page = "Type:\n```console\n# true\n# echo one; echo two\none\ntwo\n```\n```text\n# no\n```\n```sh\na\nb\n```\n";
    let step = |line, command: &str, shown: &[&str]| Step {
        line,
        command: command.to_owned(),
        shown: shown.iter().map(|&line| line.to_owned()).collect(),
    };
    let expected =
        [step(3, "true", &[]), step(4, "echo one; echo two", &["one", "two"]), step(11, "a\nb\n", &[])];
    assert_eq!(steps(page), expected);
    let user = "# A\n## B\n```console\n$ true\n```\n## C\n```sh\nno\n```\n";
    assert_eq!(steps(&part(user, "## B")), [step(4, "true", &[])]);
}
