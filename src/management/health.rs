//! Whether the broker serves: `GET /api/health/ready` and `GET /api/health/live`.
//!
//! 200 `{"status":"ok"}`, or 503 `{"status":"failed","reason":"..."}`, as RabbitMQ's health checks answer.

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;

/// The state of the whole broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Recovering, or listeners are not open yet.
    Starting,
    /// Clients are served.
    Ready,
    /// Connections are being ended.
    Stopping,
    /// The broker cannot go on; the sentence says why.
    Failed(String),
}

/// Tells the health checks how the broker is; clones tell the same ones.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<State>);

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// A broker that is starting.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(State::Starting))
    }

    /// Changes the state. A failed broker stays failed, with the first reason.
    pub fn set(&self, state: State) {
        self.0.send_if_modified(|current| {
            let change = !matches!(current, State::Failed(_)) && *current != state;
            if change {
                *current = state;
            }
            change
        });
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.borrow().clone()
    }
}

#[derive(Serialize)]
struct Answer {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn answer(failure: Option<String>) -> Response {
    match failure {
        None => (
            StatusCode::OK,
            Json(Answer {
                status: "ok",
                reason: None,
            }),
        )
            .into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(Answer {
                status: "failed",
                reason: Some(reason),
            }),
        )
            .into_response(),
    }
}

/// Whether clients can be sent here.
async fn ready(Shared(readiness): Shared<Readiness>) -> Response {
    answer(match readiness.state() {
        State::Ready => None,
        State::Starting => Some("the broker is starting".to_owned()),
        State::Stopping => Some("the broker is stopping".to_owned()),
        State::Failed(reason) => Some(reason),
    })
}

/// Whether the process should be left alone: it may be starting or stopping, but has not failed.
async fn live(Shared(readiness): Shared<Readiness>) -> Response {
    answer(match readiness.state() {
        State::Starting | State::Ready | State::Stopping => None,
        State::Failed(reason) => Some(reason),
    })
}

/// The routes of both checks.
pub fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/api/health/ready", get(ready))
        .route("/api/health/live", get(live))
        .with_state(readiness)
}
