//! Errors of the API, as HTTP status and JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::connection::TooManyStreams;
use crate::control::capture::CaptureError;
use crate::control::report::{ErrorCode, ErrorReport};
use crate::control::running::{MirrorError, PublishError, RunError, Stopping, UplinkError};
use crate::control::trace::TraceError;
use crate::datapath::DatapathError;
use crate::switch::fdb::FdbError;
use crate::switch::mdb::MdbError;

#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("no such path: GET /openapi.json lists the paths")]
    NoSuchRoute,
    #[error("this path does not support the method: GET /openapi.json lists its methods")]
    NoSuchMethod,
    #[error("{0}")]
    BadRequest(String),
    #[error("the request body is longer than {} KiB", super::extract::MAX_BODY / 1024)]
    BodyTooLong,
    #[error("the request body did not arrive within {} seconds", super::extract::BODY_TIMEOUT.as_secs())]
    BodyTimeout,
    #[error("the clients of this switch have too many unread responses: try again")]
    TooMuchUnsent,
    #[error(transparent)]
    TooManyStreams(#[from] TooManyStreams),
    #[error(transparent)]
    Stopping(#[from] Stopping),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            ApiError::NoSuchRoute => StatusCode::NOT_FOUND,
            ApiError::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BadRequest(_)
            | ApiError::Capture(CaptureError::Filter(_) | CaptureError::Snaplen(_)) => {
                StatusCode::BAD_REQUEST
            }
            ApiError::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            ApiError::TooManyStreams(_)
            | ApiError::TooMuchUnsent
            | ApiError::Stopping(_)
            | ApiError::Capture(CaptureError::Stopping(_)) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Run(error) | ApiError::Capture(CaptureError::Run(error)) => run_status(error),
        }
    }
}

#[allow(clippy::too_many_lines, reason = "a line for each error")]
fn run_status(error: &RunError) -> StatusCode {
    match error {
        RunError::Trace(error) => trace_status(error),
        RunError::NoSuchPort(_) | RunError::NoSuchEntry(_) => StatusCode::NOT_FOUND,
        RunError::Mirror(error) => mirror_status(error),
        RunError::Publish(error) => publish_status(error),
        RunError::Uplink(error) => uplink_status(error),
        RunError::Mdb(error) => mdb_status(error),
        RunError::Invalid(_)
        | RunError::InvalidAddress(_)
        | RunError::InvalidMac(_)
        | RunError::TooManyAddresses(_)
        | RunError::BadNetns(_)
        | RunError::OwnNetns(_)
        | RunError::Excludes(..)
        | RunError::NoNameOfSocket
        | RunError::PermanentEntry
        | RunError::Vlan(_)
        | RunError::Fdb(FdbError::NotUnicast(_)) => StatusCode::BAD_REQUEST,
        // The request conflicts with the state of the host, such as a missing namespace or a name in
        // use.
        RunError::Topology(_)
        | RunError::Fdb(_)
        | RunError::NoSnooping
        | RunError::TooManyPorts
        | RunError::NoSpanningTree
        | RunError::NoDhcp
        | RunError::PortExists(_)
        | RunError::GonePortExists(_)
        | RunError::AddressOfGonePort(..)
        | RunError::NetnsHasPort(..)
        | RunError::HostPort
        | RunError::PortGone(_)
        | RunError::EntryExists(..)
        | RunError::GatewayEntry(_)
        | RunError::NoGuardAddresses(_)
        | RunError::AddressTaken(..)
        | RunError::SubnetFull(_) => StatusCode::CONFLICT,
        RunError::Datapath(error) => datapath_status(error),
        RunError::NoUring(_)
        | RunError::FastPath(_)
        | RunError::Dhcp(_)
        | RunError::Dns(_)
        | RunError::Interrupted => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn trace_status(error: &TraceError) -> StatusCode {
    match error {
        TraceError::RouteTimeout(_) => StatusCode::SERVICE_UNAVAILABLE,
        error if error.is_about_sender() => StatusCode::CONFLICT,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn publish_status(error: &PublishError) -> StatusCode {
    match error {
        PublishError::NotPublished(..) => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    }
}

fn datapath_status(error: &DatapathError) -> StatusCode {
    match error {
        DatapathError::TooManyMirrors | DatapathError::WorkerUnresponsive(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn uplink_status(error: &UplinkError) -> StatusCode {
    match error {
        UplinkError::NoDevice(_) => StatusCode::BAD_REQUEST,
        UplinkError::TooMany => StatusCode::CONFLICT,
    }
}

fn mirror_status(error: &MirrorError) -> StatusCode {
    match error {
        MirrorError::NotFound(_) => StatusCode::NOT_FOUND,
        MirrorError::ToItself(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::CONFLICT,
    }
}

fn mdb_status(error: &MdbError) -> StatusCode {
    match error {
        MdbError::NotFound => StatusCode::NOT_FOUND,
        MdbError::NotAGroup(_) | MdbError::AlwaysFlooded(_) | MdbError::BadSource(..) => {
            StatusCode::BAD_REQUEST
        }
        MdbError::Exists | MdbError::Full(_) | MdbError::PortLimit(_) => StatusCode::CONFLICT,
    }
}

impl ApiError {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            ApiError::Run(error) => error.code(),
            ApiError::Capture(CaptureError::Filter(_)) => Some(ErrorCode::FilterSyntax),
            _ => None,
        }
    }
}

impl ApiError {
    pub(super) fn report(&self) -> ErrorReport {
        ErrorReport { error: self.to_string(), code: self.code() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status(), Json(self.report())).into_response()
    }
}
