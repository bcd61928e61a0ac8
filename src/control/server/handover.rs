//! `POST /v1/handover`: adds a port whose device the client creates or opens and hands over, because the switch may not
//! enter the namespace ([`crate::control::topology::handover`]).
//!
//! After the response 101 the connection carries one line of JSON in turn: the client's [`NewPort`] with its namespace
//! as an open file, the device to create or open or an error, the device with its queues as open files, the added port
//! or an error.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::connection::{Connection, Monitored};
use super::error::ApiError;
use crate::control::report::{ErrorReport, NewPort};
use crate::control::running::{Command, Handle, PlannedPort, Reply, RunError};
use crate::control::topology::handover::HandedOver;
use crate::sys::fd_passing::ReceivedLine;
use crate::sys::netns::Netns;

/// The protocol's name in the header `Upgrade`.
pub(crate) const PROTOCOL: &str = "uswitch-handover";
/// A client must send each of its lines within this time.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);

/// Add a port whose device the client creates in a namespace that the switch may not enter. For the command line: after
/// the response, the connection is no longer HTTP
#[utoipa::path(post, path = "/v1/handover", responses((status = 101, description = "The connection changes its protocol")))]
pub(super) async fn hand_over(
    State(switch): State<Handle>,
    Extension(connection): Extension<Connection>,
    upgrade: Option<Extension<OnUpgrade>>,
) -> Result<Response, ApiError> {
    let Some(Extension(upgrade)) = upgrade else {
        return Err(ApiError::BadRequest(format!("this path needs `Upgrade: {PROTOCOL}`")));
    };
    // Limits how many clients do this at the same time. Held until the connection closes.
    connection.hold_stream()?;
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            // The client has closed the connection, or takes too long.
            let _ = serve(upgraded, &switch).await;
        }
    });
    let headers = [(CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

async fn serve(upgraded: Upgraded, switch: &Handle) -> io::Result<()> {
    let parts = upgraded.downcast::<TokioIo<Monitored<UnixStream>>>();
    // Only the Unix socket has this route, and a client sends nothing before the response.
    let Ok(parts) = parts else { return Err(io::ErrorKind::Unsupported.into()) };
    // `_connection` holds the permit of the stream.
    let Monitored { mut socket, connection: _connection } = parts.io.into_inner();
    if socket.peer_cred()?.uid() != geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (asked, mut files) = receive::<NewPort>(&socket).await?;
    let netns = files.pop().map(Netns::from_file);
    let (Some(Ok(netns)), []) = (netns, &files[..]) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let for_plan = netns.duplicate()?;
    let planned = command(switch, |reply| Command::PlanPort(Box::new(asked), for_plan, reply)).await;
    let PlannedPort { request, device } = match planned {
        Ok(planned) => planned,
        Err(error) => return send(&mut socket, &Err::<(), _>(error)).await,
    };
    send(&mut socket, &Ok::<_, ()>(device)).await?;
    let (device, queues) = receive(&socket).await?;
    let device = Box::new(HandedOver { device, netns, queues });
    let added = command(switch, |reply| Command::AdoptPort(Box::new(request), device, reply)).await;
    send(&mut socket, &added).await
}

/// The result of a command, or the report of its error.
async fn command<T>(
    switch: &Handle,
    command: impl FnOnce(Reply<Result<T, RunError>>) -> Command,
) -> Result<T, ErrorReport> {
    let result = switch.request(command).await.map_err(|stopping| ApiError::from(stopping).report())?;
    result.map_err(|error| ApiError::from(error).report())
}

/// Receives a line, and the files that came with it.
async fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut line = ReceivedLine::default();
    let complete = async {
        loop {
            socket.readable().await?;
            match socket.try_io(Interest::READABLE, || line.receive(socket)) {
                Ok(true) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    };
    tokio::time::timeout(LINE_TIMEOUT, complete).await??;
    Ok((serde_json::from_slice(&line.bytes)?, line.files))
}

async fn send(socket: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    tokio::time::timeout(LINE_TIMEOUT, socket.write_all(&line)).await?
}
