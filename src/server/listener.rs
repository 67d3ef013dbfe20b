//! Binding an address and accepting from it, whatever happens to single connections.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::address::BindAddress;
use super::limits::{ConnectionLimit, Slot};

/// Pause before accepting again when the system has no descriptor or memory for another socket.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Refusals under way at once on one listener; further connections over the limit are closed without a word.
const REFUSALS: usize = 64;

/// A listener as people know it.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Its name in logs, and its key in `[listen]`: `stomp`.
    pub name: &'static str,
    /// What it speaks, in sentences: `STOMP`.
    pub protocol: &'static str,
}

/// Socket options of a listener.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Connections the system holds ready for us.
    pub backlog: i32,
    /// TCP_NODELAY on accepted sockets.
    pub nodelay: bool,
}

/// Why an address cannot be listened on; its display says what to do about it.
#[derive(Debug)]
pub struct BindError {
    purpose: Purpose,
    address: BindAddress,
    cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            purpose: Purpose { name, protocol },
            address,
            cause,
        } = self;
        write!(f, "cannot listen on {address} for {protocol}: ")?;
        match cause.kind() {
            io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "address already in use. Another broker may be running; set `listen.{name}` or stop it."
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(
                    f,
                    "this machine has no such address. Set `listen.{name}` to one it has, or to *:PORT."
                )
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "permission denied. Ports below 1024 need privileges; set `listen.{name}` to a higher one."
                )
            }
            _ => write!(f, "{cause}. Set `listen.{name}` to another address."),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// A bound address that accepts connections once [`Listener::accept`] runs; until then they wait in the backlog.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    purpose: Purpose,
    nodelay: bool,
}

/// What a listener does with its connections.
pub trait Handler: Send + Sync + 'static {
    /// Serves one connection to its end. `peer` is never an IPv4 address in IPv6 clothing.
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Turns one away because the connection limit is reached; by default it is closed without a word.
    fn refuse(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        async move { drop(stream) }
    }
}

impl Listener {
    /// Binds `address`; must be called on a tokio runtime.
    ///
    /// # Errors
    /// When no socket can be bound there.
    pub fn bind(
        purpose: Purpose,
        address: &BindAddress,
        options: SocketOptions,
    ) -> Result<Self, BindError> {
        let bound = bind_first(address, options).and_then(|socket| {
            let socket = TcpListener::from_std(socket)?;
            Ok((socket.local_addr()?, socket))
        });
        match bound {
            Ok((local, socket)) => Ok(Self {
                socket,
                address: local,
                purpose,
                nodelay: options.nodelay,
            }),
            Err(cause) => Err(BindError {
                purpose,
                address: address.clone(),
                cause,
            }),
        }
    }

    /// The address that is bound, with the port the system chose if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.purpose.name
    }

    /// Accepts until `stop`, then closes the address. Every connection runs as a task of `tasks` and holds a slot of
    /// `limit`; without a free slot it is refused.
    ///
    /// An error of one connection, or of the system for lack of descriptors or memory, never ends the loop: in the
    /// second case it pauses, and says so once until it can accept again.
    pub async fn accept<H: Handler>(
        self,
        handler: H,
        limit: ConnectionLimit,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let listener = self.purpose.name;
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let mut exhausted = false;
        let mut full = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_about_one_connection(&error) => continue,
                Err(error) => {
                    if !exhausted {
                        warn!(listener, %error, "cannot accept connections for now");
                        exhausted = true;
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(EXHAUSTED_PAUSE) => continue,
                    }
                }
            };
            if exhausted {
                info!(listener, "accepting connections again");
                exhausted = false;
            }
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            match limit.take() {
                Some(slot) => {
                    full = false;
                    self.admit(&handler, stream, peer, slot, &tasks);
                }
                None => {
                    if !full {
                        warn!(
                            listener,
                            limit = limit.limit(),
                            "connection limit reached, refusing further connections"
                        );
                        full = true;
                    }
                    if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                        let refusing = handler.refuse(stream);
                        tasks.spawn(async move {
                            let _permit = permit;
                            refusing.await;
                        });
                    }
                }
            }
        }
    }

    fn admit<H: Handler>(
        &self,
        handler: &H,
        stream: TcpStream,
        peer: SocketAddr,
        slot: Slot,
        tasks: &TaskTracker,
    ) {
        if let Err(error) = stream.set_nodelay(self.nodelay) {
            // The client closed while it waited in the backlog.
            debug!(listener = self.purpose.name, %peer, %error, "connection gone before it was served");
            return;
        }
        // Boxed, or the task would hold it twice: where it was moved from, and where it is awaited.
        let serving = Box::pin(handler.serve(stream, peer));
        tasks.spawn(async move {
            let _slot = slot;
            serving.await;
        });
    }
}

/// Whether only the connection that was being accepted is concerned.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

fn bind_first(address: &BindAddress, options: SocketOptions) -> io::Result<StdListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.candidates()? {
        match bind_one(candidate, address.is_everywhere(), options) {
            Ok(listener) => return Ok(listener),
            // The IPv6 socket of "every interface" covers IPv4 too: if its port is taken, the port is taken, and
            // going on with IPv4 alone would leave half of the clients with the other program.
            Err(error) if address.is_everywhere() && error.kind() == io::ErrorKind::AddrInUse => {
                return Err(error);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(
    address: SocketAddr,
    dual_stack: bool,
    options: SocketOptions,
) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    // A restart must not wait for the previous process's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::server::refusal::refuse;

    const STOMP: Purpose = Purpose {
        name: "stomp",
        protocol: "STOMP",
    };
    const OPTIONS: SocketOptions = SocketOptions {
        backlog: 16,
        nodelay: true,
    };

    /// Sends the peer's address, then waits for the client to close.
    struct Greeter;

    impl Handler for Greeter {
        fn serve(
            &self,
            mut stream: TcpStream,
            peer: SocketAddr,
        ) -> impl Future<Output = ()> + Send + 'static {
            let greeting = format!("{}\n", peer.ip());
            async move {
                stream
                    .write_all(greeting.as_bytes())
                    .await
                    .expect("written");
                let _ = stream.read(&mut [0]).await;
            }
        }

        fn refuse(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + 'static {
            refuse(stream, b"full\n")
        }
    }

    fn bind(address: &str) -> Result<Listener, BindError> {
        Listener::bind(STOMP, &address.parse().expect("an address"), OPTIONS)
    }

    async fn line(stream: &mut TcpStream) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(stream.read_u8().await.expect("a whole line"));
        }
        String::from_utf8(line).expect("text")
    }

    #[tokio::test]
    async fn an_address_in_use_is_told_with_what_to_do() {
        let first = bind("127.0.0.1:0").expect("a free port");
        let address = first.address();
        let error = bind(&address.to_string()).expect_err("in use").to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {address} for STOMP: address already in use. Another broker may be running; set `listen.stomp` or stop it."
            )
        );
    }

    #[tokio::test]
    async fn every_interface_does_not_share_a_port_with_another_program() {
        let first = bind("0.0.0.0:0").expect("a free port");
        let error = bind(&format!("*:{}", first.address().port()))
            .expect_err("in use")
            .to_string();
        assert!(error.contains("address already in use"), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told() {
        let error = bind("192.0.2.1:0").expect_err("not ours").to_string();
        assert!(
            error.contains("this machine has no such address"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn every_interface_serves_ipv4_clients_under_their_ipv4_address() {
        let listener = bind("*:0").expect("a free port");
        let port = listener.address().port();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tokio::spawn(listener.accept(Greeter, ConnectionLimit::new(1), tasks, stop.clone()));
        let mut client = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("accepted");
        assert_eq!(line(&mut client).await, "127.0.0.1\n");
        stop.cancel();
    }

    #[tokio::test]
    async fn over_the_limit_a_client_is_refused_until_another_one_leaves() {
        let listener = bind("127.0.0.1:0").expect("a free port");
        let address = listener.address();
        let (limit, tasks, stop) = (
            ConnectionLimit::new(1),
            TaskTracker::new(),
            CancellationToken::new(),
        );
        let accepting =
            tokio::spawn(listener.accept(Greeter, limit.clone(), tasks.clone(), stop.clone()));
        let mut first = TcpStream::connect(address).await.expect("accepted");
        assert_eq!(line(&mut first).await, "127.0.0.1\n");
        let mut second = TcpStream::connect(address).await.expect("accepted");
        assert_eq!(line(&mut second).await, "full\n");
        drop((first, second));
        tasks.close();
        tasks.wait().await;
        let mut third = TcpStream::connect(address).await.expect("accepted");
        assert_eq!(line(&mut third).await, "127.0.0.1\n");
        assert_eq!(limit.open(), 1);
        stop.cancel();
        accepting.await.expect("the loop ends");
        TcpStream::connect(address)
            .await
            .expect_err("the address is closed");
    }
}
