//! Deliveries that the client still has to ACK or NACK, by the number in their `ack` handle.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::delivery::Token;
use crate::engine::queue::Queue;

/// One delivery to be settled.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) token: Token,
    /// Delivered in `client` mode: settling it settles all earlier ones of the connection too.
    pub(super) cumulative: bool,
    /// Settled by an open transaction: not to be settled again meanwhile.
    claimed: bool,
}

/// Entries the window may hold before settled ones in it are squeezed out.
const WINDOW_MIN: usize = 4096;

/// The unsettled deliveries of a connection. Numbers rise by one with each delivery.
///
/// Most are settled soon and in order, so they live in a window of consecutive numbers. One that stays
/// behind moves to a tree, so that it does not keep the window from moving on.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Number of the first entry of the window.
    base: u64,
    window: VecDeque<Option<Unsettled>>,
    stragglers: BTreeMap<u64, Unsettled>,
    live: usize,
}

impl Ledger {
    /// Enters a delivery; returns its number.
    pub(super) fn push(&mut self, queue: Arc<dyn Queue>, token: Token, cumulative: bool) -> u64 {
        self.window.push_back(Some(Unsettled {
            queue,
            token,
            cumulative,
            claimed: false,
        }));
        self.live += 1;
        let number = self.base + self.window.len() as u64 - 1;
        if self.window.len() > WINDOW_MIN
            && self.window.len() > 4 * (self.live - self.stragglers.len())
        {
            while self.window.len() > WINDOW_MIN / 2 {
                if let Some(Some(straggler)) = self.window.pop_front() {
                    self.stragglers.insert(self.base, straggler);
                }
                self.base += 1;
            }
        }
        number
    }

    /// Deliveries outstanding.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Unsettled> {
        match number.checked_sub(self.base) {
            Some(index) => self.window.get_mut(usize::try_from(index).ok()?)?.as_mut(),
            None => self.stragglers.get_mut(&number),
        }
    }

    fn remove(&mut self, number: u64) -> Option<Unsettled> {
        let removed = match number.checked_sub(self.base) {
            Some(index) => self.window.get_mut(usize::try_from(index).ok()?)?.take(),
            None => self.stragglers.remove(&number),
        };
        if removed.is_some() {
            self.live -= 1;
        }
        while let Some(None) = self.window.front() {
            self.window.pop_front();
            self.base += 1;
        }
        removed
    }

    /// Whether this delivery can be settled.
    pub(super) fn is_open(&mut self, number: u64) -> bool {
        self.get_mut(number)
            .is_some_and(|unsettled| !unsettled.claimed)
    }

    /// The numbers that settling `number` settles: all up to it if it was delivered in `client` mode,
    /// whatever their subscription; those claimed by transactions excepted.
    fn reach(&mut self, number: u64) -> Vec<u64> {
        if !self
            .get_mut(number)
            .is_some_and(|unsettled| unsettled.cumulative)
        {
            return vec![number];
        }
        let stragglers = self
            .stragglers
            .range(..=number)
            .filter(|(_, unsettled)| !unsettled.claimed)
            .map(|(number, _)| *number);
        let mut numbers: Vec<u64> = stragglers.collect();
        let open =
            |entry: &Option<Unsettled>| entry.as_ref().is_some_and(|unsettled| !unsettled.claimed);
        let window = (self.base..=number)
            .zip(&self.window)
            .filter(|(_, entry)| open(entry))
            .map(|(number, _)| number);
        numbers.extend(window);
        numbers
    }

    /// Takes out what settling `number` settles, oldest first. Empty if it is not open.
    pub(super) fn settle(&mut self, number: u64) -> Vec<Unsettled> {
        if !self.is_open(number) {
            return Vec::new();
        }
        let reach = self.reach(number);
        reach
            .into_iter()
            .filter_map(|number| self.remove(number))
            .collect()
    }

    /// Takes out one delivery that is not cumulative: the common case, without a list.
    pub(super) fn settle_one(&mut self, number: u64) -> Option<Unsettled> {
        match self.get_mut(number) {
            Some(unsettled) if !unsettled.claimed && !unsettled.cumulative => self.remove(number),
            _ => None,
        }
    }

    /// Marks what settling `number` would settle as claimed by a transaction; returns the numbers.
    pub(super) fn claim(&mut self, number: u64) -> Vec<u64> {
        if !self.is_open(number) {
            return Vec::new();
        }
        let reach = self.reach(number);
        for number in &reach {
            if let Some(unsettled) = self.get_mut(*number) {
                unsettled.claimed = true;
            }
        }
        reach
    }

    /// A transaction ended without settling these: they are open again.
    pub(super) fn release(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(unsettled) = self.get_mut(*number) {
                unsettled.claimed = false;
            }
        }
    }

    /// A claimed delivery, for the transaction that claimed it.
    pub(super) fn claimed(&mut self, number: u64) -> Option<&Unsettled> {
        self.get_mut(number).map(|unsettled| &*unsettled)
    }

    /// A transaction settled these.
    pub(super) fn forget(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.remove(*number);
        }
    }

    /// Takes out everything, oldest first.
    pub(super) fn drain(&mut self) -> Vec<Unsettled> {
        self.live = 0;
        let stragglers = std::mem::take(&mut self.stragglers).into_values();
        stragglers
            .chain(std::mem::take(&mut self.window).into_iter().flatten())
            .collect()
    }
}
