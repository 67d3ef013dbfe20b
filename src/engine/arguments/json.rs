//! Arguments as JSON (or any other format that describes itself), lossless.
//!
//! What people and the management tools of other brokers write reads naturally: text, true and false, null (void),
//! whole numbers (64-bit), numbers with a point (double), lists and objects. Every other type is an object with a single
//! name that begins with `$`:
//!
//! | type | form |
//! |---|---|
//! | integers other than signed 64-bit | `{"$int8": 1}`, `$uint8`, `$int16`, `$uint16`, `$int32`, `$uint32`, `$uint64` |
//! | float; doubles that are no number | `{"$float": "3fc00000"}`, `{"$double": "7ff0000000000000"}`: the bits, in hexadecimal |
//! | decimal | `{"$decimal": [scale, unscaled]}` |
//! | timestamp | `{"$timestamp": 1700000000}` |
//! | binary, text that is not UTF-8 | `{"$binary": "00ff"}`, `{"$longstr": "61ff"}`: the bytes, in hexadecimal |
//! | a table one of whose names begins with `$` | `{"$table": {...}}`, where nothing inside that object's own names is special |
//!
//! Names that are not UTF-8 are escaped as other names are.

use std::fmt;

use bytes::Bytes;
use millpond_protocol::value::{Decimal, NESTING_MAX, Value};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Deserializer, Serialize};

use super::Arguments;
use crate::engine::name::{escaped, unescaped};

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.iter()
                .map(|(name, value)| (escaped(name), Typed(value))),
        )
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = deserializer.deserialize_map(Fields { depth: NESTING_MAX })?;
        Ok(fields.into_iter().collect())
    }
}

/// A value on its way out.
struct Typed<'a>(&'a Value);

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Void => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int64(n) => serializer.serialize_i64(*n),
            Value::Double(n) if n.is_finite() => serializer.serialize_f64(*n),
            Value::Int8(n) => tagged(serializer, "$int8", n),
            Value::UInt8(n) => tagged(serializer, "$uint8", n),
            Value::Int16(n) => tagged(serializer, "$int16", n),
            Value::UInt16(n) => tagged(serializer, "$uint16", n),
            Value::Int32(n) => tagged(serializer, "$int32", n),
            Value::UInt32(n) => tagged(serializer, "$uint32", n),
            Value::UInt64(n) => tagged(serializer, "$uint64", n),
            Value::Float(n) => tagged(serializer, "$float", &format!("{:08x}", n.to_bits())),
            Value::Double(n) => tagged(serializer, "$double", &format!("{:016x}", n.to_bits())),
            Value::Decimal(Decimal { scale, unscaled }) => {
                tagged(serializer, "$decimal", &(scale, unscaled))
            }
            Value::Timestamp(seconds) => tagged(serializer, "$timestamp", seconds),
            Value::Binary(bytes) => tagged(serializer, "$binary", &hex(bytes)),
            Value::LongStr(text) => match std::str::from_utf8(text) {
                Ok(text) => serializer.serialize_str(text),
                Err(_) => tagged(serializer, "$longstr", &hex(text)),
            },
            Value::Array(items) => serializer.collect_seq(items.iter().map(Typed)),
            Value::Table(fields) if fields.iter().any(|(name, _)| name.starts_with(b"$")) => {
                tagged(serializer, "$table", &TypedFields(fields))
            }
            Value::Table(fields) => TypedFields(fields).serialize(serializer),
        }
    }
}

struct TypedFields<'a>(&'a [(Bytes, Value)]);

impl Serialize for TypedFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(name, value)| (escaped(name), Typed(value))),
        )
    }
}

fn tagged<S: Serializer>(
    serializer: S,
    tag: &str,
    value: &impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(tag, value)?;
    map.end()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let digit = |byte: u8| {
                char::from(byte)
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            };
            Some(digit(pair[0])? << 4 | digit(pair[1])?)
        })
        .collect()
}

/// The names and values of an object, all of them taken literally.
struct Fields {
    /// How many more levels may open below this one.
    depth: usize,
}

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Bytes, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of arguments")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            fields.push((
                unescaped(name).into(),
                map.next_value_seed(AnyValue { depth: self.depth })?,
            ));
        }
        Ok(fields)
    }
}

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Vec<(Bytes, Value)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// A value on its way in.
struct AnyValue {
    /// How many levels of arrays and tables may open here.
    depth: usize,
}

impl AnyValue {
    fn below<E: de::Error>(&self) -> Result<usize, E> {
        self.depth
            .checked_sub(1)
            .ok_or_else(|| E::custom(format!("values may nest at most {NESTING_MAX} deep")))
    }
}

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true or false, null, a list or an object")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Void)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int64(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::UInt64(n), Value::Int64))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(Value::Double(n))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.below()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(AnyValue { depth })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.below()?;
        let Some(first) = map.next_key::<String>()? else {
            return Ok(Value::Table(Vec::new()));
        };
        if first.starts_with('$') {
            let value = untag(&first, depth, &mut map)?;
            return match map.next_key::<String>()? {
                None => Ok(value),
                Some(second) => Err(de::Error::custom(format!(
                    "'{first}' must be alone in its object, but '{second}' follows"
                ))),
            };
        }
        let mut fields = vec![(
            Bytes::from(unescaped(first)),
            map.next_value_seed(AnyValue { depth })?,
        )];
        fields.extend(Fields { depth }.visit_map(map)?);
        Ok(Value::Table(fields))
    }
}

fn untag<'de, A: MapAccess<'de>>(tag: &str, depth: usize, map: &mut A) -> Result<Value, A::Error> {
    fn bytes<'de, A: MapAccess<'de>>(tag: &str, map: &mut A) -> Result<Bytes, A::Error> {
        let text: String = map.next_value()?;
        unhex(&text).map(Bytes::from).ok_or_else(|| {
            de::Error::custom(format!("'{tag}' takes bytes in hexadecimal, not '{text}'"))
        })
    }
    fn bits<'de, const BYTES: usize, A: MapAccess<'de>>(
        tag: &str,
        map: &mut A,
    ) -> Result<[u8; BYTES], A::Error> {
        let all = bytes(tag, map)?;
        all.as_ref().try_into().map_err(|_| {
            de::Error::custom(format!("'{tag}' takes {BYTES} bytes, not {}", all.len()))
        })
    }
    Ok(match tag {
        "$int8" => Value::Int8(map.next_value()?),
        "$uint8" => Value::UInt8(map.next_value()?),
        "$int16" => Value::Int16(map.next_value()?),
        "$uint16" => Value::UInt16(map.next_value()?),
        "$int32" => Value::Int32(map.next_value()?),
        "$uint32" => Value::UInt32(map.next_value()?),
        "$uint64" => Value::UInt64(map.next_value()?),
        "$float" => Value::Float(f32::from_be_bytes(bits(tag, map)?)),
        "$double" => Value::Double(f64::from_be_bytes(bits(tag, map)?)),
        "$decimal" => {
            let (scale, unscaled) = map.next_value()?;
            Value::Decimal(Decimal { scale, unscaled })
        }
        "$timestamp" => Value::Timestamp(map.next_value()?),
        "$binary" => Value::Binary(bytes(tag, map)?),
        "$longstr" => Value::LongStr(bytes(tag, map)?),
        "$table" => Value::Table(map.next_value_seed(Fields { depth })?),
        _ => return Err(de::Error::custom(format!("'{tag}' is not a type of value"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(json: &str, value: Value) {
        let arguments: Arguments = serde_json::from_str(&format!("{{\"x\":{json}}}")).unwrap();
        assert_eq!(arguments.value("x"), Some(&value), "{json}");
    }

    fn refuses(json: &str, because: &str) {
        let error = serde_json::from_str::<Arguments>(&format!("{{\"x\":{json}}}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn what_people_write_reads_naturally() {
        reads("60000", Value::Int64(60_000));
        reads("-1", Value::Int64(-1));
        reads("18446744073709551615", Value::UInt64(u64::MAX));
        reads("1.5", Value::Double(1.5));
        reads("\"all\"", "all".into());
        reads("null", Value::Void);
        reads(
            "[true, {}]",
            Value::Array(vec![Value::Bool(true), Value::Table(vec![])]),
        );
        reads(
            "{\"a\": 1}",
            Value::Table(vec![("a".into(), Value::Int64(1))]),
        );
    }

    #[test]
    fn wrong_forms_are_refused_with_a_sentence() {
        refuses("{\"$int8\": 300}", "300");
        refuses("{\"$int9\": 3}", "'$int9' is not a type of value");
        refuses("{\"$binary\": \"0\"}", "hexadecimal");
        refuses("{\"$float\": \"00\"}", "'$float' takes 4 bytes, not 1");
        refuses("{\"$int8\": 3, \"b\": 1}", "must be alone");
        refuses(
            &format!("{}{}", "[".repeat(40), "]".repeat(40)),
            "at most 32 deep",
        );
    }

    #[test]
    fn names_of_arguments_are_never_tags() {
        let arguments = Arguments::from([("$int8", Value::text("plain"))]);
        assert_eq!(
            serde_json::to_string(&arguments).unwrap(),
            r#"{"$int8":"plain"}"#
        );
        assert_eq!(
            serde_json::from_str::<Arguments>(r#"{"$int8":"plain"}"#).unwrap(),
            arguments
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let bytes = || {
            prop_oneof![
                any::<String>().prop_map(Bytes::from),
                any::<Vec<u8>>().prop_map(Bytes::from)
            ]
        };
        let name = || {
            prop_oneof![
                "\\$?[a-z0-9]{0,5}".prop_map(Bytes::from),
                any::<Vec<u8>>().prop_map(Bytes::from)
            ]
        };
        let leaf = prop_oneof![
            Just(Value::Void),
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::Int8),
            any::<u8>().prop_map(Value::UInt8),
            any::<i16>().prop_map(Value::Int16),
            any::<u16>().prop_map(Value::UInt16),
            any::<i32>().prop_map(Value::Int32),
            any::<u32>().prop_map(Value::UInt32),
            any::<i64>().prop_map(Value::Int64),
            any::<u64>().prop_map(Value::UInt64),
            any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))),
            any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))),
            (any::<u8>(), any::<u32>())
                .prop_map(|(scale, unscaled)| Value::Decimal(Decimal { scale, unscaled })),
            any::<u64>().prop_map(Value::Timestamp),
            bytes().prop_map(Value::LongStr),
            bytes().prop_map(Value::Binary),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((name(), inner), 0..4).prop_map(Value::Table),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_argument_survives_json(values in proptest::collection::vec((any::<Vec<u8>>(), any_value()), 0..4)) {
            let arguments: Arguments = values.into_iter().collect();
            let json = serde_json::to_string(&arguments).unwrap();
            prop_assert_eq!(serde_json::from_str::<Arguments>(&json).unwrap(), arguments);
        }
    }
}
