//! The program as a person or a script meets it: exit codes, sentences, log lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

mod support;

use support::{millpond, run, text};

/// A broker of our own on free ports, with its log lines as JSON.
struct Broker {
    process: Child,
    log: BufReader<std::process::ChildStderr>,
    _data: TempDir,
}

impl Broker {
    fn start(more: &[&str]) -> Self {
        Self::start_by(millpond(), more)
    }

    /// Starts it in a process that may open this many files.
    fn start_with_descriptors(descriptors: u32, more: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(millpond().get_program());
        Self::start_by(command, more)
    }

    fn start_by(mut command: Command, more: &[&str]) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let mut process = command
            .args([
                "serve",
                "--log-format",
                "json",
                "--stomp",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(data.path())
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let log = BufReader::new(process.stderr.take().expect("piped"));
        Self {
            process,
            log,
            _data: data,
        }
    }

    /// Log lines up to and including the one with this message.
    fn log_until(&mut self, message: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.log.read_line(&mut line).expect("readable"),
                0,
                "no {message:?} in {lines:#?}"
            );
            let line: Value = serde_json::from_str(&line).expect("a line of JSON");
            let found = line["message"] == message;
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("signalled");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone when the test ended well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn address(lines: &[Value], listener: &str) -> SocketAddr {
    let line = lines
        .iter()
        .find(|line| line["message"] == "listening" && line["listener"] == listener);
    line.expect("a line for the listener")["address"]
        .as_str()
        .expect("text")
        .parse()
        .expect("an address")
}

/// What the readiness check answers, head and body.
fn health(http: SocketAddr) -> String {
    let mut http = TcpStream::connect(http).expect("HTTP listens");
    http.write_all(b"GET /api/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("written");
    let mut reply = String::new();
    http.read_to_string(&mut reply).expect("text");
    reply
}

#[test]
fn serve_logs_its_addresses_answers_health_and_stops_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start(&[]);
        let lines = broker.log_until("ready");
        for line in &lines {
            assert!(
                line["timestamp"].is_string() && line["level"] == "INFO",
                "{line}"
            );
        }
        TcpStream::connect(address(&lines, "stomp")).expect("STOMP listens");
        let reply = health(address(&lines, "http"));
        assert!(
            reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("{\"status\":\"ok\"}"),
            "{reply}"
        );
        broker.signal(signal);
        broker.log_until("stopped");
        assert_eq!(broker.process.wait().expect("ended").code(), Some(0));
    }
}

#[test]
fn a_listener_that_is_off_is_not_started_and_one_not_built_yet_says_so() {
    let mut broker = Broker::start(&["--http", "off", "--amqp", "127.0.0.1:0"]);
    let lines = broker.log_until("ready");
    let listening: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "listening")
        .collect();
    assert_eq!(listening.len(), 1, "{lines:#?}");
    let warned = "flag --amqp: `listen.amqp` is ignored: this version does not serve AMQP yet";
    assert!(
        lines
            .iter()
            .any(|line| line["level"] == "WARN" && line["message"] == warned),
        "{lines:#?}"
    );
}

#[test]
fn flags_before_and_after_the_command_count_and_the_later_wins() {
    let mut broker = Broker::start(&["--set", "limits.headers=20"]);
    broker.log_until("ready");
    let output = run(&[
        "--set",
        "limits.headers=1",
        "check-config",
        "--set",
        "limits.headers=20",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["--set", "limits.headers=1", "check-config"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_file_descriptors_the_listener_pauses_says_so_once_and_recovers() {
    let mut broker = Broker::start_with_descriptors(64, &[]);
    let lines = broker.log_until("ready");
    let http = address(&lines, "http");
    let clients: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(http).expect("the system holds it ready"))
        .collect();
    broker.log_until("cannot accept connections for now");
    drop(clients);
    let lines = broker.log_until("accepting connections again");
    let about_the_listener = lines.iter().filter(|line| line["listener"] == "http");
    assert_eq!(
        about_the_listener.count(),
        1,
        "said more than once: {lines:#?}"
    );
    assert!(health(http).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_taken_address_ends_the_start_with_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["--stomp", &address, "--http", "off"]);
    assert_eq!(output.status.code(), Some(1));
    let wanted = format!(
        "error: cannot listen on {address} for STOMP: address already in use. Another broker may be running; set `listen.stomp` or stop it."
    );
    assert!(
        text(&output.stderr).contains(&wanted),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_wrong_configuration_ends_every_command_that_reads_it_with_code_two() {
    for command in ["serve", "check-config"] {
        let output = run(&[command, "--set", "limits.header=5"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert_eq!(
            text(&output.stderr),
            "error: flag --set: unknown key `limits.header`; did you mean `limits.headers`?\n"
        );
    }
}

#[test]
fn check_config_names_the_file_it_found_good_and_prints_warnings() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("millpond.toml");
    std::fs::write(&path, "[listen]\namqp = \"127.0.0.1:1\"\n").expect("written");
    let path = path.display().to_string();
    let output = run(&["check-config", "--config", &path]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        format!("{path}: the configuration is good\n")
    );
    assert_eq!(
        text(&output.stderr),
        format!(
            "warning: {path}:2: `listen.amqp` is ignored: this version does not serve AMQP yet\n"
        )
    );
}

#[test]
fn settings_before_a_client_command_are_refused() {
    let output = run(&[
        "--stomp",
        "127.0.0.1:1",
        "publish",
        "--destination",
        "/queue/a",
        "--body",
        "x",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "error: this command talks to a running broker and has no use for --stomp\n"
    );
}
