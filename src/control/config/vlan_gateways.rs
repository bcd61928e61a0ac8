//! The gateways of VLANs: the addresses that the host has in them, and by which it routes between them.

use ipnet::IpNet;

use super::subnets::MOST_SUBNETS;
use super::{Checked, HOST, InvalidValue, device_name, is_special, vlan_host_port};
use crate::control::addressing;
use crate::control::options::Options;
use crate::control::report::PortVlans;
use crate::switch::{Vid, VlanSettings};

/// Maximum number of VLANs with a gateway of their own: each has a device on the host.
pub(super) const MOST_VLAN_GATEWAYS: usize = 64;

/// The gateway of a VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanGateway {
    /// The VLAN.
    pub vid: Vid,
    /// The gateway's addresses, each with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
}

impl VlanGateway {
    /// The subnets of the VLAN.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.addresses.iter().map(IpNet::trunc)
    }

    /// The name of its device on the host, as `ip link add type vlan` users choose it.
    pub fn ifname(&self, switch: &str) -> String {
        format!("{switch}.{}", self.vid)
    }

    /// The name of its port.
    pub fn port_name(&self) -> String {
        vlan_host_port(self.vid)
    }
}

/// The gateways of VLANs of a switch with this name, these VLAN settings and these subnets.
pub(super) fn vlan_gateways(
    options: &Options,
    name: &str,
    vlans: &VlanSettings,
    subnets: &[IpNet],
) -> Checked<Vec<VlanGateway>> {
    let check = || {
        check_others(options, vlans)?;
        let gateways: Vec<VlanGateway> =
            options.vlan_gateway.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        gateways.iter().try_for_each(|gateway| device_name(&gateway.ifname(name)))?;
        let host = options.port.get(HOST).and_then(|settings| settings.vlan.as_ref());
        check_vlans(&gateways, host, vlans)?;
        check_overlaps(&gateways, subnets)?;
        Ok(gateways)
    };
    check().map_err(|why| ("vlan-gateway", why))
}

/// Checks the options that the gateways depend on.
fn check_others(options: &Options, vlans: &VlanSettings) -> Result<(), InvalidValue> {
    let count = options.vlan_gateway.len();
    let no_host_port = options.internal.unwrap_or(false) || options.no_gateway.unwrap_or(false);
    match count {
        0 => Ok(()),
        _ if !vlans.filtering => Err(InvalidValue::NoVlanFiltering),
        _ if no_host_port => Err(InvalidValue::NoVlanGateway),
        _ if count > MOST_VLAN_GATEWAYS => Err(InvalidValue::TooManyVlanGateways(count)),
        _ => Ok(()),
    }
}

/// `10=172.16.10.1/24,2001:db8:10::1/64`
fn parse(text: &str) -> Result<VlanGateway, InvalidValue> {
    let syntax = || InvalidValue::VlanGatewaySyntax(text.to_owned());
    let (vid, addresses) = text.split_once('=').ok_or_else(syntax)?;
    let vid = vid.parse::<Vid>()?;
    let addresses = addresses.split(',').map(|address| address.parse().map_err(|_| syntax()));
    let addresses: Vec<IpNet> = addresses.collect::<Result<_, _>>()?;
    if addresses.len() > MOST_SUBNETS {
        return Err(InvalidValue::TooManySubnets(addresses.len()));
    }
    addresses.iter().copied().try_for_each(check_address)?;
    Ok(VlanGateway { vid, addresses })
}

fn check_address(address: IpNet) -> Result<(), InvalidValue> {
    let subnet = address.trunc();
    if is_special(subnet) {
        return Err(InvalidValue::SpecialSubnet(subnet));
    }
    if addressing::is_host_address(subnet, address.addr()) {
        return Ok(());
    }
    Err(InvalidValue::NotHostAddress(address, addressing::gateway(subnet)))
}

/// A VLAN has one host port.
fn check_vlans(
    gateways: &[VlanGateway],
    host: Option<&PortVlans>,
    vlans: &VlanSettings,
) -> Result<(), InvalidValue> {
    for (n, VlanGateway { vid, .. }) in gateways.iter().enumerate() {
        if gateways[..n].iter().any(|other| other.vid == *vid) {
            return Err(InvalidValue::VlanGatewayTwice(*vid));
        }
        let of_host_port = match host {
            Some(host) => host.members().any(|(member, _)| member == *vid),
            None => vlans.default_pvid == Some(*vid),
        };
        if of_host_port {
            return Err(InvalidValue::VlanOfHostPort(*vid));
        }
    }
    Ok(())
}

fn check_overlaps(gateways: &[VlanGateway], subnets: &[IpNet]) -> Result<(), InvalidValue> {
    let mut known = subnets.to_vec();
    for subnet in gateways.iter().flat_map(VlanGateway::subnets) {
        if let Some(other) = known.iter().find(|other| other.contains(&subnet) || subnet.contains(*other)) {
            return Err(InvalidValue::Overlap(*other, subnet));
        }
        known.push(subnet);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::{Config, OptionsFile};

    fn config(gateways: &[&str], edit: impl FnOnce(&mut Options)) -> Result<Config, String> {
        let vlan_gateway = gateways.iter().map(ToString::to_string).collect();
        let mut options = Options { vlan_filtering: Some(true), vlan_gateway, ..Options::default() };
        edit(&mut options);
        Config::new(options, None).map_err(|error| error.to_string())
    }

    fn refusal(gateways: &[&str], edit: impl FnOnce(&mut Options)) -> String {
        config(gateways, edit).unwrap_err()
    }

    #[test]
    fn reads_vlans_with_their_addresses() {
        let config = config(&["10=172.16.10.1/24", "20=172.16.20.254/24,2001:db8:20::1/64"], |_| {}).unwrap();
        let [ten, twenty] = &config.vlan_gateways[..] else { panic!("{:?}", config.vlan_gateways) };
        assert_eq!(
            (ten.ifname("uswitch0"), ten.port_name()),
            ("uswitch0.10".to_owned(), "host.10".to_owned())
        );
        let subnets: Vec<String> = twenty.subnets().map(|subnet| subnet.to_string()).collect();
        assert_eq!(subnets, ["172.16.20.0/24", "2001:db8:20::/64"]);
        let file = "vlan-filtering = true\nvlan-gateway = ['10=172.16.10.1/24']\n";
        let file = OptionsFile::parse(Path::new("lab.toml"), file).unwrap();
        assert_eq!(
            Config::new(Options::default(), Some(file)).unwrap().vlan_gateways,
            config.vlan_gateways[..1]
        );
    }

    #[test]
    fn explains_what_it_refuses() {
        let ten = "10=172.16.10.1/24";
        for (gateways, words) in [
            (&["172.16.10.1/24"][..], "'172.16.10.1/24' is not a VLAN with its gateway: write one like 10="),
            (&["10=172.16.10.1"], "is not a VLAN with its gateway"),
            (&["10="], "is not a VLAN with its gateway"),
            (&["4095=172.16.10.1/24"], "VLAN 4095 does not exist"),
            (&["10=172.16.10.0/24"], "172.16.10.0/24 is not the address of a host: use one like 172.16.10.1"),
            (&["10=127.0.0.1/8"], "127.0.0.0/8 has addresses that hosts cannot have"),
            (&[ten, "10=172.16.11.1/24"], "VLAN 10 is given twice"),
            (&[ten, "20=172.16.10.129/25"], "172.16.10.0/24 and 172.16.10.128/25 overlap"),
            (&["10=172.16.0.9/24"], "172.16.0.0/24 and 172.16.0.0/24 overlap"),
            (&["1=172.16.10.1/24"], "the host port is in VLAN 1"),
        ] {
            let error = refusal(gateways, |_| {});
            assert!(error.starts_with("--vlan-gateway: ") && error.contains(words), "{gateways:?}: {error}");
        }
        let many: Vec<String> = (2..67).map(|vid| format!("{vid}=10.0.{vid}.1/24")).collect();
        let error = refusal(&many.iter().map(String::as_str).collect::<Vec<_>>(), |_| {});
        assert!(error.contains("65 gateways of VLANs are too many: give at most 64"), "{error}");
        assert!(
            refusal(&[ten], |options| options.vlan_filtering = None).contains("VLANs need vlan-filtering")
        );
        assert!(refusal(&[ten], |options| options.internal = Some(true)).contains("exclude 'vlan-gateway'"));
        let long = |options: &mut Options| options.name = Some("longest-of-all".into());
        assert!(refusal(&[ten], long).contains("'longest-of-all.10' cannot name a network device"));
    }

    #[test]
    fn host_port_can_leave_the_vlan() {
        let access = |vid: u16| PortVlans { access: Vid::new(vid), ..PortVlans::default() };
        let host_in = |vid: u16| {
            move |options: &mut Options| {
                let settings =
                    crate::control::report::PortSettings { vlan: Some(access(vid)), ..Default::default() };
                options.port.insert(HOST.to_owned(), settings);
            }
        };
        assert!(config(&["1=172.16.10.1/24"], host_in(5)).is_ok());
        assert!(refusal(&["5=172.16.10.1/24"], host_in(5)).contains("the host port is in VLAN 5"));
    }
}
