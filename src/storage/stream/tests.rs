//! What is written is read, and nothing else.

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Messages = BTreeMap<u64, (u32, Vec<u8>)>;

#[derive(Debug, Clone, PartialEq)]
struct Store {
    clean: bool,
    definitions: BTreeMap<Vec<u8>, Vec<u8>>,
    queues: BTreeMap<u64, Messages>,
}

prop_compose! {
    fn stores()(
        clean: bool,
        definitions in btree_map(vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..50), 0..5),
        queues in btree_map(
            0..u64::MAX,
            btree_map(0..u64::MAX, (any::<u32>(), vec(any::<u8>(), 0..300)), 0..5),
            0..5,
        ),
    ) -> Store {
        Store { clean, definitions, queues }
    }
}

fn written(store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        clean: store.clean,
        next_queue: QueueId(u64::MAX),
    };
    let mut writer = StreamWriter::begin(&mut out, header).unwrap();
    for (key, value) in &store.definitions {
        writer.write(&Record::Definition { key, value }).unwrap();
    }
    for (&queue, messages) in &store.queues {
        let (queue, next_seq) = (QueueId(queue), Seq(u64::MAX));
        writer.write(&Record::Queue { queue, next_seq }).unwrap();
        for (&seq, (returned, payload)) in messages {
            let (seq, returned) = (Seq(seq), *returned);
            let message = Record::Message {
                seq,
                returned,
                payload,
            };
            writer.write(&message).unwrap();
        }
    }
    writer.finish().unwrap();
    out
}

fn read(mut octets: &[u8]) -> Result<Store, StorageError> {
    let mut reader = StreamReader::begin(&mut octets)?;
    let mut store = Store {
        clean: reader.header().clean,
        definitions: BTreeMap::new(),
        queues: BTreeMap::new(),
    };
    let mut last = 0;
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Definition { key, value } => {
                store.definitions.insert(key.to_vec(), value.to_vec());
            }
            Record::Queue { queue, .. } => {
                last = queue.0;
                store.queues.insert(last, Messages::new());
            }
            Record::Message {
                seq,
                returned,
                payload,
            } => {
                let messages = store.queues.get_mut(&last).expect("a queue comes first");
                messages.insert(seq.0, (returned, payload.to_vec()));
            }
        }
    }
    Ok(store)
}

/// A stream of records made by hand, each with a right checksum.
fn by_hand(records: &[&[u8]]) -> Vec<u8> {
    let mut out = [MAGIC.as_slice(), &VERSION.to_be_bytes()].concat();
    for content in records {
        let len = u32::try_from(content.len()).unwrap().to_be_bytes();
        out.extend_from_slice(&len);
        out.extend_from_slice(&checksum(len, content).to_be_bytes());
        out.extend_from_slice(content);
    }
    out
}

fn refusal(octets: &[u8]) -> String {
    read(octets).expect_err("refused").to_string()
}

proptest! {
    #[test]
    fn what_is_written_is_read(store in stores()) {
        let octets = written(&store);
        prop_assert_eq!(read(&octets).unwrap(), store);
    }

    #[test]
    fn a_stream_that_is_cut_off_changed_or_continued_is_refused(
        store in stores(), place: prop::sample::Index, flip in 1..=u8::MAX,
    ) {
        let octets = written(&store);
        let place = place.index(octets.len());
        prop_assert!(read(&octets[..place]).is_err());
        let mut changed = octets.clone();
        changed[place] ^= flip;
        prop_assert!(read(&changed).is_err());
        prop_assert!(read(&[octets, vec![flip]].concat()).is_err());
    }

    #[test]
    fn arbitrary_records_never_panic(records in vec(vec(0..6_u8, 0..12), 0..12)) {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let header: &[u8] = &[HEADER, 1, 9];
        let _ = read(&by_hand(&records));
        let _ = read(&by_hand(&[&[header], &records[..]].concat()));
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in vec(any::<u8>(), 0..200)) {
        let _ = read(&octets);
        let _ = read(&[MAGIC.as_slice(), &VERSION.to_be_bytes(), &octets].concat());
    }
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    assert!(refusal(b"").contains("not what millpond export writes"));
    assert!(refusal(b"#!/bin/sh\necho something else\n").contains("not what"));
    let newer = [MAGIC.as_slice(), &2_u32.to_be_bytes()].concat();
    assert!(refusal(&newer).contains("version 2, this millpond reads version 1"));
}

#[test]
fn a_length_that_promises_much_takes_no_memory_before_the_octets_come() {
    let mut octets = by_hand(&[]);
    octets.extend_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    octets.extend_from_slice(&[0; 4]);
    assert!(refusal(&octets).contains("cut off"));
    let mut input = octets.as_slice();
    assert!(StreamReader::begin(&mut input).is_err());
    octets[20] = 0xff;
    assert!(refusal(&octets).contains("length cannot be"));
}

#[test]
fn records_that_are_missing_or_in_another_order_are_noticed() {
    let header: &[u8] = &[HEADER, 1, 9];
    let (queue, next): (&[u8], &[u8]) = (&[QUEUE, 3, 10], &[QUEUE, 4, 10]);
    let (message, later): (&[u8], &[u8]) = (&[MESSAGE, 5, 0, 7], &[MESSAGE, 6, 0, 7]);
    let definition: &[u8] = &[DEFINITION, 1, b'k', b'v'];
    for wrong in [
        &[header, message][..],
        &[header, queue, queue],
        &[header, next, queue],
        &[header, queue, later, message],
        &[header, queue, message, message],
        &[header, queue, &[MESSAGE, 10, 0]],
        &[header, &[QUEUE, 9, 10]],
        &[header, definition, definition],
        &[header, queue, definition],
        &[header, header],
        &[header, &[]],
    ] {
        assert!(
            refusal(&by_hand(wrong)).contains("out of order"),
            "{wrong:?}"
        );
    }
    let whole = [header, definition, queue, message, later, next];
    assert!(refusal(&by_hand(&whole)).contains("cut off"));
    let end = &[END, 1, 2, 2, 2, 0, 0, 0, 0];
    let all = [&whole[..], &[end]].concat();
    assert!(refusal(&by_hand(&all)).contains("records are missing"));
}
