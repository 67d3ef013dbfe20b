//! A small model of the log, and a world that drives a journal and the model side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond::storage::{
    CommitNumber, Faults, FaultyStore, Journal, JournalOptions, MemoryStore, Payload, Recovered,
    Unit,
};
use proptest::prelude::*;

use crate::support::{body, busy_checkpoints, filled, held, q, s, write};

/// One operation; the numbers are reduced to what makes sense when it is run.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Enqueues one message to each queue of the bit mask, with a length from a few classes.
    Enqueue {
        queues: u8,
        len: u16,
    },
    /// Settles some live messages from a place on, or the newest ones.
    Settle {
        queue: u8,
        place: u8,
        count: u8,
    },
    /// Settles everything a queue has.
    Purge {
        queue: u8,
    },
    Return {
        queue: u8,
        place: u8,
    },
    Forget {
        queue: u8,
    },
    Define {
        key: u8,
        len: u16,
    },
    Undefine {
        key: u8,
    },
}

/// One step of a script.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// One unit, not waited for; `keep` makes it a transaction.
    Unit { keep: bool, ops: Vec<Op> },
    /// Several units that land in one commit.
    Together(Vec<Vec<Op>>),
    /// Waits until everything is durable.
    Wait,
    /// Closes in order and opens again.
    Reopen,
    /// Cuts the power; of what is not synced, as many changes survive as this share says.
    PowerCut { survives: u8 },
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..16_u8, 0..400_u16).prop_map(|(queues, len)| Op::Enqueue { queues, len }),
        6 => (0..4_u8, any::<u8>(), 1..6_u8).prop_map(|(queue, place, count)| Op::Settle { queue, place, count }),
        1 => (0..4_u8).prop_map(|queue| Op::Purge { queue }),
        2 => (0..4_u8, any::<u8>()).prop_map(|(queue, place)| Op::Return { queue, place }),
        1 => (0..4_u8).prop_map(|queue| Op::Forget { queue }),
        2 => (0..5_u8, 0..400_u16).prop_map(|(key, len)| Op::Define { key, len }),
        1 => (0..5_u8).prop_map(|key| Op::Undefine { key }),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let ops = || prop::collection::vec(op(), 1..6);
    prop_oneof![
        12 => (any::<bool>(), ops()).prop_map(|(keep, ops)| Step::Unit { keep, ops }),
        3 => prop::collection::vec(ops(), 2..5).prop_map(Step::Together),
        3 => Just(Step::Wait),
        1 => Just(Step::Reopen),
        3 => any::<u8>().prop_map(|survives| Step::PowerCut { survives }),
    ]
}

/// (times returned, payload) by number.
type Messages = BTreeMap<u64, (u32, Vec<u8>)>;

/// What the log holds, by the book.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    /// Queues by identity; empty ones are left out when models are compared.
    queues: BTreeMap<u64, Messages>,
    definitions: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn of(journal: &Journal, recovered: &Recovered) -> Self {
        let messages = |queue| {
            let held = held(journal, recovered, queue).into_iter();
            held.map(|(seq, returned, payload)| (seq, (returned, payload)))
                .collect::<Messages>()
        };
        Self {
            queues: recovered
                .queues
                .keys()
                .map(|&queue| (queue.0, messages(queue)))
                .filter(|(_, messages)| !messages.is_empty())
                .collect(),
            definitions: recovered
                .definitions
                .iter()
                .map(|(key, value)| (key.clone(), value.to_vec()))
                .collect(),
        }
    }

    fn without_empty_queues(&self) -> Self {
        let mut model = self.clone();
        model.queues.retain(|_, messages| !messages.is_empty());
        model
    }
}

/// A journal over a store that can fail, and the model after every unit it was given.
pub(crate) struct World {
    journal: Journal,
    pub(crate) faults: Faults,
    options: JournalOptions,
    /// The identity and the next number of each of the four queues in use.
    queues: [(u64, u64); 4],
    next_queue: u64,
    next_tag: u64,
    model: Model,
    /// The state after each unit since the journal was opened; the first is the state it was opened with.
    history: Vec<(CommitNumber, Model)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (store, faults) = FaultyStore::new(Box::new(MemoryStore::new()));
        Self::over(store, faults)
    }

    fn over(store: FaultyStore, faults: Faults) -> Self {
        let options = busy_checkpoints();
        let (journal, _) =
            Journal::open(Box::new(store), options.clone()).expect("the store opens");
        Self {
            journal,
            faults,
            options,
            queues: [(1, 1), (2, 1), (3, 1), (4, 1)],
            next_queue: 5,
            next_tag: 1,
            model: Model::default(),
            history: vec![(CommitNumber(0), Model::default())],
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Unit { keep, ops } => {
                let journal = self.journal.clone();
                let mut unit = journal.begin();
                if *keep {
                    unit.keep();
                }
                self.unit(unit, ops);
            }
            Step::Together(units) => {
                let journal = self.journal.clone();
                let hold = journal.begin();
                units.iter().for_each(|ops| self.unit(journal.begin(), ops));
                drop(hold);
            }
            Step::Wait => write(&self.journal, |_| {}),
            Step::Reopen => {
                self.journal.close().expect("nothing fails");
                let end = self.model.clone();
                let recovered = self.reopen(usize::MAX);
                assert!(recovered.clean, "an orderly close is clean");
                assert_eq!(self.model, end.without_empty_queues());
            }
            Step::PowerCut { survives } => {
                let unsynced = self.faults.unsynced();
                let surviving = (unsynced + 1) * usize::from(*survives) / 256;
                self.crash_and_check(surviving);
            }
        }
    }

    /// Cuts the power, opens what is left, and checks it against the history.
    pub(crate) fn crash_and_check(&mut self, surviving: usize) {
        // Read before the disk is: whatever becomes durable in between may be there, but need not.
        let durable = self.journal.durable();
        let history = std::mem::take(&mut self.history);
        let recovered = self.reopen(surviving);
        assert_eq!(recovered.losses, [], "a power cut damages nothing");
        let found = &self.model;
        let promised = history
            .iter()
            .rposition(|(number, _)| *number <= durable)
            .expect("the first is 0");
        let legal = history[promised..]
            .iter()
            .any(|(_, model)| model.without_empty_queues() == *found);
        assert!(
            legal,
            "durable up to {durable}, which is unit {promised} of {}; found {found:#?}, promised {:#?}",
            history.len() - 1,
            history[promised].1
        );
    }

    fn reopen(&mut self, surviving: usize) -> Recovered {
        let disk = self.faults.after_power_cut(surviving);
        let (store, faults) = FaultyStore::over(&disk);
        let (journal, recovered) =
            Journal::open(Box::new(store), self.options.clone()).expect("what is left opens");
        (self.journal, self.faults) = (journal, faults);
        self.model = Model::of(&self.journal, &recovered);
        self.history = vec![(CommitNumber(0), self.model.clone())];
        for (id, next) in &mut self.queues {
            // As the engine would: go on above everything that was ever stored.
            *next = recovered
                .queues
                .get(&q(*id))
                .map_or(1, |queue| queue.next_seq.0.max(1));
        }
        recovered
    }

    fn unit(&mut self, mut unit: Unit<'_>, ops: &[Op]) {
        for op in ops {
            self.op(&mut unit, op);
        }
        self.history.push((unit.number(), self.model.clone()));
    }

    fn op(&mut self, unit: &mut Unit<'_>, op: &Op) {
        match *op {
            Op::Enqueue { queues, len } => {
                // Mostly short, some that fill a block, few that need several.
                let len = match len {
                    0..300 => usize::from(len),
                    300..395 => usize::from(len) * 50,
                    _ => usize::from(len) * 400,
                };
                let octets = filled(self.next_tag, len);
                self.next_tag += 1;
                let payload: Arc<dyn Payload> = body(octets.clone());
                for place in (0..4).filter(|place| queues & (1 << place) != 0) {
                    let (id, next) = &mut self.queues[place];
                    unit.enqueue(q(*id), s(*next), Arc::clone(&payload));
                    self.model
                        .queues
                        .entry(*id)
                        .or_default()
                        .insert(*next, (0, octets.clone()));
                    *next += 1;
                }
            }
            Op::Settle {
                queue,
                place,
                count,
            } => {
                let id = self.queues[usize::from(queue)].0;
                let Some(messages) = self.model.queues.get_mut(&id) else {
                    return;
                };
                let numbers: Vec<u64> = messages.keys().copied().collect();
                let from = usize::from(place) % numbers.len().max(1);
                for number in numbers.into_iter().skip(from).take(usize::from(count)) {
                    unit.settle(q(id), s(number), s(number));
                    messages.remove(&number);
                }
            }
            Op::Purge { queue } => {
                let (id, next) = self.queues[usize::from(queue)];
                unit.settle(q(id), s(1), s(next - 1));
                self.model.queues.remove(&id);
            }
            Op::Return { queue, place } => {
                let id = self.queues[usize::from(queue)].0;
                let Some(messages) = self.model.queues.get_mut(&id) else {
                    return;
                };
                let place = usize::from(place) % messages.len().max(1);
                if let Some((number, (returned, _))) = messages.iter_mut().nth(place) {
                    *returned += 1;
                    unit.returned(q(id), s(*number), *returned);
                }
            }
            Op::Forget { queue } => {
                let slot = &mut self.queues[usize::from(queue)];
                unit.forget(q(slot.0));
                self.model.queues.remove(&slot.0);
                *slot = (self.next_queue, 1);
                self.next_queue += 1;
            }
            Op::Define { key, len } => {
                let value = filled(self.next_tag, usize::from(len) * usize::from(key) * 50);
                self.next_tag += 1;
                unit.define(vec![key], value.clone());
                self.model.definitions.insert(vec![key], value);
            }
            Op::Undefine { key } => {
                unit.undefine(vec![key]);
                self.model.definitions.remove(&vec![key]);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_was_durable_is_there_after_any_number_of_power_cuts(
        script in prop::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        script.iter().for_each(|step| world.step(step));
        world.step(&Step::Wait);
        world.crash_and_check(0);
        world.step(&Step::Reopen);
    }
}
