//! The API: HTTP and JSON over the switch's Unix socket. `GET /openapi.json` describes it.
//!
//! It is on control's thread and never on a frame's way: a slow or hostile client costs a permit at the
//! [`Listener`] and nothing else. Handlers ask the brain ([`Handle`]) and own no state.

mod error;
mod extract;
mod listener;
mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use tracing::debug;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use error::ApiError;
use extract::{Body, Query};
use listener::Connection;
pub(crate) use listener::{ApiSocket, Listener};

use super::capture::{Capture, CaptureFilter};
use super::event::{Event, EventFilter};
use super::log::{Log, LogReport, NewLog};
use super::metrics as exposition;
use super::report::{
    AddedPort, ErrorReport, FdbEntryQuery, FdbFilter, FdbFlushQuery, FdbReport, FlushReport, NewFdbEntry,
    NewPort, PortReport, PortStats, Status, StopReport,
};
use super::running::{Command, Handle, RunError};
use super::trace::{LiveTraceLine, Trace, TraceFilter, TraceRequest};

/// What the document says beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "uswitch",
        description = "A running switch, on its Unix socket: curl --unix-socket /run/uswitch/uswitch0.sock http://uswitch/v1/status. \
                       Ports and forwarding database entries have the fields of `bridge -j -d link show` and `bridge -j fdb show`."
    ),
    components(schemas(ErrorReport))
)]
struct Document;

/// The routes, and the document that describes them.
pub(crate) fn router(handle: Handle, log: Log) -> (Router, Arc<utoipa::openapi::OpenApi>) {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(openapi))
        .routes(routes!(status))
        .routes(routes!(list_ports, add_port))
        .routes(routes!(show_port, remove_port))
        .routes(routes!(list_fdb, add_fdb, remove_fdb))
        .routes(routes!(flush_fdb))
        .routes(routes!(stats))
        .routes(routes!(metrics))
        .routes(routes!(metrics_for_scrapers))
        .routes(routes!(show_log, change_log))
        .routes(routes!(events))
        .routes(routes!(capture))
        .routes(routes!(trace, follow_frames))
        .routes(routes!(stop))
        .split_for_parts();
    let document = Arc::new(document);
    let router = router
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async || ApiError::NoSuchMethod)
        .layer(Extension(Arc::clone(&document)))
        .layer(Extension(log))
        .layer(from_fn(log_request))
        .with_state(handle);
    (router, document)
}

/// Each request in the log.
async fn log_request(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    debug!(%method, path, status = response.status().as_u16(), "asked over the API");
    response
}

type ApiResult<T> = Result<T, ApiError>;

/// This document
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
async fn openapi(Extension(document): Extension<Arc<utoipa::openapi::OpenApi>>) -> Response {
    Json(document.as_ref()).into_response()
}

/// The switch
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
async fn status(State(switch): State<Handle>) -> ApiResult<Json<Status>> {
    Ok(Json(switch.ask(Command::Status).await?))
}

/// All ports
#[utoipa::path(get, path = "/v1/ports", responses((status = 200, body = [PortReport])))]
async fn list_ports(State(switch): State<Handle>) -> ApiResult<Json<Vec<PortReport>>> {
    Ok(Json(switch.ask(Command::Ports).await?))
}

/// Make a port
#[utoipa::path(post, path = "/v1/ports", request_body = NewPort, responses(
    (status = 201, body = AddedPort),
    (status = 400, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn add_port(
    State(switch): State<Handle>,
    Body(asked): Body<NewPort>,
) -> ApiResult<(StatusCode, Json<AddedPort>)> {
    let made = switch.ask(|reply| Command::AddPort(Box::new(asked), reply)).await??;
    Ok((StatusCode::CREATED, Json(made)))
}

/// One port
#[utoipa::path(get, path = "/v1/ports/{name}", params(("name" = String, Path, description = "The port's name")),
    responses((status = 200, body = PortReport), (status = 404, body = ErrorReport)))]
async fn show_port(State(switch): State<Handle>, Path(name): Path<String>) -> ApiResult<Json<PortReport>> {
    let ports = switch.ask(Command::Ports).await?;
    let port = ports.into_iter().find(|port| port.ifname == name);
    Ok(Json(port.ok_or(RunError::NoSuchPort(name))?))
}

/// Delete a port, with its container if the switch made that
#[utoipa::path(delete, path = "/v1/ports/{name}", params(("name" = String, Path, description = "The port's name")),
    responses((status = 204), (status = 404, body = ErrorReport), (status = 409, body = ErrorReport)))]
async fn remove_port(State(switch): State<Handle>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    switch.ask(|reply| Command::RemovePort(name, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// The forwarding database
#[utoipa::path(get, path = "/v1/fdb", params(FdbFilter),
    responses((status = 200, body = [FdbReport]), (status = 400, body = ErrorReport)))]
async fn list_fdb(
    State(switch): State<Handle>,
    Query(filter): Query<FdbFilter>,
) -> ApiResult<Json<Vec<FdbReport>>> {
    Ok(Json(switch.ask(|reply| Command::Fdb(filter, reply)).await?))
}

/// Put an entry into the forwarding database, or replace it
#[utoipa::path(post, path = "/v1/fdb", request_body = NewFdbEntry, responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn add_fdb(State(switch): State<Handle>, Body(entry): Body<NewFdbEntry>) -> ApiResult<StatusCode> {
    switch.ask(|reply| Command::AddFdb(entry, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Take an entry out of the forwarding database
#[utoipa::path(delete, path = "/v1/fdb", params(FdbEntryQuery), responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn remove_fdb(
    State(switch): State<Handle>,
    Query(name): Query<FdbEntryQuery>,
) -> ApiResult<StatusCode> {
    let vlan = name.vlan.unwrap_or(0);
    switch.ask(|reply| Command::RemoveFdb(name.mac, vlan, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Take learned entries out of the forwarding database
#[utoipa::path(post, path = "/v1/fdb/flush", params(FdbFlushQuery),
    responses((status = 200, body = FlushReport), (status = 404, body = ErrorReport)))]
async fn flush_fdb(
    State(switch): State<Handle>,
    Query(which): Query<FdbFlushQuery>,
) -> ApiResult<Json<FlushReport>> {
    let flushed = switch.ask(|reply| Command::FlushFdb(which.ifname, reply)).await??;
    Ok(Json(FlushReport { flushed }))
}

/// Every port's counters
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = [PortStats])))]
async fn stats(State(switch): State<Handle>) -> ApiResult<Json<Vec<PortStats>>> {
    Ok(Json(switch.ask(Command::Stats).await?))
}

/// All that is measured, for Prometheus
#[utoipa::path(get, path = "/v1/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(State(switch): State<Handle>) -> ApiResult<Response> {
    let snapshot = switch.ask(Command::Metrics).await?;
    Ok(([(CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::render(&snapshot)).into_response())
}

/// The same, where scrapers look for it
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics_for_scrapers(switch: State<Handle>) -> ApiResult<Response> {
    metrics(switch).await
}

/// What the metrics' own address serves: nothing else.
pub(crate) fn metrics_router(handle: Handle) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "there is only /metrics here\n"))
        .with_state(handle)
}

/// What is logged, and where
#[utoipa::path(get, path = "/v1/log", responses((status = 200, body = LogReport)))]
async fn show_log(Extension(log): Extension<Log>) -> Json<LogReport> {
    Json(log.report())
}

/// Log more or less from now on
#[utoipa::path(put, path = "/v1/log", request_body = NewLog,
    responses((status = 200, body = LogReport), (status = 400, body = ErrorReport)))]
async fn change_log(Extension(log): Extension<Log>, Body(new): Body<NewLog>) -> Json<LogReport> {
    log.set(new.level);
    Json(log.report())
}

/// What happened; with `follow`, what happens from now on too, until the client leaves or the switch stops
#[utoipa::path(get, path = "/v1/events", params(EventFilter), responses(
    (status = 200, content(([Event] = "application/json"), (Event = "application/x-ndjson"))),
    (status = 400, body = ErrorReport),
    (status = 503, body = ErrorReport),
))]
async fn events(
    State(switch): State<Handle>,
    Extension(connection): Extension<Connection>,
    Query(filter): Query<EventFilter>,
) -> ApiResult<Response> {
    if filter.follow != Some(true) {
        return Ok(Json(switch.ask(|reply| Command::Events(filter, reply)).await?).into_response());
    }
    connection.hold_stream()?;
    Ok(stream::ndjson(switch.ask(|reply| Command::FollowEvents(filter, reply)).await?, Event::missed))
}

/// Live frames as pcapng, until `count` have come, the client leaves or the switch stops
#[utoipa::path(get, path = "/v1/capture", params(CaptureFilter), responses(
    (status = 200, content_type = stream::PCAPNG),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 503, body = ErrorReport),
))]
async fn capture(
    State(switch): State<Handle>,
    Extension(connection): Extension<Connection>,
    Query(filter): Query<CaptureFilter>,
) -> ApiResult<Response> {
    connection.hold_stream()?;
    Ok(stream::pcapng(Capture::start(switch, filter).await?))
}

/// What would happen to a frame, and why; nothing changes
#[utoipa::path(post, path = "/v1/trace", request_body = TraceRequest, responses(
    (status = 200, body = Trace),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
))]
async fn trace(State(switch): State<Handle>, Body(asked): Body<TraceRequest>) -> ApiResult<Json<Trace>> {
    Ok(Json(switch.ask(|reply| Command::Trace(Box::new(asked), reply)).await??))
}

/// What happens to live frames, and why, until `limit` have come, the client leaves or the switch stops
#[utoipa::path(get, path = "/v1/trace", params(TraceFilter), responses(
    (status = 200, content_type = "application/x-ndjson", body = LiveTraceLine),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 503, body = ErrorReport),
))]
async fn follow_frames(
    State(switch): State<Handle>,
    Extension(connection): Extension<Connection>,
    Query(filter): Query<TraceFilter>,
) -> ApiResult<Response> {
    connection.hold_stream()?;
    let subscription = switch.ask(|reply| Command::FollowFrames(filter, reply)).await??;
    Ok(stream::ndjson(subscription, |missed| LiveTraceLine::Missed { missed }))
}

/// Stop the switch; answered when everything is gone
#[utoipa::path(post, path = "/v1/stop", responses((status = 200, body = StopReport)))]
async fn stop(State(switch): State<Handle>) -> ApiResult<Json<StopReport>> {
    Ok(Json(switch.ask(Command::Stop).await?))
}
