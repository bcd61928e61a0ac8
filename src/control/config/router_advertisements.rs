//! Router advertisements.

use ipnet::{IpNet, Ipv6Net};

use super::{Checked, Config, InvalidValue};
use crate::control::options::Options;
use crate::wire::router_advertisement::AUTONOMOUS_PREFIX;

/// Whether the gateways in these subnets send them.
pub(super) fn are_sent(options: &Options, subnets: &[IpNet]) -> Checked<bool> {
    let refused = match options.ra.unwrap_or(false) {
        false => return Ok(false),
        true if options.internal.unwrap_or(false) || options.no_gateway.unwrap_or(false) => {
            InvalidValue::RaWithoutGateway
        }
        true if subnets.iter().all(|subnet| subnet.addr().is_ipv4()) => InvalidValue::RaWithoutIpv6,
        true => return Ok(true),
    };
    Err(("ra", refused))
}

impl Config {
    /// The prefixes of which hosts make addresses, because they are advertised.
    pub(crate) fn autonomous_prefixes(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let of_vlans = self.vlan_gateways.iter().flat_map(|gateway| &gateway.addresses);
        let all = self.gateways.iter().chain(of_vlans).filter(|_| self.ra);
        all.filter_map(|address| match address {
            IpNet::V6(address) if address.prefix_len() == AUTONOMOUS_PREFIX => Some(address.trunc()),
            _ => None,
        })
    }
}

/// Whether hosts with these addresses use router advertisements: not those with IPv6 addresses that the switch
/// assigned, while it advertises prefixes itself. They would have a second address in each.
pub(crate) fn uses_advertisements(config: &Config, addresses: &[IpNet]) -> bool {
    !(config.ra && addresses.iter().any(|address| address.addr().is_ipv6()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(edit: impl FnOnce(&mut Options)) -> Result<Config, String> {
        let mut options = Options { ra: Some(true), ..Options::default() };
        edit(&mut options);
        Config::new(options, None).map_err(|error| error.to_string())
    }

    #[test]
    fn prefixes_of_64_bits_are_autonomous() {
        let gateways = |options: &mut Options| {
            options.subnet = vec!["10.0.0.0/24".into(), "2001:db8::/64".into(), "2001:db8:1::/96".into()];
            options.vlan_filtering = Some(true);
            options.vlan_gateway = vec!["10=2001:db8:2::1/64".into()];
        };
        let prefixes: Vec<String> =
            config(gateways).unwrap().autonomous_prefixes().map(|prefix| prefix.to_string()).collect();
        assert_eq!(prefixes, ["2001:db8::/64", "2001:db8:2::/64"]);
        let off = config(|options| options.ra = None).unwrap();
        assert_eq!((off.ra, off.autonomous_prefixes().count()), (false, 0));
    }

    #[test]
    fn hosts_with_assigned_addresses_make_none() {
        let (on, off) = (config(|_| {}).unwrap(), config(|options| options.ra = Some(false)).unwrap());
        let [v4, v6] = ["10.0.0.2/24", "2001:db8::2/64"].map(|address| address.parse::<IpNet>().unwrap());
        assert!(uses_advertisements(&on, &[]) && uses_advertisements(&on, &[v4]));
        assert!(!uses_advertisements(&on, &[v4, v6]) && uses_advertisements(&off, &[v4, v6]));
    }

    #[test]
    fn explains_what_it_refuses() {
        let error = config(|options| options.internal = Some(true)).unwrap_err();
        assert!(error.starts_with("--ra: router advertisements are sent by the gateway"), "{error}");
        let error = config(|options| options.subnet = vec!["10.0.0.0/24".into()]).unwrap_err();
        assert!(error.starts_with("--ra: router advertisements need an IPv6 subnet"), "{error}");
    }
}
