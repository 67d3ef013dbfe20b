//! The codec for `tokio_util::codec::Framed`: clients, tests, load generators.

use std::fmt;
use std::io;

use bytes::BytesMut;
use tokio_util::codec;

use super::command::Command;
use super::decode::Decoder;
use super::decode_error::DecodeError;
use super::encode::put_frame;
use super::frame::Frame;
use super::limits::Limits;
use super::version::Version;

/// Frames in and out of a byte stream, for either side of a connection.
///
/// It begins with the version it is given and changes to the one a CONNECTED names as soon as that frame
/// passes, in whichever direction: what comes after CONNECTED is in that version on both sides.
#[derive(Debug)]
pub struct Codec {
    decoder: Decoder,
    version: Version,
}

impl Codec {
    /// A codec that begins with `version`; a new connection begins with [`Version::V1_0`].
    #[must_use]
    pub fn new(version: Version, limits: Limits) -> Self {
        let mut decoder = Decoder::new(limits);
        decoder.set_version(version);
        Self { decoder, version }
    }

    /// The version spoken now.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Changes the version of the frames that follow.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
        self.decoder.set_version(version);
    }

    fn heed(&mut self, frame: &Frame) {
        if frame.command == Command::Connected {
            let version = frame
                .header("version")
                .and_then(|text| Version::parse(&text));
            self.set_version(version.unwrap_or(Version::V1_0));
        }
    }
}

impl Default for Codec {
    fn default() -> Self {
        Self::new(Version::V1_0, Limits::default())
    }
}

impl codec::Decoder for Codec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        let frame = self.decoder.decode(src)?;
        if let Some(frame) = &frame {
            self.heed(frame);
        }
        Ok(frame)
    }

    /// Bytes of a frame that will never be whole are an error, except what may follow a frame anyway.
    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        match codec::Decoder::decode(self, src)? {
            None if !src.is_empty() && src.as_ref() != b"\r" => {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            }
            frame => Ok(frame),
        }
    }
}

impl codec::Encoder<&Frame> for Codec {
    type Error = CodecError;

    fn encode(&mut self, frame: &Frame, dst: &mut BytesMut) -> Result<(), CodecError> {
        put_frame(dst, self.version, frame);
        self.heed(frame);
        Ok(())
    }
}

impl codec::Encoder<Frame> for Codec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> Result<(), CodecError> {
        codec::Encoder::<&Frame>::encode(self, &frame, dst)
    }
}

/// Why a framed stream ended.
#[derive(Debug)]
pub enum CodecError {
    /// The stream failed, or ended inside a frame.
    Io(io::Error),
    /// The peer's bytes are not STOMP.
    Decode(DecodeError),
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<DecodeError> for CodecError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection failed: {error}"),
            Self::Decode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CodecError {}
