//! The range of the MTU.

use ipnet::IpNet;

use super::InvalidValue;

/// The largest MTU of a TAP: 65535 less the Ethernet header (`drivers/net/tun.c`, `MAX_MTU`).
pub const LARGEST_MTU: u32 = 65521;
/// The smallest IPv4 MTU (RFC 791).
pub const SMALLEST_MTU: u32 = 68;
/// The smallest IPv6 MTU (RFC 8200 §5).
pub const SMALLEST_MTU_V6: u32 = 1280;

/// An MTU for devices with addresses in `subnets`.
pub fn mtu(value: u64, subnets: &[IpNet]) -> Result<u32, InvalidValue> {
    let smallest = smallest_mtu(subnets);
    match u32::try_from(value) {
        Ok(mtu) if (smallest..=LARGEST_MTU).contains(&mtu) => Ok(mtu),
        _ => Err(InvalidValue::Range {
            value,
            from: smallest.into(),
            to: LARGEST_MTU.into(),
            because: match value < u64::from(smallest) {
                true if smallest == SMALLEST_MTU_V6 => " (the minimum of IPv6; 68 without IPv6)",
                true => " (the minimum of IPv4)",
                false => " (the kernel's maximum for a TAP device)",
            },
        }),
    }
}

pub(super) fn smallest_mtu(subnets: &[IpNet]) -> u32 {
    if subnets.iter().any(|subnet| matches!(subnet, IpNet::V6(_))) { SMALLEST_MTU_V6 } else { SMALLEST_MTU }
}
