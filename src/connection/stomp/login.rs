//! CONNECT: who the client is, and in which vhost it works.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use millpond_protocol::stomp::ConnectRequest;

use super::options::StompOptions;
use super::reply::StompError;
use crate::connection::peer::Peer;
use crate::connection::session::LoginFuture;
use crate::engine::access::User;
use crate::engine::broker::Broker;
use crate::engine::name::VhostName;
use crate::engine::principal::Principal;
use crate::engine::queue::Owner;
use crate::engine::vhost::Vhost;

/// A login under way: what has to be remembered until the password is checked.
#[derive(Debug)]
pub(super) struct PendingLogin {
    pub(super) login: String,
    pub(super) client_id: Option<Bytes>,
    host: Option<Bytes>,
}

/// Starts to check a login. Without a `login` header the configured default user is meant.
pub(super) fn begin(
    broker: &Arc<Broker>,
    options: &StompOptions,
    peer: Peer,
    request: ConnectRequest,
) -> (PendingLogin, LoginFuture) {
    let (login, passcode) = match request.login {
        Some(login) => (login, request.passcode.unwrap_or_default()),
        None => (
            options.default_user.clone().into(),
            options.default_password.clone().into(),
        ),
    };
    let pending = PendingLogin {
        login: String::from_utf8_lossy(&login).into_owned(),
        client_id: request.client_id,
        host: request.host,
    };
    let broker = Arc::clone(broker);
    let check = async move {
        broker
            .access()
            .verify(&login, &passcode, peer.is_loopback())
            .await
    };
    (pending, Box::pin(check))
}

/// Whether `host` is the name of a machine rather than of a vhost.
///
/// The specification recommends to send the name the socket was opened with, and many clients do so on
/// their own. Such a value means the default vhost, unless a vhost of that very name exists.
fn names_a_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<IpAddr>().is_ok()
        || (host.contains('.') && !host.contains('/'))
}

impl PendingLogin {
    /// The vhost asked for, if the user may enter it.
    ///
    /// # Errors
    /// RabbitMQ's sentence for a vhost that is missing or closed to the user, which are the same thing to it.
    pub(super) fn enter(
        &self,
        broker: &Broker,
        options: &StompOptions,
        user: Arc<User>,
        owner: Owner,
    ) -> Result<(Principal, Arc<Vhost>), StompError> {
        let asked = self.host.as_ref().filter(|host| !host.is_empty());
        let named = asked
            .and_then(|host| VhostName::parse(host.clone()).ok())
            .and_then(|name| broker.vhost(&name).ok());
        let vhost = match (named, asked) {
            (Some(vhost), _) => Some(vhost),
            (None, Some(host)) if !names_a_machine(&String::from_utf8_lossy(host)) => None,
            (None, _) => broker.vhost(&options.default_vhost).ok(),
        };
        let entered = vhost.and_then(|vhost| {
            let permissions = Arc::new(user.permissions(vhost.name())?);
            let principal = Principal {
                user: Arc::clone(&user),
                permissions,
                vhost: vhost.name().clone(),
                owner,
            };
            Some((principal, vhost))
        });
        entered.ok_or_else(|| {
            let host = asked.map_or_else(
                || options.default_vhost.to_string(),
                |host| String::from_utf8_lossy(host).into_owned(),
            );
            StompError::new(
                "Bad CONNECT",
                "vhost_refused",
                format!("Virtual host '{host}' access denied\n"),
            )
        })
    }
}
