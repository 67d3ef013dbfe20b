//! Where a listener listens, as it is written in the configuration and on the command line.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// An address to listen on: a host and a port, or every interface.
///
/// Written `127.0.0.1:61613`, `[::1]:61613`, `localhost:61613`, or `*:61613` for every interface, IPv6 and IPv4
/// alike. Port 0 lets the system choose a free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// `*`: one dual-stack socket where the machine has IPv6, an IPv4 socket where it has not.
    Everything,
    Ip(IpAddr),
    Name(String),
}

/// Why a text is no [`BindAddress`]; the sentence completes "the address ...".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddressError(String);

impl fmt::Display for BindAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BindAddressError {}

impl BindAddress {
    /// Every interface of the machine, IPv6 and IPv4.
    #[must_use]
    pub const fn everywhere(port: u16) -> Self {
        Self {
            host: Host::Everything,
            port,
        }
    }

    /// The socket addresses to try, in order; the first that can be bound is the one.
    ///
    /// # Errors
    /// When the host is a name and the system cannot resolve it. Resolving may wait for a name server, so this is
    /// called while starting, never on behalf of a client.
    pub(super) fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Everything => Ok(vec![
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), self.port),
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.port),
            ]),
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => (name.as_str(), self.port)
                .to_socket_addrs()
                .map(Iterator::collect),
        }
    }

    /// Whether a failure of the first candidate because the machine lacks IPv6 may fall back on the next one.
    pub(super) fn is_everywhere(&self) -> bool {
        self.host == Host::Everything
    }
}

impl FromStr for BindAddress {
    type Err = BindAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            BindAddressError(format!(
                "must be HOST:PORT, such as 127.0.0.1:61613, [::1]:61613 or *:61613 (every interface), not \"{text}\""
            ))
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host {
            "*" => Host::Everything,
            _ if host.starts_with('[') && host.ends_with(']') => Host::Ip(IpAddr::V6(
                host[1..host.len() - 1].parse().map_err(|_| wrong())?,
            )),
            _ => match host.parse::<Ipv4Addr>() {
                Ok(ip) => Host::Ip(IpAddr::V4(ip)),
                Err(_) if is_host_name(host) => Host::Name(host.to_owned()),
                Err(_) => return Err(wrong()),
            },
        };
        Ok(Self { host, port })
    }
}

/// Letters, digits, dots and hyphens, and not only digits and dots: `127.0.0.300` is a mistyped address, not a name.
fn is_host_name(host: &str) -> bool {
    host.len() <= 253
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Everything => write!(f, "*:{}", self.port),
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_prints_as_it_was_written() {
        for text in [
            "*:61613",
            "0.0.0.0:0",
            "127.0.0.1:5672",
            "[::1]:15672",
            "[::]:1",
            "localhost:61613",
            "broker-1.example:80",
        ] {
            assert_eq!(text.parse::<BindAddress>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_forms_that_are() {
        for text in [
            "",
            "61613",
            ":61613",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:70000",
            "::1:61613",
            "[::1:1",
            "[x]:1",
            "127.0.0.300:1",
            "a b:1",
            "stomp://h:1",
        ] {
            let error = text.parse::<BindAddress>().expect_err(text).to_string();
            assert!(
                error.contains("HOST:PORT") && error.contains(&format!("\"{text}\"")),
                "{text}: {error}"
            );
        }
    }
}
