//! The routes of ports.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::ApiResult;
use super::extract::{Body, Path, QueryString};
use crate::control::config::has_label;
use crate::control::report::{
    AddedPort, ErrorReport, NewPort, PortFilter, PortRemoval, PortReport, PortSettings,
};
use crate::control::running::{Command, Handle, RunError};

/// List the ports
#[utoipa::path(get, path = "/v1/ports", params(PortFilter), responses((status = 200, body = [PortReport])))]
pub(super) async fn list_ports(
    State(switch): State<Handle>,
    QueryString(PortFilter { label }): QueryString<PortFilter>,
) -> ApiResult<Json<Vec<PortReport>>> {
    let mut ports = switch.request(Command::Ports).await?;
    ports.retain(|port| label.as_ref().is_none_or(|label| has_label(&port.labels, label)));
    Ok(Json(ports))
}

/// Add a port
#[utoipa::path(post, path = "/v1/ports", request_body = NewPort, responses(
    (status = 201, body = AddedPort),
    (status = 400, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
pub(super) async fn add_port(
    State(switch): State<Handle>,
    Body(request): Body<NewPort>,
) -> ApiResult<(StatusCode, Json<AddedPort>)> {
    let made = switch.request(|reply| Command::AddPort(Box::new(request), reply)).await??;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Show a port
#[utoipa::path(get, path = "/v1/ports/{name}", params(("name" = String, Path, description = "The port's name")),
    responses((status = 200, body = PortReport), (status = 404, body = ErrorReport)))]
pub(super) async fn show_port(State(switch): State<Handle>, Path(name): Path) -> ApiResult<Json<PortReport>> {
    let ports = switch.request(Command::Ports).await?;
    let port = ports.into_iter().find(|port| port.ifname == name);
    Ok(Json(port.ok_or(RunError::NoSuchPort(name))?))
}

/// Change settings of a port
#[utoipa::path(patch, path = "/v1/ports/{name}", request_body = PortSettings,
    params(("name" = String, Path, description = "The port's name")), responses(
        (status = 200, body = PortReport),
        (status = 400, body = ErrorReport),
        (status = 404, body = ErrorReport),
        (status = 409, body = ErrorReport),
    ))]
pub(super) async fn set_port(
    State(switch): State<Handle>,
    Path(name): Path,
    Body(settings): Body<PortSettings>,
) -> ApiResult<Json<PortReport>> {
    Ok(Json(switch.request(|reply| Command::SetPort(name, Box::new(settings), reply)).await??))
}

/// Delete a port, and its container if the switch created it
#[utoipa::path(delete, path = "/v1/ports/{name}",
    params(("name" = String, Path, description = "The port's name"), PortRemoval),
    responses((status = 204), (status = 404, body = ErrorReport), (status = 409, body = ErrorReport)))]
pub(super) async fn remove_port(
    State(switch): State<Handle>,
    Path(name): Path,
    QueryString(options): QueryString<PortRemoval>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::RemovePort(name, options, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}
