//! The accepted instruction counts, and the comparison with the current ones.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::process::Command;

use serde::Deserialize;

/// The file with the accepted counts, relative to the package.
pub(crate) const PATH: &str = "benches/instructions.toml";
/// Allowed relative difference to the accepted count.
const TOLERANCE: f64 = 0.03;

/// What the counts depend on, except the code.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Toolchain {
    rustc: String,
    target_cpu: String,
}

/// The target processor, as a level of the x86-64 psABI.
const TARGET_CPU: &str = if cfg!(target_feature = "avx512f") {
    "x86-64-v4"
} else if cfg!(target_feature = "avx2") {
    "x86-64-v3"
} else if cfg!(target_feature = "sse4.2") {
    "x86-64-v2"
} else {
    std::env::consts::ARCH
};

impl Toolchain {
    /// The toolchain of this build.
    pub(crate) fn here() -> Result<Toolchain, String> {
        let said = Command::new("rustc").arg("--version").output();
        let said = said.map_err(|error| format!("cannot ask rustc for its version: {error}"))?;
        let rustc = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Ok(Toolchain { rustc, target_cpu: TARGET_CPU.to_owned() })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.rustc, self.target_cpu)
    }
}

/// The contents of the file.
#[derive(Debug, Deserialize)]
pub(crate) struct Baseline {
    #[serde(flatten)]
    pub(crate) compiler: Toolchain,
    pub(crate) instructions: BTreeMap<String, f64>,
}

impl Baseline {
    pub(crate) fn read() -> Result<Baseline, String> {
        let text = fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{PATH}: {error}"))
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        let Toolchain { rustc, target_cpu } = &self.compiler;
        let mut text = format!(
            "# Instructions a frame that were accepted; written by `make baseline`.\n\
             rustc = {rustc:?}\ntarget-cpu = {target_cpu:?}\n\n[instructions]\n"
        );
        for (case, count) in &self.instructions {
            println!("{case:<40} {count:>9.1}");
            let _ = writeln!(text, "{case:?} = {count:.1}");
        }
        fs::write(PATH, text).map_err(|error| format!("{PATH}: {error}"))
    }

    /// Prints each count beside the accepted one. An error if a count is too high, or if cases were added
    /// or removed.
    pub(crate) fn compare(&self, today: &[(String, f64)]) -> Result<(), String> {
        let (mut worse, mut better) = (Vec::new(), Vec::new());
        println!("{:<40} {:>9} {:>9} {:>8}", "INSTRUCTIONS A FRAME", "ACCEPTED", "NOW", "CHANGE");
        for (case, count) in today {
            let accepted = self.instructions.get(case).ok_or(other_cases())?;
            let change = count / accepted - 1.0;
            println!("{case:<40} {accepted:>9.1} {count:>9.1} {:>+7.1}%", change * 100.0);
            if change > TOLERANCE {
                worse.push(case.as_str());
            } else if change < -TOLERANCE {
                better.push(case.as_str());
            }
        }
        if today.len() != self.instructions.len() {
            return Err(other_cases());
        }
        if !worse.is_empty() {
            return Err(format!(
                "more instructions than accepted for: {}. Make it cheaper; or, if it has to cost more, say why in the \
                 commit that has the new counts (`make baseline`)",
                worse.join("; ")
            ));
        }
        if !better.is_empty() {
            println!("Cheaper than accepted: {}. Keep it so: run `make baseline`.", better.join("; "));
        }
        Ok(())
    }
}

fn other_cases() -> String {
    format!("{PATH} has other cases than the bench: run `make baseline`")
}
