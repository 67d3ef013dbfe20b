//! Settings as they were written, before they have types: every value remembers its key and where it stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};

/// A value and where it was written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// The whole key: `limits.headers`, `user[2].name` (items count from 1).
    pub(super) key: String,
    pub(super) node: Node,
}

/// A value whose type is what its author wrote.
#[derive(Debug)]
pub(super) enum Node {
    /// From a flag or the environment: text that stands for whatever type the key has.
    Text(String),
    String(String),
    Integer(i64),
    /// A number or date that no key takes, kept as written for the error.
    Other(String),
    Boolean(bool),
    Table(BTreeMap<String, Entry>),
    List(Vec<Entry>),
}

/// The configuration of one program: tables of settings, and lists of tables, by section.
pub(super) type Tree = BTreeMap<String, Entry>;

/// Reads a configuration file's text.
///
/// # Errors
/// When the text is not TOML, with the line.
pub(super) fn parse(path: &str, text: &str) -> Result<Tree, ConfigError> {
    let path: Arc<str> = path.into();
    let lines = Lines::new(text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = lines.line(error.span().map_or(0, |span| span.start));
        // Only the message: the error's own display quotes the line, and the line may hold a password.
        let origin = Origin::File {
            path: Arc::clone(&path),
            line,
        };
        ConfigError::sentence(Some(origin), format!("not valid TOML: {}", error.message()))
    })?;
    Reader { path, lines }.table("", table.get_ref())
}

/// Puts one setting from a flag or the environment over what is there.
///
/// # Errors
/// When `key` is not of the form `section.key`.
pub(super) fn set(
    tree: &mut Tree,
    key: &str,
    text: String,
    origin: Origin,
) -> Result<(), ConfigError> {
    let Some((section, name)) = key.split_once('.') else {
        return Err(ConfigError::sentence(
            Some(origin),
            format!("`{key}` is not of the form section.key, such as limits.headers"),
        ));
    };
    let entry = tree.entry(section.to_owned()).or_insert_with(|| Entry {
        origin: origin.clone(),
        key: section.to_owned(),
        node: Node::Table(BTreeMap::new()),
    });
    let Node::Table(table) = &mut entry.node else {
        return Err(ConfigError::about(
            origin,
            section,
            "is a list of tables and can only be written in a configuration file",
        ));
    };
    table.insert(
        name.to_owned(),
        Entry {
            origin,
            key: key.to_owned(),
            node: Node::Text(text),
        },
    );
    Ok(())
}

/// The entry of `section.key`, if anybody wrote one.
pub(super) fn find<'t>(tree: &'t Tree, section: &str, key: &str) -> Option<&'t Entry> {
    match &tree.get(section)?.node {
        Node::Table(table) => table.get(key),
        _ => None,
    }
}

/// Item `index` (from 0) of the list of tables `section`, or its key `key` when the item has it.
pub(super) fn find_item<'t>(
    tree: &'t Tree,
    section: &str,
    index: usize,
    key: &str,
) -> Option<&'t Entry> {
    let Node::List(items) = &tree.get(section)?.node else {
        return None;
    };
    let item = items.get(index)?;
    match &item.node {
        Node::Table(table) => table.get(key).or(Some(item)),
        _ => Some(item),
    }
}

/// Where each line of a text begins, to turn a byte offset into a line number.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let breaks = text
            .bytes()
            .enumerate()
            .filter(|&(_, byte)| byte == b'\n')
            .map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(breaks).collect())
    }

    /// The line of a byte offset, from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|&start| start <= offset)
    }
}

struct Reader {
    path: Arc<str>,
    lines: Lines,
}

impl Reader {
    fn table(&self, prefix: &str, table: &DeTable<'_>) -> Result<Tree, ConfigError> {
        table
            .iter()
            .map(|(name, value)| {
                let key = if prefix.is_empty() {
                    name.get_ref().to_string()
                } else {
                    format!("{prefix}.{}", name.get_ref())
                };
                Ok((
                    name.get_ref().to_string(),
                    self.entry(name.span().start, key, value)?,
                ))
            })
            .collect()
    }

    fn entry(
        &self,
        offset: usize,
        key: String,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Entry, ConfigError> {
        let origin = Origin::File {
            path: Arc::clone(&self.path),
            line: self.lines.line(offset),
        };
        let node = match value.get_ref() {
            DeValue::String(text) => Node::String(text.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Node::Integer(number),
                    Err(_) => Node::Other(number.as_str().to_owned()),
                }
            }
            DeValue::Float(number) => Node::Other(number.as_str().to_owned()),
            DeValue::Boolean(value) => Node::Boolean(*value),
            DeValue::Datetime(time) => Node::Other(time.to_string()),
            DeValue::Array(items) => Node::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(at, item)| {
                        self.entry(item.span().start, format!("{key}[{}]", at + 1), item)
                    })
                    .collect::<Result<_, _>>()?,
            ),
            DeValue::Table(table) => Node::Table(self.table(&key, table)?),
        };
        Ok(Entry { origin, key, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_and_its_whole_key() {
        let tree = parse(
            "a.toml",
            "[limits]\nheaders = 1\n\n[[user]]\nname = \"a\"\n\n[[user]]\ntags = [\n  1,\n]\n",
        )
        .expect("valid");
        let headers = find(&tree, "limits", "headers").expect("written");
        assert_eq!(
            (headers.origin.to_string().as_str(), headers.key.as_str()),
            ("a.toml:2", "limits.headers")
        );
        let tags = find_item(&tree, "user", 1, "tags").expect("written");
        assert_eq!(
            (tags.origin.to_string().as_str(), tags.key.as_str()),
            ("a.toml:8", "user[2].tags")
        );
        let absent = find_item(&tree, "user", 1, "name").expect("the item itself");
        assert_eq!(
            (absent.origin.to_string().as_str(), absent.key.as_str()),
            ("a.toml:7", "user[2]")
        );
    }

    #[test]
    fn a_syntax_error_names_the_line_and_never_quotes_it() {
        let error = parse("a.toml", "[stomp]\ndefault_pass = hunter2 hunter3\n")
            .expect_err("no quotes")
            .to_string();
        assert!(error.starts_with("a.toml:2: not valid TOML: "), "{error}");
        assert!(!error.contains("hunter3"), "{error}");
    }
}
