//! A scripted STOMP client: writes what a test says, and shows every frame that comes back.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use millpond_protocol::stomp::{Command, Decoder, Frame, Limits, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long a frame may take before the test fails: a guard against a test that hangs, not a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a peer speaks through.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// One client connection.
pub(crate) struct Peer {
    stream: Box<dyn Transport>,
    buffer: BytesMut,
    decoder: Decoder,
    version: Version,
    /// Frames read while another one was looked for.
    stash: VecDeque<Frame>,
    receipts: u64,
    patience: Option<Duration>,
}

impl Peer {
    pub(crate) fn new(stream: impl Transport + 'static) -> Self {
        let limits = Limits {
            frame_bytes: 64 << 20,
            ..Limits::default()
        };
        Self {
            stream: Box::new(stream),
            buffer: BytesMut::new(),
            decoder: Decoder::new(limits),
            version: Version::V1_0,
            stash: VecDeque::new(),
            receipts: 0,
            patience: Some(PATIENCE),
        }
    }

    /// Waits for ever: for tests with paused time, where the guard itself would be what time jumps to.
    pub(crate) fn patient(mut self) -> Self {
        self.patience = None;
        self
    }

    /// Writes bytes as they are. A connection that the broker has closed swallows them.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Writes a frame: command, headers, perhaps an empty line and a body; the NUL comes by itself.
    pub(crate) async fn tell(&mut self, frame: &str) {
        let end = if frame.contains("\n\n") {
            "\0"
        } else {
            "\n\n\0"
        };
        self.write(format!("{frame}{end}")).await;
    }

    /// Logs in with a CONNECT of these headers; returns the CONNECTED.
    pub(crate) async fn connect(&mut self, headers: &str) -> Frame {
        self.tell(&format!("CONNECT\n{headers}")).await;
        let connected = self.next().await;
        assert_eq!(
            connected.command,
            Command::Connected,
            "{}",
            show(&connected)
        );
        let version = header(&connected, "version").expect("CONNECTED names its version");
        self.version = Version::ALL
            .into_iter()
            .find(|known| known.as_str() == version)
            .expect("a version of STOMP");
        self.decoder.set_version(self.version);
        connected
    }

    /// The next frame on the wire; none at the end of the connection, however it ended.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        loop {
            let decoded = self.decoder.decode(&mut self.buffer);
            if let Some(frame) = decoded.expect("the broker speaks STOMP") {
                return Some(frame);
            }
            let reading = self.stream.read_buf(&mut self.buffer);
            let read = match self.patience {
                Some(patience) => tokio::time::timeout(patience, reading)
                    .await
                    .expect("the broker says or does something"),
                None => reading.await,
            };
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next octet on the wire, be it of a frame or between frames; none at the end of the connection.
    pub(crate) async fn octet(&mut self) -> Option<u8> {
        self.stream.read_u8().await.ok()
    }

    /// The next frame, whatever it is.
    pub(crate) async fn next(&mut self) -> Frame {
        if let Some(frame) = self.stash.pop_front() {
            return frame;
        }
        self.read().await.expect("the connection is open")
    }

    /// The next frame that is wanted; others are kept for later. An ERROR that is not wanted fails the test.
    async fn find(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        if let Some(at) = self.stash.iter().position(&wanted) {
            return self.stash.remove(at).expect("just found");
        }
        loop {
            let Some(frame) = self.read().await else {
                panic!(
                    "the connection ended, {what} was waited for; {:?}",
                    self.stash
                );
            };
            if wanted(&frame) {
                return frame;
            }
            assert_ne!(
                frame.command,
                Command::Error,
                "{what} was waited for:\n{}",
                show(&frame)
            );
            self.stash.push_back(frame);
        }
    }

    /// The next MESSAGE.
    pub(crate) async fn message(&mut self) -> Frame {
        self.find("a MESSAGE", |frame| frame.command == Command::Message)
            .await
    }

    /// The body of the next MESSAGE, as text.
    pub(crate) async fn text(&mut self) -> String {
        body(&self.message().await)
    }

    /// The bodies of the next MESSAGEs, as text.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            texts.push(self.text().await);
        }
        texts
    }

    /// Waits for a RECEIPT.
    pub(crate) async fn receipt(&mut self, id: &str) {
        self.find(&format!("the RECEIPT {id}"), |frame| {
            frame.command == Command::Receipt && header(frame, "receipt-id").as_deref() == Some(id)
        })
        .await;
    }

    /// The next ERROR.
    pub(crate) async fn error(&mut self) -> Frame {
        self.find("an ERROR", |frame| frame.command == Command::Error)
            .await
    }

    /// A receipt id that this peer has not used.
    fn next_receipt(&mut self) -> String {
        self.receipts += 1;
        format!("peer-{}", self.receipts)
    }

    /// Writes a frame and waits for its RECEIPT.
    pub(crate) async fn ask(&mut self, frame: &str) {
        let id = self.next_receipt();
        self.tell(&with_header(frame, "receipt", &id)).await;
        self.receipt(&id).await;
    }

    /// Writes a frame that is refused; returns the ERROR, which names the frame's receipt.
    pub(crate) async fn refused(&mut self, frame: &str) -> Frame {
        let id = self.next_receipt();
        self.tell(&with_header(frame, "receipt", &id)).await;
        self.find("an ERROR that names the receipt", |answer| {
            let named = header(answer, "receipt-id").as_deref() == Some(&id);
            assert!(
                !(named && answer.command == Command::Receipt),
                "not refused: {frame}"
            );
            named
        })
        .await
    }

    /// ACKs or NACKs a delivery, with a receipt. `more` are further header lines, each with its line end.
    pub(crate) async fn settle(&mut self, command: &str, delivery: &Frame, more: &str) {
        self.ask(&self.settlement(command, delivery, more)).await;
    }

    /// The frame that ACKs or NACKs a delivery in the version spoken.
    pub(crate) fn settlement(&self, command: &str, delivery: &Frame, more: &str) -> String {
        let (name, handle) = match self.version {
            Version::V1_2 => (
                "id",
                header(delivery, "ack").expect("a delivery to be acknowledged"),
            ),
            _ => (
                "message-id",
                header(delivery, "message-id").expect("always there"),
            ),
        };
        format!("{command}\n{name}:{handle}\n{more}\n")
    }

    /// Leaves with DISCONNECT; when this returns, what the connection held is back in its queues.
    pub(crate) async fn leave(mut self) {
        self.ask("DISCONNECT").await;
        self.end().await;
    }

    /// Closes this side only, as a program at the end of its input does.
    pub(crate) async fn finish_writing(&mut self) {
        self.stream.shutdown().await.expect("open until now");
    }

    /// Everything that comes until the broker closes.
    pub(crate) async fn end(&mut self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = self.stash.drain(..).collect();
        while let Some(frame) = self.read().await {
            frames.push(frame);
        }
        frames
    }

    /// Waits until the broker closes; nothing more may come.
    pub(crate) async fn is_closed(&mut self) {
        let frames = self.end().await;
        assert!(frames.is_empty(), "more came: {frames:?}");
    }

    /// Shows that the connection still works, and that nothing but what was taken from it came.
    pub(crate) async fn is_open(&mut self) {
        self.ask("BEGIN\ntransaction:is-it-open").await;
        self.ask("ABORT\ntransaction:is-it-open").await;
        assert!(self.stash.is_empty(), "more came: {:?}", self.stash);
    }
}

/// The frame with one more header line.
pub(crate) fn with_header(frame: &str, name: &str, value: &str) -> String {
    match frame.split_once('\n') {
        Some((command, rest)) => format!("{command}\n{name}:{value}\n{rest}"),
        None => format!("{frame}\n{name}:{value}"),
    }
}

/// A header as text.
pub(crate) fn header(frame: &Frame, name: &str) -> Option<String> {
    frame
        .header(name)
        .map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// The body as text.
pub(crate) fn body(frame: &Frame) -> String {
    String::from_utf8_lossy(&frame.body).into_owned()
}

/// A frame for people.
pub(crate) fn show(frame: &Frame) -> String {
    format!("{frame:?} {}", body(frame))
}
