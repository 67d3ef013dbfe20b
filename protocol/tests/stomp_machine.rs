//! One connection's rules of order, with virtual instants.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use millpond_protocol::stomp::{
    Command, Config, ConnectRequest, DecodeError, ErrorFrame, Event, Fault, Frame, Limits, Machine,
    Version, put_fault,
};

const SECOND: Duration = Duration::from_secs(1);

/// A machine, the bytes on their way to it and from it, and its time.
struct Connection {
    machine: Machine,
    start: Instant,
    now: Instant,
    src: BytesMut,
    dst: BytesMut,
}

impl Connection {
    fn new(config: Config) -> Self {
        let start = Instant::now();
        Self {
            machine: Machine::new(start, config),
            start,
            now: start,
            src: BytesMut::new(),
            dst: BytesMut::new(),
        }
    }

    /// A connection that logged in with these headers.
    fn logged_in(connect: &str) -> Self {
        let mut connection = Self::new(Config::default());
        connection.connect(connect);
        connection.accept();
        connection.answer();
        connection
    }

    fn receive(&mut self, bytes: impl AsRef<[u8]>) {
        self.src.extend_from_slice(bytes.as_ref());
        self.machine.bytes_received(self.now);
    }

    fn poll(&mut self) -> Result<Option<Event>, Fault> {
        self.machine
            .poll_event(self.now, &mut self.src, &mut self.dst)
    }

    fn connect(&mut self, headers: &str) -> Box<ConnectRequest> {
        self.receive(format!("CONNECT\n{headers}\n\0\n"));
        match self.poll() {
            Ok(Some(Event::Connect(request))) => request,
            other => panic!("no login was asked for: {other:?}"),
        }
    }

    fn accept(&mut self) {
        self.machine.logged_in(self.now, &mut self.dst, "session-1");
    }

    fn refuse(&mut self) {
        let error = ErrorFrame::new("Bad CONNECT", "access_refused", "Access refused\n");
        let refused = self.machine.login_refused(&mut self.dst, &error);
        assert_eq!(refused, Ok(()));
    }

    fn frame(&mut self) -> Frame {
        match self.poll() {
            Ok(Some(Event::Frame(frame))) => frame,
            other => panic!("no frame: {other:?}"),
        }
    }

    fn nothing(&mut self) {
        let polled = self.poll();
        assert!(matches!(polled, Ok(None)), "{polled:?}");
    }

    fn fault(&mut self) -> Fault {
        match self.poll() {
            Err(fault) => fault,
            other => panic!("no fault: {other:?}"),
        }
    }

    fn at(&mut self, time: Duration) -> Result<(), Fault> {
        self.now = self.start + time;
        self.machine.handle_timeout(self.now, &mut self.dst)
    }

    fn due(&self) -> Option<Duration> {
        let instant = self.machine.poll_timeout()?;
        Some(instant - self.start)
    }

    /// What the machine answered since the last call.
    fn answer(&mut self) -> String {
        String::from_utf8(self.dst.split().to_vec()).expect("these answers are text")
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_login_is_asked_for_and_answered() {
    let mut connection = Connection::new(Config {
        server: "pond/1".to_owned(),
        ..Config::default()
    });
    let request = connection.connect(
        "accept-version:1.0,1.2\nhost:/shop\nlogin:alice\npasscode:a\\b\nclient-id:c\n\
         request-id:7\nheart-beat:4000,7500\n",
    );
    assert_eq!(request.version, Version::V1_2);
    assert_eq!(request.host.as_deref(), Some(&b"/shop"[..]));
    assert_eq!(request.login.as_deref(), Some(&b"alice"[..]));
    assert_eq!(request.passcode.as_deref(), Some(&b"a\\b"[..]));
    assert_eq!(request.client_id.as_deref(), Some(&b"c"[..]));
    assert!(!request.implicit);
    assert!(!connection.machine.is_logged_in());

    connection.accept();
    assert_eq!(
        connection.answer(),
        "CONNECTED\nversion:1.2\nheart-beat:7000,4000\nsession:session-1\nserver:pond/1\n\
         response-id:7\n\n\0\n"
    );
    assert!(connection.machine.is_logged_in());
    assert_eq!(connection.machine.version(), Version::V1_2);
}

#[test]
fn the_server_can_be_hidden() {
    let mut connection = Connection::new(Config {
        server: String::new(),
        ..Config::default()
    });
    connection.connect("");
    connection.accept();
    assert_eq!(
        connection.answer(),
        "CONNECTED\nversion:1.0\nheart-beat:0,0\nsession:session-1\n\n\0\n"
    );
}

#[test]
fn frames_wait_until_the_login_is_decided() {
    let mut connection = Connection::new(Config::default());
    connection.connect("accept-version:1.2\n");
    connection.receive("SEND\ndestination:a\\cb\n\nx\0");
    connection.nothing();
    connection.nothing();
    connection.accept();
    // The agreed version holds from the first frame on.
    let frame = connection.frame();
    assert_eq!(frame.header("destination").as_deref(), Some(&b"a:b"[..]));
    connection.nothing();
}

#[test]
fn a_refused_login_may_be_tried_again() {
    let mut connection = Connection::new(Config::default());
    connection.connect("login:alice\npasscode:wrong\nreceipt:r1\n");
    connection.refuse();
    let answer = connection.answer();
    assert!(answer.starts_with("ERROR\nmessage:Bad CONNECT\ncode:access_refused\n"));
    assert!(answer.contains("\nreceipt-id:r1\n"), "{answer}");
    connection.connect("login:alice\npasscode:right\n");
    connection.accept();
    assert!(connection.machine.is_logged_in());
}

#[test]
fn no_common_version_is_an_error_and_the_connection_stays() {
    let mut connection = Connection::new(Config::default());
    connection.receive("CONNECT\naccept-version:1.3,2.0\nreceipt:r\n\n\0");
    connection.nothing();
    assert_eq!(
        connection.answer(),
        "ERROR\nmessage:Version mismatch\ncode:version_mismatch\ncontent-type:text/plain\n\
         version:1.0,1.1,1.2\nreceipt-id:r\ncontent-length:35\n\n\
         Supported versions are 1.0,1.1,1.2\n\0\n"
    );
    connection.connect("accept-version:1.1\n");
}

#[test]
fn a_malformed_heart_beat_is_an_error_and_the_connection_stays() {
    let mut connection = Connection::new(Config::default());
    connection.receive("CONNECT\nheart-beat:often\n\n\0");
    connection.nothing();
    assert!(
        connection
            .answer()
            .starts_with("ERROR\nmessage:Processing error\n")
    );
    connection.connect("heart-beat:0,0\n");
}

#[test]
fn any_other_command_before_login_is_illegal_and_the_connection_stays() {
    let mut connection = Connection::new(Config::default());
    for command in ["SEND", "DISCONNECT", "MESSAGE", "HELLO"] {
        connection.receive(format!("{command}\nreceipt:r\n\n\0"));
        connection.nothing();
        let answer = connection.answer();
        assert!(
            answer.starts_with("ERROR\nmessage:Illegal command\n"),
            "{answer}"
        );
        assert!(answer.contains("\nreceipt-id:r\n"), "{answer}");
        assert!(
            answer.ends_with("\n\nYou must log in using CONNECT first\0\n"),
            "{answer}"
        );
    }
    connection.connect("");
}

#[test]
fn a_second_connect_is_refused_and_the_connection_stays() {
    let mut connection = Connection::logged_in("accept-version:1.2\n");
    connection.receive("STOMP\nreceipt:r\n\n\0ACK\nid:1\n\n\0");
    assert_eq!(connection.frame().command, Command::Ack);
    let answer = connection.answer();
    assert!(answer.contains("code:already_logged_in\n"), "{answer}");
    assert!(answer.contains("receipt-id:r\n"), "{answer}");
}

#[test]
fn what_no_client_may_send_is_a_bad_command_and_the_connection_stays() {
    let mut connection = Connection::logged_in("accept-version:1.2\n");
    for command in ["HELLO", "send", "MESSAGE", "RECEIPT", "ERROR"] {
        connection.receive(format!("{command}\nreceipt:a\\cb\n\n\0"));
        connection.nothing();
        let answer = connection.answer();
        assert!(answer.starts_with("ERROR\nmessage:Bad command\ncode:bad_command\n"));
        // Escaped again, as the version of the connection demands.
        assert!(answer.contains("\nreceipt-id:a\\cb\n"), "{answer}");
        let body = format!("\n\nCould not interpret command \"{command}\"\n\0\n");
        assert!(answer.ends_with(&body), "{answer}");
    }
}

#[test]
fn an_implicit_login_serves_its_first_frame_and_says_no_connected() {
    let mut connection = Connection::new(Config {
        implicit_connect: true,
        ..Config::default()
    });
    connection.receive("SUBSCRIBE\nid: 1\n\n\0ACK\nid:2\n\n\0");
    let Ok(Some(Event::Connect(request))) = connection.poll() else {
        panic!("no login was asked for");
    };
    assert!(request.implicit && request.login.is_none());
    assert_eq!(request.version, Version::V1_0);
    connection.nothing();
    connection.accept();
    assert_eq!(connection.answer(), "");
    let frame = connection.frame();
    assert_eq!(frame.command, Command::Subscribe);
    assert_eq!(frame.header("id").as_deref(), Some(&b"1"[..]));
    assert_eq!(connection.frame().command, Command::Ack);
}

#[test]
fn a_refused_implicit_login_drops_the_frame_and_answers_its_receipt() {
    let mut connection = Connection::new(Config {
        implicit_connect: true,
        ..Config::default()
    });
    connection.receive("SEND\nreceipt:r\n\n\0");
    assert!(matches!(connection.poll(), Ok(Some(Event::Connect(_)))));
    connection.refuse();
    assert!(connection.answer().contains("receipt-id:r\n"));
    connection.nothing();
    connection.connect("");
    connection.accept();
    connection.nothing();
}

#[test]
fn an_implicit_login_does_not_excuse_a_command_nobody_may_send() {
    let mut connection = Connection::new(Config {
        implicit_connect: true,
        ..Config::default()
    });
    connection.receive("HELLO\n\n\0");
    connection.nothing();
    assert!(connection.answer().contains("code:not_logged_in\n"));
}

#[test]
fn strict_errors_end_the_connection() {
    let mut connection = Connection::new(Config {
        strict_errors: true,
        ..Config::default()
    });
    connection.receive("SEND\nreceipt:r\n\n\0CONNECT\n\n\0");
    let fault = connection.fault();
    assert_eq!(connection.answer(), "");
    assert_eq!(fault.code(), "not_logged_in");
    put_fault(&mut connection.dst, connection.machine.version(), &fault);
    let answer = connection.answer();
    assert!(answer.contains("message:Illegal command\n"), "{answer}");
    assert!(answer.contains("receipt-id:r\n"), "{answer}");
    connection.nothing();
}

#[test]
fn malformed_bytes_are_a_fault_after_which_nothing_comes() {
    let mut connection = Connection::logged_in("accept-version:1.2\n");
    connection.receive("ACK\nid:1\n\n\0SEND\nno colon\n\n\0ACK\nid:2\n\n\0");
    assert_eq!(connection.frame().command, Command::Ack);
    let fault = connection.fault();
    assert!(matches!(
        fault,
        Fault::Decode {
            error: DecodeError::MissingColon { .. },
            receipt_id: None
        }
    ));
    connection.nothing();
    assert!(!connection.machine.is_logged_in());
    assert_eq!(connection.machine.poll_timeout(), None);
    put_fault(&mut connection.dst, connection.machine.version(), &fault);
    let answer = connection.answer();
    assert!(answer.contains("\ncode:missing_colon\n"), "{answer}");
    assert!(answer.contains("\"no colon\""), "{answer}");
}

#[test]
fn a_fault_answers_the_receipt_of_the_frame_it_is_in() {
    for (wire, receipt_id) in [
        ("SEND\nreceipt:a\\cb\nno colon\n\n\0", Some("a:b")),
        ("SEND\nreceipt:1\ncontent-length:99999999\n\n", Some("1")),
        (
            "SEND\r\nreceipt:1\r\ncontent-length:1\r\n\r\nabc\0",
            Some("1"),
        ),
        ("SEND\nreceipt:1\na:\\x\n\n\0", Some("1")),
        ("SEND\nreceipt:1\0", None),
        // That receipt is another frame's.
        ("ACK\nid:1\nreceipt:1\n\n\0SE\rND\n\n\0", None),
        ("ACK\nid:1\nreceipt:1\n\n\0SEND\n:\n\n\0", None),
    ] {
        let mut connection = Connection::logged_in("accept-version:1.2\n");
        connection.receive(wire);
        if wire.starts_with("ACK") {
            assert_eq!(connection.frame().command, Command::Ack);
        }
        let fault = connection.fault();
        let expected = receipt_id.map(str::as_bytes);
        assert_eq!(fault.receipt_id(), expected, "{wire:?}: {fault}");
    }
}

#[test]
fn limits_are_small_until_login_and_large_after_it() {
    let body = "x".repeat(70_000);
    let mut connection = Connection::new(Config::default());
    connection.receive(format!("CONNECT\n\n{body}"));
    assert_eq!(connection.fault().code(), "frame_too_large");

    let mut connection = Connection::logged_in("");
    connection.receive(format!("SEND\n\n{body}\0"));
    assert_eq!(connection.frame().body.len(), body.len());
}

#[test]
fn refused_frames_in_a_row_end_the_connection_before_their_answers_pile_up() {
    let mut connection = Connection::logged_in("");
    connection.receive("X\n\n\0".repeat(10_000));
    assert_eq!(connection.fault(), Fault::TooManyRefusals { limit: 100 });
    assert!(connection.dst.len() < 32 << 10, "{}", connection.dst.len());

    // An accepted frame begins a new row.
    let mut connection = Connection::logged_in("");
    for _ in 0..10 {
        connection.receive("X\n\n\0".repeat(100));
        connection.receive("ACK\nid:1\n\n\0");
        assert_eq!(connection.frame().command, Command::Ack);
    }
}

#[test]
fn logins_cannot_be_tried_forever() {
    let mut connection = Connection::new(Config {
        refusals: 3,
        ..Config::default()
    });
    let error = ErrorFrame::new("Bad CONNECT", "access_refused", "no\n");
    for attempt in 1..=4 {
        connection.connect("");
        let refused = connection
            .machine
            .login_refused(&mut connection.dst, &error);
        assert_eq!(refused.is_err(), attempt == 4, "attempt {attempt}");
    }
}

#[test]
fn a_login_must_come_in_time_and_be_decided_in_time() {
    let mut connection = Connection::new(Config::default());
    assert_eq!(connection.due(), Some(seconds(10)));
    assert_eq!(connection.at(seconds(9)), Ok(()));
    assert_eq!(connection.at(seconds(10)), Err(Fault::LoginTimeout));
    assert_eq!(connection.due(), None);

    let mut connection = Connection::new(Config::default());
    connection.connect("");
    assert_eq!(connection.due(), Some(seconds(10)));
    assert_eq!(connection.at(seconds(10)), Err(Fault::LoginTimeout));
    // The answer comes too late.
    connection.accept();
    assert!(!connection.machine.is_logged_in());
    assert_eq!(connection.answer(), "");

    // A flood of bytes cannot keep a late timer from being noticed.
    let mut connection = Connection::new(Config::default());
    connection.now += seconds(10);
    connection.receive("CONNECT\n\n\0");
    assert_eq!(connection.fault(), Fault::LoginTimeout);
}

#[test]
fn an_endless_time_to_log_in_needs_no_timer() {
    let connection = Connection::new(Config {
        login_timeout: Duration::MAX,
        ..Config::default()
    });
    assert_eq!(connection.due(), None);
}

#[test]
fn no_timer_is_needed_without_heart_beats() {
    let connection = Connection::logged_in("accept-version:1.2\n");
    assert_eq!(connection.due(), None);
}

#[test]
fn a_beat_is_sent_after_half_an_interval_of_silence() {
    let mut connection = Connection::logged_in("heart-beat:0,4000\n");
    assert_eq!(connection.due(), Some(seconds(2)));
    connection.now = connection.start + SECOND;
    connection.machine.bytes_sent(connection.now);
    assert_eq!(connection.at(seconds(2)), Ok(()));
    assert_eq!(connection.answer(), "");
    assert_eq!(connection.due(), Some(seconds(3)));
    assert_eq!(connection.at(seconds(3)), Ok(()));
    assert_eq!(connection.answer(), "\n");
    assert_eq!(connection.due(), Some(seconds(5)));
}

#[test]
fn a_client_is_dead_after_two_silent_intervals() {
    let mut connection = Connection::logged_in("heart-beat:4000,0\n");
    assert_eq!(connection.due(), Some(seconds(8)));
    connection.now = connection.start + seconds(7);
    connection.receive("\n");
    connection.nothing();
    assert_eq!(connection.due(), Some(seconds(15)));
    assert_eq!(connection.at(seconds(14)), Ok(()));
    assert_eq!(connection.at(seconds(15)), Err(Fault::HeartbeatMissed));
    assert_eq!(connection.due(), None);
}

#[test]
fn a_client_does_not_die_while_it_is_not_read() {
    let mut connection = Connection::logged_in("heart-beat:4000,0\n");
    connection.machine.pause_receiving(connection.now);
    assert_eq!(connection.due(), None);
    assert_eq!(connection.at(seconds(100)), Ok(()));
    connection.machine.resume_receiving(connection.now);
    assert_eq!(connection.due(), Some(seconds(108)));

    // Nor is one forgiven that was dead before.
    let mut connection = Connection::logged_in("heart-beat:4000,0\n");
    connection.now = connection.start + seconds(9);
    connection.machine.pause_receiving(connection.now);
    assert_eq!(connection.at(seconds(9)), Err(Fault::HeartbeatMissed));
}

#[test]
fn every_fault_has_a_code_and_a_sentence() {
    for fault in [
        Fault::Decode {
            error: DecodeError::TlsHello,
            receipt_id: None,
        },
        Fault::LoginTimeout,
        Fault::HeartbeatMissed,
        Fault::TooManyRefusals { limit: 1 },
    ] {
        let mut dst = BytesMut::new();
        put_fault(&mut dst, Version::V1_2, &fault);
        let text = String::from_utf8_lossy(&dst).into_owned();
        assert!(
            text.contains(&format!("\ncode:{}\n", fault.code())),
            "{text}"
        );
        assert!(text.ends_with(".\n\0\n"), "{text}");
    }
}

#[test]
fn a_typed_session_is_served() {
    let mut connection = Connection::new(Config::default());
    connection.receive("CONNECT\r\nlogin: alice\r\n\r\n^@\r\n");
    let Ok(Some(Event::Connect(request))) = connection.poll() else {
        panic!("no login was asked for");
    };
    assert_eq!(request.login.as_deref(), Some(&b"alice"[..]));
    connection.accept();
    connection.receive("SEND\r\ndestination: a\r\n\r\nhello\r\n^@\r\n");
    let frame = connection.frame();
    assert_eq!(frame.header("destination").as_deref(), Some(&b"a"[..]));
    assert_eq!(frame.body.as_ref(), b"hello\r\n");
}

#[test]
fn limits_may_be_raised_in_the_middle_of_a_frame() {
    let small = Limits {
        frame_bytes: 64,
        ..Limits::before_login()
    };
    let mut connection = Connection::new(Config {
        limits_before_login: small,
        ..Config::default()
    });
    connection.connect("");
    let body = "y".repeat(1000);
    connection.receive(format!("SEND\n\n{body}"));
    connection.accept();
    connection.nothing();
    connection.receive("\0");
    assert_eq!(connection.frame().body.len(), 1000);
}
