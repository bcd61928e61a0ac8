//! A container at one end of the switch.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command};

use super::super::error::BenchError;
use super::{link, route};
use crate::sys::icmp;
use crate::sys::netns::{Netns, NetnsThread, in_netns};
use crate::sys::packet::PacketSocket;
use crate::wire::Mac;

/// A network namespace with a device that is connected to the switch.
#[derive(Debug)]
pub(in super::super) struct LabEndpoint {
    netns: Netns,
    device: String,
    ifindex: u32,
    /// MAC address of the device.
    pub(in super::super) mac: Mac,
    /// IPv4 address of the device.
    pub(in super::super) address: Ipv4Addr,
}

impl LabEndpoint {
    /// Creates a namespace, and moves a device from the host's namespace into it.
    pub(super) fn with(device: &str, address: Ipv4Addr) -> Result<LabEndpoint, BenchError> {
        let netns = in_netns(NetnsThread::create)??;
        link::move_to(device, &netns)?;
        LabEndpoint::settle(netns, device, || link::set_up(device, Some(address)), address)
    }

    /// Uses a namespace and a device that the switch has created, with its address.
    pub(super) fn existing(netns: Netns, device: &str, address: Ipv4Addr) -> Result<LabEndpoint, BenchError> {
        LabEndpoint::settle(netns, device, || link::set_up(device, None), address)
    }

    fn settle(
        netns: Netns,
        device: &str,
        set_up: impl FnOnce() -> Result<(), BenchError> + Send,
        address: Ipv4Addr,
    ) -> Result<LabEndpoint, BenchError> {
        let (ifindex, mac) = inside(&netns, || {
            link::disable_ipv6()?;
            set_up()?;
            link::index_and_mac(device)
        })?;
        Ok(LabEndpoint { netns, device: device.to_owned(), ifindex, mac, address })
    }

    /// Sets the congestion control of new TCP connections.
    pub(super) fn set_congestion_control(&self, congestion_control: &str) -> Result<(), BenchError> {
        inside(&self.netns, || route::set_congestion_control(congestion_control))
    }

    /// Frames that the device has received.
    pub(in super::super) fn received_frames(&self) -> Result<u64, BenchError> {
        inside(&self.netns, || link::received_frames(&self.device))
    }

    /// Opens a socket that sends frames on the device.
    pub(in super::super) fn sender(&self) -> Result<PacketSocket, BenchError> {
        inside(&self.netns, || {
            PacketSocket::open(self.ifindex).map_err(BenchError::io("open a packet socket"))
        })
    }

    /// Opens a UDP socket at the address.
    pub(in super::super) fn udp(&self, port: u16) -> Result<UdpSocket, BenchError> {
        let bind = || UdpSocket::bind((self.address, port)).map_err(BenchError::io("open a UDP socket"));
        inside(&self.netns, bind)
    }

    /// Opens a TCP socket at the address.
    pub(in super::super) fn tcp_listener(&self, port: u16) -> Result<TcpListener, BenchError> {
        let bind = || TcpListener::bind((self.address, port)).map_err(BenchError::io("open a TCP socket"));
        inside(&self.netns, bind)
    }

    /// Connects to a TCP socket.
    pub(in super::super) fn tcp(&self, to: Ipv4Addr, port: u16) -> Result<TcpStream, BenchError> {
        inside(&self.netns, || TcpStream::connect((to, port)).map_err(BenchError::io("connect by TCP")))
    }

    /// Opens a socket that receives IPv4 packets with ICMP messages, and sends the messages.
    pub(in super::super) fn icmp(&self) -> Result<UdpSocket, BenchError> {
        inside(&self.netns, || icmp::open().map_err(BenchError::io("open an ICMP socket")))
    }

    /// Starts a program in the namespace.
    pub(in super::super) fn spawn(&self, command: &mut Command) -> Result<Child, BenchError> {
        let program = command.get_program().display().to_string();
        inside(&self.netns, || command.spawn().map_err(BenchError::io(format!("run {program}"))))
    }
}

/// Runs `task` in a namespace.
fn inside<T: Send>(
    netns: &Netns,
    task: impl FnOnce() -> Result<T, BenchError> + Send,
) -> Result<T, BenchError> {
    in_netns(|thread| {
        thread.enter(netns)?;
        task()
    })?
}
