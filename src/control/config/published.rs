//! The ports that are published when a switch starts.

use std::net::IpAddr;

use super::{Checked, InvalidValue, container_name};
use crate::control::options::Options;
use crate::control::report::PublishedPort;

/// A published port, and the name of its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPublishedPort {
    /// Name of the container's port.
    pub ifname: String,
    /// The published port.
    pub published: PublishedPort,
}

/// Parses the published ports.
pub(super) fn publish(options: &Options) -> Checked<Vec<NamedPublishedPort>> {
    let no_host_port = options.internal.unwrap_or(false) || options.no_gateway.unwrap_or(false);
    let check = || match options.publish.is_empty() {
        false if no_host_port => Err(InvalidValue::PublishWithoutGateway),
        _ => options.publish.iter().map(|text| parse(text)).collect(),
    };
    check().map_err(|why| ("publish", why))
}

/// `[ADDRESS:]PORT[-PORT]:CONTAINER:PORT[-PORT][/PROTOCOL]`
fn parse(text: &str) -> Result<NamedPublishedPort, InvalidValue> {
    let syntax = || InvalidValue::PublishSyntax(text.to_owned());
    let (host_and_name, container) = text.rsplit_once(':').ok_or_else(syntax)?;
    let (host, ifname) = host_and_name.rsplit_once(':').ok_or_else(syntax)?;
    // Without the name, as in `8080:80` or `127.0.0.1:8080:80`.
    if ifname.is_empty() || ifname.parse::<u16>().is_ok() {
        return Err(syntax());
    }
    container_name(ifname)?;
    let published = format!("{host}:{container}").parse().map_err(|why| match why {
        InvalidValue::PublishedPortSyntax(_) => syntax(),
        why => why,
    })?;
    published_port(&published)?;
    Ok(NamedPublishedPort { ifname: ifname.to_owned(), published })
}

/// Checks a published port, as far as that is possible without the ports of the switch.
///
/// # Errors
/// The ranges have different lengths, or the kernel cannot route from the address to a container.
pub fn published_port(published: &PublishedPort) -> Result<(), InvalidValue> {
    let (host, container) = (published.host_ports.count(), published.container_ports.count());
    match published.host_address {
        _ if host != container => Err(InvalidValue::PublishedRanges(host, container)),
        Some(IpAddr::V6(address)) if address.is_loopback() => Err(InvalidValue::PublishedLoopback6),
        Some(IpAddr::V6(address)) if address.is_unicast_link_local() => {
            Err(InvalidValue::PublishedAddress(address.into(), "a link-local address"))
        }
        Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(InvalidValue::PublishedAddress(address.into(), "an IPv4 address in the form of IPv6"))
        }
        Some(IpAddr::V4(address)) if address.is_broadcast() => {
            Err(InvalidValue::PublishedAddress(address.into(), "the broadcast address"))
        }
        Some(address) if address.is_multicast() => Err(InvalidValue::PublishedMulticast(address)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Config;

    fn config(publish: &[&str], edit: impl FnOnce(&mut Options)) -> Result<Config, String> {
        let mut options =
            Options { publish: publish.iter().map(ToString::to_string).collect(), ..Options::default() };
        edit(&mut options);
        Config::new(options, None).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_container_and_ports() {
        let config = config(&["8080:container1:80", "[2001:db8::1]:53-54:db:53-54/udp"], |_| {}).unwrap();
        let named = |ifname: &str, text: &str| NamedPublishedPort {
            ifname: ifname.to_owned(),
            published: text.parse().unwrap(),
        };
        assert_eq!(
            config.publish,
            [named("container1", "8080:80/tcp"), named("db", "[2001:db8::1]:53-54:53-54/udp")]
        );
    }

    #[test]
    fn rejects_invalid_published_ports() {
        for (text, words) in [
            (
                "8080:80",
                "'8080:80' is not a published port with its container: write one like 8080:container1:80",
            ),
            ("127.0.0.1:8080:80", "is not a published port with its container"),
            ("8080", "is not a published port with its container"),
            ("8080::80", "is not a published port with its container"),
            ("8080:container1:80/sctp", "is not a published port with its container"),
            ("8080:a b:80", "'a b' cannot name a container"),
            ("8080:host:80", "'host' cannot name a container"),
            ("0:container1:80", "'0' is neither a port number nor a range of them"),
            ("8080:container1:http", "'http' is neither a port number"),
            ("8080-8081:container1:80", "2 ports of the host cannot be forwarded to 1 of the container"),
            ("[::1]:8080:container1:80", "::1 cannot be published"),
            ("[fe80::1]:8080:container1:80", "fe80::1 is a link-local address"),
            (
                "[::ffff:192.0.2.1]:8080:container1:80",
                "::ffff:192.0.2.1 is an IPv4 address in the form of IPv6",
            ),
            ("255.255.255.255:8080:container1:80", "255.255.255.255 is the broadcast address"),
            ("224.0.0.1:8080:container1:80", "224.0.0.1 is a multicast address"),
        ] {
            let error = config(&[text], |_| {}).unwrap_err();
            assert!(error.starts_with("--publish: ") && error.contains(words), "{text}: {error}");
        }
        for edit in [
            |options: &mut Options| options.internal = Some(true),
            |options: &mut Options| {
                options.no_gateway = Some(true);
            },
        ] {
            let error = config(&["8080:container1:80"], edit).unwrap_err();
            assert!(error.contains("published ports need the gateway"), "{error}");
        }
    }
}
