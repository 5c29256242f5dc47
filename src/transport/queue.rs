//! A queue that is bounded by bytes and says where it left something out.
//!
//! Between a kernel that prints without pause and a reader that cannot keep up, something has to give: not the
//! memory, and not the other readers. What is dropped leaves a gap at its place.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::Notify;

/// What comes out of a [`ByteQueue`].
#[derive(Debug, PartialEq, Eq)]
pub enum Popped<T> {
    Item(T),
    /// At this place, `messages` of `bytes` bytes together were dropped.
    Gap {
        messages: u64,
        bytes: u64,
    },
}

/// An unordered set of producers, one consumer, `limit` bytes at most.
pub struct ByteQueue<T> {
    limit: usize,
    state: Mutex<State<T>>,
    changed: Notify,
    taken: Notify,
}

struct State<T> {
    entries: VecDeque<(Popped<T>, usize)>,
    bytes: usize,
    closed: bool,
    /// Whether the consumer has done with all it took, and waits for more.
    waiting: bool,
}

impl<T> ByteQueue<T> {
    /// A queue for at most `limit` bytes; `keep` items may take as much again, and one item of any size fits into an
    /// empty queue.
    pub fn new(limit: usize) -> Self {
        ByteQueue {
            limit,
            state: Mutex::new(State {
                entries: VecDeque::new(),
                bytes: 0,
                closed: false,
                waiting: false,
            }),
            changed: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Adds an item of `bytes` bytes. Where there is no room it is dropped and a gap marked, unless `keep` says that
    /// the reader cannot do without it.
    pub fn push(&self, item: T, bytes: usize, keep: bool) {
        let mut state = self.lock();
        let room = if keep { self.limit * 2 } else { self.limit };
        if state.bytes == 0 || state.bytes + bytes <= room {
            state.bytes += bytes;
            state.entries.push_back((Popped::Item(item), bytes));
        } else if let Some((
            Popped::Gap {
                messages,
                bytes: gap,
            },
            _,
        )) = state.entries.back_mut()
        {
            *messages += 1;
            *gap += bytes as u64;
        } else {
            let gap = Popped::Gap {
                messages: 1,
                bytes: bytes as u64,
            };
            state.entries.push_back((gap, 0));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// No more items will come; what is queued can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next entry; `None` once closed and empty. Safe to cancel.
    pub async fn pop(&self) -> Option<Popped<T>> {
        loop {
            self.filled().await;
            let mut state = self.lock();
            if let Some((entry, bytes)) = state.entries.pop_front() {
                state.bytes -= bytes;
                state.waiting = false;
                self.taken.notify_one();
                return Some(entry);
            }
            if state.closed {
                return None;
            }
        }
    }

    /// Waits until there is an entry to take, or will never be one. Safe to cancel.
    pub async fn filled(&self) {
        loop {
            {
                let mut state = self.lock();
                if !state.entries.is_empty() || state.closed {
                    return;
                }
                state.waiting = true;
            }
            self.taken.notify_one();
            self.changed.notified().await;
        }
    }

    /// Waits until everything has been taken, and done with. For one waiter at a time.
    pub async fn drained(&self) {
        loop {
            {
                let state = self.lock();
                if state.entries.is_empty() && state.waiting {
                    return;
                }
            }
            self.taken.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        // A panic while the lock is held leaves only numbers and entries, all valid.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_the_place_where_it_dropped() {
        let queue = ByteQueue::new(10);
        queue.push("a", 6, false);
        queue.push("b", 6, false);
        queue.push("c", 6, false);
        queue.push("idle", 6, true);
        queue.close();
        assert_eq!(queue.pop().await, Some(Popped::Item("a")));
        let gap = Popped::Gap {
            messages: 2,
            bytes: 12,
        };
        assert_eq!(queue.pop().await, Some(gap));
        assert_eq!(queue.pop().await, Some(Popped::Item("idle")));
        assert_eq!(queue.pop().await, None);
    }

    #[tokio::test]
    async fn one_that_is_larger_than_the_queue_is_taken_when_it_is_alone() {
        let queue = ByteQueue::new(10);
        queue.push("large", 1000, true);
        queue.push("idle", 1, true);
        assert_eq!(queue.pop().await, Some(Popped::Item("large")));
        queue.push("large", 1000, false);
        assert!(matches!(queue.pop().await, Some(Popped::Gap { .. })));
        assert_eq!(queue.pop().await, Some(Popped::Item("large")));
    }

    #[tokio::test]
    async fn takes_again_once_there_is_room() {
        let queue = ByteQueue::new(10);
        queue.push(1, 10, false);
        assert_eq!(queue.pop().await, Some(Popped::Item(1)));
        queue.push(2, 10, false);
        assert_eq!(queue.pop().await, Some(Popped::Item(2)));
    }
}
