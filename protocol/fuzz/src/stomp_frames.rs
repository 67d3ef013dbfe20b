//! Any sequence of frames, answers and passing time through the machine.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use millpond_protocol::stomp::{
    Command, Config, Decoder, ErrorFrame, Event, Fault, Limits, Machine, Version, put_fault,
};

/// What a client may send, sensible or not.
const FRAMES: [&[u8]; 16] = [
    b"CONNECT\naccept-version:1.0,1.1,1.2\nhost:/\nheart-beat:2000,3000\n\n\0",
    b"CONNECT\n\n\0",
    b"STOMP\naccept-version:1.1\nreceipt:r\nrequest-id:7\n\n\0",
    b"CONNECT\naccept-version:9.9\nreceipt:r\n\n\0",
    b"CONNECT\nheart-beat:soon\n\n\0",
    b"CONNECT\r\naccept-version:1.2\r\n\r\n^@\r\n",
    b"SEND\ndestination:/queue/a\nreceipt:r\\c1\n\nbody\0\n",
    b"SEND\ndestination:/queue/a\ncontent-length:3\n\na\0b\0\n",
    b"SUBSCRIBE\nid:1\ndestination:/queue/a\n\n\0",
    b"ACK\nid:1\n\n\0",
    b"DISCONNECT\nreceipt:bye\n\n\0",
    b"MESSAGE\nreceipt:r\n\nfrom a client\0",
    b"HELLO\n\n\0",
    b"X\n\n\0X\n\n\0X\n\n\0X\n\n\0X\n\n\0X\n\n\0X\n\n\0X\n\n\0",
    b"\n\r\n\0",
    b"SEND\nno colon\n\n\0",
];

/// What one connection has been through.
struct Connection {
    machine: Machine,
    now: Instant,
    src: BytesMut,
    dst: BytesMut,
    asked: bool,
    logged_in: bool,
    over: bool,
}

/// The first byte configures the machine; of the rest each byte is a frame, or something that happens.
///
/// # Panics
/// If the machine breaks a rule of order: serves a frame before login, gives events while a login is checked
/// or after a fault, answers what is no frame, or asks to be called at an instant that is past.
pub fn run(input: &[u8]) {
    let Some((&choice, happenings)) = input.split_first() else {
        return;
    };
    let now = Instant::now();
    let limits = Limits {
        frame_bytes: 1024,
        ..Limits::default()
    };
    let config = Config {
        limits,
        implicit_connect: choice & 1 != 0,
        strict_errors: choice & 2 != 0,
        refusals: 20,
        ..Config::default()
    };
    let mut connection = Connection {
        machine: Machine::new(now, config),
        now,
        src: BytesMut::new(),
        dst: BytesMut::new(),
        asked: false,
        logged_in: false,
        over: false,
    };
    for &happening in happenings {
        connection.live(happening);
    }
    connection.check_answers();
}

impl Connection {
    fn live(&mut self, happening: u8) {
        let number = usize::from(happening & 0x0f);
        match happening >> 4 {
            0..=5 => self.receive(FRAMES[number]),
            // A frame cut anywhere: the rest may be another frame.
            6 => self.receive(&FRAMES[number][..FRAMES[number].len() / 2]),
            7 => self.receive(&FRAMES[number][FRAMES[number].len() / 2..]),
            8 => self.receive(&[happening.wrapping_mul(37)]),
            9 | 10 => self.accept(),
            11 => self.refuse(),
            12 => self.pass(Duration::from_millis(100 * number as u64)),
            13 => self.pass(Duration::from_secs(number as u64)),
            14 => self.machine.pause_receiving(self.now),
            _ => self.machine.resume_receiving(self.now),
        }
        assert_eq!(self.machine.is_logged_in(), self.logged_in && !self.over);
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.src.extend_from_slice(bytes);
        self.machine.bytes_received(self.now);
        self.poll();
    }

    fn poll(&mut self) {
        loop {
            let written = self.dst.len();
            match self
                .machine
                .poll_event(self.now, &mut self.src, &mut self.dst)
            {
                Ok(None) => break,
                Ok(Some(event)) => {
                    assert!(!self.over && !self.asked);
                    match event {
                        Event::Connect(request) => {
                            assert!(!self.logged_in);
                            assert!(!format!("{request:?}").contains("s3cret"));
                            self.asked = true;
                        }
                        Event::Frame(frame) => {
                            assert!(self.logged_in);
                            assert!(frame.command.is_from_client());
                            assert_ne!(frame.command, Command::Connect);
                        }
                    }
                }
                Err(fault) => self.end(&fault),
            }
            assert!(self.dst.len() - written < 20_000, "answers are bounded");
        }
    }

    fn end(&mut self, fault: &Fault) {
        assert!(!self.over, "one fault is enough");
        self.over = true;
        self.asked = false;
        put_fault(&mut self.dst, self.machine.version(), fault);
    }

    fn accept(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.machine.logged_in(self.now, &mut self.dst, "session");
        self.logged_in |= asked;
        self.poll();
    }

    fn refuse(&mut self) {
        self.asked = false;
        let error = ErrorFrame::new("Bad CONNECT", "access_refused", "no\n");
        if let Err(fault) = self.machine.login_refused(&mut self.dst, &error) {
            self.end(&fault);
        }
        self.poll();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if let Err(fault) = self.machine.handle_timeout(self.now, &mut self.dst) {
            self.end(&fault);
        }
        let next = self.machine.poll_timeout();
        assert!(
            next.is_none_or(|next| next > self.now),
            "a timer that spins"
        );
        assert!(!(self.over && next.is_some()), "a timer after the end");
    }

    /// Everything sent is whole frames that only a server sends.
    fn check_answers(mut self) {
        let mut client = Decoder::new(Limits::default());
        loop {
            match client.decode(&mut self.dst) {
                Ok(Some(frame)) => match frame.command {
                    Command::Connected => {
                        let version = frame.header("version").and_then(|v| Version::parse(&v));
                        client.set_version(version.expect("CONNECTED names the version"));
                    }
                    Command::Error => {
                        assert!(frame.headers.contains("message"));
                        assert!(frame.headers.contains("code"));
                    }
                    other => panic!("the machine sent {other:?}"),
                },
                Ok(None) => break,
                Err(error) => panic!("the machine sent no STOMP: {error}"),
            }
        }
        assert!(self.dst.is_empty(), "a part of a frame");
    }
}
