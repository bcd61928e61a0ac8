//! Translators between container engines and the API of the switches.

pub(crate) mod cni;
