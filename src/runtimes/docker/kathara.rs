//! The options of Kathará's network plugins (`KatharaFramework/NetworkPlugin`, README.md), which begin with
//! `kathara.`.
//!
//! A network of Kathará is a collision domain: both of its plugins make hubs, which also forward the frames that a
//! bridge does not. An endpoint with such options gets the port of a hub. A learning switch on the wire between two
//! bridges of a scenario would filter frames, because a topology change does not flush its forwarding database.

use super::error::DockerError;
use super::options::GivenOption;
use crate::control::config::{self, Labels};
use crate::control::report::PortSettings;
use crate::wire::Mac;

/// The begin of the names.
pub(super) const PREFIX: &str = "kathara.";

/// All reserved group addresses.
const ALL_RESERVED: u64 = 0xffff;

/// The options of an endpoint.
#[derive(Debug, Default)]
pub(super) struct KatharaOptions {
    mac: Option<Mac>,
    /// Name of the container.
    machine: Option<String>,
    /// Number of its interface.
    iface: Option<u16>,
    /// As given.
    labels: Labels,
}

impl KatharaOptions {
    /// Sets an option whose name begins with [`PREFIX`].
    pub(super) fn set(&mut self, option: &GivenOption<'_>) -> Result<(), DockerError> {
        match option.key {
            "kathara.mac_addr" => self.mac = Some(option.parse()?),
            "kathara.machine" => self.machine = Some(option.text.clone()),
            "kathara.iface" => self.iface = Some(option.parse()?),
            "kathara.link" => {}
            key => return Err(DockerError::UnknownOption("endpoint", key.to_owned())),
        }
        self.labels.insert(option.key.to_owned(), option.text.clone());
        Ok(())
    }

    /// The MAC address: the one that dockerd requests (`--mac-address`), the given one, or that of the container and
    /// its interface.
    pub(super) fn mac(&self, requested: Option<Mac>) -> Result<Option<Mac>, DockerError> {
        if requested.zip(self.mac).is_some_and(|(requested, given)| requested != given) {
            return Err(DockerError::Conflict(
                "--mac-address and kathara.mac_addr differ: give only one of them".to_owned(),
            ));
        }
        let of_interface = || Some(generated_mac(self.machine.as_ref()?, self.iface?));
        Ok(requested.or(self.mac).or_else(of_interface))
    }

    /// The name of the port, if it can be one.
    pub(super) fn port_name(&self) -> Option<String> {
        let name = format!("{}-eth{}", self.machine.as_ref()?, self.iface?);
        config::container_name(&name).is_ok().then_some(name)
    }

    /// The labels of the port.
    pub(super) fn labels(&self) -> Labels {
        self.labels.clone()
    }

    /// The settings of the port.
    pub(super) fn port_settings(&self) -> PortSettings {
        let is_given = !self.labels.is_empty();
        PortSettings {
            hub: is_given.then_some(true),
            group_fwd_mask: is_given.then_some(ALL_RESERVED),
            ..PortSettings::default()
        }
    }
}

/// The MAC address of an interface, which is the same each time: the begin of the MD5 hash of `machine-iface`, as a
/// locally administered unicast address.
fn generated_mac(machine: &str, iface: u16) -> Mac {
    let [first, second, third, fourth, fifth, sixth, ..] = md5::compute(format!("{machine}-{iface}")).0;
    Mac([(first | 0x02) & 0xfe, second, third, fourth, fifth, sixth])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> Result<KatharaOptions, String> {
        let mut options = KatharaOptions::default();
        for (key, text) in given {
            let option = GivenOption { key, text: (*text).to_owned() };
            options.set(&option).map_err(|error| error.line())?;
        }
        Ok(options)
    }

    #[test]
    fn mac_address_is_that_of_the_formula_unless_one_is_given() {
        let of_interface = [("kathara.machine", "container"), ("kathara.iface", "1")];
        let mac = |given: &[(&str, &str)]| options(given).unwrap().mac(None).unwrap();
        // The example of Kathará's README.md.
        assert_eq!(mac(&of_interface), Some(Mac([0xb6, 0x88, 0xc2, 0x19, 0x86, 0x5f])));
        let given = ("kathara.mac_addr", "02:00:00:00:00:77");
        assert_eq!(mac(&[of_interface[0], of_interface[1], given]), Some(Mac([2, 0, 0, 0, 0, 0x77])));
        assert_eq!(mac(&of_interface[..1]), None);
        assert_eq!(mac(&[("kathara.iface", "0"), ("kathara.link", "A")]), None);
        let requested = Some(Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(options(&of_interface).unwrap().mac(requested).unwrap(), requested);
        let error = options(&[given]).unwrap().mac(requested).unwrap_err().line();
        assert_eq!(error, "--mac-address and kathara.mac_addr differ: give only one of them");
    }

    #[test]
    fn port_is_named_after_the_interface_if_it_can_be() {
        let name = |machine: &str| {
            options(&[("kathara.machine", machine), ("kathara.iface", "0")]).unwrap().port_name()
        };
        assert_eq!(name("pc1").as_deref(), Some("pc1-eth0"));
        assert_eq!(name(&"x".repeat(58)).map(|name| name.len()), Some(63));
        for wrong in [&"x".repeat(59), "a b", "", "../x"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert_eq!(options(&[("kathara.iface", "0")]).unwrap().port_name(), None);
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (key, text, words) in [
            ("kathara.mac_addr", "x", "the option kathara.mac_addr=x: "),
            ("kathara.iface", "eth0", "the option kathara.iface=eth0: "),
            ("kathara.macaddr", "", "the endpoint option kathara.macaddr is not supported"),
        ] {
            let error = options(&[(key, text)]).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
