//! The same test for each engine.

use millpond::storage::{DirectoryOptions, Engine, EngineOptions};

/// Makes a test of each function for each engine; the functions take the [`Engine`].
macro_rules! test_each_engine {
    ($($name:ident),+ $(,)?) => {
        mod with_sled {
            $(#[test] fn $name() { super::$name(millpond::storage::Engine::Sled); })+
        }
        mod with_fjall {
            $(#[test] fn $name() { super::$name(millpond::storage::Engine::Fjall); })+
        }
    };
}

/// A data directory kept by an engine, as it is by default.
pub(crate) fn kept_by(engine: Engine) -> DirectoryOptions {
    DirectoryOptions {
        engine: EngineOptions::from(engine),
        ..DirectoryOptions::default()
    }
}
