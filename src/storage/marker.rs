//! The side marker file.

/// The marker file of an open data directory.
pub(super) struct Marker;
