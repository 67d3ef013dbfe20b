//! The fuzz targets on a stable compiler: with every file of the saved corpus, and with random input.

use std::path::Path;

use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    reason = "public for the fuzz crate, whose library this file is"
)]
mod targets;

/// Pieces of which nearly valid frames are made.
const TOKENS: [&str; 30] = [
    "SEND",
    "ACK",
    "CONNECT",
    "CONNECTED",
    "MESSAGE",
    "ERROR",
    "SUB",
    "JUNK",
    "\n",
    "\n",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\0",
    "\0",
    "\0\n",
    ":",
    ":",
    "a",
    "b:c\n",
    "content-length:",
    "content-length:2\n",
    "0",
    "7",
    "-1",
    "\\",
    "\\n",
    "^@",
    "^@\n",
];

fn run_corpus(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is part of the sources") {
        let path = entry.expect("a readable folder").path();
        run(&std::fs::read(&path).expect("a readable file"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

#[test]
fn the_saved_corpus_of_bytes_holds() {
    run_corpus("stomp_bytes", targets::stomp_bytes::run);
}

#[test]
fn the_saved_corpus_of_frames_holds() {
    run_corpus("stomp_frames", targets::stomp_frames::run);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn random_bytes_hold(input in prop::collection::vec(any::<u8>(), 0..700)) {
        targets::stomp_bytes::run(&input);
    }

    #[test]
    fn nearly_valid_bytes_hold(
        choice in any::<u8>(),
        tokens in prop::collection::vec(prop::sample::select(&TOKENS[..]), 0..80),
    ) {
        let mut input = vec![choice];
        input.extend(tokens.concat().bytes());
        targets::stomp_bytes::run(&input);
    }

    #[test]
    fn random_happenings_hold(input in prop::collection::vec(any::<u8>(), 0..80)) {
        targets::stomp_frames::run(&input);
    }
}
