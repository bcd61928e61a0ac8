//! The VLANs of ports.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::ApiResult;
use super::extract::{Body, QueryString};
use crate::control::report::{
    ErrorReport, NewVlan, NewVlanState, PortVlanStats, PortVlansReport, VlanQuery, VlanStats,
};
use crate::control::running::{Command, Handle, PortVlanCommand};

/// List the VLANs of all ports
#[utoipa::path(get, path = "/v1/vlans", responses((status = 200, body = [PortVlansReport])))]
pub(super) async fn list_vlans(State(switch): State<Handle>) -> ApiResult<Json<Vec<PortVlansReport>>> {
    Ok(Json(switch.request(|reply| Command::Vlan(PortVlanCommand::List(reply))).await?))
}

/// Make a port a member of VLANs, or change how it is one
#[utoipa::path(post, path = "/v1/vlans", request_body = NewVlan, responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
))]
pub(super) async fn add_vlans(
    State(switch): State<Handle>,
    Body(new): Body<NewVlan>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::Vlan(PortVlanCommand::Add(new, reply))).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Set the state of a port in VLANs
#[utoipa::path(patch, path = "/v1/vlans", request_body = NewVlanState, responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
))]
pub(super) async fn set_vlan_state(
    State(switch): State<Handle>,
    Body(new): Body<NewVlanState>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::Vlan(PortVlanCommand::SetState(new, reply))).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// End the membership of a port in VLANs
#[utoipa::path(delete, path = "/v1/vlans", params(VlanQuery), responses(
    (status = 204),
    (status = 400, body = ErrorReport),
    (status = 404, body = ErrorReport),
))]
pub(super) async fn remove_vlans(
    State(switch): State<Handle>,
    QueryString(gone): QueryString<VlanQuery>,
) -> ApiResult<StatusCode> {
    switch.request(|reply| Command::Vlan(PortVlanCommand::Remove(gone, reply))).await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Show the counters of the VLANs that have members
#[utoipa::path(get, path = "/v1/vlans/stats", responses((status = 200, body = [VlanStats])))]
pub(super) async fn vlan_stats(State(switch): State<Handle>) -> ApiResult<Json<Vec<VlanStats>>> {
    Ok(Json(switch.request(|reply| Command::Vlan(PortVlanCommand::Stats(reply))).await?))
}

/// Show the counters of each port in each of its VLANs, on a switch that counts them; otherwise none
#[utoipa::path(get, path = "/v1/vlans/stats/ports", responses((status = 200, body = [PortVlanStats])))]
pub(super) async fn port_vlan_stats(State(switch): State<Handle>) -> ApiResult<Json<Vec<PortVlanStats>>> {
    Ok(Json(switch.request(|reply| Command::Vlan(PortVlanCommand::PortStats(reply))).await?))
}
