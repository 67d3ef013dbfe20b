//! The kinds of value that settings have beyond TOML's own: sizes, durations, secrets, addresses.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::server::address::BindAddress;

/// Text that must never be seen in a log: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A listener's address, or none: `"*:61613"`, `"127.0.0.1:0"`, `"off"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// The listener is not started.
    Off,
    /// The listener binds this address.
    Address(BindAddress),
}

impl ListenOn {
    /// The address, unless the listener is off.
    #[must_use]
    pub fn address(&self) -> Option<&BindAddress> {
        match self {
            Self::Off => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl<'de> Deserialize<'de> for ListenOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::Address)
            .map_err(|error| D::Error::custom(format!("{error}; \"off\" for no listener")))
    }
}

/// How much memory the broker may account before it stops publishers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// A share of the machine's or the control group's memory, in percent (1 to 95).
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_with(
            deserializer,
            "a share such as \"40%\" (1% to 95%) or a size such as \"2GiB\"",
            |text| match text.strip_suffix('%') {
                Some(percent) => percent
                    .parse()
                    .ok()
                    .filter(|percent| (1..=95).contains(percent))
                    .map(Self::Percent),
                None => parse_size(text).map(Self::Bytes),
            },
        )
    }
}

/// How many client connections are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// As many as the process's file descriptor limit allows.
    Auto,
    /// This many.
    Count(usize),
}

impl<'de> Deserialize<'de> for Connections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_with(
            deserializer,
            "\"auto\" or a number of connections, 1 or more",
            |text| match text {
                "auto" => Some(Self::Auto),
                _ => text
                    .parse()
                    .ok()
                    .filter(|&count| count > 0)
                    .map(Self::Count),
            },
        )
    }
}

/// `#[serde(with)]` for a size: bytes as a number, or text with a unit (`"16MiB"`).
pub(super) mod size {
    use super::{Deserializer, parse_size, parse_with};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u64, D::Error> {
        parse_with(
            deserializer,
            "a size such as \"16MiB\", \"64KiB\" or 1048576 (bytes)",
            parse_size,
        )
    }
}

/// `#[serde(with)]` for a size that is held in memory: as [`size`], and no larger than the address space.
pub(super) mod memory_size {
    use super::{Deserializer, parse_size, parse_with};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        parse_with(
            deserializer,
            "a size such as \"16MiB\", \"64KiB\" or 1048576 (bytes)",
            |text| parse_size(text).and_then(|bytes| usize::try_from(bytes).ok()),
        )
    }
}

/// `#[serde(with)]` for a duration: text with a unit (`"10s"`, `"500ms"`, `"2m"`), or 0.
pub(super) mod duration {
    use super::{Deserializer, Duration, parse_duration, parse_with};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        parse_with(
            deserializer,
            "a duration with a unit, such as \"10s\", \"500ms\" or \"2m\"",
            parse_duration,
        )
    }
}

/// Bytes from `1048576`, `16MiB`, `16 MiB`, `64KiB`, `1GB`; units are B, KiB, MiB, GiB, TiB (powers of 1024) and
/// KB, MB, GB, TB (powers of 1000), in any case.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A duration from `10s`, `500ms`, `2m`, `1h`, `250us`; only 0 needs no unit.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "" if number == 0 => Some(Duration::ZERO),
        _ => None,
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Reads a value written as text or as a bare whole number, and parses its text.
fn parse_with<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Parse<F>(&'static str, F);

    impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Parse<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::custom(format!("must be {}, not \"{text}\"", self.0)))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
    }

    deserializer.deserialize_any(Parse(expected, parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        let cases: [(&str, Option<u64>); 14] = [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("16MiB", Some(16 << 20)),
            ("16 mib", Some(16 << 20)),
            ("64KiB", Some(64 << 10)),
            ("1GiB", Some(1 << 30)),
            ("1TB", Some(1_000_000_000_000)),
            ("5b", Some(5)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.5GiB", None),
            ("16M", None),
            ("99999999TiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_unless_they_are_zero() {
        let cases = [
            ("0", Some(Duration::ZERO)),
            ("250us", Some(Duration::from_micros(250))),
            ("500ms", Some(Duration::from_millis(500))),
            ("10s", Some(Duration::from_secs(10))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3600))),
            ("10", None),
            ("s", None),
            ("10 days", None),
            ("99999999999999999999h", None),
            ("9999999999999999999h", None),
        ];
        for (text, duration) in cases {
            assert_eq!(parse_duration(text), duration, "{text}");
        }
    }

    #[test]
    fn a_secret_never_prints_itself() {
        assert_eq!(format!("{:?}", Some(Secret::from("hunter2"))), "Some(***)");
    }
}
