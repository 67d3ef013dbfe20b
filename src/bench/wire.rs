//! The seam between the generator and a protocol: bytes to send, and what the bytes that come mean.

use std::fmt;

/// The receipt of a subscription, or of its end. Published messages are numbered from 1 and never get there.
pub(super) const CONTROL_RECEIPT: u64 = 999_999_999_998;

/// The receipt of a goodbye.
pub(super) const GOODBYE_RECEIPT: u64 = 999_999_999_999;

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// The login succeeded; the name the broker gives itself, if any.
    LoggedIn(&'a [u8]),
    /// The broker answers for this and, as is the rule in every protocol, for everything published before it.
    Receipt(u64),
    /// A delivery.
    Message(Delivery<'a>),
    /// The broker refused something, in its own words.
    Refused(String),
}

/// A delivered message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delivery<'a> {
    /// Which of the connection's subscriptions.
    pub(super) subscription: usize,
    /// What to acknowledge it with.
    pub(super) tag: &'a [u8],
    /// Whether the broker says that it may have been delivered before.
    pub(super) redelivered: bool,
    /// Its body.
    pub(super) body: &'a [u8],
}

/// An encoded publish that is copied for each message, and the places to patch.
#[derive(Clone, Debug)]
pub(super) struct Template {
    /// The whole publish.
    pub(super) bytes: Vec<u8>,
    /// Where the body begins.
    pub(super) body_at: usize,
    /// Where the digits of the receipt's number stand, if one is asked for: [`RECEIPT_DIGITS`] of them.
    pub(super) receipt_at: Option<usize>,
}

/// Digits of a receipt's number in a template.
pub(super) const RECEIPT_DIGITS: usize = 12;

/// One protocol, as the client of one connection speaks it.
pub(super) trait Wire: Clone + Send + Sync {
    /// Finds frames in bytes.
    type Scanner: Scan;

    /// Appends a login.
    fn login(&self, out: &mut Vec<u8>);

    /// Takes notice of the name that the broker gave itself at login: brokers differ in what they have to be told.
    fn meet(&mut self, broker: &[u8]);

    /// Appends a subscription that is answered with [`CONTROL_RECEIPT`].
    fn subscribe(&self, subscription: usize, destination: &str, out: &mut Vec<u8>);

    /// Appends the end of a subscription, answered likewise.
    fn unsubscribe(&self, subscription: usize, out: &mut Vec<u8>);

    /// How to publish to a destination, with or without a receipt.
    fn template(&self, destination: &str, receipt: bool) -> Template;

    /// Appends an acknowledgement of the delivery with this tag (and, if the subscription says so, all before it).
    fn ack(&self, tag: &[u8], out: &mut Vec<u8>);

    /// Appends a goodbye that is answered with [`GOODBYE_RECEIPT`] when the broker has dealt with everything sent.
    fn goodbye(&self, out: &mut Vec<u8>);
}

/// Finds frames in what a socket gave.
pub(super) trait Scan: Default + Send {
    /// The first whole frame in `bytes` and its length; none if more bytes are needed. The next call begins where this
    /// frame ended, or with the same bytes and more.
    ///
    /// # Errors
    /// When these bytes cannot be the protocol's.
    fn next<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<(usize, Incoming<'a>)>, NotTheProtocol>;
}

/// What came is not what the protocol allows, or nothing that the generator can handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotTheProtocol(pub(super) String);

impl fmt::Display for NotTheProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot understand the broker: {}", self.0)
    }
}

/// Writes a number in decimal digits, filling `place` from the right.
#[inline]
pub(super) fn write_decimal(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        let [low, ..] = (number % 10).to_le_bytes();
        *digit = b'0' + low;
        number /= 10;
    }
}
