//! CONNECT, versions, heart-beats, and how a connection ends.

use std::time::Duration;

use millpond::connection::stomp::ErrorMode;
use millpond_protocol::stomp::Command;
use tokio::time::Instant;

use crate::support::broker::{Setup, TestBroker};
use crate::support::peer::{Peer, body, header};

#[tokio::test]
async fn the_highest_common_version_is_spoken() {
    let broker = TestBroker::start().await;
    for (command, offered, agreed) in [
        ("CONNECT", "", "1.0"),
        ("CONNECT", "accept-version:1.0", "1.0"),
        ("CONNECT", "accept-version:1.0,1.1,1.2", "1.2"),
        ("STOMP", "accept-version:1.2,1.1", "1.2"),
        ("STOMP", "accept-version:1.1,1.0,2.0", "1.1"),
    ] {
        let mut peer = broker.connect().await;
        peer.tell(&format!("{command}\n{offered}")).await;
        let connected = peer.next().await;
        assert_eq!(connected.command, Command::Connected);
        assert_eq!(
            header(&connected, "version").as_deref(),
            Some(agreed),
            "{offered}"
        );
        assert_eq!(header(&connected, "heart-beat").as_deref(), Some("0,0"));
        assert!(
            header(&connected, "server")
                .expect("there")
                .starts_with("millpond/")
        );
        assert!(
            header(&connected, "session")
                .expect("there")
                .starts_with("session-")
        );
    }
}

#[tokio::test]
async fn a_version_nobody_speaks_is_refused_and_another_may_be_tried() {
    let broker = TestBroker::start().await;
    let mut peer = broker.connect().await;
    peer.tell("CONNECT\naccept-version:1.3,2.0").await;
    let error = peer.error().await;
    assert_eq!(
        header(&error, "message").as_deref(),
        Some("Version mismatch")
    );
    assert_eq!(body(&error), "Supported versions are 1.0,1.1,1.2\n");
    peer.connect("accept-version:1.2").await;
    peer.is_open().await;
}

#[tokio::test]
async fn a_refused_login_says_why_and_the_client_may_try_again() {
    let broker = Setup::with_users(&["outsider"]).start().await;
    let mut peer = broker.connect().await;
    for (headers, sentence) in [
        (
            "login:guest\npasscode:wrong",
            "Access refused for user 'guest'\n",
        ),
        (
            "login:nobody\npasscode:x",
            "Access refused for user 'nobody'\n",
        ),
        ("login:guest", "Access refused for user 'guest'\n"),
        ("host://", "Virtual host '//' access denied\n"),
        (
            "login:outsider\npasscode:outsider",
            "Virtual host '/' access denied\n",
        ),
    ] {
        peer.tell(&format!(
            "CONNECT\naccept-version:1.2\nreceipt:r\n{headers}"
        ))
        .await;
        let error = peer.error().await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Bad CONNECT"),
            "{headers}"
        );
        assert_eq!(header(&error, "receipt-id").as_deref(), Some("r"));
        assert_eq!(body(&error), sentence);
    }
    peer.connect("accept-version:1.2\nlogin:guest\npasscode:guest\nhost:/")
        .await;
    peer.is_open().await;
}

#[tokio::test]
async fn the_name_of_the_machine_means_the_default_vhost() {
    let broker = TestBroker::start().await;
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "broker.example.com",
        "/",
        "",
    ] {
        broker
            .login(&format!("accept-version:1.2\nhost:{host}"))
            .await
            .is_open()
            .await;
    }
}

#[tokio::test]
async fn frames_before_login_are_refused_and_the_connection_survives_to_a_login() {
    let broker = TestBroker::start().await;
    let mut peer = broker.connect().await;
    for frame in [
        "SEND\ndestination:/queue/a\n\nx",
        "SUBSCRIBE\nid:s\ndestination:/queue/a",
        "DISCONNECT",
        "ACK\nid:1",
    ] {
        let error = peer.refused(frame).await;
        assert_eq!(
            header(&error, "message").as_deref(),
            Some("Illegal command")
        );
        assert_eq!(body(&error), "You must log in using CONNECT first");
    }
    peer.connect("accept-version:1.2").await;
    peer.is_open().await;
    assert_eq!(broker.queues(), Vec::<String>::new());
}

#[tokio::test]
async fn frames_sent_right_behind_connect_wait_for_the_login() {
    let broker = TestBroker::start().await;
    let mut peer = broker.connect().await;
    peer.write("CONNECT\naccept-version:1.2\n\n\0SEND\ndestination:/queue/eager\nreceipt:r\n\nx\0")
        .await;
    assert_eq!(peer.next().await.command, Command::Connected);
    peer.receipt("r").await;
}

#[tokio::test]
async fn a_second_connect_is_refused_and_changes_nothing() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/queue/a").await;
    let error = peer.refused("CONNECT\naccept-version:1.2").await;
    assert_eq!(header(&error, "code").as_deref(), Some("already_logged_in"));
    peer.tell("SEND\ndestination:/queue/a\n\nstill here").await;
    assert_eq!(peer.text().await, "still here");
}

#[tokio::test]
async fn the_first_frame_logs_in_by_itself_if_so_configured() {
    let broker = Setup::stomp(|options| options.machine.implicit_connect = true)
        .start()
        .await;
    let mut peer = broker.connect().await;
    peer.ask("SUBSCRIBE\nid:s\ndestination:/topic/implicit")
        .await;
    peer.tell("SEND\ndestination:/topic/implicit\n\nx").await;
    assert_eq!(peer.text().await, "x");
    broker.client().await.is_open().await;
}

#[tokio::test]
async fn the_server_header_can_be_hidden() {
    let broker = Setup::stomp(|options| options.machine.server = String::new())
        .start()
        .await;
    let mut peer = broker.connect().await;
    let connected = peer.connect("accept-version:1.2").await;
    assert_eq!(header(&connected, "server"), None);
}

#[tokio::test]
async fn heart_beats_are_agreed_in_whole_seconds_with_the_directions_swapped() {
    let broker = TestBroker::start().await;
    for (offered, agreed) in [
        ("0,0", "0,0"),
        ("10000,20000", "20000,10000"),
        ("500,0", "0,1000"),
        ("0,1500", "1000,0"),
        ("5999,4001", "4000,5000"),
        ("-1,-1", "0,0"),
    ] {
        let mut peer = broker.connect().await;
        let connected = peer
            .connect(&format!("accept-version:1.2\nheart-beat:{offered}"))
            .await;
        assert_eq!(
            header(&connected, "heart-beat").as_deref(),
            Some(agreed),
            "{offered}"
        );
    }
    let mut peer = broker.connect().await;
    for offered in ["", "1", "a,b", "1,2,3", "1.5,2"] {
        peer.tell(&format!(
            "CONNECT\naccept-version:1.2\nheart-beat:{offered}"
        ))
        .await;
        assert_eq!(
            header(&peer.error().await, "code").as_deref(),
            Some("bad_heart_beat"),
            "{offered}"
        );
    }
}

#[tokio::test]
async fn a_silent_client_is_declared_dead_after_two_intervals_and_one_that_beats_is_not() {
    let broker = TestBroker::start().await;
    let mut silent = broker.client_in_memory("heart-beat:10000,0").await;
    let mut beating = broker.client_in_memory("heart-beat:10000,0").await;
    tokio::time::pause();
    let start = Instant::now();
    let beats = async {
        for _ in 0..6 {
            beating.write("\n").await;
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
    };
    let ends = async {
        let error = silent.error().await;
        assert_eq!(header(&error, "code").as_deref(), Some("heart_beat_missed"));
        let waited = start.elapsed().as_secs();
        assert!(
            (10..=31).contains(&waited),
            "after {waited} s of paused time"
        );
        silent.is_closed().await;
    };
    tokio::join!(beats, ends);
    beating
        .tell("SUBSCRIBE\nid:s\ndestination:/topic/alive")
        .await;
    beating.tell("SEND\ndestination:/topic/alive\n\nx").await;
    assert_eq!(beating.text().await, "x");
}

#[tokio::test]
async fn the_broker_beats_when_it_has_nothing_to_say() {
    let broker = TestBroker::start().await;
    let mut peer = broker.client_in_memory("heart-beat:0,10000").await;
    tokio::time::pause();
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(peer.octet().await, Some(b'\n'));
    }
    let waited = start.elapsed().as_secs();
    assert!(
        (10..=30).contains(&waited),
        "three beats in {waited} s of paused time"
    );
}

#[tokio::test]
async fn who_does_not_log_in_in_time_is_told_and_closed() {
    let broker = TestBroker::start().await;
    // The first to log in computes the password's hash; from then on it is remembered.
    broker.client().await.leave().await;
    tokio::time::pause();
    let start = Instant::now();
    let mut peer = broker.pipe();
    let error = peer.error().await;
    assert_eq!(header(&error, "code").as_deref(), Some("login_timeout"));
    assert_eq!(start.elapsed().as_secs(), 10);
    peer.is_closed().await;
}

#[tokio::test]
async fn in_strict_mode_every_error_ends_the_connection() {
    let broker = Setup::stomp(|options| {
        options.errors = ErrorMode::Strict;
        options.machine.strict_errors = true;
    })
    .start()
    .await;
    let mut filling = broker.client().await;
    filling
        .ask("SEND\ndestination:/queue/full\nx-max-length:1\nx-overflow:reject-publish\n\nx")
        .await;
    for frame in [
        "SEND\ndestination:/topic/\n\nx",
        "SEND\ndestination:/queue/full\n\nx",
        "SEND\ndestination:/topic/nobody\nmandatory:true\n\nx",
        "HELLO",
        "CONNECT\naccept-version:1.2",
        "ACK\nid:unknown",
        "UNSUBSCRIBE\nid:unknown",
        "COMMIT\ntransaction:unknown",
    ] {
        let mut peer: Peer = broker.client().await;
        peer.refused(frame).await;
        peer.is_closed().await;
    }
    let mut peer = broker.connect().await;
    peer.refused("CONNECT\naccept-version:3.0").await;
    peer.is_closed().await;
}

#[tokio::test]
async fn too_many_refused_frames_in_a_row_end_the_connection() {
    let broker = TestBroker::start().await;
    let mut peer = broker.connect().await;
    peer.write("HELLO\n\n\0".repeat(101)).await;
    let frames = peer.end().await;
    assert_eq!(frames.len(), 101);
    assert_eq!(
        header(&frames[100], "code").as_deref(),
        Some("too_many_errors")
    );
}
