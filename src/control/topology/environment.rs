//! The environment in which switches are created: the host, or a sandbox of the user without root.

use std::path::PathBuf;

use super::TopologyError;
use crate::sys::{caps, runtime_dir, sandbox, state_dir};

/// Where this process creates devices and namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The directory of sockets and ledgers. It is the same inside and outside the sandbox.
    pub runtime: PathBuf,
    /// The directory of what is kept across reboots, created when it is needed; `None`: nothing is kept.
    pub state: Option<PathBuf>,
    /// The host is a private user, network and mount namespace.
    pub sandboxed: bool,
}

impl Environment {
    /// Uses the host if the process has the capabilities, or else enters a sandbox. Call this while the process
    /// has one thread.
    ///
    /// # Errors
    /// There is no runtime directory, or the kernel does not allow the sandbox.
    pub fn prepare() -> Result<Environment, TopologyError> {
        let (runtime, state) = (runtime_dir::directory()?, state_dir::path());
        let failed = |source| TopologyError::Kernel { what: "read this process's capabilities", source };
        let sandboxed = !caps::can_manage_network().map_err(failed)?;
        if sandboxed {
            sandbox::enter()?;
        }
        Ok(Environment { runtime, state, sandboxed })
    }
}
