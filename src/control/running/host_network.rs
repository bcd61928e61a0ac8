//! The host's network as the control task uses it: the topology, or a fake in tests.

use std::collections::HashMap;
use std::path::Path;

use ipnet::IpNet;

use crate::control::Config;
use crate::control::topology::handover::HandedOver;
use crate::control::topology::{
    Attachment, Device, DeviceId, DnatTarget, NetworkChange, PortSpec, RouteLookup, RoutedPacket, Topology,
    TopologyError,
};
use crate::sys::netns::Netns;
use crate::sys::queue::Queue;
use crate::wire::Mac;

/// Creates and removes the devices of ports.
pub(crate) trait HostNetwork {
    /// As [`Topology::add_host_port`].
    fn add_host_port(&mut self, config: &Config, gateway: Mac) -> Result<Device, TopologyError>;
    /// As [`Topology::add_vlan_host_port`].
    fn add_vlan_host_port(&mut self, spec: &PortSpec) -> Result<Device, TopologyError>;
    /// As [`Topology::add_port`].
    fn add_port(&mut self, attachment: &Attachment) -> Result<Device, TopologyError>;
    /// As [`Topology::remove_port`].
    fn remove_port(&mut self, device: DeviceId) -> Result<(), TopologyError>;
    /// As [`Topology::check_replaceable`].
    fn check_replaceable(&self, device: DeviceId, by: &Attachment) -> Result<(), TopologyError>;
    /// As [`Topology::remove_replaced_port`].
    fn remove_replaced_port(&mut self, gone: DeviceId, by: DeviceId) -> Result<(), TopologyError>;
    /// As [`Topology::check_keepable`].
    fn check_keepable(&self, device: DeviceId) -> Result<(), TopologyError>;
    /// As [`Topology::remove_port_and_keep_device`].
    fn remove_port_and_keep_device(&mut self, device: DeviceId) -> Result<(), TopologyError>;
    /// As [`Topology::check_settings`].
    fn check_settings(&mut self);
    /// As [`Topology::set_carrier`].
    fn set_carrier(&mut self, device: DeviceId, on: bool) -> Result<(), TopologyError>;
    /// As [`Topology::announce`].
    fn announce(&mut self, device: DeviceId, addresses: &[IpNet]);
    /// As [`Topology::route_lookup`].
    fn route_lookup(&self, device: DeviceId, packet: RoutedPacket) -> Option<RouteLookup>;
    /// As [`Topology::devices_in`].
    fn devices_in(&self, path: &Path) -> Result<Vec<DeviceId>, TopologyError>;
    /// As [`Topology::devices_sharing`].
    fn devices_sharing(&self, netns: &Netns) -> Result<Vec<DeviceId>, TopologyError>;
    /// As [`Topology::adopt_port`].
    fn adopt_port(&mut self, attachment: &Attachment, handed: HandedOver) -> Result<Device, TopologyError>;
    /// As [`Topology::socket_queues`].
    fn socket_queues(&mut self, device: DeviceId) -> Result<Vec<Queue>, TopologyError>;
    /// As [`Topology::disconnected`].
    fn disconnected(&mut self, device: DeviceId);
    /// As [`Topology::publish`].
    fn publish(&mut self, published: Vec<DnatTarget>) -> Result<(), TopologyError>;
    /// As [`Topology::next_change`]. Cancel-safe.
    async fn next_change(&mut self) -> NetworkChange;
    /// As [`Topology::queue_dropped`].
    fn queue_dropped(&mut self) -> HashMap<DeviceId, u64>;
    /// As [`Topology::take_notices`].
    fn take_notices(&mut self) -> Vec<String>;
    /// As [`Topology::teardown`].
    fn teardown(self) -> Vec<TopologyError>;
}

impl HostNetwork for Topology {
    fn add_host_port(&mut self, config: &Config, gateway: Mac) -> Result<Device, TopologyError> {
        Topology::add_host_port(self, config, gateway)
    }
    fn add_vlan_host_port(&mut self, spec: &PortSpec) -> Result<Device, TopologyError> {
        Topology::add_vlan_host_port(self, spec)
    }
    fn add_port(&mut self, attachment: &Attachment) -> Result<Device, TopologyError> {
        Topology::add_port(self, attachment)
    }
    fn remove_port(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        Topology::remove_port(self, device)
    }
    fn check_replaceable(&self, device: DeviceId, by: &Attachment) -> Result<(), TopologyError> {
        Topology::check_replaceable(self, device, by)
    }
    fn remove_replaced_port(&mut self, gone: DeviceId, by: DeviceId) -> Result<(), TopologyError> {
        Topology::remove_replaced_port(self, gone, by)
    }
    fn check_keepable(&self, device: DeviceId) -> Result<(), TopologyError> {
        Topology::check_keepable(self, device)
    }
    fn remove_port_and_keep_device(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        Topology::remove_port_and_keep_device(self, device)
    }
    fn check_settings(&mut self) {
        Topology::check_settings(self);
    }
    fn set_carrier(&mut self, device: DeviceId, on: bool) -> Result<(), TopologyError> {
        Topology::set_carrier(self, device, on)
    }
    fn announce(&mut self, device: DeviceId, addresses: &[IpNet]) {
        Topology::announce(self, device, addresses);
    }
    fn route_lookup(&self, device: DeviceId, packet: RoutedPacket) -> Option<RouteLookup> {
        Topology::route_lookup(self, device, packet)
    }
    fn devices_in(&self, path: &Path) -> Result<Vec<DeviceId>, TopologyError> {
        Topology::devices_in(self, path)
    }
    fn devices_sharing(&self, netns: &Netns) -> Result<Vec<DeviceId>, TopologyError> {
        Topology::devices_sharing(self, netns)
    }
    fn adopt_port(&mut self, attachment: &Attachment, handed: HandedOver) -> Result<Device, TopologyError> {
        Topology::adopt_port(self, attachment, handed)
    }
    fn socket_queues(&mut self, device: DeviceId) -> Result<Vec<Queue>, TopologyError> {
        Topology::socket_queues(self, device)
    }
    fn disconnected(&mut self, device: DeviceId) {
        Topology::disconnected(self, device);
    }
    fn publish(&mut self, published: Vec<DnatTarget>) -> Result<(), TopologyError> {
        Topology::publish(self, published)
    }
    async fn next_change(&mut self) -> NetworkChange {
        Topology::next_change(self).await
    }
    fn queue_dropped(&mut self) -> HashMap<DeviceId, u64> {
        Topology::queue_dropped(self)
    }
    fn take_notices(&mut self) -> Vec<String> {
        Topology::take_notices(self)
    }
    fn teardown(self) -> Vec<TopologyError> {
        Topology::teardown(self)
    }
}
