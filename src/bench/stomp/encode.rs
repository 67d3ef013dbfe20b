//! What the generator sends.

use super::super::wire::{CONTROL_RECEIPT, GOODBYE_RECEIPT, RECEIPT_DIGITS, Template, Wire};
use super::dialect::Broker;
use super::scan::Scanner;
use clap::ValueEnum;

/// How deliveries are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Not at all
    #[default]
    Auto,
    /// One ACK for many: it answers for all deliveries before it too
    Client,
    /// An ACK each
    ClientIndividual,
}

impl Mode {
    /// As it stands in `ack:`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Client => "client",
            Self::ClientIndividual => "client-individual",
        }
    }
}

/// A client of STOMP 1.2.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Whose habits to follow.
    pub(crate) broker: Broker,
    /// Who logs in.
    pub(crate) user: String,
    /// With which password.
    pub(crate) password: String,
    /// Where.
    pub(crate) vhost: String,
    /// Whether messages are to survive a restart of the broker.
    pub(crate) persistent: bool,
    /// Bytes of each body.
    pub(crate) size: usize,
    /// How deliveries are acknowledged.
    pub(crate) ack: Mode,
    /// Unacknowledged deliveries that the broker may send ahead; none to leave it to the broker.
    pub(crate) prefetch: Option<u32>,
    /// Further headers of every message.
    pub(crate) headers: Vec<(String, String)>,
    /// Further headers of every subscription.
    pub(crate) subscribe_headers: Vec<(String, String)>,
}

/// A header line. Values are escaped as in every frame but CONNECT.
fn header(name: &str, value: &str, out: &mut Vec<u8>) {
    escaped(name, out);
    out.push(b':');
    escaped(value, out);
    out.push(b'\n');
}

/// Escaping of STOMP 1.2, "Value Encoding".
fn escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b':' => out.extend_from_slice(b"\\c"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => out.push(byte),
        }
    }
}

impl Wire for Client {
    type Scanner = Scanner;

    fn login(&self, out: &mut Vec<u8>) {
        // CONNECT is not escaped (STOMP 1.2, "Value Encoding"); flags with line breaks are refused before.
        let Self {
            user,
            password,
            vhost,
            ..
        } = self;
        let frame = format!(
            "CONNECT\naccept-version:1.2\nhost:{vhost}\nheart-beat:0,0\nlogin:{user}\npasscode:{password}\n\n\0"
        );
        out.extend_from_slice(frame.as_bytes());
    }

    fn meet(&mut self, broker: &[u8]) {
        if self.broker == Broker::Auto {
            self.broker = Broker::named(broker);
        }
    }

    fn subscribe(&self, subscription: usize, destination: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SUBSCRIBE\n");
        header("id", &subscription.to_string(), out);
        header("destination", destination, out);
        header("ack", self.ack.as_str(), out);
        if let Some(prefetch) = self.prefetch {
            header(self.broker.prefetch(), &prefetch.to_string(), out);
        }
        header("receipt", &CONTROL_RECEIPT.to_string(), out);
        for (name, value) in &self.subscribe_headers {
            header(name, value, out);
        }
        out.extend_from_slice(b"\n\0");
    }

    fn unsubscribe(&self, subscription: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"UNSUBSCRIBE\n");
        header("id", &subscription.to_string(), out);
        header("receipt", &CONTROL_RECEIPT.to_string(), out);
        out.extend_from_slice(b"\n\0");
    }

    fn template(&self, destination: &str, receipt: bool) -> Template {
        let mut bytes = b"SEND\n".to_vec();
        header("destination", destination, &mut bytes);
        bytes.extend_from_slice(self.broker.persistence(self.persistent).as_bytes());
        // Bodies hold NULs, so their length must be told.
        header("content-length", &self.size.to_string(), &mut bytes);
        for (name, value) in &self.headers {
            header(name, value, &mut bytes);
        }
        let mut receipt_at = None;
        if receipt {
            bytes.extend_from_slice(b"receipt:");
            receipt_at = Some(bytes.len());
            bytes.resize(bytes.len() + RECEIPT_DIGITS, b'0');
            bytes.push(b'\n');
        }
        bytes.push(b'\n');
        let body_at = bytes.len();
        bytes.resize(body_at + self.size, b'x');
        bytes.push(0);
        Template {
            bytes,
            body_at,
            receipt_at,
        }
    }

    #[inline]
    fn ack(&self, tag: &[u8], out: &mut Vec<u8>) {
        // The tag is as the broker escaped it, which is as it has to go back.
        out.extend_from_slice(b"ACK\nid:");
        out.extend_from_slice(tag);
        out.extend_from_slice(b"\n\n\0");
    }

    fn goodbye(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"DISCONNECT\n");
        header("receipt", &GOODBYE_RECEIPT.to_string(), out);
        out.extend_from_slice(b"\n\0");
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use millpond_protocol::stomp::{Command, Decoder, Frame, Limits, Version};

    use super::super::super::wire::write_decimal;
    use super::*;

    fn client() -> Client {
        Client {
            broker: Broker::Millpond,
            user: "guest".into(),
            password: "secret".into(),
            vhost: "/".into(),
            persistent: false,
            size: 20,
            ack: Mode::Client,
            prefetch: Some(50),
            headers: vec![("tags".into(), "a:b".into())],
            subscribe_headers: vec![("durable".into(), "true".into())],
        }
    }

    /// What an independent decoder makes of one encoded frame.
    fn decoded(bytes: &[u8]) -> Frame {
        let limits = Limits {
            frame_bytes: 4096,
            headers: 20,
            header_line_bytes: 200,
        };
        let mut decoder = Decoder::new(limits);
        decoder.set_version(Version::V1_2);
        let mut bytes = BytesMut::from(bytes);
        let frame = decoder.decode(&mut bytes).expect("STOMP").expect("whole");
        assert!(bytes.is_empty(), "one frame");
        frame
    }

    fn value(frame: &Frame, name: &str) -> Option<String> {
        frame
            .header(name)
            .map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    #[test]
    fn a_publish_is_whole_and_its_patches_stand_where_it_says() {
        let mut template = client().template("/queue/a:b", true);
        let at = template.receipt_at.expect("asked for");
        write_decimal(&mut template.bytes[at..at + RECEIPT_DIGITS], 1_234);
        template.bytes[template.body_at] = 0;
        let frame = decoded(&template.bytes);
        assert_eq!(frame.command, Command::Send);
        for (name, expected) in [
            ("destination", "/queue/a:b"),
            ("persistent", "false"),
            ("tags", "a:b"),
            ("receipt", "000000001234"),
            ("content-length", "20"),
        ] {
            assert_eq!(value(&frame, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(frame.body.len(), 20);
        assert_eq!(frame.body[..2], [0, b'x']);
    }

    #[test]
    fn a_publish_without_a_receipt_asks_for_none() {
        let template = client().template("/queue/a", false);
        assert_eq!(template.receipt_at, None);
        assert_eq!(value(&decoded(&template.bytes), "receipt"), None);
    }

    #[test]
    fn rabbitmq_is_not_told_about_transient_messages_whoever_it_is_recognised_by() {
        let mut client = Client {
            broker: Broker::Auto,
            ..client()
        };
        client.meet(b"RabbitMQ/4.0.5");
        let frame = decoded(&client.template("/queue/a", false).bytes);
        assert_eq!(value(&frame, "persistent"), None);
    }

    #[test]
    fn subscribe_ack_and_goodbye_say_what_is_needed() {
        let (client, mut out) = (client(), Vec::new());
        client.subscribe(3, "/topic/a", &mut out);
        let frame = decoded(&out);
        assert_eq!(frame.command, Command::Subscribe);
        for (name, expected) in [
            ("id", "3"),
            ("destination", "/topic/a"),
            ("ack", "client"),
            ("prefetch-count", "50"),
            ("durable", "true"),
            ("receipt", "999999999998"),
        ] {
            assert_eq!(value(&frame, name).as_deref(), Some(expected), "{name}");
        }
        out.clear();
        client.ack(b"7-\\c9", &mut out);
        assert_eq!(value(&decoded(&out), "id").as_deref(), Some("7-:9"));
        out.clear();
        client.goodbye(&mut out);
        assert_eq!(decoded(&out).command, Command::Disconnect);
        out.clear();
        client.unsubscribe(3, &mut out);
        assert_eq!(decoded(&out).command, Command::Unsubscribe);
        out.clear();
        client.login(&mut out);
        assert_eq!(value(&decoded(&out), "passcode").as_deref(), Some("secret"));
    }
}
