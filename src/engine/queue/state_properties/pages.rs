//! Messages that go to disk and come back while everything else goes on.

use super::bench::{Bench, Place};
use crate::engine::queue::arguments::Overflow;

impl Bench {
    pub(super) fn spill(&mut self, window: u64) {
        self.fx.window = window;
        let upto = self.state.spill(window, true, &mut self.fx);
        // Paging goes on with what it began with.
        self.spilled.get_or_insert((window, upto));
    }

    pub(super) fn let_go(&mut self) {
        let Some((window, upto)) = self.spilled.take() else {
            return;
        };
        let page = self.state.let_go(window, upto);
        assert!(!page.more, "these are few");
        self.paged |= !page.freed.is_empty();
    }

    pub(super) fn answer(&mut self, most: usize) {
        let Some(answer) = self.fx.answer(most) else {
            return;
        };
        let read = self.state.read_back(&answer, &mut self.fx);
        assert!(read.is_ok(), "nothing was lost");
        self.state.dispatch(self.now, &mut self.fx);
    }

    /// What a full queue dropped without having it in memory: it dies when it has been read.
    pub(super) fn follow_dropped(&mut self) {
        let mut last = None;
        for id in self.state.doomed(|seq| {
            let on_disk = [false, true].map(|spill| self.fx.disk.get(&(spill, seq)));
            let message = on_disk.into_iter().flatten().next();
            message.expect("it is settled when it dies").meta().id.0
        }) {
            let known = self.model.get_mut(&id).expect("nothing is invented");
            if known.place == Place::Ready {
                assert_eq!(self.arguments.overflow, Overflow::DropHead);
                known.place = Place::Dying;
                last = last.max(Some((known.level, id)));
            }
        }
        let ready = self
            .model
            .iter()
            .filter(|(_, known)| known.place == Place::Ready);
        let least = ready.map(|(id, known)| (known.level, *id)).min();
        assert!(
            least.is_none() || last < least,
            "the least was dropped first"
        );
    }
}
