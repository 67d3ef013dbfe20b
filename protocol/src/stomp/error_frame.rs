//! The ERROR frame.

use bytes::BytesMut;

use super::command::Command;
use super::encode::{put_body, put_command, put_decimal, put_header};
use super::version::Version;

/// What an ERROR says (STOMP 1.2, "ERROR").
#[derive(Clone, Copy, Debug)]
pub struct ErrorFrame<'a> {
    /// The short text of the `message` header.
    pub message: &'a str,
    /// The stable word of the `code` header, for programs.
    pub code: &'a str,
    /// The `receipt` of the frame that failed, unescaped, when it asked for one.
    pub receipt_id: Option<&'a [u8]>,
    /// What was wrong and what would be right; text.
    pub body: &'a str,
    /// Further headers, such as `subscription`.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl<'a> ErrorFrame<'a> {
    /// An ERROR for no receipt and without further headers.
    #[must_use]
    pub const fn new(message: &'a str, code: &'a str, body: &'a str) -> Self {
        Self {
            message,
            code,
            receipt_id: None,
            body,
            headers: &[],
        }
    }

    /// Sets the `receipt-id`.
    #[must_use]
    pub const fn with_receipt_id(mut self, receipt_id: Option<&'a [u8]>) -> Self {
        self.receipt_id = receipt_id;
        self
    }
}

/// Appends an ERROR frame: `message`, `code`, `content-type:text/plain`, `version` with the versions served,
/// `receipt-id` and `content-length` where they apply, then the further headers and the body.
pub fn put_error(dst: &mut BytesMut, version: Version, error: &ErrorFrame<'_>) {
    put_command(dst, Command::Error);
    put_header(dst, version, b"message", error.message.as_bytes());
    put_header(dst, version, b"code", error.code.as_bytes());
    put_header(dst, version, b"content-type", b"text/plain");
    put_header(dst, version, b"version", Version::LIST.as_bytes());
    if let Some(receipt_id) = error.receipt_id {
        put_header(dst, version, b"receipt-id", receipt_id);
    }
    for (name, value) in error.headers {
        put_header(dst, version, name.as_bytes(), value);
    }
    if !error.body.is_empty() {
        put_decimal(dst, b"content-length", error.body.len() as u64);
    }
    put_body(dst, error.body.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_everything_a_client_needs() {
        let error = ErrorFrame {
            message: "Bad command",
            code: "bad_command",
            receipt_id: Some(b"r:1"),
            body: "Could not interpret command \"X\"\n",
            headers: &[("subscription", b"s")],
        };
        let mut dst = BytesMut::new();
        put_error(&mut dst, Version::V1_2, &error);
        assert_eq!(
            String::from_utf8_lossy(&dst),
            "ERROR\nmessage:Bad command\ncode:bad_command\ncontent-type:text/plain\n\
             version:1.0,1.1,1.2\nreceipt-id:r\\c1\nsubscription:s\ncontent-length:32\n\n\
             Could not interpret command \"X\"\n\0\n"
        );
    }
}
