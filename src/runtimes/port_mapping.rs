//! Port mappings of container runtimes: ports that are published.

use serde::Deserialize;

use crate::control::config::InvalidValue;
use crate::control::report::PublishedPort;

/// A port mapping, with the names of netavark. CNI writes them in another way.
#[derive(Debug, Deserialize)]
pub(super) struct PortMapping {
    /// Empty: all addresses.
    #[serde(default, alias = "hostIP")]
    host_ip: String,
    #[serde(alias = "hostPort")]
    host_port: u16,
    #[serde(alias = "containerPort")]
    container_port: u16,
    /// One, or several with commas between them.
    #[serde(default = "tcp")]
    protocol: String,
    /// How many ports, one after the other.
    #[serde(default = "one")]
    range: u16,
}

fn tcp() -> String {
    "tcp".to_owned()
}

fn one() -> u16 {
    1
}

impl PortMapping {
    /// The ports to publish, for each protocol.
    fn published(&self) -> Result<Vec<PublishedPort>, InvalidValue> {
        let ports = |first: u16| {
            let last = u32::from(first) + u32::from(self.range.max(1)) - 1;
            format!("{first}-{last}")
        };
        let address = match self.host_ip.as_str() {
            "" => String::new(),
            v6 if v6.contains(':') => format!("[{v6}]:"),
            v4 => format!("{v4}:"),
        };
        let text = |protocol: &str| {
            let (host, container) = (ports(self.host_port), ports(self.container_port));
            format!("{address}{host}:{container}/{}", protocol.to_ascii_lowercase())
        };
        self.protocol.split(',').map(|protocol| text(protocol).parse()).collect()
    }
}

/// The ports that these mappings publish.
pub(super) fn published(mappings: &[PortMapping]) -> Result<Vec<PublishedPort>, InvalidValue> {
    let published: Result<Vec<Vec<PublishedPort>>, InvalidValue> =
        mappings.iter().map(PortMapping::published).collect();
    Ok(published?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(json: &str) -> Result<Vec<String>, String> {
        let mapping: PortMapping = serde_json::from_str(json).unwrap();
        let published = published(&[mapping]).map_err(|error| error.to_string())?;
        Ok(published.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn mappings_of_netavark_and_cni_are_published() {
        let of_netavark =
            r#"{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp,udp","range":3}"#;
        assert_eq!(texts(of_netavark).unwrap(), ["8080-8082:80-82/tcp", "8080-8082:80-82/udp"]);
        let of_cni = r#"{"containerPort":80,"hostIP":"::1","hostPort":8080,"protocol":"TCP"}"#;
        assert_eq!(texts(of_cni).unwrap(), ["[::1]:8080:80/tcp"]);
        let v4 = r#"{"containerPort":80,"hostIP":"127.0.0.1","hostPort":8080}"#;
        assert_eq!(texts(v4).unwrap(), ["127.0.0.1:8080:80/tcp"]);
    }

    #[test]
    fn refuses_what_cannot_be_published() {
        for (json, words) in [
            (r#"{"containerPort":80,"hostPort":8080,"protocol":"sctp"}"#, "8080-8080:80-80/sctp"),
            (r#"{"containerPort":80,"hostPort":0}"#, "0-0"),
            (r#"{"containerPort":80,"hostPort":65535,"range":2}"#, "65535-65536"),
            (r#"{"containerPort":80,"hostPort":1,"hostIP":"localhost"}"#, "localhost"),
        ] {
            let error = texts(json).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
