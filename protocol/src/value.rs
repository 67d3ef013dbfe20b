//! Typed header and argument values, shared by all protocols.
//!
//! The types are those of AMQP 0-9-1 field tables (specification section 4.2.5.5) with the letters that brokers and
//! clients settled on: 64-bit integers are `l`, 16-bit ones `s`, a byte array is `x`, and there is no short string in a
//! table. A STOMP header is always a [`Value::LongStr`].

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// How deep arrays and tables may nest. Decoders refuse deeper input, because values are printed, compared and dropped
/// recursively.
pub const NESTING_MAX: usize = 32;

/// One typed value.
///
/// Equality is exact: same type, same value. `Int32(5)` differs from `Int64(5)`, and floating-point numbers compare by
/// their bits, so that a not-a-number equals itself and values can be hashed. Use [`Value::as_integer`] where the width
/// must not matter.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: the name alone carries the meaning (`V`).
    Void,
    /// `t`.
    Bool(bool),
    /// `b`.
    Int8(i8),
    /// `B`.
    UInt8(u8),
    /// `s`.
    Int16(i16),
    /// `u`.
    UInt16(u16),
    /// `I`.
    Int32(i32),
    /// `i`.
    UInt32(u32),
    /// `l`.
    Int64(i64),
    /// `L`, which few clients send.
    UInt64(u64),
    /// `f`.
    Float(f32),
    /// `d`.
    Double(f64),
    /// `D`.
    Decimal(Decimal),
    /// `S`: up to 4 GiB by its length field, in practice bounded by the frame. UTF-8 by custom, not by rule.
    LongStr(Bytes),
    /// `x`: bytes that are not text.
    Binary(Bytes),
    /// `T`: seconds since 1970, as the specification says; some clients send milliseconds.
    Timestamp(u64),
    /// `A`.
    Array(Vec<Value>),
    /// `F`: names and values in the order they arrived; a name may repeat.
    Table(Vec<(Bytes, Value)>),
}

/// A decimal number: `unscaled` divided by ten to the power `scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// Digits after the point.
    pub scale: u8,
    /// The digits, as one integer.
    pub unscaled: u32,
}

impl Value {
    /// A text value.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::LongStr(text.into())
    }

    /// The name of the type, in the words clients know from error texts (`signedint`, `longstr`, ...).
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Bool(_) => "bool",
            Self::Int8(_) => "byte",
            Self::UInt8(_) => "unsignedbyte",
            Self::Int16(_) => "short",
            Self::UInt16(_) => "unsignedshort",
            Self::Int32(_) => "signedint",
            Self::UInt32(_) => "unsignedint",
            Self::Int64(_) => "long",
            Self::UInt64(_) => "unsignedlong",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Decimal(_) => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Timestamp(_) => "timestamp",
            Self::Array(_) => "array",
            Self::Table(_) => "table",
        }
    }

    /// The number, if this is an integer of any width. Timestamps, decimals and text are not integers.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Self::Int8(n) => Some(n.into()),
            Self::UInt8(n) => Some(n.into()),
            Self::Int16(n) => Some(n.into()),
            Self::UInt16(n) => Some(n.into()),
            Self::Int32(n) => Some(n.into()),
            Self::UInt32(n) => Some(n.into()),
            Self::Int64(n) => Some(n.into()),
            Self::UInt64(n) => Some(n.into()),
            _ => None,
        }
    }

    /// The bytes, if this is text.
    pub fn as_text(&self) -> Option<&Bytes> {
        match self {
            Self::LongStr(text) => Some(text),
            _ => None,
        }
    }

    /// The value as bytes of text, the way a protocol without types shows it: text as it is, anything else as
    /// [`Display`](fmt::Display) writes it.
    pub fn to_text(&self) -> Cow<'_, [u8]> {
        match self {
            Self::LongStr(text) => Cow::Borrowed(text),
            other => Cow::Owned(other.to_string().into_bytes()),
        }
    }

    /// How deep arrays and tables nest: 0 for a plain value. Never above [`NESTING_MAX`] for decoded input.
    pub fn nesting(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::nesting).max().unwrap_or(0),
            Self::Table(fields) => {
                1 + fields
                    .iter()
                    .map(|(_, value)| value.nesting())
                    .max()
                    .unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// Text for people and for STOMP headers: numbers in decimal, `true`/`false`, bytes that are not text in hexadecimal,
/// arrays as `[a, b]`, tables as `{name: value}`. Text that is not UTF-8 shows replacement characters; take
/// [`Value::to_text`] to keep its bytes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => Ok(()),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int8(n) => write!(f, "{n}"),
            Self::UInt8(n) => write!(f, "{n}"),
            Self::Int16(n) => write!(f, "{n}"),
            Self::UInt16(n) => write!(f, "{n}"),
            Self::Int32(n) => write!(f, "{n}"),
            Self::UInt32(n) => write!(f, "{n}"),
            Self::Int64(n) => write!(f, "{n}"),
            Self::UInt64(n) | Self::Timestamp(n) => write!(f, "{n}"),
            // Debug keeps the point (`1.0`) and never writes hundreds of zeros for a large exponent.
            Self::Float(n) => write!(f, "{n:?}"),
            Self::Double(n) => write!(f, "{n:?}"),
            Self::Decimal(n) => write!(f, "{n}"),
            Self::LongStr(text) => f.write_str(&String::from_utf8_lossy(text)),
            Self::Binary(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Self::Table(fields) => {
                f.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {value}", String::from_utf8_lossy(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        if scale == 0 {
            return write!(f, "{}", self.unscaled);
        }
        // One digit more than the scale, so that there is always a digit before the point.
        let digits = format!("{:0>width$}", self.unscaled, width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{whole}.{fraction}")
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Void, Self::Void) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int8(a), Self::Int8(b)) => a == b,
            (Self::UInt8(a), Self::UInt8(b)) => a == b,
            (Self::Int16(a), Self::Int16(b)) => a == b,
            (Self::UInt16(a), Self::UInt16(b)) => a == b,
            (Self::Int32(a), Self::Int32(b)) => a == b,
            (Self::UInt32(a), Self::UInt32(b)) => a == b,
            (Self::Int64(a), Self::Int64(b)) => a == b,
            (Self::UInt64(a), Self::UInt64(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Decimal(a), Self::Decimal(b)) => a == b,
            (Self::LongStr(a), Self::LongStr(b)) | (Self::Binary(a), Self::Binary(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Table(a), Self::Table(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Void => {}
            Self::Bool(value) => value.hash(state),
            Self::Int8(n) => n.hash(state),
            Self::UInt8(n) => n.hash(state),
            Self::Int16(n) => n.hash(state),
            Self::UInt16(n) => n.hash(state),
            Self::Int32(n) => n.hash(state),
            Self::UInt32(n) => n.hash(state),
            Self::Int64(n) => n.hash(state),
            Self::UInt64(n) | Self::Timestamp(n) => n.hash(state),
            Self::Float(n) => n.to_bits().hash(state),
            Self::Double(n) => n.to_bits().hash(state),
            Self::Decimal(n) => n.hash(state),
            Self::LongStr(bytes) | Self::Binary(bytes) => bytes.hash(state),
            Self::Array(items) => items.hash(state),
            Self::Table(fields) => fields.hash(state),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int32(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int64(value)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::LongStr(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::LongStr(text.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::DefaultHasher;

    use super::*;

    fn shows(value: Value, text: &str) {
        assert_eq!(value.to_string(), text);
        assert_eq!(value.to_text().as_ref(), text.as_bytes());
    }

    #[test]
    fn values_are_shown_as_plain_text() {
        shows(Value::Void, "");
        shows(Value::Bool(true), "true");
        shows(Value::Int8(-128), "-128");
        shows(Value::UInt64(u64::MAX), "18446744073709551615");
        shows(Value::Double(1.0), "1.0");
        shows(Value::Double(1e300), "1e300");
        shows(Value::Binary(Bytes::from_static(&[0, 0xff])), "00ff");
        shows(Value::Array(vec![Value::Int32(1), "a".into()]), "[1, a]");
        shows(
            Value::Table(vec![("k".into(), "v".into()), ("n".into(), Value::Void)]),
            "{k: v, n: }",
        );
    }

    #[test]
    fn decimals_keep_their_scale() {
        for (scale, unscaled, text) in [
            (0, 12, "12"),
            (2, 1234, "12.34"),
            (2, 5, "0.05"),
            (1, 0, "0.0"),
            (255, 1, &format!("0.{}1", "0".repeat(254))),
        ] {
            assert_eq!(Decimal { scale, unscaled }.to_string(), text);
        }
    }

    #[test]
    fn text_that_is_not_utf8_keeps_its_bytes() {
        let value = Value::LongStr(Bytes::from_static(b"a\xff"));
        assert_eq!(value.to_text().as_ref(), b"a\xff");
        assert_eq!(value.to_string(), "a\u{fffd}");
    }

    #[test]
    fn equality_is_exact_in_type_and_bits() {
        assert_ne!(Value::Int32(5), Value::Int64(5));
        assert_ne!(Value::LongStr("a".into()), Value::Binary("a".into()));
        assert_ne!(Value::UInt64(1), Value::Timestamp(1));
        assert_ne!(Value::Double(0.0), Value::Double(-0.0));
        assert_eq!(Value::Double(f64::NAN), Value::Double(f64::NAN));
    }

    #[test]
    fn equal_values_hash_alike() {
        let hash = |value: &Value| {
            let mut state = DefaultHasher::new();
            value.hash(&mut state);
            state.finish()
        };
        let table = || {
            Value::Table(vec![(
                "a".into(),
                Value::Array(vec![Value::Float(1.5), Value::Bool(false)]),
            )])
        };
        assert_eq!(hash(&table()), hash(&table()));
        assert_ne!(hash(&Value::Int32(5)), hash(&Value::Int64(5)));
    }

    #[test]
    fn integers_of_every_width_are_one_class() {
        for value in [
            Value::Int8(7),
            Value::UInt8(7),
            Value::Int16(7),
            Value::UInt16(7),
            Value::UInt32(7),
            7_i32.into(),
            7_i64.into(),
        ] {
            assert_eq!(value.as_integer(), Some(7));
        }
        assert_eq!(Value::Timestamp(7).as_integer(), None);
        assert_eq!(Value::text("7").as_integer(), None);
    }

    #[test]
    fn nesting_counts_the_deepest_branch() {
        assert_eq!(Value::Void.nesting(), 0);
        let two = Value::Array(vec![
            Value::Void,
            Value::Table(vec![("a".into(), Value::Void)]),
        ]);
        assert_eq!(two.nesting(), 2);
    }
}
