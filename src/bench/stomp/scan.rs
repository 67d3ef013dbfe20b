//! Finds what the generator needs in what the broker sends, and looks at nothing else.

use memchr::memchr;

use super::super::wire::{Delivery, Incoming, NotTheProtocol, Scan};

/// Header bytes of a frame; a broker that sends more is not one.
const HEAD_MAX: usize = 64 * 1024;

/// Where a frame is in its bytes, as far as they have come.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// Bytes that must be there before looking again makes sense.
    needed: usize,
    /// A body without a length was searched for its end up to here.
    searched: usize,
}

/// What the headers of a frame say.
#[derive(Default)]
struct Head<'a> {
    /// Where the body begins.
    end: usize,
    content_length: Option<usize>,
    subscription: usize,
    tag: &'a [u8],
    redelivered: bool,
    receipt: u64,
    server: &'a [u8],
    message: &'a [u8],
}

fn broken(what: &str, bytes: &[u8]) -> NotTheProtocol {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    NotTheProtocol(format!("{what} in {shown:?}"))
}

/// A number in decimal digits.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

fn size(digits: &[u8]) -> Option<usize> {
    number(digits).and_then(|number| usize::try_from(number).ok())
}

/// Reads header lines from `at` on; none if the blank line is not there yet.
#[inline]
fn head(bytes: &[u8], mut at: usize) -> Result<Option<Head<'_>>, NotTheProtocol> {
    let mut head = Head::default();
    loop {
        let Some(length) = memchr(b'\n', &bytes[at..]) else {
            if bytes.len() > HEAD_MAX {
                return Err(broken("headers without an end", bytes));
            }
            return Ok(None);
        };
        let line = &bytes[at..at + length];
        at += length + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(&first) = line.first() else {
            head.end = at;
            return Ok(Some(head));
        };
        // The first letter rules most lines out; few frames have a header twice, and then the first counts.
        match first {
            b'a' => {
                if let Some(tag) = line.strip_prefix(b"ack:")
                    && head.tag.is_empty()
                {
                    head.tag = tag;
                }
            }
            b'c' => {
                if let Some(digits) = line.strip_prefix(b"content-length:")
                    && head.content_length.is_none()
                {
                    let length = size(digits).ok_or_else(|| broken("a content-length", line))?;
                    head.content_length = Some(length);
                }
            }
            b'm' => {
                if let Some(message) = line.strip_prefix(b"message:") {
                    head.message = message;
                }
            }
            b'r' => {
                if let Some(digits) = line.strip_prefix(b"receipt-id:") {
                    // Only an ERROR names a receipt that is not one of the generator's numbers.
                    head.receipt = number(digits).unwrap_or_default();
                } else if line == b"redelivered:true" {
                    head.redelivered = true;
                }
            }
            b's' => {
                if let Some(digits) = line.strip_prefix(b"subscription:") {
                    head.subscription =
                        size(digits).ok_or_else(|| broken("a subscription", line))?;
                } else if let Some(server) = line.strip_prefix(b"server:") {
                    head.server = server;
                }
            }
            _ => {}
        }
    }
}

impl Scanner {
    /// The end of the frame (one past its NUL) whose body begins at `from`; none if it has not come yet.
    fn end(
        &mut self,
        bytes: &[u8],
        from: usize,
        content_length: Option<usize>,
    ) -> Result<Option<usize>, NotTheProtocol> {
        if let Some(length) = content_length {
            let nul = from + length;
            return match bytes.get(nul) {
                Some(0) => Ok(Some(nul + 1)),
                Some(_) => Err(broken("no NUL behind the body", bytes)),
                None => {
                    self.needed = nul + 1;
                    Ok(None)
                }
            };
        }
        let begin = from.max(self.searched);
        let found = bytes.get(begin..).and_then(|rest| memchr(0, rest));
        if found.is_none() {
            self.searched = bytes.len();
        }
        Ok(found.map(|at| begin + at + 1))
    }
}

impl Scan for Scanner {
    #[inline]
    fn next<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<(usize, Incoming<'a>)>, NotTheProtocol> {
        if bytes.len() < self.needed {
            return Ok(None);
        }
        // Line ends between frames: heart-beats, and what some brokers put behind a frame.
        let begin = bytes
            .iter()
            .position(|byte| !matches!(byte, b'\n' | b'\r'))
            .unwrap_or(bytes.len());
        let Some(line_end) = memchr(b'\n', &bytes[begin..]) else {
            if bytes.len() - begin > HEAD_MAX {
                return Err(broken("no command", &bytes[begin..]));
            }
            return Ok(None);
        };
        let command = &bytes[begin..begin + line_end];
        let Some(head) = head(bytes, begin + line_end + 1)? else {
            return Ok(None);
        };
        let Some(end) = self.end(bytes, head.end, head.content_length)? else {
            return Ok(None);
        };
        *self = Self::default();
        let body = &bytes[head.end..end - 1];
        let incoming = match command.strip_suffix(b"\r").unwrap_or(command) {
            b"MESSAGE" => Incoming::Message(Delivery {
                subscription: head.subscription,
                tag: head.tag,
                redelivered: head.redelivered,
                body,
            }),
            b"RECEIPT" => Incoming::Receipt(head.receipt),
            b"CONNECTED" => Incoming::LoggedIn(head.server),
            b"ERROR" => Incoming::Refused(words(head.message, body)),
            other => return Err(broken("an unknown command", other)),
        };
        Ok(Some((end, incoming)))
    }
}

/// What an ERROR says: its `message`, and its body where it has one.
fn words(message: &[u8], body: &[u8]) -> String {
    let (message, body) = (
        String::from_utf8_lossy(message),
        String::from_utf8_lossy(body),
    );
    match (message.trim(), body.trim()) {
        ("", "") => "no reason given".to_owned(),
        (message, "") => message.to_owned(),
        (message, body) => format!("{message}: {body}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in pieces as a socket would; the frames as text.
    fn scan(bytes: &[u8], cuts: &[usize]) -> Result<Vec<String>, NotTheProtocol> {
        let (mut scanner, mut buffer, mut found) = (Scanner::default(), Vec::new(), Vec::new());
        let mut from = 0;
        for &to in cuts.iter().chain([&bytes.len()]) {
            buffer.extend_from_slice(&bytes[from..to.max(from)]);
            from = to.max(from);
            let mut at = 0;
            while let Some((length, incoming)) = scanner.next(&buffer[at..])? {
                found.push(format!("{incoming:?}"));
                at += length;
            }
            buffer.drain(..at);
        }
        Ok(found)
    }

    const CONVERSATION: &[u8] = b"CONNECTED\nversion:1.2\nserver:millpond/0.1.0\n\n\0\n\
        RECEIPT\nreceipt-id:000000000042\n\n\0\n\n\
        MESSAGE\nsubscription:3\ndestination:/queue/a\nmessage-id:7\nack:7-2\nredelivered:false\ncontent-length:4\n\na\0\nb\0\
        MESSAGE\r\nsubscription:12\r\nredelivered:true\r\nack:\\c\r\n\r\nno length\0\r\n\
        ERROR\nmessage:Bad command\nreceipt-id:other\ncontent-length:5\n\nwords\0\n";

    fn conversation() -> Vec<String> {
        let message = |subscription, tag: &'static [u8], redelivered, body: &'static [u8]| {
            Incoming::Message(Delivery {
                subscription,
                tag,
                redelivered,
                body,
            })
        };
        [
            Incoming::LoggedIn(b"millpond/0.1.0"),
            Incoming::Receipt(42),
            message(3, b"7-2", false, b"a\0\nb"),
            message(12, b"\\c", true, b"no length"),
            Incoming::Refused("Bad command: words".into()),
        ]
        .map(|incoming| format!("{incoming:?}"))
        .into()
    }

    #[test]
    fn frames_are_found_whole() {
        assert_eq!(scan(CONVERSATION, &[]), Ok(conversation()));
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split_in_two() {
        for cut in 0..CONVERSATION.len() {
            assert_eq!(scan(CONVERSATION, &[cut]), Ok(conversation()), "at {cut}");
        }
    }

    #[test]
    fn frames_are_found_byte_by_byte() {
        let cuts: Vec<usize> = (0..CONVERSATION.len()).collect();
        assert_eq!(scan(CONVERSATION, &cuts), Ok(conversation()));
    }

    #[test]
    fn the_first_of_repeated_headers_counts() {
        let frame = b"MESSAGE\nack:1\nack:2\ncontent-length:1\ncontent-length:9\n\nx\0";
        let found = scan(frame, &[]).expect("STOMP");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("[49]"), "the tag is 1: {}", found[0]);
    }

    #[test]
    fn what_is_no_stomp_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\nx: y\r\n\r\n\0"[..],
            b"MESSAGE\ncontent-length:x\n\n\0",
            b"MESSAGE\ncontent-length:99999999999999999999\n\n\0",
            b"MESSAGE\ncontent-length:2\n\nabc\0",
            b"MESSAGE\nsubscription:mine\n\n\0",
            &[b'x'; HEAD_MAX + 1],
        ] {
            assert!(scan(bytes, &[]).is_err());
        }
    }

    #[test]
    fn a_long_body_is_not_looked_at_until_it_is_there() {
        let mut scanner = Scanner::default();
        let mut frame = b"MESSAGE\ncontent-length:100000\n\n".to_vec();
        assert_eq!(scanner.next(&frame), Ok(None));
        assert_eq!(scanner.needed, frame.len() + 100_001);
        frame.resize(frame.len() + 100_001, 0);
        let found = scanner.next(&frame).expect("STOMP").expect("whole");
        assert_eq!(found.0, frame.len());
        assert_eq!(scanner.needed, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
            let _ = scan(&bytes, &[cut.min(bytes.len())]);
        }

        #[test]
        fn no_change_to_a_conversation_makes_it_panic(at in 0..CONVERSATION.len(), byte: u8) {
            let mut bytes = CONVERSATION.to_vec();
            bytes[at] = byte;
            let _ = scan(&bytes, &[at]);
        }
    }
}
