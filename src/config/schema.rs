//! The names of all keys, and what somebody who wrote another one probably meant.

use serde::de::value::Error as Stop;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use super::error::ConfigError;
use super::sections;
use super::tree::{Entry, Node, Tree};

/// How a section is written in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `[name]`, once.
    Table,
    /// `[[name]]`, as often as needed.
    List,
}

struct Section {
    name: &'static str,
    shape: Shape,
    keys: &'static [&'static str],
}

fn all_sections() -> [Section; 12] {
    fn section<T: for<'de> Deserialize<'de>>(name: &'static str, shape: Shape) -> Section {
        Section {
            name,
            shape,
            keys: field_names::<T>(),
        }
    }
    [
        section::<sections::Listen>("listen", Shape::Table),
        section::<sections::Storage>("storage", Shape::Table),
        section::<sections::Memory>("memory", Shape::Table),
        section::<sections::Disk>("disk", Shape::Table),
        section::<sections::Limits>("limits", Shape::Table),
        section::<sections::Stomp>("stomp", Shape::Table),
        section::<sections::Log>("log", Shape::Table),
        section::<sections::Shutdown>("shutdown", Shape::Table),
        section::<sections::User>("user", Shape::List),
        section::<sections::Vhost>("vhost", Shape::List),
        section::<sections::Permission>("permission", Shape::List),
        section::<sections::TopicPermission>("topic_permission", Shape::List),
    ]
}

/// Every key there is, as `section.key`.
#[must_use]
pub fn keys() -> Vec<String> {
    let sections = all_sections();
    sections
        .iter()
        .flat_map(|section| {
            section
                .keys
                .iter()
                .map(|key| format!("{}.{key}", section.name))
        })
        .collect()
}

/// Whether a key holds something that must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    matches!(
        key.rsplit('.').next(),
        Some("password" | "password_hash" | "default_pass")
    )
}

/// Refuses every key that no section has, in the order of the sections' names.
///
/// # Errors
/// For the first such key: where it stands and the nearest key there is.
pub(super) fn check(tree: &Tree) -> Result<(), ConfigError> {
    let sections = all_sections();
    for (name, entry) in tree {
        let Some(section) = sections.iter().find(|section| section.name == name) else {
            return Err(unknown(&sections, entry));
        };
        match (&entry.node, section.shape) {
            (Node::Table(table), Shape::Table) => check_table(&sections, section, table)?,
            (Node::List(items), Shape::List) => {
                for item in items {
                    match &item.node {
                        Node::Table(table) => check_table(&sections, section, table)?,
                        _ => return Err(wrong_shape(section, entry)),
                    }
                }
            }
            _ => return Err(wrong_shape(section, entry)),
        }
    }
    Ok(())
}

fn check_table(sections: &[Section], section: &Section, table: &Tree) -> Result<(), ConfigError> {
    match table
        .iter()
        .find(|(key, _)| !section.keys.contains(&key.as_str()))
    {
        Some((_, entry)) => Err(unknown(sections, entry)),
        None => Ok(()),
    }
}

fn wrong_shape(section: &Section, entry: &Entry) -> ConfigError {
    let message = match (section.shape, &entry.node) {
        (Shape::List, Node::Table(table))
            if table
                .values()
                .all(|entry| matches!(entry.node, Node::Text(_))) =>
        {
            "is a list of tables and can only be written in a configuration file".to_owned()
        }
        (Shape::List, _) => format!("is a list of tables: write [[{}]]", section.name),
        (Shape::Table, _) => format!("is a table of settings: write [{}]", section.name),
    };
    ConfigError::about(entry.origin.clone(), &entry.key, message)
}

fn unknown(sections: &[Section], entry: &Entry) -> ConfigError {
    let what = if matches!(entry.node, Node::Table(_) | Node::List(_)) && !entry.key.contains('.') {
        "section"
    } else {
        "key"
    };
    let hint = match nearest(sections, &entry.key, what == "section") {
        Some(name) => format!("did you mean `{name}`?"),
        None => "millpond.example.toml lists every key".to_owned(),
    };
    ConfigError::sentence(
        Some(entry.origin.clone()),
        format!("unknown {what} `{}`; {hint}", entry.key),
    )
}

/// The known name nearest to a written one: the same key in another section, or a few letters away.
fn nearest(sections: &[Section], written: &str, is_section: bool) -> Option<String> {
    if is_section {
        let names = sections.iter().map(|section| section.name.to_owned());
        return closest(names.map(|name| (distance(written, &name), name)), written);
    }
    // `user[2].nmae` is compared as `user.nmae`.
    let (section, key) = written.rsplit_once('.').unwrap_or(("", written));
    let section = section.split('[').next().unwrap_or_default();
    let keys = sections.iter().flat_map(|candidate| {
        candidate
            .keys
            .iter()
            .map(move |known| (candidate.name, *known))
    });
    // A key that stands in the wrong section is nearer than a misspelt one; between equals, the section as written.
    let candidates = keys.map(|(candidate, known)| {
        let elsewhere = if candidate == section {
            0
        } else {
            1 + distance(section, candidate).min(2) / 2
        };
        (
            distance(key, known) * 2 + elsewhere,
            format!("{candidate}.{known}"),
        )
    });
    closest(
        candidates.map(|(distance, name)| (distance.div_ceil(2), name)),
        key,
    )
}

fn distance(left: &str, right: &str) -> usize {
    strsim::damerau_levenshtein(left, right)
}

fn closest(candidates: impl Iterator<Item = (usize, String)>, written: &str) -> Option<String> {
    let tolerated = (written.len() / 3).max(2);
    candidates
        .filter(|&(distance, _)| distance <= tolerated)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// The names of a struct's fields, as its derived `Deserialize` knows them: no second list to keep in step.
fn field_names<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    struct Ask<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Ask<'_> {
        type Error = Stop;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Stop> {
            *self.0 = fields;
            Err(Stop::custom("only asked for the names"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            Err(Stop::custom("not a struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    // The answer is in `names`; the error is how the question ends.
    let _ = T::deserialize(Ask(&mut names));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_field_of_the_configuration_is_a_section_here() {
        let sections = all_sections();
        let named: Vec<_> = sections.iter().map(|section| section.name).collect();
        assert_eq!(field_names::<Config>(), named);
        for section in &sections {
            assert!(!section.keys.is_empty(), "{} has no keys", section.name);
        }
    }

    #[test]
    fn the_nearest_key_is_a_few_letters_away_or_in_another_section() {
        let sections = all_sections();
        let cases = [
            ("limits.mesage_bytes", Some("limits.message_bytes")),
            ("limit.message_bytes", Some("limits.message_bytes")),
            ("limits.free_limit", Some("disk.free_limit")),
            ("stomp.default_user_name", Some("stomp.default_user")),
            ("message_bytes", Some("limits.message_bytes")),
            ("user[2].nmae", Some("user.name")),
            ("limits.zzz", None),
        ];
        for (written, expected) in cases {
            assert_eq!(
                nearest(&sections, written, false).as_deref(),
                expected,
                "{written}"
            );
        }
        assert_eq!(
            nearest(&sections, "storag", true).as_deref(),
            Some("storage")
        );
        assert_eq!(nearest(&sections, "kubernetes", true), None);
    }
}
