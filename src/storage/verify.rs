//! Reads every live message once, to know before anything is served what is lost.

use std::collections::BTreeMap;

use super::block::BlockId;
use super::contents::{Contents, Found};
use super::frame::{Placement, Run};
use super::index::Index;
use super::{Seq, StoreRead};

/// The live messages that cannot be read, in order of queue and number.
pub(super) fn lost_messages(reader: &dyn StoreRead, index: &Index) -> Vec<Run> {
    let mut lost = Vec::new();
    let framed = index
        .live_blocks()
        .filter(|(_, block)| !block.runs.is_empty());
    for (id, _) in framed {
        let contents = read(reader, index, id);
        for run in index.live_in(id) {
            match &contents {
                Some(contents) => verify_run(reader, index, contents, run, &mut lost),
                None => lost.push(run),
            }
        }
    }
    join(lost)
}

/// A block, if it is there, undamaged, and the one that the index knows.
fn read(reader: &dyn StoreRead, index: &Index, id: BlockId) -> Option<Contents> {
    // A value that the store itself cannot read is as good as missing: the others may be whole.
    let octets = reader.get(&id.key()).ok().flatten()?;
    let contents = Contents::read(id, octets).ok()?;
    (index.checksum(id) == Some(contents.checksum())).then_some(contents)
}

/// Looks for each message of a run.
fn verify_run(
    reader: &dyn StoreRead,
    index: &Index,
    contents: &Contents,
    run: Run,
    lost: &mut Vec<Run>,
) {
    let mut found: BTreeMap<Seq, Found> =
        contents.messages(run.queue, run.first, run.last).collect();
    for number in run.first.0..=run.last.0 {
        let seq = Seq(number);
        let is_whole = match found.remove(&seq) {
            Some(Found::Here(_)) => true,
            Some(Found::Placed(placement, _)) => is_whole(reader, index, placement),
            None => false,
        };
        if !is_whole {
            let (first, last) = (seq, seq);
            lost.push(Run { first, last, ..run });
        }
    }
}

/// Whether all pieces of a payload are there.
fn is_whole(reader: &dyn StoreRead, index: &Index, placement: Placement) -> bool {
    let piece = |id| Some(read(reader, index, id)?.piece()?.len() as u64);
    let lens: Option<Vec<u64>> = placement.blocks().map(piece).collect();
    lens.is_some_and(|lens| lens.iter().sum::<u64>() == placement.len)
}

/// Sorts runs and joins those that touch.
fn join(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    runs.dedup_by(|next, joined| {
        let touches =
            next.queue == joined.queue && joined.last.0.checked_add(1) == Some(next.first.0);
        if touches {
            joined.last = next.last;
        }
        touches
    });
    runs
}
