//! A request that could not be met, as status and JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::listener::TooManyStreams;
use crate::control::capture::CaptureError;
use crate::control::report::ErrorReport;
use crate::control::running::{RunError, Stopping};
use crate::datapath::DatapathError;
use crate::switch::fdb::FdbError;

/// Why a request could not be met.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("there is no such path: GET /openapi.json lists them")]
    NoSuchRoute,
    #[error("this path does not take that method: GET /openapi.json lists those it takes")]
    NoSuchMethod,
    #[error("{0}")]
    BadRequest(String),
    #[error("the body is longer than {} KiB", super::extract::MAX_BODY / 1024)]
    BodyTooLong,
    #[error("the body did not come within {} seconds", super::extract::BODY_TIMEOUT.as_secs())]
    BodyTimeout,
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
            | ApiError::Stopping(_)
            | ApiError::Capture(CaptureError::Stopping(_)) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Run(error) | ApiError::Capture(CaptureError::Run(error)) => run_status(error),
        }
    }
}

fn run_status(error: &RunError) -> StatusCode {
    match error {
        RunError::NoSuchPort(_) | RunError::NoSuchEntry(_) => StatusCode::NOT_FOUND,
        RunError::Invalid(_)
        | RunError::InvalidAddress(_)
        | RunError::InvalidMac(_)
        | RunError::TooManyAddresses(_)
        | RunError::BadNetns(_)
        | RunError::OwnNetns(_)
        | RunError::NoVlans(_)
        | RunError::Trace(_)
        | RunError::Fdb(FdbError::NotUnicast(_)) => StatusCode::BAD_REQUEST,
        // The machine is not as the request would have it: a namespace that is not there, a name in use.
        RunError::Topology(_)
        | RunError::Fdb(_)
        | RunError::TooManyPorts
        | RunError::PortExists(_)
        | RunError::HostPort
        | RunError::AddressTaken(..)
        | RunError::SubnetFull(_) => StatusCode::CONFLICT,
        RunError::Datapath(DatapathError::TooManyMirrors) => StatusCode::SERVICE_UNAVAILABLE,
        RunError::Datapath(_) | RunError::NoUring(_) | RunError::Interrupted => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status(), Json(ErrorReport { error: self.to_string() })).into_response()
    }
}
