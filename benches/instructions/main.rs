//! Instructions per frame of the decision and of `wire`, compared with the accepted counts
//! (`benches/instructions.toml`). Unlike times, they do not depend on the load of the machine.
//!
//! Each case runs twice under valgrind, for N and for 2N frames. The difference divided by N is the cost of
//! one frame, without start-up. Counts are exact for one build and differ between compilers, so they are
//! checked only with the compiler of the accepted counts.
//!
//! `cargo bench --bench instructions` checks the counts; with `-- --save` it accepts the current ones.
#![allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]

mod baseline;
mod cases;
#[path = "../fixture/mod.rs"]
mod fixture;

use std::io;
use std::process::{Child, Command, ExitCode, Stdio};

use baseline::{Baseline, PATH, Toolchain};
use cases::CASES;

/// N.
const FRAMES: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        ["--save"] => save(),
        ["run", case, frames] => run(case, frames),
        _ => Err("usage: cargo bench --bench instructions [-- --save]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs under valgrind: processes this many frames of one case.
fn run(case: &str, frames: &str) -> Result<(), String> {
    let frames: u64 = frames.parse().map_err(|_| format!("'{frames}' is not a number"))?;
    let (_, prepare) = CASES.iter().find(|(name, _)| *name == case).ok_or(format!("no case '{case}'"))?;
    let mut frame = prepare();
    (0..frames).for_each(|_| frame());
    Ok(())
}

fn check() -> Result<(), String> {
    let accepted = Baseline::read()?;
    let compiler = Toolchain::here()?;
    if accepted.compiler != compiler {
        println!("NOT CHECKED: the counts in {PATH} are of {}, and this is {compiler}", accepted.compiler);
        return Ok(());
    }
    accepted.compare(&counts()?)
}

fn save() -> Result<(), String> {
    Baseline { compiler: Toolchain::here()?, instructions: counts()?.into_iter().collect() }.write()
}

/// Instructions per frame of each case.
fn counts() -> Result<Vec<(String, f64)>, String> {
    CASES.iter().map(|(case, _)| Ok(((*case).to_owned(), instructions_per_frame(case)?))).collect()
}

fn instructions_per_frame(case: &str) -> Result<f64, String> {
    let hint = |error| format!("cannot run valgrind ({error}): install it, or run `make instructions`");
    let (once, twice) = (valgrind(case, FRAMES).map_err(hint)?, valgrind(case, 2 * FRAMES).map_err(hint)?);
    let (once, twice) = (collected(once)?, collected(twice)?);
    Ok(twice.saturating_sub(once) as f64 / FRAMES as f64)
}

/// Starts a run.
fn valgrind(case: &str, frames: u64) -> io::Result<Child> {
    Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", case, &frames.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// The instruction count of a run: the last line of valgrind is `==PID== Collected : COUNT`.
fn collected(run: Child) -> Result<u64, String> {
    let output = run.wait_with_output().map_err(|error| format!("valgrind: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    let count = words.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.filter(|_| output.status.success()).ok_or(format!("valgrind has counted nothing:\n{words}"))
}
