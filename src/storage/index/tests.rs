use super::*;

const QUEUE: QueueId = QueueId(7);

fn id(commit: u64, part: u32) -> BlockId {
    BlockId {
        commit: LogIndex(commit),
        part,
    }
}

fn run(first: u64, last: u64) -> Run {
    Run {
        queue: QUEUE,
        first: Seq(first),
        last: Seq(last),
    }
}

fn block(part: u32, runs: &[Run], placed: &[(QueueId, Seq, Placement)]) -> StoredBlock {
    let (runs, placed) = (runs.to_vec(), placed.to_vec());
    StoredBlock {
        part,
        checksum: 0,
        len: 100,
        control: false,
        runs,
        placed,
    }
}

fn apply(index: &mut Index, commit: u64, blocks: Vec<StoredBlock>) {
    index.apply(Effect {
        commit: LogIndex(commit),
        blocks,
        ..Effect::default()
    });
}

fn live(index: &Index) -> Vec<(u64, u64)> {
    index
        .queue(QUEUE)
        .map(QueueIndex::live_ranges)
        .unwrap_or_default()
}

#[test]
fn a_block_is_dead_when_its_last_message_is_settled_whatever_the_order() {
    let mut index = Index::default();
    apply(
        &mut index,
        1,
        vec![block(0, &[run(1, 5)], &[]), block(1, &[run(6, 9)], &[])],
    );
    for (first, last) in [(3, 3), (1, 1), (3, 7), (1, 2)] {
        index.settle(QUEUE, Seq(first), Seq(last));
    }
    assert_eq!(live(&index), [(8, 9)]);
    assert_eq!(index.dead().collect::<Vec<_>>(), [id(1, 0)]);
    assert_eq!(index.totals(), (1, 100, 100));
    index.bury();
    assert_eq!(index.totals(), (1, 100, 0));
    assert!(index.holds_any(QUEUE, Seq(1), Seq(8)) && !index.holds_any(QUEUE, Seq(1), Seq(7)));
}

#[test]
fn the_pieces_of_a_long_message_live_as_long_as_any_reference_to_it() {
    let mut index = Index::default();
    let placement = Placement {
        commit: LogIndex(1),
        part: 0,
        pieces: 2,
        len: 100_000,
    };
    let other = Run {
        queue: QueueId(8),
        first: Seq(1),
        last: Seq(1),
    };
    let placed = [(QUEUE, Seq(1), placement), (QueueId(8), Seq(1), placement)];
    apply(
        &mut index,
        1,
        vec![
            block(0, &[], &[]),
            block(1, &[], &[]),
            block(2, &[run(1, 1), other], &placed),
        ],
    );
    assert_eq!(index.dead().count(), 0);
    index.settle(QUEUE, Seq(1), Seq(1));
    assert_eq!(index.dead().count(), 0);
    index.settle(QueueId(8), Seq(1), Seq(1));
    assert_eq!(
        index.dead().collect::<Vec<_>>(),
        [id(1, 0), id(1, 1), id(1, 2)]
    );
}

#[test]
fn only_buckets_whose_live_blocks_changed_are_written_anew() {
    let mut index = Index::default();
    for commit in 1..=200 {
        apply(
            &mut index,
            commit,
            vec![block(0, &[run(commit, commit)], &[])],
        );
    }
    let buckets = |index: &Index, since| {
        index
            .changed_buckets(LogIndex(since))
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(buckets(&index, 0), [0, 1, 2, 3]);
    assert_eq!(buckets(&index, 200), [0_u64; 0]);
    index.settle(QUEUE, Seq(70), Seq(70));
    assert_eq!(buckets(&index, 200), [1]);
    assert_eq!(index.bucket(1).count(), 63);
}

#[test]
fn the_live_parts_of_a_damaged_block_leave_out_what_is_settled_or_elsewhere() {
    let mut index = Index::default();
    apply(
        &mut index,
        1,
        vec![
            block(0, &[run(1, 4), run(7, 9)], &[]),
            block(1, &[run(5, 6)], &[]),
        ],
    );
    index.settle(QUEUE, Seq(2), Seq(2));
    let parts = index.live_parts(run(1, 9), id(1, 0));
    assert_eq!(
        parts,
        [(1, 1), (3, 4), (7, 9)].map(|(first, last)| (Seq(first), Seq(last)))
    );
}

#[test]
fn a_block_is_sparse_while_less_than_a_quarter_of_a_full_one_lives_in_it() {
    let mut index = Index::default();
    let mut full = block(0, &[run(1, 100)], &[]);
    full.len = 64 * 1024;
    let mut pieces = block(0, &[], &[]);
    pieces.len = 64 * 1024;
    apply(&mut index, 1, vec![full]);
    apply(&mut index, 2, vec![block(0, &[run(101, 101)], &[])]);
    apply(&mut index, 3, vec![pieces]);
    let sparse = |index: &Index, upto| {
        let sparse = index.sparse(LogIndex(upto));
        sparse
            .map(|(id, octets)| (id.commit.0, octets))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        sparse(&index, 9),
        [(2, 100)],
        "a tiny one is sparse at once"
    );
    index.settle(QUEUE, Seq(1), Seq(75));
    assert_eq!(sparse(&index, 9).len(), 1);
    index.settle(QUEUE, Seq(80), Seq(80));
    assert_eq!(sparse(&index, 9), [(1, 15_728), (2, 100)]);
    assert_eq!(sparse(&index, 1).len(), 1);
    index.leave(id(1, 0));
    assert_eq!(sparse(&index, 9).len(), 1);
    index.settle(QUEUE, Seq(81), Seq(81));
    assert_eq!(sparse(&index, 9).len(), 1, "it was left as it is");
    index.settle(QUEUE, Seq(1), Seq(101));
    assert_eq!(sparse(&index, 9), [], "what died is not sparse any more");
}

#[test]
fn messages_written_again_live_in_their_later_block_with_their_counts() {
    let mut index = Index::default();
    apply(&mut index, 1, vec![block(0, &[run(1, 9)], &[])]);
    index.settle(QUEUE, Seq(2), Seq(8));
    index.apply(Effect {
        commit: LogIndex(2),
        blocks: vec![block(0, &[run(1, 1), run(9, 9)], &[])],
        returned: vec![(QUEUE, Seq(9), 3)],
        ..Effect::default()
    });
    assert_eq!(live(&index), [(1, 1), (9, 9)]);
    assert_eq!(index.dead().collect::<Vec<_>>(), [id(1, 0)]);
    assert!(index.lives_in(QUEUE, Seq(9), id(2, 0)));
    assert_eq!(index.queue(QUEUE).unwrap().returned().get(&9), Some(&3));
}
