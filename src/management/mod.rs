//! The HTTP side of the broker: health for load balancers and supervisors.

pub mod health;
pub mod http;
