//! The log of commits and the stores that keep it.
