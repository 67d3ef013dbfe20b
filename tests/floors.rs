//! The house rule that a floor imports only from floors below it, checked on the source text.
//!
//! A path counts wherever it stands: `use crate::engine::{...}`, `crate::storage::open(...)`, `millpond::cli`. Comments
//! and strings do not count.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of each floor, top to bottom; a module may use its own floor and those after it.
const FLOORS: [&[&str]; 5] = [
    &["cli", "bench", "config"],
    &["server", "management"],
    &["connection"],
    &["engine"],
    &["storage"],
];

/// Modules that only their own floor may use, although it is the top one anyway: configuration is passed down, never
/// looked up, so a floor below has option structs of its own.
const PRIVATE: &[&str] = &["config"];

/// A path that points upwards, or to a module that is on no floor.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    line: usize,
    message: String,
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// The violations in one file that belongs to `module`, `depth` modules below the crate's root.
fn check(module: &str, depth: usize, source: &str) -> Vec<Violation> {
    let code = without_comments_and_strings(source);
    let Some(own) = floor(module) else {
        return vec![Violation {
            line: 1,
            message: format!("`{module}` is on no floor: add it to tests/floors.rs"),
        }];
    };
    let mut violations = Vec::new();
    for (at, name) in crate_paths(&code, depth) {
        let line = code[..at].matches('\n').count() + 1;
        match floor(&name) {
            Some(used) if used < own => {
                let rule = if PRIVATE.contains(&name.as_str()) {
                    "configuration is passed down"
                } else {
                    "a floor above"
                };
                violations.push(Violation {
                    line,
                    message: format!("`{module}` uses `{name}`: {rule}"),
                });
            }
            Some(_) => {}
            None => violations.push(Violation {
                line,
                message: format!("`{module}` uses `{name}`, which is on no floor"),
            }),
        }
    }
    violations
}

/// The first segments after `crate::`, `millpond::` and as many `super::` as lead to the root, with where they stand;
/// a group names several.
fn crate_paths(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // A module inside a file (`mod tests`) is one step further down than the file.
    let supers = ["super::".repeat(depth), "super::".repeat(depth + 1)];
    for root in ["crate::", "millpond::", &supers[0], &supers[1]] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| {
                before.is_alphanumeric() || before == '_' || before == ':' || before == '$'
            }) {
                continue;
            }
            let rest = &code[at + root.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => group_heads(group),
                None => vec![head(rest)],
            };
            // From a module inside a file, fewer steps reach the root than its depth says, so `super::` may also stop
            // at a module of the file's own floor: only the floors' own names tell.
            let names = names
                .into_iter()
                .filter(|name| !root.starts_with("super") || floor(name).is_some());
            found.extend(names.map(|name| (at, name)));
        }
    }
    found
}

/// The identifier a path begins with.
fn head(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect()
}

/// The identifiers that the items of a group begin with; `group` begins after its brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut item = String::new();
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(std::mem::take(&mut item)),
            _ if depth == 0 => item.push(letter),
            _ => {}
        }
    }
    heads.push(item);
    heads
        .iter()
        .map(|item| head(item))
        .filter(|name| !name.is_empty())
        .collect()
}

/// The source with comments and string literals blanked out, line breaks kept.
fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(letter) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if letter == '"' {
            string_length(rest)
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..]
                .find(&end)
                .map_or(rest.len(), |at| open + at + end.len())
        } else {
            0
        };
        if skipped == 0 {
            // A quote as a character literal opens no string.
            let taken = if rest.starts_with("'\"'") {
                3
            } else {
                letter.len_utf8()
            };
            code.push_str(&rest[..taken]);
            rest = &rest[taken..];
        } else {
            code.extend(
                rest[..skipped]
                    .chars()
                    .map(|letter| if letter == '\n' { '\n' } else { ' ' }),
            );
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of the string literal that `text` begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The number of hashes if a raw string literal begins here.
fn raw_string_hashes(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.bytes().take_while(|&byte| byte == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_floor_imports_from_a_floor_above() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 10, "the source tree was found");
    let mut complaints = Vec::new();
    for path in &files {
        let inside = path.strip_prefix(&source).expect("found there");
        let depth = inside.components().count() - usize::from(inside.ends_with("mod.rs"));
        let module = inside
            .components()
            .next()
            .expect("a name")
            .as_os_str()
            .to_string_lossy();
        if inside == Path::new("lib.rs") || inside == Path::new("main.rs") {
            continue;
        }
        let text = fs::read_to_string(path).expect("readable");
        let violations = check(module.trim_end_matches(".rs"), depth, &text);
        complaints.extend(
            violations
                .iter()
                .map(|found| format!("src/{}:{}: {}", inside.display(), found.line, found.message)),
        );
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_protocol_crate_depends_on_no_runtime_and_not_on_the_broker() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("protocol/Cargo.toml")).expect("readable");
    let dependencies = manifest
        .split("[dependencies]")
        .nth(1)
        .expect("a list")
        .split("\n[")
        .next()
        .expect("its end");
    for line in dependencies.lines() {
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        assert!(
            !["tokio", "millpond", "socket2", "mio", "rustix"].contains(&name),
            "protocol depends on {name}"
        );
    }
}

#[test]
fn planted_violations_are_found_wherever_they_stand() {
    let cases = [
        (
            "engine",
            "use crate::connection::Driver;",
            vec![(1, "`engine` uses `connection`: a floor above")],
        ),
        (
            "storage",
            "\n\nfn f() { crate::engine::start() }",
            vec![(3, "`storage` uses `engine`: a floor above")],
        ),
        (
            "engine",
            "use crate::{storage::Journal, server::{self, limits}};",
            vec![(1, "`engine` uses `server`: a floor above")],
        ),
        (
            "engine",
            "use crate::{\n    storage,\n    cli,\n};",
            vec![(1, "`engine` uses `cli`: a floor above")],
        ),
        (
            "server",
            "use crate::config::Config;",
            vec![(1, "`server` uses `config`: configuration is passed down")],
        ),
        (
            "management",
            "pub(crate) use millpond::cli::run;",
            vec![(1, "`management` uses `cli`: a floor above")],
        ),
        (
            "engine",
            "use super::super::cli::run;",
            vec![(1, "`engine` uses `cli`: a floor above")],
        ),
        (
            "engine",
            "mod tests { use super::super::super::{route, server}; }",
            vec![(1, "`engine` uses `server`: a floor above")],
        ),
        (
            "engine",
            "use crate::utils;",
            vec![(1, "`engine` uses `utils`, which is on no floor")],
        ),
        (
            "utils",
            "",
            vec![(1, "`utils` is on no floor: add it to tests/floors.rs")],
        ),
        (
            "connection",
            "let a = '\"'; use crate::server::x; let b = '\"';",
            vec![(1, "`connection` uses `server`: a floor above")],
        ),
    ];
    for (module, source, expected) in cases {
        let found: Vec<_> = check(module, 2, source)
            .into_iter()
            .map(|found| (found.line, found.message))
            .collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(line, message)| (line, message.to_owned()))
            .collect();
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn what_points_down_or_is_only_text_is_no_violation() {
    let cases = [
        (
            "connection",
            "use crate::engine::queue; use crate::storage::{Journal, Seq}; use crate::connection::driver;",
        ),
        (
            "engine",
            "use super::super::route; mod tests { use super::super::*; use super::*; }",
        ),
        (
            "cli",
            "use crate::{config::Config, server::listener, management};",
        ),
        (
            "storage",
            "// crate::cli runs this\n/* crate::cli */ let a = \"crate::cli \\\" crate::server\"; let b = r#\"crate::cli \" \"#;",
        ),
        (
            "storage",
            "use millpond_protocol::value; use other_crate::cli; macro_rules! m { () => { $crate::storage } }",
        ),
    ];
    for (module, source) in cases {
        assert_eq!(check(module, 2, source), [], "{source}");
    }
}
