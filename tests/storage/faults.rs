//! A store that fails at any step.

use crate::model::{Op, Step, World};
use crate::support::filled;

/// A script of some 200 operations in units of all kinds, always the same.
fn script() -> Vec<Step> {
    let dice = |number: u64| crc32c::crc32c(&filled(number, 8)).to_be_bytes();
    (0..66)
        .map(|number| {
            let [a, b, c, d] = dice(number);
            let ops = vec![
                Op::Enqueue {
                    queues: 1 + a % 15,
                    len: u16::from(b) + 150,
                },
                match c % 6 {
                    0 => Op::Purge { queue: d % 4 },
                    1 => Op::Define {
                        key: d % 5,
                        len: u16::from(a),
                    },
                    2 => Op::Return {
                        queue: d % 4,
                        place: a,
                    },
                    _ => Op::Settle {
                        queue: d % 4,
                        place: b,
                        count: 1 + d % 4,
                    },
                },
                Op::Settle {
                    queue: a % 4,
                    place: d,
                    count: 2,
                },
            ];
            match d % 5 {
                0 => Step::Together(ops.into_iter().map(|op| vec![op]).collect()),
                _ => Step::Unit {
                    keep: d % 7 == 0,
                    ops,
                },
            }
        })
        .collect()
}

fn run(fail_at: u64, panic: bool) -> (World, bool) {
    let mut world = World::new();
    if panic {
        world.faults.panic_instead();
    }
    world.faults.fail_at(world.faults.operations() + fail_at);
    let before = world.faults.operations();
    for step in script() {
        world.step(&step);
        // So that every run has the same commits, however busy the machine is.
        world.step(&Step::Wait);
    }
    let reached = world.faults.operations() - before >= fail_at;
    (world, reached)
}

#[test]
fn whichever_operation_fails_everything_that_was_durable_is_there() {
    let mut failed = 0;
    for fail_at in 1.. {
        let mut any_reached = false;
        // With everything that was written, with nothing that was not synced, and something in between.
        for surviving in [0, 2, usize::MAX] {
            let (mut world, reached) = run(fail_at, false);
            any_reached |= reached;
            world.crash_and_check(surviving);
            // And the log goes on from there.
            script().iter().take(9).for_each(|step| world.step(step));
            world.step(&Step::Wait);
            world.crash_and_check(0);
        }
        if !any_reached {
            break;
        }
        failed = fail_at;
    }
    assert!(failed > 150, "only {failed} operations could fail");
}

#[test]
fn a_panic_of_the_store_loses_no_more_than_an_error() {
    for fail_at in (1..60).step_by(7) {
        let (mut world, _) = run(fail_at, true);
        world.crash_and_check(0);
    }
}
