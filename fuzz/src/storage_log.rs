//! A damaged log: the values of a store changed in any way, with checksums that hold all the same.
//!
//! Random damage is caught by the checksums, and tests show that. Here they are put right after the damage, so that
//! everything behind them (blocks, frames, pages, the header of the checkpoint) meets it too.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock, mpsc};

use millpond::storage::{
    Change, Journal, JournalOptions, MemoryStore, Payload, QueueId, Seq, Store, Unit, Waiter,
};

/// Keys and values of a store.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// First octets of keys: the records a store begins with, blocks, pages.
const META: u8 = 0;
const BLOCKS: u8 = 1;
const PAGES: u8 = 2;
/// Octets of a block before its frames.
const BLOCK_HEADER: usize = 32;
/// Octets of the input that one change takes.
const CHANGE: usize = 6;

struct Body(Vec<u8>);

impl Payload for Body {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

struct Bell(mpsc::SyncSender<()>);

impl Waiter for Bell {
    fn commit_settled(&self) {
        let _ = self.0.try_send(());
    }
}

/// Carries out one unit and waits until it is durable.
fn commit(journal: &Journal, fill: impl FnOnce(&mut Unit<'_>)) {
    let (ring, rung) = mpsc::sync_channel(1);
    let bell: Arc<dyn Waiter> = Arc::new(Bell(ring));
    let mut unit = journal.begin();
    fill(&mut unit);
    unit.wait(&bell);
    drop(unit);
    rung.recv().expect("the journal rings once");
}

/// A log with a checkpoint in its middle: several queues, a fan-out, a long payload, definitions, settles, returns.
static LOG: LazyLock<Entries> = LazyLock::new(|| {
    let store = MemoryStore::new();
    let options = JournalOptions {
        checkpoint_commits: 4,
        ..JournalOptions::default()
    };
    let opened = Journal::open(Box::new(store.clone()), options);
    let (journal, _) = opened.expect("an empty store opens");
    for seq in 1..=6 {
        commit(&journal, |unit| {
            let shared: Arc<dyn Payload> = Arc::new(Body(vec![7; 40]));
            for queue in 1..=3 {
                unit.enqueue(QueueId(queue), Seq(2 * seq), Arc::clone(&shared));
            }
            let len = if seq == 3 { 70_000 } else { 20 };
            unit.enqueue(QueueId(1), Seq(2 * seq + 1), Arc::new(Body(vec![9; len])));
            unit.define(seq.to_le_bytes().to_vec(), vec![5; 30]);
            unit.settle(QueueId(2), Seq(1), Seq(seq));
            unit.returned(QueueId(3), Seq(2 * seq), 2);
        });
    }
    drop(journal);
    entries(&store)
});

fn entries(store: &MemoryStore) -> Entries {
    let mut entries = Vec::new();
    let scanned = store.reader().scan(&[], &[0xff], &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    scanned.expect("memory can be read");
    entries
}

/// The first octet says what is put right afterwards, every six more are a change.
///
/// # Panics
/// If opening the log does.
pub fn run(input: &[u8]) {
    let Some((&choice, changes)) = input.split_first() else {
        return;
    };
    let mut entries = LOG.clone();
    for change in changes.chunks_exact(CHANGE) {
        apply(&mut entries, change);
    }
    if choice & 1 == 0 {
        seal(&mut entries, choice & 2 == 0);
    }
    let mut store = MemoryStore::new();
    let puts = entries
        .into_iter()
        .map(|(key, value)| Change::Put(key, value));
    store.write(puts.collect()).expect("memory can be written");
    if let Ok((journal, _)) = Journal::open(Box::new(store), JournalOptions::default()) {
        // What was recovered can be worked with. That it fails is allowed, not that it panics.
        let mut unit = journal.begin();
        unit.settle(QueueId(1), Seq(1), Seq(u64::from(choice)));
        drop(unit);
        let _ = journal.close();
    }
}

fn apply(entries: &mut Entries, change: &[u8]) {
    if entries.is_empty() {
        return;
    }
    let place = usize::from(change[0]) % entries.len();
    let offset = usize::from(u16::from_be_bytes([change[2], change[3]]));
    let (key, value) = &mut entries[place];
    let offset = offset % (value.len() + 1);
    match change[1] % 6 {
        0 if offset < value.len() => value[offset] ^= change[4],
        1 if offset < value.len() => value[offset] = change[4],
        2 => value.truncate(offset),
        3 => drop(entries.remove(place)),
        4 => value
            .splice(offset..offset, [change[4], change[5]])
            .for_each(drop),
        5 => {
            let at = usize::from(change[4]) % key.len();
            key[at] = change[5];
        }
        _ => {}
    }
}

/// Puts the checksums right; `chain`: also those by which a commit's final block sums up the others and names the
/// commit before.
fn seal(entries: &mut Entries, chain: bool) {
    let mut digest = 0;
    let mut previous = 0_u32;
    for (key, value) in entries {
        match key.first() {
            Some(&META) if value.len() >= 4 => {
                let sum = crc32c::crc32c(&value[4..]);
                value[..4].copy_from_slice(&sum.to_be_bytes());
            }
            Some(&PAGES) if value.len() >= 4 => {
                let sum = crc32c::crc32c_append(crc32c::crc32c(key), &value[4..]);
                value[..4].copy_from_slice(&sum.to_be_bytes());
            }
            Some(&BLOCKS) if value.len() >= BLOCK_HEADER => {
                let is_final = value[1] & 1 != 0;
                if is_final && chain {
                    value[24..28].copy_from_slice(&u32::to_be_bytes(digest));
                    value[28..32].copy_from_slice(&previous.to_be_bytes());
                }
                let sum = crc32c::crc32c_append(crc32c::crc32c(&value[..4]), &value[8..]);
                value[4..8].copy_from_slice(&sum.to_be_bytes());
                if is_final {
                    (digest, previous) = (0, sum);
                } else {
                    digest = crc32c::crc32c_append(digest, &sum.to_be_bytes());
                }
            }
            _ => {}
        }
    }
}
