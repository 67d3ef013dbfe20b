//! The configuration from outside: the annotated example, precedence, and what each mistake is told.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond::config::{
    Config, Connections, FlagSetting, Loaded, MemoryLimit, Sources, StorageEngine,
};
use tempfile::TempDir;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("millpond.example.toml")
}

/// Loads a file with this text, without environment and flags; an error names it `millpond.toml`.
fn load(text: &str) -> Result<Loaded, String> {
    load_with(text, &[], &[])
}

/// Name and value.
type Variable = (&'static str, &'static str);
/// Flag, key and value.
type Flag = (&'static str, &'static str, &'static str);

fn load_with(text: &str, environment: &[Variable], flags: &[Flag]) -> Result<Loaded, String> {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("millpond.toml");
    fs::write(&path, text).expect("written");
    let sources = Sources {
        file: Some(path),
        environment: environment
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect(),
        flags: flags
            .iter()
            .map(|&(flag, key, value)| FlagSetting {
                flag,
                key: key.to_owned(),
                value: value.to_owned(),
            })
            .collect(),
    };
    let directory = format!("{}/", directory.path().display());
    Config::load(&sources).map_err(|error| error.to_string().replace(&directory, ""))
}

#[test]
fn the_example_is_the_default_configuration() {
    let loaded = Config::load(&Sources {
        file: Some(example()),
        ..Sources::default()
    })
    .expect("the example is valid");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let nothing = Config::load(&Sources::default()).expect("no settings are valid");
    assert_eq!(nothing.config, Config::default());
}

#[test]
fn the_example_names_every_key_under_its_section() {
    let text = fs::read_to_string(example()).expect("readable");
    let mut section = String::new();
    let mut named = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            named.push(format!("{section}.{key}"));
        }
    }
    for key in millpond::config::keys() {
        assert!(
            named.contains(&key),
            "millpond.example.toml does not name {key}"
        );
    }
}

#[test]
fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
    let file = "[limits]\nheaders = 20\ntransactions = 2\nsubscriptions = 2\n";
    let environment = [
        ("MILLPOND_LIMITS__TRANSACTIONS", "3"),
        ("MILLPOND_LIMITS__SUBSCRIPTIONS", "3"),
    ];
    let flags = [
        ("--set", "limits.subscriptions", "4"),
        ("--set", "limits.subscriptions", "5"),
    ];
    let limits = load_with(file, &environment, &flags)
        .expect("valid")
        .config
        .limits;
    assert_eq!(
        (limits.headers, limits.transactions, limits.subscriptions),
        (20, 3, 5)
    );
    assert_eq!(limits.transaction_actions, 1024);
}

#[test]
fn text_from_flags_and_the_environment_becomes_whatever_the_key_takes() {
    let flags = [
        ("--set", "listen.nodelay", "false"),
        ("--set", "limits.message_bytes", "1MiB"),
        ("--set", "limits.header_line_bytes", "4096"),
        ("--set", "limits.login_timeout", "500ms"),
        ("--set", "limits.connections", "7"),
        ("--set", "memory.limit", "60%"),
        ("--set", "stomp.default_pass", "12345"),
        ("--set", "stomp.errors", "strict"),
        ("--set", "storage.data_dir", "/srv/mill pond"),
    ];
    let config = load_with("", &[], &flags).expect("valid").config;
    assert!(!config.listen.nodelay);
    assert_eq!(
        (config.limits.message_bytes, config.limits.header_line_bytes),
        (1 << 20, 4096)
    );
    assert_eq!(config.limits.login_timeout, Duration::from_millis(500));
    assert_eq!(config.limits.connections, Connections::Count(7));
    assert_eq!(config.memory.limit, MemoryLimit::Percent(60));
    assert_eq!(config.stomp.default_pass.expose(), "12345");
    assert_eq!(config.storage.data_dir, Path::new("/srv/mill pond"));
}

#[test]
fn the_storage_engine_and_what_is_its_own_are_settings_with_limits() {
    let text =
        "[storage]\nengine = \"fjall\"\nfjall_memtable = \"8MiB\"\nfjall_journals = \"64MiB\"\n";
    let storage = load(text).expect("valid").config.storage;
    assert_eq!(storage.engine, StorageEngine::Fjall);
    assert_eq!(
        (storage.fjall_memtable, storage.fjall_journals),
        (8 << 20, 64 << 20)
    );
    for (line, wanted) in [
        ("engine = \"rocksdb\"", "\"sled\" or \"fjall\""),
        ("fjall_memtable = 1000", "between 1MiB and 1GiB"),
        ("fjall_journals = \"32MiB\"", "between 64MiB and 64GiB"),
    ] {
        let error = load(&format!("[storage]\n{line}\n")).expect_err("refused");
        assert!(
            error.starts_with("millpond.toml:2: `storage.") && error.contains(wanted),
            "{error}"
        );
    }
}

#[test]
fn variables_that_container_platforms_set_for_a_service_named_millpond_are_no_settings() {
    let environment = [
        ("MILLPOND_PORT", "tcp://10.0.0.1:61613"),
        ("MILLPOND_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    assert_eq!(
        load_with("", &environment, &[]).expect("valid").config,
        Config::default()
    );
}

#[test]
fn declared_users_replace_guest_and_its_permission() {
    let text = "[[user]]\nname = \"ann\"\npassword = \"secret\"\n\n[[permission]]\nuser = \"ann\"\nread = \".*\"\n";
    let loaded = load(text).expect("valid");
    let users: Vec<_> = loaded
        .config
        .users
        .iter()
        .map(|user| user.name.as_str())
        .collect();
    let rows: Vec<_> = loaded
        .config
        .permissions
        .iter()
        .map(|row| (row.user.as_str(), row.vhost.as_str()))
        .collect();
    assert_eq!((users, rows), (vec!["ann"], vec![("ann", "/")]));
    assert_eq!(loaded.config.permissions[0].write, "");
}

#[test]
fn guest_may_use_every_declared_virtual_host_when_no_user_is_declared() {
    let config = load("[[vhost]]\nname = \"/\"\n[[vhost]]\nname = \"sales\"\n")
        .expect("valid")
        .config;
    let rows: Vec<_> = config
        .permissions
        .iter()
        .map(|row| (row.user.as_str(), row.vhost.as_str()))
        .collect();
    assert_eq!(rows, [("guest", "/"), ("guest", "sales")]);
}

#[test]
fn a_user_without_permission_and_a_listener_not_built_yet_are_warned_about() {
    let loaded = load(
        "[listen]\namqp = \"127.0.0.1:5672\"\nweb_stomp = \"off\"\n[[user]]\nname = \"ann\"\npassword = \"x\"\n",
    );
    let warnings: Vec<_> = loaded.expect("valid").warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains(":2: `listen.amqp` is ignored: this version does not serve AMQP yet"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains(":5: user `ann` has no [[permission]]"),
        "{warnings:?}"
    );
}

#[test]
fn secrets_are_neither_printed_nor_quoted_in_errors() {
    let config = load("[stomp]\ndefault_pass = \"hunter2\"\n")
        .expect("valid")
        .config;
    assert!(!format!("{config:?}").contains("hunter2"));
    for text in [
        "[stomp]\ndefault_pass = 8712002\n",
        "[[user]]\nname = \"a\"\npassword = [\"8712002\"]\n",
        "[[user]]\nname = \"a\"\npassword_hash = \"8712002\"\n",
        "[stomp]\ndefault_pass = 'x' 8712002\n",
    ] {
        let error = load(text).expect_err(text);
        assert!(!error.contains("8712002"), "{error}");
    }
}

/// Every mistake is told where it is, which key it is, and what would be right.
#[test]
fn each_mistake_is_told_with_its_line_and_what_would_be_right() {
    let user = "[[user]]\nname = \"ann\"\npassword = \"x\"\n";
    let with_user = |text: &str| format!("{user}{text}");
    let cases = [
        (
            "[limits]\n\nheader = 5\n".to_owned(),
            "millpond.toml:3: unknown key `limits.header`; did you mean `limits.headers`?",
        ),
        (
            "[limits]\nfree_limit = 5\n".to_owned(),
            "millpond.toml:2: unknown key `limits.free_limit`; did you mean `disk.free_limit`?",
        ),
        (
            "[limit]\nheaders = 5\n".to_owned(),
            "millpond.toml:1: unknown section `limit`; did you mean `limits`?",
        ),
        (
            "data_dir = \"x\"\n".to_owned(),
            "millpond.toml:1: unknown key `data_dir`; did you mean `storage.data_dir`?",
        ),
        (
            "[clustering]\nnodes = 3\n".to_owned(),
            "millpond.toml:1: unknown section `clustering`; millpond.example.toml lists every key",
        ),
        (
            "[stomp]\n\n\nerrors = strict\n".to_owned(),
            "millpond.toml:4: not valid TOML: ",
        ),
        (
            "[log]\nformat = \"text\"\nformat = \"json\"\n".to_owned(),
            "millpond.toml:3: not valid TOML: ",
        ),
        (
            "[limits]\nheaders = \"many\"\n".to_owned(),
            "millpond.toml:2: `limits.headers` must be a whole number, 0 or more, not the text \"many\"",
        ),
        (
            "[limits]\nheaders = -1\n".to_owned(),
            "millpond.toml:2: `limits.headers` must be a whole number, 0 or more, not the number -1",
        ),
        (
            "[limits]\nheaders = 5\n".to_owned(),
            "millpond.toml:2: `limits.headers` must be between 16 and 10000, not 5",
        ),
        (
            "[limits]\nmessage_bytes = \"lots\"\n".to_owned(),
            "millpond.toml:2: `limits.message_bytes` must be a size such as \"16MiB\", \"64KiB\" or 1048576 (bytes), not \"lots\"",
        ),
        (
            "[limits]\nmessage_bytes = true\n".to_owned(),
            "millpond.toml:2: `limits.message_bytes` must be a size such as \"16MiB\", \"64KiB\" or 1048576 (bytes)",
        ),
        (
            "[limits]\nmessage_bytes = 100\n".to_owned(),
            "millpond.toml:2: `limits.message_bytes` must be between 4KiB and 1GiB, not 100 bytes",
        ),
        (
            "[limits]\nlogin_timeout = 10\n".to_owned(),
            "millpond.toml:2: `limits.login_timeout` must be a duration with a unit, such as \"10s\", \"500ms\" or \"2m\", not \"10\"",
        ),
        (
            "[limits]\nlogin_timeout = \"2h\"\n".to_owned(),
            "millpond.toml:2: `limits.login_timeout` must be between 100ms and 600s, not 7200s",
        ),
        (
            "[limits]\nconnections = 0\n".to_owned(),
            "millpond.toml:2: `limits.connections` must be \"auto\" or a number of connections, 1 or more, not \"0\"",
        ),
        (
            "[memory]\nlimit = \"140%\"\n".to_owned(),
            "millpond.toml:2: `memory.limit` must be a share such as \"40%\" (1% to 95%) or a size such as \"2GiB\", not \"140%\"",
        ),
        (
            "[memory]\nlimit = 0.4\n".to_owned(),
            "millpond.toml:2: `memory.limit` must be a share such as \"40%\" (1% to 95%) or a size such as \"2GiB\", not \"0.4\"",
        ),
        (
            "[listen]\nstomp = \"61613\"\n".to_owned(),
            "millpond.toml:2: `listen.stomp` must be HOST:PORT, such as 127.0.0.1:61613, [::1]:61613 or *:61613 (every interface), not \"61613\"; \"off\" for no listener",
        ),
        (
            "[listen]\nnodelay = \"yes\"\n".to_owned(),
            "millpond.toml:2: `listen.nodelay` must be true or false, not the text \"yes\"",
        ),
        (
            "[stomp]\nerrors = \"lenient\"\n".to_owned(),
            "millpond.toml:2: `stomp.errors` must be \"compatible\" or \"strict\", not \"lenient\"",
        ),
        (
            "[stomp]\nargument_mismatch = \"ignore\"\n".to_owned(),
            "millpond.toml:2: `stomp.argument_mismatch` must be \"error\" or \"use-existing\", not \"ignore\"",
        ),
        (
            "[stomp]\ndefault_vhost = \"x\"\n".to_owned(),
            "millpond.toml:2: `stomp.default_vhost` must be a declared virtual host, and no [[vhost]] has the name \"x\"",
        ),
        (
            "[log]\nlevel = \"verbose\"\n".to_owned(),
            "millpond.toml:2: `log.level` must be error, warn, info, debug, trace or a list such as \"info,millpond::storage=debug\", not \"verbose\"",
        ),
        (
            "[user]\nname = \"a\"\n".to_owned(),
            "millpond.toml:1: `user` is a list of tables: write [[user]]",
        ),
        (
            "[[limits]]\nheaders = 20\n".to_owned(),
            "millpond.toml:1: `limits` is a table of settings: write [limits]",
        ),
        (
            "limits = 5\n".to_owned(),
            "millpond.toml:1: `limits` is a table of settings: write [limits]",
        ),
        (
            "[[user]]\npassword = \"x\"\n".to_owned(),
            "millpond.toml:1: `user[1]` needs the key `name`",
        ),
        (
            "[[user]]\nname = \"a\"\n".to_owned(),
            "millpond.toml:1: `user[1].password` or `password_hash` is needed",
        ),
        (
            "[[user]]\nname = \"a\"\npassword = \"x\"\npassword_hash = \"y\"\n".to_owned(),
            "millpond.toml:4: `user[1].password_hash` and `password` exclude each other: keep one",
        ),
        (
            "[[user]]\nname = \"a\"\npassword_hash = \"y\"\n".to_owned(),
            "millpond.toml:3: `user[1].password_hash` must be an argon2id hash in PHC form, beginning with $argon2id$",
        ),
        (
            "[[user]]\nname = \"a\"\npassword = \"\"\n".to_owned(),
            "millpond.toml:3: `user[1].password` must not be empty",
        ),
        (
            "[[user]]\nname = \"\"\npassword = \"x\"\n".to_owned(),
            "millpond.toml:2: `user[1].name` must have 1 to 255 bytes, not 0",
        ),
        (
            with_user("tags = [\"admin\"]\n"),
            "millpond.toml:4: `user[1].tags` must be from administrator, monitoring, policymaker, management, impersonator, not \"admin\"",
        ),
        (
            with_user(user),
            "millpond.toml:5: `user[2].name` repeats \"ann\", which is declared further up",
        ),
        (
            with_user("[[permission]]\nuser = \"bob\"\n"),
            "millpond.toml:5: `permission[1].user` must be a declared user, and no [[user]] has the name \"bob\"",
        ),
        (
            with_user("[[permission]]\nuser = \"ann\"\nvhost = \"x\"\n"),
            "millpond.toml:6: `permission[1].vhost` must be a declared virtual host, and no [[vhost]] has the name \"x\"",
        ),
        (
            with_user("[[permission]]\nuser = \"ann\"\nread = \"a(\"\n"),
            "millpond.toml:6: `permission[1].read` must be a regular expression, not \"a(\": unclosed group",
        ),
        (
            with_user("[[permission]]\nuser = \"ann\"\n[[permission]]\nuser = \"ann\"\n"),
            "millpond.toml:7: `permission[2].user` has a second row for user `ann` in virtual host `/`: one row holds all three expressions",
        ),
        (
            with_user("[[topic_permission]]\nuser = \"ann\"\n"),
            "millpond.toml:4: `topic_permission[1]` needs the key `exchange`",
        ),
        (
            with_user("[[user]]\nname = \"b\"\npassword = \"x\"\ntag = []\n"),
            "millpond.toml:7: unknown key `user[2].tag`; did you mean `user.tags`?",
        ),
    ];
    for (text, expected) in cases {
        let error = load(&text).expect_err(&text);
        assert!(
            error.starts_with(expected),
            "\n{text}\n  said: {error}\nwanted: {expected}"
        );
    }
}

#[test]
fn a_mistake_in_the_environment_or_a_flag_names_the_variable_or_the_flag() {
    let cases: [(&[Variable], &[Flag], &str); 6] = [
        (
            &[("MILLPOND_LIMITS__HEADER", "5")],
            &[],
            "environment variable MILLPOND_LIMITS__HEADER: unknown key `limits.header`; did you mean `limits.headers`?",
        ),
        (
            &[("MILLPOND_LIMITS__HEADERS", "x")],
            &[],
            "environment variable MILLPOND_LIMITS__HEADERS: `limits.headers` must be a whole number, 0 or more, not the text \"x\"",
        ),
        (
            &[("MILLPOND_USER__NAME", "x")],
            &[],
            "environment variable MILLPOND_USER__NAME: `user` is a list of tables and can only be written in a configuration file",
        ),
        (
            &[],
            &[("--stomp", "listen.stomp", "here")],
            "flag --stomp: `listen.stomp` must be HOST:PORT",
        ),
        (
            &[],
            &[("--set", "headers", "5")],
            "flag --set: `headers` is not of the form section.key, such as limits.headers",
        ),
        (
            &[],
            &[("--set", "disk.reserve", "17GiB")],
            "flag --set: `disk.reserve` must be between 0 bytes and 16GiB, not 17GiB",
        ),
    ];
    for (environment, flags, expected) in cases {
        let error = load_with("", environment, flags).expect_err(expected);
        assert!(
            error.starts_with(expected),
            "\n  said: {error}\nwanted: {expected}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let sources = Sources {
        file: Some(PathBuf::from("/nowhere/millpond.toml")),
        ..Sources::default()
    };
    let error = Config::load(&sources)
        .expect_err("no such file")
        .to_string();
    assert!(
        error.starts_with("cannot read the configuration file /nowhere/millpond.toml: "),
        "{error}"
    );
}
