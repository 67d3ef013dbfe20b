//! A broker in a process of its own, for what only a process can show: kill -9, signals, exit codes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::peer::Peer;
use super::program::millpond;

/// How long a log line may take before the test fails: a guard against a test that hangs, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same while it starts, which may be over a large store.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// A program that ended before it was ready.
pub(crate) struct Ended {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) lines: Vec<Value>,
}

/// A running program. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: UnboundedReceiver<Value>,
    stomp: SocketAddr,
}

impl Process {
    /// Starts a broker over this data directory on a free port and waits until it is ready.
    pub(crate) async fn start(data: &Path, settings: &[&str]) -> Self {
        let started = Self::start_or_end(data, settings).await;
        Self::must_be_ready(started)
    }

    /// Starts it through a shell that runs `before` first, such as `ulimit`.
    pub(crate) async fn start_after(before: &str, data: &Path, settings: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]);
        command.arg(millpond().get_program());
        let started = Self::start_by(command, data, settings).await;
        Self::must_be_ready(started)
    }

    fn must_be_ready(started: Result<(Self, Vec<Value>), Ended>) -> Self {
        match started {
            Ok((process, _)) => process,
            Err(Ended { code, lines }) => panic!("it ended with {code:?}: {lines:#?}"),
        }
    }

    /// Starts it, and returns what it said until it was ready; or how it ended, if it would not serve.
    pub(crate) async fn start_or_end(
        data: &Path,
        settings: &[&str],
    ) -> Result<(Self, Vec<Value>), Ended> {
        Self::start_by(millpond(), data, settings).await
    }

    async fn start_by(
        mut command: Command,
        data: &Path,
        settings: &[&str],
    ) -> Result<(Self, Vec<Value>), Ended> {
        command.args(["serve", "--log-format", "json", "--stomp", "127.0.0.1:0"]);
        command.args(["--http", "off", "--amqp", "off", "--web-stomp", "off"]);
        command.args(["--set", "disk.free_limit=0", "--set", "disk.reserve=0"]);
        command.arg("--data-dir").arg(data);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (lines, log) = unbounded_channel();
        // Read all the time: a broker whose log nobody reads would stop.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let stomp = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { child, log, stomp };
        let mut lines = Vec::new();
        loop {
            let Some(line) = process.line(START_PATIENCE).await else {
                let code = process.child.wait().expect("a child").code();
                return Err(Ended { code, lines });
            };
            if line["message"] == "listening" && line["listener"] == "stomp" {
                let address = line["address"].as_str().expect("a line with the address");
                process.stomp = address.parse().expect("an address");
            }
            let ready = line["message"] == "ready";
            lines.push(line);
            if ready {
                return Ok((process, lines));
            }
        }
    }

    /// The next log line; none when the program has closed its log.
    async fn line(&mut self, patience: Duration) -> Option<Value> {
        let line = tokio::time::timeout(patience, self.log.recv()).await;
        line.expect("the program says or does something")
    }

    /// The log lines up to and including the next one with this message.
    pub(crate) async fn log_until(&mut self, message: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        loop {
            let Some(line) = self.line(PATIENCE).await else {
                panic!("no {message:?} in {lines:#?}");
            };
            let found = line["message"] == message;
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    /// A connection that has said nothing yet.
    pub(crate) async fn connect(&self) -> Peer {
        self.try_connect().await.expect("the broker listens")
    }

    async fn try_connect(&self) -> Option<Peer> {
        let stream = TcpStream::connect(self.stomp()).await.ok()?;
        stream.set_nodelay(true).expect("a connection just made");
        Some(Peer::new(stream))
    }

    /// A client of STOMP 1.2.
    pub(crate) async fn client(&self) -> Peer {
        self.try_client().await.expect("the broker listens")
    }

    /// A client of STOMP 1.2, unless the program has gone.
    pub(crate) async fn try_client(&self) -> Option<Peer> {
        let mut peer = self.try_connect().await?;
        peer.connect("accept-version:1.2").await;
        Some(peer)
    }

    /// Where it serves STOMP.
    pub(crate) fn stomp(&self) -> SocketAddr {
        self.stomp
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signalled");
    }

    /// Waits for the process to end; its exit code, or none if a signal ended it.
    pub(crate) async fn ended(self) -> Option<i32> {
        self.end().await.code
    }

    /// The same, with what it still said.
    pub(crate) async fn end(mut self) -> Ended {
        let mut lines = Vec::new();
        while let Some(line) = self.line(PATIENCE).await {
            lines.push(line);
        }
        let code = self.child.wait().expect("a child").code();
        Ended { code, lines }
    }

    /// Kills the process as `kill -9` does, and waits until it is gone.
    pub(crate) async fn kill(self) {
        self.signal(Signal::KILL);
        assert_eq!(self.ended().await, None);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone when the test ended well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
