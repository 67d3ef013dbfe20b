//! What brokers want to be told differently.

use clap::ValueEnum;

/// Whose habits to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Broker {
    /// As the broker names itself at login
    #[default]
    Auto,
    /// Transient messages say `persistent:false`, because queues are persistent by default
    Millpond,
    /// `persistent:true` or nothing: RabbitMQ reads `persistent:false` as a property of the queue
    Rabbitmq,
    /// Classic and Artemis: `persistent:true` or nothing, and a prefetch of their own
    Activemq,
    /// `persistent:true` or nothing
    Generic,
}

impl Broker {
    /// The broker that calls itself so in the `server` header of CONNECTED.
    pub(super) fn named(server: &[u8]) -> Self {
        let server = String::from_utf8_lossy(server).to_ascii_lowercase();
        if server.starts_with("millpond") {
            Self::Millpond
        } else if server.contains("rabbitmq") {
            Self::Rabbitmq
        } else if server.contains("activemq") || server.contains("artemis") {
            Self::Activemq
        } else {
            Self::Generic
        }
    }

    /// The header line of SEND that says whether the message is to survive a restart.
    pub(super) fn persistence(self, persistent: bool) -> &'static str {
        match (self, persistent) {
            (_, true) => "persistent:true\n",
            (Self::Millpond, false) => "persistent:false\n",
            (Self::Auto | Self::Rabbitmq | Self::Activemq | Self::Generic, false) => "",
        }
    }

    /// The header of SUBSCRIBE that limits unacknowledged deliveries.
    pub(super) fn prefetch(self) -> &'static str {
        match self {
            Self::Activemq => "activemq.prefetchSize",
            Self::Auto | Self::Millpond | Self::Rabbitmq | Self::Generic => "prefetch-count",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_known_by_the_names_they_give_themselves() {
        for (server, expected) in [
            ("millpond/0.1.0", Broker::Millpond),
            ("RabbitMQ/3.10.8", Broker::Rabbitmq),
            ("ActiveMQ/6.1.0", Broker::Activemq),
            (
                "ActiveMQ-Artemis/2.31.0 ActiveMQ Artemis Messaging Engine",
                Broker::Activemq,
            ),
            ("", Broker::Generic),
        ] {
            assert_eq!(Broker::named(server.as_bytes()), expected, "{server}");
        }
    }

    #[test]
    fn only_millpond_is_told_that_a_message_is_transient() {
        assert_eq!(Broker::Millpond.persistence(false), "persistent:false\n");
        for broker in [
            Broker::Rabbitmq,
            Broker::Activemq,
            Broker::Generic,
            Broker::Auto,
        ] {
            assert_eq!(broker.persistence(false), "");
            assert_eq!(broker.persistence(true), "persistent:true\n");
        }
    }
}
