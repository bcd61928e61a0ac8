//! The spanning tree in simulated networks: bridges on a virtual clock, and LANs that delay, lose and are cut.

mod conformance;
mod figures;
mod network;
mod properties;
