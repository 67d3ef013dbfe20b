//! What the storage tests share.

use std::sync::Arc;

use millpond::storage::{
    CommitNumber, Journal, JournalOptions, MemoryStore, Payload, QueueId, Recovered, Seq, Store,
    Waiter,
};
use parking_lot::{Condvar, Mutex};

/// A payload that is what it says.
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Payload for Body {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

pub(crate) fn body(octets: impl Into<Vec<u8>>) -> Arc<dyn Payload> {
    Arc::new(Body(octets.into()))
}

/// A body of `len` octets that no other `tag` has.
pub(crate) fn filled(tag: u64, len: usize) -> Vec<u8> {
    let mut octets: Vec<u8> = (0..len)
        .map(|place| (place as u64 ^ tag).to_le_bytes()[0])
        .collect();
    let head = tag.to_be_bytes();
    let head_len = head.len().min(len);
    octets[..head_len].copy_from_slice(&head[..head_len]);
    octets
}

/// Counts how often it was woken, and lets a test wait for that.
#[derive(Default)]
pub(crate) struct Bell {
    rings: Mutex<u64>,
    changed: Condvar,
}

impl Waiter for Bell {
    fn commit_settled(&self) {
        *self.rings.lock() += 1;
        self.changed.notify_all();
    }
}

impl Bell {
    pub(crate) fn new() -> (Arc<Self>, Arc<dyn Waiter>) {
        let bell = Arc::new(Self::default());
        let waiter: Arc<dyn Waiter> = bell.clone();
        (bell, waiter)
    }

    pub(crate) fn rings(&self) -> u64 {
        *self.rings.lock()
    }

    /// Waits until it has been rung `count` times in all.
    pub(crate) fn wait_for(&self, count: u64) {
        let mut rings = self.rings.lock();
        while *rings < count {
            self.changed.wait(&mut rings);
        }
    }
}

/// Runs one unit and waits until it is settled.
pub(crate) fn write(journal: &Journal, work: impl FnOnce(&mut millpond::storage::Unit<'_>)) {
    commit(journal, work);
}

/// As [`write`], and returns the number of the commit.
pub(crate) fn commit(
    journal: &Journal,
    work: impl FnOnce(&mut millpond::storage::Unit<'_>),
) -> CommitNumber {
    let (bell, waiter) = Bell::new();
    let mut unit = journal.begin();
    work(&mut unit);
    unit.wait(&waiter);
    let number = unit.number();
    drop(unit);
    bell.wait_for(1);
    number
}

pub(crate) fn open(store: impl Store + 'static) -> (Journal, Recovered) {
    Journal::open(Box::new(store), JournalOptions::default()).expect("the store opens")
}

pub(crate) fn open_memory(store: &MemoryStore) -> (Journal, Recovered) {
    open(store.clone())
}

/// Options under which a checkpoint follows every few commits, and sparse blocks are merged as soon as there
/// are two.
pub(crate) fn busy_checkpoints() -> JournalOptions {
    JournalOptions {
        checkpoint_commits: 3,
        rewrite_blocks: 2,
        ..JournalOptions::default()
    }
}

/// (number, returned, payload)
pub(crate) type Held = (u64, u32, Vec<u8>);

/// Everything of a queue that was live when it was recovered, read back from the log in small steps,
/// and what turned out to be lost.
pub(crate) fn contents(
    journal: &Journal,
    recovered: &Recovered,
    queue: QueueId,
) -> (Vec<Held>, Vec<(u64, u64)>) {
    let (mut held, mut lost) = (Vec::new(), Vec::new());
    let Some(found) = recovered.queues.get(&queue) else {
        return (held, lost);
    };
    for &(first, last) in &found.live {
        let mut from = first;
        while from <= last {
            let fetched = journal
                .read(queue, from, last, 50_000)
                .expect("the log is open");
            assert!(
                fetched.upto >= from && fetched.upto <= last,
                "upto {} of {from} to {last}",
                fetched.upto
            );
            assert!(fetched.messages.is_sorted_by_key(|(seq, _)| *seq));
            held.extend(fetched.messages.into_iter().map(|(seq, payload)| {
                assert!(from <= seq && seq <= fetched.upto);
                let returned = found.returned.get(&seq).copied().unwrap_or_default();
                (seq.0, returned, payload.to_vec())
            }));
            lost.extend(fetched.lost.iter().map(|(first, last)| (first.0, last.0)));
            from = Seq(fetched.upto.0 + 1);
        }
    }
    let lost_count: u64 = lost.iter().map(|(first, last)| last - first + 1).sum();
    assert_eq!(
        held.len() as u64 + lost_count,
        found.len(),
        "every live message is there or reported"
    );
    (held, lost)
}

/// What a queue holds; nothing of it may be lost.
pub(crate) fn held(journal: &Journal, recovered: &Recovered, queue: QueueId) -> Vec<Held> {
    let (held, lost) = contents(journal, recovered, queue);
    assert_eq!(lost, [], "of queue {queue}");
    held
}

/// The numbers of what a queue holds.
pub(crate) fn seqs(journal: &Journal, recovered: &Recovered, queue: QueueId) -> Vec<u64> {
    let held = held(journal, recovered, queue);
    held.into_iter().map(|(seq, ..)| seq).collect()
}

/// The numbers of what a queue in a store holds.
pub(crate) fn seqs_in(store: &MemoryStore, queue: QueueId) -> Vec<u64> {
    let (journal, recovered) = open_memory(store);
    seqs(&journal, &recovered, queue)
}

pub(crate) const fn q(number: u64) -> QueueId {
    QueueId(number)
}

pub(crate) const fn s(number: u64) -> Seq {
    Seq(number)
}

/// Waits until `is_so`, which other threads bring about; a test that waits for what never comes fails.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let from = std::time::Instant::now();
    while !is_so() {
        assert!(from.elapsed().as_secs() < 60, "it never came to {what}");
        std::thread::yield_now();
    }
}
