//! From written settings to typed ones: a serde deserializer whose errors name the key and its place.

use std::collections::btree_map;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::ConfigError;
use super::schema;
use super::tree::{Entry, Node, Tree};

/// The whole configuration as a deserializer.
pub(super) fn deserializer(tree: &Tree) -> impl Deserializer<'_, Error = ConfigError> {
    MapAccessDeserializer::new(Table::of(tree))
}

/// The settings of a table, one after the other; an error in a value is given the value's place.
struct Table<'t> {
    entries: btree_map::Iter<'t, String, Entry>,
    value: Option<&'t Entry>,
}

impl<'t> Table<'t> {
    fn of(tree: &'t Tree) -> Self {
        Self {
            entries: tree.iter(),
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Table<'de> {
    type Error = ConfigError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ConfigError> {
        let Some((name, entry)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(entry);
        seed.deserialize(name.as_str().into_deserializer())
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ConfigError> {
        let entry = self
            .value
            .take()
            .expect("serde asks for a key before its value");
        seed.deserialize(entry)
            .map_err(|error| error.or_at(&entry.origin, &entry.key))
    }
}

/// The items of a list; an error in an item is given the item's place.
struct List<'t>(std::slice::Iter<'t, Entry>);

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = ConfigError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ConfigError> {
        let Some(entry) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(entry)
            .map(Some)
            .map_err(|error| error.or_at(&entry.origin, &entry.key))
    }
}

impl Entry {
    fn fail(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::about(self.origin.clone(), &self.key, message)
    }

    /// "must be X, not Y"; Y is left out where it may be a password.
    fn must_be(&self, expected: &str) -> ConfigError {
        let found = match &self.node {
            _ if schema::is_secret(&self.key) => return self.fail(format!("must be {expected}")),
            Node::Text(text) | Node::String(text) => format!("the text \"{text}\""),
            Node::Integer(number) => format!("the number {number}"),
            Node::Other(text) => text.clone(),
            Node::Boolean(value) => value.to_string(),
            Node::Table(_) => "a table".to_owned(),
            Node::List(_) => "a list".to_owned(),
        };
        self.fail(format!("must be {expected}, not {found}"))
    }

    fn text(&self) -> Result<&str, ConfigError> {
        match &self.node {
            Node::Text(text) | Node::String(text) => Ok(text),
            _ => Err(self.must_be("text in quotes")),
        }
    }

    fn integer(&self) -> Result<u64, ConfigError> {
        let number = match &self.node {
            Node::Integer(number) => u64::try_from(*number).ok(),
            Node::Text(text) => text.replace('_', "").parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.must_be("a whole number, 0 or more"))
    }

    fn boolean(&self) -> Result<bool, ConfigError> {
        match &self.node {
            Node::Boolean(value) => Ok(*value),
            Node::Text(text) if text == "true" => Ok(true),
            Node::Text(text) if text == "false" => Ok(false),
            _ => Err(self.must_be("true or false")),
        }
    }

    fn table(&self) -> Result<&Tree, ConfigError> {
        match &self.node {
            Node::Table(table) => Ok(table),
            _ => Err(self.must_be("a table of settings")),
        }
    }

    fn list(&self) -> Result<&[Entry], ConfigError> {
        match &self.node {
            Node::List(items) => Ok(items),
            _ => Err(self.must_be("a list")),
        }
    }
}

/// Each method reads the type the key has, whatever its author wrote.
impl<'de> Deserializer<'de> for &'de Entry {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        match &self.node {
            Node::Text(text) | Node::String(text) => visitor.visit_borrowed_str(text),
            Node::Integer(number) => visitor.visit_i64(*number),
            Node::Other(text) => visitor.visit_borrowed_str(text),
            Node::Boolean(value) => visitor.visit_bool(*value),
            Node::Table(_) => self.deserialize_map(visitor),
            Node::List(_) => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_bool(self.boolean()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_u64(self.integer()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_seq(List(self.list()?.iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_map(Table::of(self.table()?))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        self.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}
