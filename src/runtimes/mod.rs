//! Translators between container runtimes and the API of the switches.

pub(crate) mod cni;
