//! The task that moves messages between queues and the disk: out of memory when it is short, and back when the
//! log has read them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::broker::Core;
use super::queue::{Answer, LocalQueue};
use super::turn::Turn;
use super::vhost::Vhost;
use super::whole::Whole;
use crate::storage::{CommitNumber, Seq, Waiter};

/// How often queues that nobody enters are looked at while memory is pressing.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// What waits for the pager. Its locks are leaves.
#[derive(Default)]
pub(super) struct Pager {
    /// Queues that hold too much: each at most once.
    asked: Mutex<Vec<Arc<LocalQueue>>>,
    /// What the log has read: at most one answer a queue.
    answers: Mutex<Vec<(Arc<LocalQueue>, Answer)>>,
    /// Where to sweep.
    vhosts: Mutex<Vec<Weak<Vhost>>>,
    pressing: AtomicBool,
    work: Notify,
}

impl Pager {
    /// Has a queue paged.
    pub(super) fn ask(&self, queue: Arc<LocalQueue>) {
        self.asked.lock().push(queue);
        self.work.notify_one();
    }

    /// Has messages handed to the queue that asked for them.
    pub(super) fn answer(&self, queue: Arc<LocalQueue>, answer: Answer) {
        self.answers.lock().push((queue, answer));
        self.work.notify_one();
    }

    /// Has all queues looked at soon, and again for as long as memory is pressing.
    pub(super) fn press(&self) {
        if !self.pressing.load(Ordering::Relaxed) && !self.pressing.swap(true, Ordering::AcqRel) {
            self.work.notify_one();
        }
    }

    /// Looks after the queues of this vhost too.
    pub(super) fn watch(&self, vhost: Weak<Vhost>) {
        self.vhosts.lock().push(vhost);
    }

    fn queues(&self) -> Vec<Arc<LocalQueue>> {
        let mut vhosts = self.vhosts.lock();
        vhosts.retain(|vhost| vhost.strong_count() > 0);
        let known: Vec<Arc<Vhost>> = vhosts.iter().filter_map(Weak::upgrade).collect();
        drop(vhosts);
        known.iter().flat_map(|vhost| vhost.queues()).collect()
    }
}

impl Waiter for Pager {
    fn commit_settled(&self) {
        self.work.notify_one();
    }
}

/// A queue whose messages can be let go of once a commit is on disk.
struct Letting {
    queue: Arc<LocalQueue>,
    commit: CommitNumber,
    window: u64,
    upto: Seq,
}

/// Runs until the broker is gone.
pub(super) async fn run(core: Weak<Core>) {
    let mut letting: Vec<Letting> = Vec::new();
    let mut swept = Instant::now();
    loop {
        let Some(strong) = core.upgrade() else { return };
        let pager = Arc::clone(&strong.pager);
        let answers = std::mem::take(&mut *pager.answers.lock());
        for (queue, answer) in answers {
            read_back(&strong, &queue, answer);
            tokio::task::yield_now().await;
        }
        let asked = std::mem::take(&mut *pager.asked.lock());
        for queue in asked {
            letting.push(spill(&strong, queue));
            tokio::task::yield_now().await;
        }
        let durable = strong.journal.durable();
        if strong.journal.is_poisoned() {
            letting.clear();
        }
        for due in letting.extract_if(.., |due| due.commit <= durable) {
            while let_go(&strong, &due) {
                tokio::task::yield_now().await;
            }
            let mut turn = Turn::begin(&strong);
            due.queue.paged(&mut turn);
            turn.finish();
        }
        let pressing = pager.pressing.load(Ordering::Acquire);
        if pressing && swept.elapsed() >= SWEEP_EVERY {
            swept = Instant::now();
            pager
                .pressing
                .store(strong.memory.is_pressing(), Ordering::Release);
            let window = strong.memory.window();
            pager
                .queues()
                .iter()
                .for_each(|queue| queue.sweep(&strong, window));
        }
        drop(strong);
        let sweep = async {
            if pressing {
                tokio::time::sleep_until(swept + SWEEP_EVERY).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = pager.work.notified() => {}
            () = sweep => {}
        }
    }
}

fn read_back(core: &Arc<Core>, queue: &LocalQueue, answer: Answer) {
    let _whole = Whole;
    let mut turn = Turn::begin(core);
    queue.read_back(&mut turn, answer);
    turn.finish();
}

/// Writes what is in memory alone. Everything that the queue had before is on disk with the commit noted.
fn spill(core: &Arc<Core>, queue: Arc<LocalQueue>) -> Letting {
    let _whole = Whole;
    let window = core.memory.window();
    let mut turn = Turn::begin(core);
    let upto = queue.spill(&mut turn, window);
    let pager: Arc<dyn Waiter> = Arc::clone(&core.pager) as Arc<dyn Waiter>;
    let commit = turn.barrier(&pager);
    turn.finish();
    Letting {
        queue,
        commit,
        window,
        upto,
    }
}

/// Lets go of some messages; false when that was all.
fn let_go(core: &Arc<Core>, due: &Letting) -> bool {
    let _whole = Whole;
    let mut turn = Turn::begin(core);
    let more = due.queue.let_go(&mut turn, due.window, due.upto);
    turn.finish();
    more
}

#[cfg(test)]
impl Pager {
    /// Does what the task does for a queue that waits for an answer, in tests that run no tasks.
    pub(super) fn answer_all(&self, core: &Arc<Core>, queue: &LocalQueue) {
        while queue.is_reading() {
            let answers = std::mem::take(&mut *self.answers.lock());
            for (queue, answer) in answers {
                read_back(core, &queue, answer);
            }
            std::thread::yield_now();
        }
    }
}
