//! The consumers of one queue: who is next, and how much each may still be sent.

use std::sync::Arc;

use slab::Slab;

use super::delivery::{ConsumerTag, Delivery};
use super::outbox::Outbox;

/// A queue's number for one of its consumers; never the same for two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId {
    slot: u32,
    serial: u32,
}

/// How a consumer wants to be served.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// The connection's number for it.
    pub tag: ConsumerTag,
    /// Whether deliveries must be settled. Without it they are settled by being handed over.
    pub acknowledges: bool,
    /// Unsettled deliveries at most, from 1; without `acknowledges` there are none.
    pub prefetch: u32,
    /// Served before consumers of lower priority while it has credit.
    pub priority: i32,
    /// Nobody else may consume while it does.
    pub exclusive: bool,
}

/// Where a consumer stands in the order of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// In line for the next message.
    InLine,
    /// Waiting for credit: the next settlement calls it back.
    NoCredit,
    /// Waiting for room: its outbox calls it back. Settlements do not, or it would ask there again.
    NoRoom,
}

/// One consumer of a queue.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) spec: ConsumerSpec,
    pub(super) outbox: Arc<Outbox>,
    serial: u32,
    in_flight: u32,
    standing: Standing,
    /// Deliveries of the current turn, pushed to the outbox in one go. Their weight is there already.
    pub(super) pending: Vec<Delivery>,
    /// Whether its connection has to be woken at the end of the turn.
    touched: bool,
}

impl Consumer {
    fn has_credit(&self) -> bool {
        !self.spec.acknowledges || self.in_flight < self.spec.prefetch
    }
}

/// One level of priority: slots in line, next first.
#[derive(Debug)]
struct Line {
    priority: i32,
    slots: std::collections::VecDeque<u32>,
}

/// The consumers of a queue, in fair order: round robin among equals, higher priority first.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    slots: Slab<Consumer>,
    /// Highest priority first. Those that wait for credit or room are not in line.
    lines: Vec<Line>,
    serials: u32,
    /// Only this consumer is served, if the queue has a single active consumer.
    single_active: bool,
    /// Slots of the consumers that were given something in this turn.
    touched: Vec<u32>,
}

impl Consumers {
    pub(super) fn new(single_active: bool) -> Self {
        Self {
            single_active,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn any_exclusive(&self) -> bool {
        self.slots
            .iter()
            .any(|(_, consumer)| consumer.spec.exclusive)
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec, outbox: Arc<Outbox>) -> ConsumerId {
        self.serials = self.serials.wrapping_add(1);
        let serial = self.serials;
        let priority = spec.priority;
        let consumer = Consumer {
            spec,
            outbox,
            serial,
            in_flight: 0,
            standing: Standing::InLine,
            pending: Vec::new(),
            touched: false,
        };
        let slot =
            u32::try_from(self.slots.insert(consumer)).expect("fewer than 4 billion consumers");
        self.line(priority).slots.push_back(slot);
        ConsumerId { slot, serial }
    }

    fn line(&mut self, priority: i32) -> &mut Line {
        let at = match self
            .lines
            .binary_search_by(|line| priority.cmp(&line.priority))
        {
            Ok(at) => at,
            Err(at) => {
                self.lines.insert(
                    at,
                    Line {
                        priority,
                        slots: std::collections::VecDeque::new(),
                    },
                );
                at
            }
        };
        &mut self.lines[at]
    }

    pub(super) fn known(&self, id: ConsumerId) -> Option<&Consumer> {
        self.slots
            .get(id.slot as usize)
            .filter(|consumer| consumer.serial == id.serial)
    }

    fn known_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|consumer| consumer.serial == id.serial)
    }

    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        self.known(id)?;
        for line in &mut self.lines {
            line.slots.retain(|slot| *slot != id.slot);
        }
        self.lines
            .retain(|line| !line.slots.is_empty() || line.priority == 0);
        self.touched.retain(|slot| *slot != id.slot);
        Some(self.slots.remove(id.slot as usize))
    }

    pub(super) fn clear(&mut self) -> Vec<Consumer> {
        self.lines.clear();
        self.touched.clear();
        self.slots.drain().collect()
    }

    /// The consumer that the next message goes to: in line, with credit and room.
    ///
    /// Those met without credit or room step out of line; a settle, or the outbox, calls them back.
    /// `stall` is asked to arrange the latter and says whether it did (false: there is room after all).
    pub(super) fn next(
        &mut self,
        mut stall: impl FnMut(ConsumerId, &Arc<Outbox>) -> bool,
    ) -> Option<ConsumerId> {
        let single = self.single_active.then(|| self.active()).flatten();
        for line in &mut self.lines {
            while let Some(slot) = line.slots.front().copied() {
                if single.is_some_and(|only| only != slot) {
                    // Others keep their place in line for the day the active consumer leaves.
                    match line.slots.iter().position(|other| Some(*other) == single) {
                        Some(at) => line.slots.rotate_left(at),
                        None => break,
                    }
                    continue;
                }
                let consumer = &mut self.slots[slot as usize];
                let id = ConsumerId {
                    slot,
                    serial: consumer.serial,
                };
                consumer.standing = if !consumer.has_credit() {
                    Standing::NoCredit
                } else if consumer.outbox.room() > 0 || !stall(id, &consumer.outbox) {
                    return Some(id);
                } else {
                    Standing::NoRoom
                };
                line.slots.pop_front();
            }
        }
        None
    }

    /// The slot of the single active consumer: of the highest priority, the one that came first.
    fn active(&self) -> Option<u32> {
        self.slots
            .iter()
            .max_by_key(|(_, consumer)| {
                (consumer.spec.priority, std::cmp::Reverse(consumer.serial))
            })
            .map(|(slot, _)| u32::try_from(slot).expect("fewer than 4 billion consumers"))
    }

    /// Gives `delivery` to the consumer that [`Consumers::next`] named, and moves it to the end of the line.
    pub(super) fn hand_over(&mut self, id: ConsumerId, delivery: Delivery) {
        let consumer = &mut self.slots[id.slot as usize];
        if consumer.spec.acknowledges {
            consumer.in_flight += 1;
        }
        // At once, so that the connection's other consumers, of this queue and others, see the room that is left.
        consumer.outbox.weigh(&delivery);
        consumer.pending.push(delivery);
        if !std::mem::replace(&mut consumer.touched, true) {
            self.touched.push(id.slot);
        }
        let priority = consumer.spec.priority;
        let line = self.line(priority);
        if line.slots.len() > 1 && line.slots.front() == Some(&id.slot) {
            line.slots.rotate_left(1);
        }
    }

    /// A delivery of this consumer was settled: it has credit again.
    pub(super) fn settled(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.known_mut(id) {
            consumer.in_flight = consumer.in_flight.saturating_sub(1);
            if consumer.standing == Standing::NoCredit {
                self.call_back(id);
            }
        }
    }

    /// Puts a waiting consumer in line again: its outbox has room.
    pub(super) fn call_back(&mut self, id: ConsumerId) {
        let Some(consumer) = self.known_mut(id) else {
            return;
        };
        if consumer.standing != Standing::InLine {
            consumer.standing = Standing::InLine;
            let priority = consumer.spec.priority;
            self.line(priority).slots.push_back(id.slot);
        }
    }

    /// Pushes what this turn delivered into the outboxes; `woken` hears of each.
    pub(super) fn flush(&mut self, mut woken: impl FnMut(&Arc<Outbox>)) {
        for slot in self.touched.drain(..) {
            if let Some(consumer) = self.slots.get_mut(slot as usize) {
                consumer.touched = false;
                consumer.outbox.push(&mut consumer.pending);
                woken(&consumer.outbox);
            }
        }
    }
}

#[cfg(test)]
mod tests;
