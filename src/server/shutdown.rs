//! How the program stops: who asked for it, and in which order its parts end.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Longest wait for connections to tell their clients about a failure.
const FAREWELL: Duration = Duration::from_secs(1);

/// Longest wait for connections to end after their sockets were taken from them.
const AFTER_ABORT: Duration = Duration::from_secs(1);

/// Why the program stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked: the name of the signal.
    Signal(&'static str),
    /// Something the broker cannot go on without failed, such as storage; a sentence.
    Failure(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => f.write_str(name),
            Self::Failure(sentence) => f.write_str(sentence),
        }
    }
}

/// The program's way to its end, shared by everybody who can start it or has to follow it.
///
/// The phases, each a token that is cancelled when it begins: [`accepting`](Self::accepting) (listeners close),
/// [`clients`](Self::clients) (connections say goodbye, write what waits, and end), [`abort`](Self::abort)
/// (connections that took too long are dropped). Then the caller syncs.
#[derive(Clone, Debug)]
pub struct Shutdown {
    reason: watch::Sender<Option<Reason>>,
    accepting: CancellationToken,
    clients: CancellationToken,
    abort: CancellationToken,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nobody has asked to stop.
    #[must_use]
    pub fn new() -> Self {
        Self {
            reason: watch::Sender::new(None),
            accepting: CancellationToken::new(),
            clients: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Asks to stop. The first reason stands, except that a failure replaces a signal: the exit code must tell.
    pub fn request(&self, reason: Reason) {
        self.reason.send_if_modified(|current| {
            let replace = matches!(
                (&*current, &reason),
                (None, _) | (Some(Reason::Signal(_)), Reason::Failure(_))
            );
            if replace {
                *current = Some(reason);
            }
            replace
        });
    }

    /// Waits until somebody asks to stop, and says why.
    pub async fn requested(&self) -> Reason {
        let mut reason = self.reason.subscribe();
        let reason = reason
            .wait_for(Option::is_some)
            .await
            .expect("the sender lives in self");
        reason.clone().expect("waited for")
    }

    /// Cancelled when no more connections may be accepted.
    #[must_use]
    pub fn accepting(&self) -> CancellationToken {
        self.accepting.clone()
    }

    /// Cancelled when every connection should tell its client, write what waits for it, and end.
    #[must_use]
    pub fn clients(&self) -> CancellationToken {
        self.clients.clone()
    }

    /// Cancelled when a connection that is still there must end at once.
    #[must_use]
    pub fn abort(&self) -> CancellationToken {
        self.abort.clone()
    }

    /// Ends all connections, the tasks of `connections`, in order: no new ones, tell the others, wait up to
    /// `drain_timeout` (after a failure only a second, for the farewell: what they wait for will not come), drop the
    /// rest.
    ///
    /// Returns the reason that stands at the end, which may be a failure on the way.
    pub async fn drain(&self, connections: &TaskTracker, drain_timeout: Duration) -> Reason {
        self.accepting.cancel();
        self.clients.cancel();
        connections.close();
        let failed = async {
            let mut reason = self.reason.subscribe();
            // An error means that every sender is gone, and `self` is one.
            let _ = reason
                .wait_for(|reason| matches!(reason, Some(Reason::Failure(_))))
                .await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            () = connections.wait() => {}
            () = tokio::time::sleep(drain_timeout) => {
                warn!(connections = connections.len(), "connections did not end in time, dropping them");
            }
            () = failed => {}
        }
        self.abort.cancel();
        if timeout(AFTER_ABORT, connections.wait()).await.is_err() {
            warn!(
                connections = connections.len(),
                "connections are still busy"
            );
        }
        self.requested().await
    }
}

/// Turns SIGINT (Ctrl-C) and SIGTERM into a request to stop; a second one ends the process at once with code 1,
/// as `kill -9` would: what was confirmed is on disk.
///
/// # Errors
/// When the system refuses the signal handlers.
pub fn follow_signals(shutdown: Shutdown) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            if asked {
                warn!(signal = name, "second signal, exiting without draining");
                std::process::exit(1);
            }
            asked = true;
            info!(signal = name, "stopping; a second signal exits at once");
            shutdown.request(Reason::Signal(name));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test]
    async fn the_first_reason_stands_but_a_failure_replaces_a_signal() {
        let shutdown = Shutdown::new();
        shutdown.request(Reason::Signal("SIGTERM"));
        shutdown.request(Reason::Signal("SIGINT"));
        assert_eq!(shutdown.requested().await, Reason::Signal("SIGTERM"));
        shutdown.request(Reason::Failure("disk gone".to_owned()));
        shutdown.request(Reason::Failure("later".to_owned()));
        assert_eq!(
            shutdown.requested().await,
            Reason::Failure("disk gone".to_owned())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_say_goodbye_are_waited_for_and_others_are_dropped_in_time() {
        let shutdown = Shutdown::new();
        let tasks = TaskTracker::new();
        let (clients, abort) = (shutdown.clients(), shutdown.abort());
        tasks.spawn(async move { clients.cancelled().await });
        tasks.spawn(async move { abort.cancelled().await });
        shutdown.request(Reason::Signal("SIGTERM"));
        let start = Instant::now();
        let reason = shutdown.drain(&tasks, Duration::from_secs(10)).await;
        assert_eq!(reason, Reason::Signal("SIGTERM"));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
        assert!(shutdown.accepting().is_cancelled() && tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_when_every_connection_has_ended() {
        let shutdown = Shutdown::new();
        let tasks = TaskTracker::new();
        shutdown.request(Reason::Signal("SIGINT"));
        let start = Instant::now();
        shutdown.drain(&tasks, Duration::from_secs(10)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_shortens_the_wait_to_a_farewell() {
        let shutdown = Shutdown::new();
        let tasks = TaskTracker::new();
        let abort = shutdown.abort();
        tasks.spawn(async move { abort.cancelled().await });
        shutdown.request(Reason::Signal("SIGINT"));
        let other = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            other.request(Reason::Failure("cannot sync".to_owned()));
        });
        let start = Instant::now();
        let reason = shutdown.drain(&tasks, Duration::from_secs(10)).await;
        assert_eq!(reason, Reason::Failure("cannot sync".to_owned()));
        assert_eq!(start.elapsed(), Duration::from_secs(1) + FAREWELL);
    }
}
