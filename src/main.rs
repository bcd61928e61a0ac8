//! The `uswitch` program: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    uswitch::cli::run(std::env::args_os())
}
