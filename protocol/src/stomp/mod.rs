//! STOMP 1.0, 1.1 and 1.2: frames, their bytes, and the server's side of one connection.
//!
//! ```text
//! bytes --decode--> Frame --machine--> Event (login asked, frame to serve)
//! bytes <--encode-- Frame, or the parts of one put straight into the output buffer
//! ```
//!
//! [`frame`], [`command`], [`headers`] and [`version`] are the types; [`decode`] and [`encode`] turn bytes
//! into them and back; [`machine`] knows the rules of order (login, version, heart-beats) and nothing of
//! bytes; [`codec`] offers the first two to `tokio_util::codec::Framed`.

pub mod codec;
pub mod command;
pub mod connect;
pub mod decode;
pub mod decode_error;
pub mod encode;
pub mod error_frame;
pub mod escape;
pub mod fault;
pub mod frame;
mod grammar;
mod head;
pub mod headers;
pub mod heartbeat;
pub mod limits;
pub mod machine;
mod scan;
pub mod version;

pub use codec::{Codec, CodecError};
pub use command::Command;
pub use connect::ConnectRequest;
pub use decode::Decoder;
pub use decode_error::DecodeError;
pub use encode::{put_body, put_canonical_block, put_command, put_decimal, put_frame, put_header};
pub use error_frame::{ErrorFrame, put_error};
pub use escape::Escaping;
pub use fault::{Fault, Refusal, Refused, put_fault};
pub use frame::Frame;
pub use headers::{Headers, Line, canonical_lines};
pub use heartbeat::{HeartBeat, HeartBeats};
pub use limits::Limits;
pub use machine::{Config, Event, Machine};
pub use version::Version;
