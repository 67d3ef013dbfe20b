//! A connection to the broker: logged in while it blocks, then handed to a thread that polls it.

use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Failure;
use super::clock::timespec;
use super::input::{Got, Input};
use super::wire::{Incoming, Scan, Wire};

/// Longest wait for the broker's answer while setting up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the largest frame the broker may send beside its body.
const FRAME_EXTRA: usize = 1 << 20;

/// A logged-in connection and what was read from it.
#[derive(Debug)]
pub(super) struct Session<W: Wire> {
    pub(super) stream: TcpStream,
    pub(super) wire: W,
    pub(super) input: Input,
    pub(super) scanner: W::Scanner,
}

impl<W: Wire> Session<W> {
    /// Connects and logs in. Reads up to `read_bytes` at once, and frames with a body of up to `body_bytes`.
    ///
    /// # Errors
    /// When nobody listens, or the broker refuses.
    pub(super) fn open(
        address: &str,
        wire: &W,
        read_bytes: usize,
        body_bytes: usize,
    ) -> Result<Self, Failure> {
        let mut wire = wire.clone();
        let stream = connect(address)?;
        let mut input = Input::new(read_bytes, body_bytes.saturating_add(FRAME_EXTRA));
        let mut scanner = W::Scanner::default();
        let mut out = Vec::new();
        wire.login(&mut out);
        (&stream).write_all(&out).map_err(Failure::lost)?;
        let length = loop {
            match scanner.next(input.unread())? {
                Some((length, Incoming::LoggedIn(broker))) => {
                    wire.meet(broker);
                    break length;
                }
                Some((_, Incoming::Refused(words))) => return Err(Failure::refused(&words)),
                Some((_, other)) => return Err(Failure::unexpected(&other)),
                None => read_more(&mut input, &stream)?,
            }
        };
        input.consume(length);
        Ok(Self {
            stream,
            wire,
            input,
            scanner,
        })
    }

    /// Sends what `request` appends and waits for its answer, dropping deliveries that come before.
    ///
    /// # Errors
    /// When the broker refuses, or the connection fails.
    pub(super) fn ask(&mut self, request: impl FnOnce(&W, &mut Vec<u8>)) -> Result<(), Failure> {
        let mut out = Vec::new();
        request(&self.wire, &mut out);
        (&self.stream).write_all(&out).map_err(Failure::lost)?;
        loop {
            let length = match self.scanner.next(self.input.unread())? {
                Some((length, Incoming::Receipt(_))) => {
                    self.input.consume(length);
                    return Ok(());
                }
                Some((length, Incoming::Message(_))) => length,
                Some((_, other)) => return Err(Failure::unexpected(&other)),
                None => {
                    read_more(&mut self.input, &self.stream)?;
                    continue;
                }
            };
            self.input.consume(length);
        }
    }
}

fn connect(address: &str) -> Result<TcpStream, Failure> {
    let cannot = |error: io::Error| {
        Failure::running(format!(
            "cannot connect to {address}: {error}. Is the broker running there?"
        ))
    };
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs().map_err(cannot)? {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => {
                let ready = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
                    .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
                ready.map_err(cannot)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(cannot(last))
}

fn read_more(input: &mut Input, stream: &TcpStream) -> Result<(), Failure> {
    match input.fill(stream).map_err(Failure::lost)? {
        Got::Bytes(_) => Ok(()),
        Got::Nothing => Err(Failure::running(format!(
            "the broker did not answer within {PATIENCE:?}"
        ))),
        Got::End => Err(Failure::closed()),
    }
}

/// Bytes on their way out of a connection that does not block.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// To be written; the first `written` are.
    pub(super) bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// Whether everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes as much as the system takes. True if that was everything.
    ///
    /// # Errors
    /// When the connection has failed.
    pub(super) fn write(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        while self.written < self.bytes.len() {
            match stream.write(&self.bytes[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.written = 0;
        Ok(true)
    }
}

/// Waits until a socket is ready for what is asked of it, or `timeout` nanoseconds are over.
///
/// # Errors
/// When the system cannot wait.
pub(super) fn wait(fds: &mut [PollFd<'_>], timeout: u64) -> Result<(), Failure> {
    match poll(fds, Some(&timespec(timeout))) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(Failure::lost(error.into())),
    }
}

/// Whether reading will not block: bytes, the end, or an error that reading tells.
pub(super) fn is_readable(fd: &PollFd<'_>) -> bool {
    fd.revents()
        .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
}
