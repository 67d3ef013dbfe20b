//! A STOMP client that is quick enough to fill and drain deep queues: frames are written many at a time, and what comes
//! back is looked at one by one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use millpond_protocol::stomp::{Command, Decoder, Frame, Limits, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::peer::{body, header};

/// Written at once.
const WRITE_BYTES: usize = 256 << 10;
/// Every so manieth SEND asks for a receipt, which by the order of a connection speaks for those before it.
const RECEIPT_EVERY: u64 = 100;
/// Deliveries that one ACK settles.
const ACK_EVERY: u64 = 200;
/// Deliveries that may wait for their ACK.
const PREFETCH: u64 = 2_000;

/// How long the broker may take nothing and say nothing: a guard against a check that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    decoder: Decoder,
    /// Deliveries that came while a RECEIPT was waited for.
    early: VecDeque<Frame>,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Panics
    /// When the broker does not let it in. So does every method when the broker does anything unexpected.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the broker listens");
        stream.set_nodelay(true).expect("a connection just made");
        let limits = Limits {
            frame_bytes: 64 << 20,
            ..Limits::default()
        };
        let mut client = Self {
            stream,
            input: BytesMut::with_capacity(WRITE_BYTES),
            output: BytesMut::with_capacity(2 * WRITE_BYTES),
            decoder: Decoder::new(limits),
            early: VecDeque::new(),
        };
        client.put("CONNECT\naccept-version:1.2\n\n", b"");
        let connected = client.next().await;
        assert_eq!(
            connected.command,
            Command::Connected,
            "{}",
            body(&connected)
        );
        client.decoder.set_version(Version::V1_2);
        client
    }

    /// Adds a frame to what will be written: command and headers with the empty line, and a body.
    pub(crate) fn put(&mut self, head: &str, body: &[u8]) {
        self.output.put_slice(head.as_bytes());
        self.output.put_slice(body);
        self.output.put_u8(0);
    }

    /// Writes what waits once there is enough of it.
    pub(crate) async fn write_much(&mut self) {
        if self.output.len() >= WRITE_BYTES {
            self.write().await;
        }
    }

    /// Writes what waits.
    pub(crate) async fn write(&mut self) {
        let writing = self.stream.write_all_buf(&mut self.output);
        let written = timeout(PATIENCE, writing).await;
        written.expect("in time").expect("the broker takes it");
        self.output.reserve(2 * WRITE_BYTES);
    }

    /// The next frame, after writing what waits if there is none yet.
    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            let frame = self.decoder.decode(&mut self.input);
            if let Some(frame) = frame.expect("the broker speaks STOMP") {
                assert_ne!(frame.command, Command::Error, "{}", body(&frame));
                return frame;
            }
            self.write().await;
            self.input.reserve(WRITE_BYTES);
            let reading = self.stream.read_buf(&mut self.input);
            let read = timeout(PATIENCE, reading).await.expect("in time");
            assert!(read.is_ok_and(|read| read > 0), "the broker has gone");
        }
    }

    /// Waits for a RECEIPT; what is delivered meanwhile is kept.
    pub(crate) async fn receipt(&mut self) -> String {
        loop {
            let frame = self.next().await;
            if frame.command == Command::Receipt {
                return header(&frame, "receipt-id").expect("named");
            }
            self.early.push_back(frame);
        }
    }

    async fn message(&mut self) -> Frame {
        if let Some(frame) = self.early.pop_front() {
            return frame;
        }
        let frame = self.next().await;
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        frame
    }

    /// Sends messages `numbers` to a queue with bodies of `body`, `window` in flight at most, and waits until all are
    /// safe.
    pub(crate) async fn publish(
        &mut self,
        queue: &str,
        numbers: std::ops::Range<u64>,
        window: u64,
        mut body: impl FnMut(u64, &mut Vec<u8>),
    ) {
        let every = RECEIPT_EVERY.min(window);
        let mut in_flight = 0;
        let mut octets = Vec::new();
        let last = numbers.end.saturating_sub(1);
        for number in numbers {
            octets.clear();
            body(number, &mut octets);
            let receipt = match number.is_multiple_of(every) || number == last {
                true => format!("receipt:{number}\n"),
                false => String::new(),
            };
            let len = octets.len();
            let head =
                format!("SEND\ndestination:/queue/{queue}\n{receipt}content-length:{len}\n\n");
            self.put(&head, &octets);
            self.write_much().await;
            in_flight += u64::from(!receipt.is_empty());
            while in_flight > window / every {
                self.receipt().await;
                in_flight -= 1;
            }
        }
        while in_flight > 0 {
            self.receipt().await;
            in_flight -= 1;
        }
    }

    /// Begins to take from a queue; what is delivered waits for its ACK.
    pub(crate) fn subscribe(&mut self, queue: &str) {
        self.put(
            &format!(
                "SUBSCRIBE\nid:{queue}\ndestination:/queue/{queue}\nack:client\n\
                 prefetch-count:{PREFETCH}\n\n"
            ),
            b"",
        );
    }

    /// Takes `count` messages of what it subscribed to, acknowledges them, and waits until that is safe.
    pub(crate) async fn take(&mut self, count: u64, mut look: impl FnMut(&Frame)) {
        let mut taken = 0;
        while taken < count {
            let frame = self.message().await;
            look(&frame);
            taken += 1;
            if taken.is_multiple_of(ACK_EVERY) || taken == count {
                let ack = header(&frame, "ack").expect("a delivery to be acknowledged");
                let receipt = match taken == count {
                    true => "receipt:taken\n",
                    false => "",
                };
                self.put(&format!("ACK\nid:{ack}\n{receipt}\n"), b"");
                self.write_much().await;
            }
        }
        assert!(count == 0 || self.receipt().await == "taken");
    }
}

/// A body that begins with its number and is full of it, so that damage shows.
pub(crate) fn numbered(number: u64, len: usize, octets: &mut Vec<u8>) {
    let octet = number.to_le_bytes();
    octets.extend(octet.iter().cycle().take(len.max(8)));
}

/// The number of such a body.
///
/// # Panics
/// When it is not as it was sent.
pub(crate) fn number_of(frame: &Frame) -> u64 {
    let (number, rest) = frame.body.split_first_chunk::<8>().expect("a number");
    let whole = rest.chunks(8).all(|chunk| chunk == &number[..chunk.len()]);
    assert!(whole, "a damaged body of {} bytes", frame.body.len());
    u64::from_le_bytes(*number)
}
