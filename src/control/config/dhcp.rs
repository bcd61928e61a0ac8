//! The DHCP server.

use super::{Checked, InvalidValue, number};
use crate::control::options::Options;

/// How long a client has its address, in seconds; `None`: there is no server.
pub(super) fn lease_time(options: &Options) -> Checked<Option<u32>> {
    const HOUR: u64 = 3600;
    /// A client renews at half of it.
    const SHORTEST: u64 = 10;
    const YEAR: u64 = 365 * 24 * HOUR;
    let lease_time = number("dhcp-lease", options.dhcp_lease, HOUR, SHORTEST..=YEAR)?;
    match options.dhcp.unwrap_or(false) {
        false => Ok(None),
        true if options.internal.unwrap_or(false) || options.no_gateway.unwrap_or(false) => {
            Err(("dhcp", InvalidValue::DhcpWithoutGateway))
        }
        true => Ok(Some(lease_time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Config;

    fn config(edit: impl FnOnce(&mut Options)) -> Result<Option<u32>, String> {
        let mut options = Options { dhcp: Some(true), ..Options::default() };
        edit(&mut options);
        Config::new(options, None).map(|config| config.dhcp_lease).map_err(|error| error.to_string())
    }

    #[test]
    fn lease_time_is_an_hour_by_default() {
        assert_eq!(config(|_| {}), Ok(Some(3600)));
        assert_eq!(config(|options| options.dhcp_lease = Some(60)), Ok(Some(60)));
        assert_eq!(config(|options| options.dhcp = None), Ok(None));
    }

    #[test]
    fn explains_what_it_refuses() {
        let error = config(|options| options.internal = Some(true)).unwrap_err();
        assert!(error.starts_with("--dhcp: DHCP is served at the gateway"), "{error}");
        let error = config(|options| options.dhcp_lease = Some(9)).unwrap_err();
        assert!(error.starts_with("--dhcp-lease: 9 "), "{error}");
    }
}
