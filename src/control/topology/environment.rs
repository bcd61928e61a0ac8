//! Where switches are built: on the host, or in namespaces of our own when we may not.

use std::path::PathBuf;

use super::TopologyError;
use crate::sys::{caps, runtime, sandbox};

/// Where this process builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The directory of sockets and ledgers: the same for the switch and for its user's shell.
    pub runtime: PathBuf,
    /// "The host" is a user, network and mount namespace of the process's own.
    pub sandboxed: bool,
}

impl Environment {
    /// Decides where, and goes there. To be called before the process has a second thread.
    ///
    /// # Errors
    /// There is no directory of our own to be in, or the sandbox is not allowed.
    pub fn prepare() -> Result<Environment, TopologyError> {
        let runtime = runtime::directory()?;
        let failed = |source| TopologyError::Kernel { what: "read this process's capabilities", source };
        let sandboxed = !caps::can_build_here().map_err(failed)?;
        if sandboxed {
            sandbox::enter()?;
        }
        Ok(Environment { runtime, sandboxed })
    }
}
