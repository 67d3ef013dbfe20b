//! STOMP 1.2 as the generator speaks it. Written for speed and for what a generator needs: the broker's own codec is
//! strict and knows everything, and this one must not share a mistake with it.

mod dialect;
mod encode;
mod scan;

pub(super) use dialect::Broker;
pub(super) use encode::{Client, Mode};
