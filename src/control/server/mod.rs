//! The API: HTTP and JSON over the switch's Unix socket. `GET /openapi.json` describes it.
//!
//! It runs on the control thread, never on the forwarding path: a slow or hostile client occupies a
//! connection of the [`Listener`] and nothing else. Handlers send commands to the control task
//! ([`Handle`]) and hold no state.

mod connection;
mod error;
mod extract;
mod handover;
mod listener;
mod ports;
mod published;
mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
mod vlans;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use tracing::debug;
use utoipa::OpenApi;
use utoipa::openapi::{Content, Ref, RefOr, Response as ResponseDescription, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use connection::{Connection, SharedBody};
use error::ApiError;
use extract::{Body, QueryString};
pub(crate) use handover::PROTOCOL as HANDOVER_PROTOCOL;
pub(crate) use listener::{ApiSocket, Listener};

use stream::FdbPages;

use super::capture::{Capture, CaptureFilter};
use super::event::{Event, EventFilter};
use super::log::{Log, LogReport, NewLog};
use super::metrics::{self as exposition, SharedMetrics};
use super::report::{
    DhcpLeaseReport, ErrorCode, ErrorReport, FdbEntryQuery, FdbFilter, FdbFlushQuery, FdbReport, FlushReport,
    Health, MdbEntryQuery, MdbReport, MirrorQuery, MirrorReport, NewFdbEntry, NewMdbEntry, NewMirror,
    PortStats, Status, StopReport, StpReport, SwitchSettings, SwitchState,
};
use super::running::{Command, Handle, PortMirrorCommand};
use super::trace::{LiveTraceLine, Trace, TraceFilter, TraceRequest};

/// The parts of the OpenAPI document that are not generated from routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "uswitch",
        description = "A running switch, on its Unix socket: curl --unix-socket /run/uswitch/uswitch0.sock http://uswitch/v1/status. \
                       Ports and forwarding database entries have the fields of `bridge -j -d link show` and `bridge -j fdb show`."
    ),
    components(schemas(ErrorReport, ErrorCode))
)]
struct Document;

/// The routes, and the OpenAPI document that describes them.
pub(crate) fn router(
    handle: Handle,
    metrics: SharedMetrics,
    log: Log,
) -> (Router, Arc<utoipa::openapi::OpenApi>) {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(openapi))
        .routes(routes!(status))
        .routes(routes!(health))
        .routes(routes!(ports::list_ports, ports::add_port))
        .routes(routes!(handover::hand_over))
        .routes(routes!(ports::show_port, ports::set_port, ports::remove_port))
        .routes(routes!(published::publish, published::unpublish))
        .routes(routes!(list_fdb, add_fdb, replace_fdb, remove_fdb))
        .routes(routes!(flush_fdb))
        .routes(routes!(show_mdb, add_mdb, remove_mdb))
        .routes(routes!(set_switch))
        .routes(routes!(stp))
        .routes(routes!(dhcp_leases))
        .routes(routes!(list_mirrors, add_mirror, remove_mirror))
        .routes(routes!(vlans::list_vlans, vlans::add_vlans, vlans::set_vlan_state, vlans::remove_vlans))
        .routes(routes!(vlans::vlan_stats))
        .routes(routes!(vlans::port_vlan_stats))
        .routes(routes!(stats))
        .routes(routes!(self::metrics))
        .routes(routes!(metrics_for_scrapers))
        .routes(routes!(show_log, change_log))
        .routes(routes!(events))
        .routes(routes!(capture))
        .routes(routes!(trace, follow_frames))
        .routes(routes!(stop))
        .split_for_parts();
    let document = Arc::new(describe_responses(document));
    let router = router
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async || ApiError::NoSuchMethod)
        .layer(Extension(Arc::clone(&document)))
        .layer(Extension(log))
        .layer(Extension(metrics))
        .layer(from_fn(log_request))
        .with_state(handle);
    (router, document)
}

/// Gives each response the description that OpenAPI requires, and each operation a response for other errors.
fn describe_responses(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let error = Content::new(Some(Ref::from_schema_name("ErrorReport")));
    let error =
        ResponseBuilder::new().description("Another error").content("application/json", error).build();
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(ResponseDescription { description, .. }) = response
                    && description.is_empty()
                {
                    let reason = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
                    reason.unwrap_or("Response").clone_into(description);
                }
            }
            operation.responses.responses.insert("default".to_owned(), error.clone().into());
        }
    }
    document
}

/// Logs each request.
async fn log_request(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    debug!(%method, path, status = response.status().as_u16(), "API request");
    response
}

type ApiResult<T> = Result<T, ApiError>;

/// The OpenAPI document
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
async fn openapi(Extension(document): Extension<Arc<utoipa::openapi::OpenApi>>) -> Response {
    Json(document.as_ref()).into_response()
}

/// Show the switch
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
async fn status(State(switch): State<Handle>) -> ApiResult<Json<Status>> {
    Ok(Json(switch.request(Command::Status).await?))
}

/// Show whether the switch works: 503 if a worker does not respond or NAT may not work
#[utoipa::path(get, path = "/v1/health", responses(
    (status = 200, description = "The switch works", body = Health),
    (status = 503, description = "The switch is degraded", body = Health),
))]
async fn health(State(switch): State<Handle>) -> ApiResult<(StatusCode, Json<Health>)> {
    let Status { state, stalled_workers, nat_fault, .. } = switch.request(Command::Status).await?;
    let code = match state {
        SwitchState::Running => StatusCode::OK,
        SwitchState::Degraded => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok((code, Json(Health { state, stalled_workers, nat_fault })))
}

/// List entries of the forwarding database
#[utoipa::path(get, path = "/v1/fdb", params(FdbFilter),
    responses((status = 200, body = [FdbReport]), (status = 400, body = ErrorReport)))]
async fn list_fdb(
    State(switch): State<Handle>,
    QueryString(filter): QueryString<FdbFilter>,
) -> ApiResult<Response> {
    Ok(stream::fdb(FdbPages::start(switch, filter).await?))
}

/// Add an entry of the forwarding database
#[utoipa::path(post, path = "/v1/fdb", request_body = NewFdbEntry, responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn add_fdb(State(switch): State<Handle>, Body(entry): Body<NewFdbEntry>) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::AddFdb(entry, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Add or replace an entry of the forwarding database
#[utoipa::path(put, path = "/v1/fdb", request_body = NewFdbEntry, responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn replace_fdb(State(switch): State<Handle>, Body(entry): Body<NewFdbEntry>) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::ReplaceFdb(entry, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete an entry of the forwarding database
#[utoipa::path(delete, path = "/v1/fdb", params(FdbEntryQuery), responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn remove_fdb(
    State(switch): State<Handle>,
    QueryString(name): QueryString<FdbEntryQuery>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::RemoveFdb(name, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete entries of the forwarding database: the learned ones, or those of some kinds
#[utoipa::path(post, path = "/v1/fdb/flush", params(FdbFlushQuery),
    responses((status = 200, body = FlushReport), (status = 404, body = ErrorReport)))]
async fn flush_fdb(
    State(switch): State<Handle>,
    QueryString(which): QueryString<FdbFlushQuery>,
) -> ApiResult<Json<FlushReport>> {
    let flushed = switch.request(|reply| Command::FlushFdb(which, reply)).await??;
    Ok(Json(FlushReport { flushed }))
}

/// Show the multicast groups, as `bridge -j -d -s mdb show` does
#[utoipa::path(get, path = "/v1/mdb", responses(
    (status = 200, body = [MdbReport]),
    (status = 409, body = ErrorReport),
))]
async fn show_mdb(State(switch): State<Handle>) -> ApiResult<Json<[MdbReport; 1]>> {
    Ok(Json([switch.request(Command::Mdb).await??]))
}

/// Add a port to a multicast group
#[utoipa::path(post, path = "/v1/mdb", request_body = NewMdbEntry, responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn add_mdb(State(switch): State<Handle>, Body(entry): Body<NewMdbEntry>) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::AddMdb(entry, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove a port from a multicast group
#[utoipa::path(delete, path = "/v1/mdb", params(MdbEntryQuery), responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn remove_mdb(
    State(switch): State<Handle>,
    QueryString(entry): QueryString<MdbEntryQuery>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::RemoveMdb(entry, reply)).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Change settings of the switch
#[utoipa::path(patch, path = "/v1/settings", request_body = SwitchSettings, responses(
    (status = 200, body = Status),
    (status = 400, body = ErrorReport),
))]
async fn set_switch(
    State(switch): State<Handle>,
    Body(settings): Body<SwitchSettings>,
) -> ApiResult<Json<Status>> {
    Ok(Json(switch.request(|reply| Command::SetSwitch(settings, reply)).await??))
}

/// Show the spanning tree
#[utoipa::path(get, path = "/v1/stp", responses(
    (status = 200, body = [StpReport]),
    (status = 409, body = ErrorReport),
))]
async fn stp(State(switch): State<Handle>) -> ApiResult<Json<[StpReport; 1]>> {
    Ok(Json([switch.request(Command::Stp).await??]))
}

/// List the leases of the DHCP server
#[utoipa::path(get, path = "/v1/dhcp/leases", responses(
    (status = 200, body = [DhcpLeaseReport]),
    (status = 409, body = ErrorReport),
))]
async fn dhcp_leases(State(switch): State<Handle>) -> ApiResult<Json<Vec<DhcpLeaseReport>>> {
    Ok(Json(switch.request(Command::DhcpLeases).await??))
}

/// List the port mirrors
#[utoipa::path(get, path = "/v1/mirrors", responses((status = 200, body = [MirrorReport])))]
async fn list_mirrors(State(switch): State<Handle>) -> ApiResult<Json<Vec<MirrorReport>>> {
    Ok(Json(switch.request(|reply| Command::PortMirror(PortMirrorCommand::List(reply))).await?))
}

/// Mirror the frames of ports to a port
#[utoipa::path(post, path = "/v1/mirrors", request_body = NewMirror, responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
))]
async fn add_mirror(State(switch): State<Handle>, Body(new): Body<NewMirror>) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::PortMirror(PortMirrorCommand::Add(new, reply))).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete the mirror to a port
#[utoipa::path(delete, path = "/v1/mirrors", params(MirrorQuery), responses(
    (status = 204),
    (status = 404, body = ErrorReport),
))]
async fn remove_mirror(
    State(switch): State<Handle>,
    QueryString(gone): QueryString<MirrorQuery>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::PortMirror(PortMirrorCommand::Remove(gone, reply))).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Show the counters of all ports
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = [PortStats])))]
async fn stats(State(switch): State<Handle>) -> ApiResult<Json<Vec<PortStats>>> {
    Ok(Json(switch.request(Command::Stats).await?))
}

/// Metrics in the Prometheus text format
#[utoipa::path(get, path = "/v1/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(Extension(metrics): Extension<SharedMetrics>) -> ApiResult<Response> {
    let text = axum::body::Bytes::from_owner(metrics.text().await?);
    Ok((Extension(SharedBody), [(CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response())
}

/// Metrics, at the path that Prometheus scrapes by default
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics_for_scrapers(shared: Extension<SharedMetrics>) -> ApiResult<Response> {
    metrics(shared).await
}

/// The router of the metrics address, which serves metrics only.
pub(crate) fn metrics_router(shared: SharedMetrics) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "there is only /metrics here\n"))
        .layer(Extension(shared))
}

/// Show the log level and destination
#[utoipa::path(get, path = "/v1/log", responses((status = 200, body = LogReport)))]
async fn show_log(Extension(log): Extension<Log>) -> Json<LogReport> {
    Json(log.report())
}

/// Change the log level
#[utoipa::path(put, path = "/v1/log", request_body = NewLog,
    responses((status = 200, body = LogReport), (status = 400, body = ErrorReport)))]
async fn change_log(Extension(log): Extension<Log>, Body(new): Body<NewLog>) -> Json<LogReport> {
    log.set(new.level);
    Json(log.report())
}

/// List events; with `follow`, stream new ones too until the client disconnects or the switch stops
#[utoipa::path(get, path = "/v1/events", params(EventFilter), responses(
    (status = 200, content(([Event] = "application/json"), (Event = "application/x-ndjson"))),
    (status = 400, body = ErrorReport),
    (status = 503, body = ErrorReport),
))]
async fn events(
    State(switch): State<Handle>,
    Extension(connection): Extension<Connection>,
    QueryString(filter): QueryString<EventFilter>,
) -> ApiResult<Response> {
    if filter.follow != Some(true) {
        return Ok(Json(switch.request(|reply| Command::Events(filter, reply)).await?).into_response());
    }
    connection.hold_stream()?;
    Ok(stream::ndjson(switch.request(|reply| Command::FollowEvents(filter, reply)).await?, Event::missed))
}

/// Stream live frames as pcapng until `count` packets, the client disconnects or the switch stops
#[utoipa::path(get, path = "/v1/capture", params(CaptureFilter), responses(
    (status = 200, content_type = stream::PCAPNG),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 503, body = ErrorReport),
))]
async fn capture(
    State(switch): State<Handle>,
    Extension(connection): Extension<Connection>,
    QueryString(filter): QueryString<CaptureFilter>,
) -> ApiResult<Response> {
    connection.hold_stream()?;
    Ok(stream::pcapng(Capture::start(switch, filter).await?))
}

/// Explain how the switch would handle a frame, without changing anything
#[utoipa::path(post, path = "/v1/trace", request_body = TraceRequest, responses(
    (status = 200, body = Trace),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 409, body = ErrorReport),
    (status = 503, body = ErrorReport),
))]
async fn trace(State(switch): State<Handle>, Body(request): Body<TraceRequest>) -> ApiResult<Json<Trace>> {
    Ok(Json(switch.trace(request).await??))
}

/// Stream the decisions about live frames until `limit` frames, the client disconnects or the switch
/// stops
#[utoipa::path(get, path = "/v1/trace", params(TraceFilter), responses(
    (status = 200, content_type = "application/x-ndjson", body = LiveTraceLine),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
    (status = 503, body = ErrorReport),
))]
async fn follow_frames(
    State(switch): State<Handle>,
    Extension(connection): Extension<Connection>,
    QueryString(filter): QueryString<TraceFilter>,
) -> ApiResult<Response> {
    connection.hold_stream()?;
    let subscription = switch.request(|reply| Command::FollowFrames(filter, reply)).await??;
    Ok(stream::ndjson(subscription, |missed| LiveTraceLine::Missed { missed }))
}

/// Stop the switch; the response comes after the teardown
#[utoipa::path(post, path = "/v1/stop", responses((status = 200, body = StopReport)))]
async fn stop(State(switch): State<Handle>) -> ApiResult<Json<StopReport>> {
    Ok(Json(switch.request(Command::Stop).await?))
}
