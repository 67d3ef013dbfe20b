use super::*;
use crate::engine::fixtures::Draft;

fn entry(seq: u64, priority: Option<u8>) -> Entry {
    let draft = Draft {
        priority,
        ..Draft::new(seq)
    };
    let message = Arc::new(draft.build());
    let level = Ready::new(2, false).level_of(&message);
    Entry::new(Seq(seq), message, level, Place::Log)
}

fn drain(ready: &mut Ready) -> Vec<u64> {
    std::iter::from_fn(|| {
        let front = ready.front().map(|entry| entry.seq);
        let popped = ready.pop();
        assert_eq!(front, popped.as_ref().map(|entry| entry.seq));
        popped
    })
    .map(|entry| entry.seq.0)
    .collect()
}

#[test]
fn what_comes_back_takes_its_old_place() {
    let mut ready = Ready::new(0, false);
    for seq in [3, 6, 7] {
        ready.push(entry(seq, None));
    }
    for seq in [5, 8, 1, 2] {
        ready.put_back(entry(seq, None));
    }
    assert_eq!(drain(&mut ready), [1, 2, 3, 5, 6, 7, 8]);
}

#[test]
fn higher_priorities_come_first_and_each_keeps_its_order() {
    let mut ready = Ready::new(2, false);
    for (seq, priority) in [
        (1, None),
        (2, Some(1)),
        (3, Some(200)),
        (4, Some(0)),
        (5, Some(2)),
    ] {
        ready.push(entry(seq, priority));
    }
    ready.put_back(entry(0, Some(1)));
    assert_eq!(drain(&mut ready), [3, 5, 0, 2, 1, 4]);
}

#[test]
fn the_least_is_the_oldest_of_the_lowest_priority() {
    let mut ready = Ready::new(2, false);
    for (seq, priority) in [(1, 2), (2, 1), (4, 1)] {
        ready.push(entry(seq, Some(priority)));
    }
    ready.put_back(entry(3, Some(1)));
    let least: Vec<u64> = std::iter::from_fn(|| ready.pop_least())
        .map(|entry| entry.seq.0)
        .collect();
    assert_eq!(least, [2, 3, 4, 1]);
}

#[test]
fn only_heads_are_looked_at_for_what_is_gone() {
    let mut ready = Ready::new(1, false);
    for (seq, priority) in [(1, 0), (2, 1), (3, 0)] {
        ready.push(entry(seq, Some(priority)));
    }
    assert_eq!(
        ready.heads().map(|entry| entry.seq.0).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(ready.pop_head_if(|entry| entry.seq == Seq(3)).is_none());
    assert_eq!(
        ready
            .pop_head_if(|entry| entry.seq == Seq(2))
            .map(|entry| entry.seq),
        Some(Seq(2))
    );
    assert_eq!(drain(&mut ready), [1, 3]);
}

#[test]
fn length_and_bytes_follow_every_way_in_and_out() {
    let mut ready = Ready::new(1, false);
    ready.push(entry(1, Some(1)));
    ready.push(entry(2, None));
    ready.push(entry(3, None));
    ready.put_back(entry(0, None));
    assert_eq!(
        (ready.len(), ready.bytes(), ready.is_empty()),
        (4, 32, false)
    );
    ready.pop();
    ready.pop_least();
    ready.pop_head_if(|_| true);
    assert_eq!((ready.len(), ready.bytes()), (1, 8));
    ready.pop();
    assert!(
        ready.pop().is_none()
            && ready.pop_least().is_none()
            && ready.pop_head_if(|_| true).is_none()
    );
    assert_eq!((ready.len(), ready.bytes(), ready.is_empty()), (0, 0, true));
}
