//! Errors, with the codes of the specification (section "Error").

use serde_json::{Value, json};

use super::ipam::IpamError;
use crate::control::client::ClientError;
use crate::runtimes::attachment::AttachError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CniError {
    #[error("CNI version '{0}' is not supported: use 0.4.0, 1.0.0 or 1.1.0")]
    Version(String),
    #[error("{0} needs CNI version 1.1.0, and the network has {1}")]
    OperationVersion(&'static str, String),
    /// The key and its value.
    #[error("'{0}': {1} is not supported{2}")]
    UnsupportedField(String, String, &'static str),
    #[error("{0}")]
    Environment(String),
    #[error("{0}")]
    Io(String),
    #[error("the configuration of the network is not valid JSON: {0}")]
    Decode(String),
    #[error("the configuration of the network: {0}")]
    Config(String),
    #[error(transparent)]
    Ipam(#[from] IpamError),
    #[error(transparent)]
    Switch(#[from] ClientError),
    #[error("{}{_0}", netns_variable(_0))]
    Attach(#[from] AttachError),
    /// CHECK: the switch, the device and the container.
    #[error("the switch {0} has no port for {1} of {2}")]
    UnknownContainer(String, String, String),
    /// What CHECK found.
    #[error("{0}")]
    Check(String),
    /// STATUS: ADD would fail.
    #[error("{0}")]
    NotAvailable(String),
    /// Each of them, in one line.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<CniError>),
}

/// The variable that an error is about.
fn netns_variable(error: &AttachError) -> &'static str {
    match error {
        AttachError::NoNetns(_) | AttachError::OwnNetns(_) => "CNI_NETNS: ",
        _ => "",
    }
}

/// Of a plugin's own errors. Those below 100 are of the specification.
const OWN: u32 = 100;

impl CniError {
    fn code(&self) -> u32 {
        match self {
            CniError::Version(_) | CniError::OperationVersion(..) => 1,
            CniError::UnsupportedField(..) => 2,
            CniError::UnknownContainer(..) => 3,
            CniError::Environment(_) | CniError::Attach(AttachError::NoNetns(_)) => 4,
            CniError::Io(_) | CniError::Attach(AttachError::Io(..)) => 5,
            CniError::Decode(_) => 6,
            CniError::Config(_) => 7,
            CniError::Attach(AttachError::OwnNetns(_)) => 8,
            CniError::NotAvailable(_) => 50,
            CniError::Ipam(error) => error.code(),
            CniError::Several(errors) => errors.first().map_or(OWN, CniError::code),
            CniError::Switch(_) | CniError::Attach(_) | CniError::Check(_) => OWN,
        }
    }

    /// The error in JSON.
    pub(super) fn report(&self, version: &str) -> Value {
        let line = self.to_string().trim().replace('\n', "; ");
        json!({ "cniVersion": version, "code": self.code(), "msg": line })
    }

    /// The first error, or all of them.
    pub(super) fn all(mut errors: Vec<CniError>) -> Result<(), CniError> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(CniError::Several(errors)),
        }
    }
}
