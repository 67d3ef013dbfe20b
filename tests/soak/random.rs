//! The tests of every day at length: those too slow for it, and many times as many cases of the random ones.

use std::process::Stdio;

use tokio::process::Command;

use crate::{Context, Outcome};

pub(crate) async fn run(context: Context) -> Outcome {
    let cases = context.settings.cases.to_string();
    let status = Command::new(env!("CARGO"))
        .args([
            "test",
            "--profile",
            "ci",
            "--workspace",
            "--locked",
            "--",
            "--include-ignored",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PROPTEST_CASES", &cases)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .expect("cargo started");
    assert!(status.success(), "the tests failed, as they say above");
    Outcome::Passed(vec![format!("{cases} random cases a test")])
}
