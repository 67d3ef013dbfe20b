//! Serving HTTP/1.1 on accepted connections, within bounds.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::health::{self, Readiness};
use crate::server::listener::Handler;

/// HTTP connections open at once.
pub const CONNECTIONS: usize = 256;

/// Longest wait for a request's header block, and for the next request on a kept connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest header block, and most memory one connection reads into.
const BUFFER_BYTES: usize = 64 << 10;

/// Longest wait for a response under way when the broker stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// The HTTP service of the broker.
#[derive(Clone, Debug)]
pub struct Http {
    router: Router,
    stop: CancellationToken,
}

impl Http {
    /// A service that reports `readiness`, until `stop`.
    #[must_use]
    pub fn new(readiness: Readiness, stop: CancellationToken) -> Self {
        Self {
            router: health::routes(readiness).fallback(not_found),
            stop,
        }
    }
}

async fn not_found() -> impl IntoResponse {
    (
        StatusCode::NOT_FOUND,
        Json(json!({"error": "Object Not Found", "reason": "Not Found"})),
    )
}

impl Handler for Http {
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let service = TowerToHyperService::new(self.router.clone());
        let stop = self.stop.clone();
        async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "HTTP connection ended early");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::management::health::State;

    /// A client's end of a connection that `http` serves.
    async fn connect(http: &Http) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound"))
            .await
            .expect("connected");
        let (server, peer) = listener.accept().await.expect("accepted");
        tokio::spawn(http.serve(server, peer));
        client
    }

    /// Status and body of one GET.
    async fn get(http: &Http, path: &str) -> (u16, String) {
        let mut client = connect(http).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("written");
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.expect("text");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a header block");
        (
            head.split(' ')
                .nth(1)
                .expect("a status")
                .parse()
                .expect("a number"),
            body.to_owned(),
        )
    }

    #[tokio::test]
    async fn ready_follows_the_state_and_live_fails_only_with_the_broker() {
        let readiness = Readiness::new();
        let http = Http::new(readiness.clone(), CancellationToken::new());
        let ok = (200, r#"{"status":"ok"}"#.to_owned());
        let failed = |reason: &str| (503, format!(r#"{{"status":"failed","reason":"{reason}"}}"#));
        let cases = [
            (
                State::Starting,
                failed("the broker is starting"),
                ok.clone(),
            ),
            (State::Ready, ok.clone(), ok.clone()),
            (State::Stopping, failed("the broker is stopping"), ok),
            (
                State::Failed("cannot sync".to_owned()),
                failed("cannot sync"),
                failed("cannot sync"),
            ),
            (State::Ready, failed("cannot sync"), failed("cannot sync")),
        ];
        for (state, ready, live) in cases {
            readiness.set(state.clone());
            assert_eq!(get(&http, "/api/health/ready").await, ready, "{state:?}");
            assert_eq!(get(&http, "/api/health/live").await, live, "{state:?}");
        }
    }

    #[tokio::test]
    async fn another_path_is_not_found_and_another_method_is_not_allowed() {
        let http = Http::new(Readiness::new(), CancellationToken::new());
        assert_eq!(get(&http, "/api/nothing").await.0, 404);
        let mut client = connect(&http).await;
        client.write_all(b"POST /api/health/ready HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        let mut reply = String::new();
        client.read_to_string(&mut reply).await.expect("text");
        assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_dropped_after_ten_seconds() {
        let http = Http::new(Readiness::new(), CancellationToken::new());
        let mut client = connect(&http).await;
        let mut reply = Vec::new();
        let _ = timeout(HEADER_TIMEOUT * 2, client.read_to_end(&mut reply))
            .await
            .expect("closed by the server");
    }

    #[tokio::test]
    async fn a_header_block_without_end_is_cut_off() {
        let http = Http::new(Readiness::new(), CancellationToken::new());
        let mut client = connect(&http).await;
        client
            .write_all(b"GET / HTTP/1.1\r\n")
            .await
            .expect("written");
        let line = [b"X-Long: ".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        let mut sent = 0;
        while sent < 100 * BUFFER_BYTES {
            match client.write_all(&line).await {
                Ok(()) => sent += line.len(),
                Err(_) => return,
            }
        }
        panic!("the server took {sent} bytes of headers");
    }

    #[tokio::test]
    async fn stopping_ends_idle_connections() {
        let stop = CancellationToken::new();
        let http = Http::new(Readiness::new(), stop.clone());
        let mut client = connect(&http).await;
        stop.cancel();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.expect("closed");
        assert!(reply.is_empty());
    }
}
