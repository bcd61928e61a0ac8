//! The DNS server.

use super::{Checked, InvalidValue};
use crate::control::options::Options;

/// Whether there is one.
pub(super) fn is_on(options: &Options) -> Checked<bool> {
    let on = options.dns.unwrap_or(false);
    match on && (options.internal.unwrap_or(false) || options.no_gateway.unwrap_or(false)) {
        true => Err(("dns", InvalidValue::DnsWithoutGateway)),
        false => Ok(on),
    }
}

/// The domain of the containers' names: by default the name of the switch.
pub(super) fn domain(options: &Options, switch: &str) -> Checked<String> {
    /// Of a name with a container's before it (RFC 1035 §2.3.4).
    const LONGEST: usize = 253 - 64;
    let domain = options.domain.as_deref().unwrap_or(switch).trim_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    match domain.len() <= LONGEST && domain.split('.').all(is_label) {
        true => Ok(domain),
        false => Err(("domain", InvalidValue::Domain(options.domain.clone().unwrap_or(domain)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Config;

    fn config(edit: impl FnOnce(&mut Options)) -> Result<Config, String> {
        let mut options = Options { dns: Some(true), ..Options::default() };
        edit(&mut options);
        Config::new(options, None).map_err(|error| error.to_string())
    }

    #[test]
    fn domain_is_the_name_of_the_switch_by_default() {
        assert_eq!(config(|options| options.name = Some("Lab".into())).unwrap().domain, "lab");
        assert_eq!(
            config(|options| options.domain = Some("Test.Example.".into())).unwrap().domain,
            "test.example"
        );
    }

    #[test]
    fn rejects_invalid_domains() {
        let long = "x".repeat(64);
        for text in ["", ".", "a..b", "a b", "a/b", long.as_str(), &"abc.".repeat(60)] {
            let error = config(|options| options.domain = Some(text.into())).unwrap_err();
            assert!(error.starts_with("--domain: ") && error.contains("is not a domain"), "{text}: {error}");
        }
        let error = config(|options| options.internal = Some(true)).unwrap_err();
        assert!(error.starts_with("--dns: DNS is served at the gateway"), "{error}");
    }
}
