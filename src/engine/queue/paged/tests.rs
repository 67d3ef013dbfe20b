use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn entry(seq: u64, size: u64, place: Place, redelivered: bool) -> Entry {
    Entry::bare(Seq(seq), size, 0, place, redelivered)
}

#[test]
fn what_came_in_without_interruption_is_one_run() {
    let mut paged = Paged::new(false);
    for seq in 1..=1_000 {
        paged.push_back(&entry(seq, 10 + seq % 3, Place::Log, false));
    }
    assert_eq!(paged.weight(), RUN_BYTES as u64);
    paged.push_back(&entry(1_001, 10, Place::Spill, false));
    paged.push_back(&entry(1_002, 10, Place::Spill, true));
    paged.push_back(&entry(1_004, 10, Place::Spill, true));
    assert_eq!(paged.weight(), 4 * RUN_BYTES as u64);
    assert_eq!((paged.len(), paged.last()), (1_003, Some(Seq(1_004))));
}

#[test]
fn sizes_are_right_in_sum_and_each_for_itself_where_that_matters() {
    for one_size in [false, true] {
        let mut paged = Paged::new(one_size);
        let sizes = [7, 7, 3, 8];
        for (seq, size) in (1..).zip(sizes) {
            paged.push_back(&entry(seq, size, Place::Log, false));
        }
        assert_eq!(paged.bytes(), 25);
        let taken: Vec<u64> = std::iter::from_fn(|| paged.pop_front(0))
            .map(|entry| entry.bytes())
            .collect();
        assert_eq!(taken.iter().sum::<u64>(), 25);
        assert_eq!(taken == sizes, one_size);
        assert_eq!(paged.bytes(), 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Back {
        gap: u64,
        size: u64,
        spill: bool,
        redelivered: bool,
    },
    Front {
        gap: u64,
        size: u64,
        spill: bool,
    },
    Pop,
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..3_u64, 0..4_u64, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(gap, size, spill, redelivered)| Step::Back { gap, size, spill, redelivered }),
        3 => (1..3_u64, 0..4_u64, any::<bool>()).prop_map(|(gap, size, spill)| Step::Front { gap, size, spill }),
        5 => Just(Step::Pop),
        1 => Just(Step::Take),
    ]
}

fn place(spill: bool) -> Place {
    if spill { Place::Spill } else { Place::Log }
}

proptest! {
    #[test]
    fn runs_hold_the_same_messages_in_the_same_order_as_a_list_would(
        one_size in any::<bool>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut paged = Paged::new(one_size);
        let mut model: VecDeque<Entry> = VecDeque::new();
        let (mut low, mut high) = (10_000, 10_000);
        for step in steps {
            match step {
                Step::Back { gap, size, spill, redelivered } => {
                    high += gap;
                    let entry = entry(high, size, place(spill), redelivered);
                    paged.push_back(&entry);
                    model.push_back(entry);
                }
                Step::Front { gap, size, spill } => {
                    low -= gap;
                    let entry = entry(low, size, place(spill), false);
                    paged.push_front(&entry);
                    model.push_front(entry);
                }
                Step::Pop => {
                    let (popped, expected) = (paged.pop_front(3), model.pop_front());
                    let of = |entry: &Entry| (entry.seq, entry.place, entry.redelivered);
                    prop_assert_eq!(popped.as_ref().map(of), expected.as_ref().map(of));
                    if let (Some(popped), Some(expected)) = (popped, expected) {
                        prop_assert_eq!(popped.level, 3);
                        low = popped.seq.0;
                        prop_assert!(!one_size || popped.size == expected.size);
                    }
                }
                Step::Take => {
                    let seqs: Vec<u64> = paged.take().iter().flat_map(|run| run.first.0..=run.last.0).collect();
                    let expected: Vec<u64> = model.drain(..).map(|entry| entry.seq.0).collect();
                    prop_assert_eq!(seqs, expected);
                }
            }
            prop_assert_eq!(paged.len(), model.len());
            prop_assert_eq!(paged.is_empty(), model.is_empty());
            prop_assert_eq!(paged.last(), model.back().map(|entry| entry.seq));
            if one_size {
                prop_assert_eq!(paged.bytes(), model.iter().map(Entry::bytes).sum::<u64>());
            }
            if model.is_empty() {
                prop_assert_eq!((paged.bytes(), paged.weight()), (0, 0));
            }
        }
    }
}
