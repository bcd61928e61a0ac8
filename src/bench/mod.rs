//! How fast the switch is beside others: what was measured, and what it says.

pub mod metric;
pub mod results;
