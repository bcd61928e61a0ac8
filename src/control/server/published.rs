//! The routes of published ports.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::ApiResult;
use super::extract::{Body, Path, QueryString};
use crate::control::report::{AddedPort, ErrorReport, PublishedPort};
use crate::control::running::{Command, Handle, PublishCommand};

/// Publish ports of a container on the host
#[utoipa::path(post, path = "/v1/ports/{name}/published", request_body = PublishedPort,
    params(("name" = String, Path, description = "The port's name")), responses(
        (status = 201, body = AddedPort),
        (status = 400, body = ErrorReport),
        (status = 404, body = ErrorReport),
        (status = 409, body = ErrorReport),
    ))]
pub(super) async fn publish(
    State(switch): State<Handle>,
    Path(name): Path,
    Body(new): Body<PublishedPort>,
) -> ApiResult<(StatusCode, Json<AddedPort>)> {
    let published = switch.request(|reply| Command::Publish(PublishCommand::Add(name, new, reply))).await??;
    Ok((StatusCode::CREATED, Json(published)))
}

/// Withdraw a published port of a container
#[utoipa::path(delete, path = "/v1/ports/{name}/published",
    params(("name" = String, Path, description = "The port's name"), PublishedPort), responses(
        (status = 204),
        (status = 400, body = ErrorReport),
        (status = 404, body = ErrorReport),
        (status = 409, body = ErrorReport),
    ))]
pub(super) async fn unpublish(
    State(switch): State<Handle>,
    Path(name): Path,
    QueryString(gone): QueryString<PublishedPort>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::Publish(PublishCommand::Remove(name, gone, reply))).await??;
    Ok(StatusCode::NO_CONTENT)
}
