//! What snooping counts.

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MdbCounts {
    /// Reports and leaves that were received.
    pub reports: u64,
    /// Queries that were received.
    pub queries: u64,
    /// Queries that this switch made.
    pub own_queries: u64,
    /// Messages that were ignored because they are malformed.
    pub malformed: u64,
    /// Members and sources that were refused because the table is full.
    pub refused_full: u64,
    /// Members and sources that were refused because of the limit of the port, or of a member.
    pub refused_limit: u64,
    /// Queries that were not made, because too many waited to be sent.
    pub lost_queries: u64,
    /// Events that were not kept.
    pub lost_events: u64,
}
