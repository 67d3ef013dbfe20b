//! The words of all patterns of one topic exchange, each with a number and a count of its uses.

use std::collections::HashMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WordId(pub(super) u32);

impl WordId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// The hasher is keyed: words come from clients, who must not be able to choose colliding ones.
#[derive(Debug, Default)]
pub(super) struct Words {
    ids: HashMap<Arc<[u8]>, WordId>,
    /// By number: the word and how many edges use it.
    slots: Vec<(Arc<[u8]>, usize)>,
    /// Numbers that no word has.
    free: Vec<WordId>,
}

impl Words {
    /// The number of a word, if any pattern has it.
    pub(super) fn find(&self, word: &[u8]) -> Option<WordId> {
        self.ids.get(word).copied()
    }

    /// The number of a word, which is counted as used once more.
    pub(super) fn take(&mut self, word: &[u8]) -> WordId {
        if let Some(id) = self.find(word) {
            self.slots[id.index()].1 += 1;
            return id;
        }
        let word: Arc<[u8]> = word.into();
        let slot = (Arc::clone(&word), 1);
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.index()] = slot;
                id
            }
            None => {
                let id = u32::try_from(self.slots.len())
                    .expect("words that exceed 32 bits exceed memory first");
                self.slots.push(slot);
                WordId(id)
            }
        };
        self.ids.insert(word, id);
        id
    }

    /// Gives back one use of a word, and its number with the last one.
    pub(super) fn release(&mut self, id: WordId) {
        let (word, uses) = &mut self.slots[id.index()];
        *uses -= 1;
        if *uses == 0 {
            self.ids.remove(word);
            *word = Arc::default();
            self.free.push(id);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}
