//! What is published, once for all subscribers, and how far each of them has read.
//!
//! What the slowest has not read is kept, up to a limit that does not depend on how many are slow. Beyond it the oldest
//! goes first, and whoever had not read it finds a gap in its place.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Frames;
use super::queue::Popped;

/// What a message costs beside its bytes.
const ENTRY: usize = 256;

pub(super) struct Log {
    /// Bytes that are kept for those who are slow. What nobody can do without may take as much again.
    limit: usize,
    state: Mutex<State>,
    /// Changes when something is published.
    grown: watch::Sender<()>,
    /// Changes when a reader has read something, has read everything, or leaves.
    moved: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    /// The number of the next message.
    next: u64,
    /// Bytes of the entries.
    bytes: usize,
    /// Bytes of all messages ever.
    published: u64,
    readers: HashMap<u64, Reader>,
}

/// A message, or a run of messages that were dropped.
struct Entry {
    first: u64,
    last: u64,
    /// [`State::published`] before it.
    before: u64,
    bytes: u64,
    message: Option<Arc<Frames>>,
    keep: bool,
}

impl Entry {
    fn cost(&self) -> usize {
        match self.message {
            Some(_) => self.bytes as usize + ENTRY,
            None => ENTRY,
        }
    }
}

#[derive(Default)]
struct Reader {
    /// The number of the message that it reads next.
    next: u64,
    /// What is for it alone, and comes first.
    own: VecDeque<Arc<Frames>>,
    /// Whether it has done with all that it read, and waits for more.
    waiting: bool,
    /// Nobody waits for it any more.
    stalled: bool,
}

impl Log {
    pub(super) fn new(limit: usize) -> Log {
        Log {
            limit,
            state: Mutex::default(),
            grown: watch::Sender::new(()),
            moved: watch::Sender::new(()),
        }
    }

    /// A reader of what is published from now on, until the result is dropped.
    pub(super) fn join(self: &Arc<Log>, number: u64) -> Membership {
        let mut state = self.lock();
        let next = state.next;
        state.readers.entry(number).or_insert(Reader {
            next,
            ..Reader::default()
        });
        Membership(self.clone(), number)
    }

    pub(super) fn publish(&self, frames: Frames, keep: bool) {
        let mut state = self.lock();
        if state.readers.is_empty() {
            return;
        }
        let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
        let entry = Entry {
            first: state.next,
            last: state.next,
            before: state.published,
            bytes,
            message: Some(Arc::new(frames)),
            keep,
        };
        state.next += 1;
        state.published += bytes;
        state.bytes += entry.cost();
        state.entries.push_back(entry);
        state.shrink(self.limit);
        drop(state);
        self.grown.send_replace(());
    }

    /// Sends to one reader, before all that is published; to nobody where that has gone.
    pub(super) fn tell(&self, number: u64, frames: Frames) {
        if let Some(reader) = self.lock().readers.get_mut(&number) {
            reader.own.push_back(Arc::new(frames));
        }
        self.grown.send_replace(());
    }

    /// What a reader has to read next. Safe to cancel.
    pub(super) async fn read(&self, number: u64, calm: u64) -> Popped<Arc<Frames>> {
        let mut grown = self.grown.subscribe();
        loop {
            grown.mark_unchanged();
            let read = self.lock().read(number, calm);
            self.moved.send_replace(());
            match read {
                Some(read) => return read,
                // Its sender lives as long as we do.
                None => drop(grown.changed().await),
            }
        }
    }

    /// Waits until all have read everything, and done with it.
    pub(super) async fn drained(&self) {
        let done = |_: &()| {
            let state = self.lock();
            let mut readers = state.readers.values();
            readers
                .all(|reader| reader.waiting && reader.own.is_empty() && reader.next == state.next)
        };
        let _ = self.moved.subscribe().wait_for(done).await;
    }

    /// Waits while all readers that read anything are more than `calm` bytes behind; one that reads nothing for `patience`
    /// is not waited for, until it has caught up. Safe to cancel.
    pub(super) async fn ready(&self, calm: u64, patience: Duration) {
        loop {
            let (number, next) = {
                let state = self.lock();
                let awake = state.readers.iter().filter(|(_, reader)| !reader.stalled);
                let foremost = awake.max_by_key(|(_, reader)| reader.next);
                match foremost {
                    Some((number, reader)) if state.behind(reader) > calm => (*number, reader.next),
                    _ => return,
                }
            };
            let mut moved = self.moved.subscribe();
            let reads = moved.wait_for(|()| {
                let state = self.lock();
                state
                    .readers
                    .get(&number)
                    .is_none_or(|reader| reader.next != next)
            });
            if tokio::time::timeout(patience, reads).await.is_err()
                && let Some(reader) = self.lock().readers.get_mut(&number)
            {
                reader.stalled = true;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves only numbers and entries, all valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, number: u64, calm: u64) -> Option<Popped<Arc<Frames>>> {
        let reader = self.readers.get_mut(&number)?;
        reader.waiting = false;
        if let Some(own) = reader.own.pop_front() {
            return Some(Popped::Item(own));
        }
        let at = self
            .entries
            .partition_point(|entry| entry.last < reader.next);
        let Some(entry) = self.entries.get(at) else {
            (reader.waiting, reader.stalled) = (true, false);
            return None;
        };
        let read = match &entry.message {
            Some(message) => Popped::Item(message.clone()),
            None => {
                let (all, messages) = (
                    entry.last - entry.first + 1,
                    entry.last - reader.next.max(entry.first) + 1,
                );
                let bytes =
                    (u128::from(entry.bytes) * u128::from(messages) / u128::from(all)) as u64;
                Popped::Gap { messages, bytes }
            }
        };
        reader.next = entry.last + 1;
        if self.behind(&self.readers[&number]) <= calm
            && let Some(reader) = self.readers.get_mut(&number)
        {
            reader.stalled = false;
        }
        self.trim();
        Some(read)
    }

    /// Bytes that a reader has not read, those that were dropped included.
    fn behind(&self, reader: &Reader) -> u64 {
        let at = self
            .entries
            .partition_point(|entry| entry.last < reader.next);
        let entry = self.entries.get(at);
        entry.map_or(0, |entry| self.published - entry.before)
    }

    /// Forgets what all have read.
    fn trim(&mut self) {
        let least = self.readers.values().map(|reader| reader.next).min();
        while let Some(entry) = self.entries.front()
            && least.is_none_or(|least| entry.last < least)
        {
            self.bytes -= entry.cost();
            self.entries.pop_front();
        }
    }

    /// Drops the oldest messages beyond `limit`, those to keep beyond twice as much. The newest stays, however large.
    fn shrink(&mut self, limit: usize) {
        for (limit, even_kept) in [(limit, false), (limit * 2, true)] {
            let mut at = 0;
            while self.bytes > limit && at + 1 < self.entries.len() {
                let entry = &mut self.entries[at];
                if entry.message.is_some() && (even_kept || !entry.keep) {
                    self.bytes -= entry.bytes as usize;
                    entry.message = None;
                    at = self.merge(at);
                }
                at += 1;
            }
        }
    }

    /// Joins the gap at this place with one before it and one after it, and gives its place.
    fn merge(&mut self, at: usize) -> usize {
        let is_gap = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.message.is_none());
        if is_gap(self.entries.get(at + 1))
            && let Some(after) = self.entries.remove(at + 1)
        {
            self.bytes -= after.cost();
            let entry = &mut self.entries[at];
            (entry.last, entry.bytes) = (after.last, entry.bytes + after.bytes);
        }
        if at > 0
            && is_gap(self.entries.get(at - 1))
            && let Some(entry) = self.entries.remove(at)
        {
            self.bytes -= entry.cost();
            let before = &mut self.entries[at - 1];
            (before.last, before.bytes) = (entry.last, entry.bytes + before.bytes);
            return at - 1;
        }
        at
    }
}

/// A reader's place in the log, given up when it is dropped.
pub(super) struct Membership(Arc<Log>, u64);

impl Drop for Membership {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.readers.remove(&self.1);
        state.trim();
        drop(state);
        self.0.moved.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const CALM: u64 = 1 << 20;

    fn message(text: &str, bytes: usize) -> Frames {
        vec![
            Bytes::copy_from_slice(text.as_bytes()),
            Bytes::from(vec![0; bytes - text.len()]),
        ]
    }

    async fn read(log: &Log, number: u64) -> String {
        match log.read(number, CALM).await {
            Popped::Item(frames) => String::from_utf8(frames[0].to_vec()).unwrap(),
            Popped::Gap { messages, bytes } => format!("{messages} of {bytes}"),
        }
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_leaves_a_gap_for_those_who_have_not_read_it() {
        let log = Arc::new(Log::new(4 * (1000 + ENTRY)));
        let (_slow, _quick) = (log.join(1), log.join(2));
        for text in ["a", "b", "c", "d", "e", "f"] {
            log.publish(message(text, 1000), text == "b");
            assert_eq!(read(&log, 2).await, text);
        }
        // `b` is dropped last, so its neighbours go before it.
        for text in ["1 of 1000", "b", "2 of 2000", "e", "f"] {
            assert_eq!(read(&log, 1).await, text);
        }
        let state = log.lock();
        assert_eq!((state.bytes, state.entries.len()), (0, 0));
    }

    #[tokio::test]
    async fn many_who_read_nothing_cost_as_little_as_one() {
        let log = Arc::new(Log::new(10_000));
        let idle: Vec<_> = (0..300).map(|number| log.join(number)).collect();
        for _ in 0..1000 {
            log.publish(message("x", 100), false);
        }
        assert!(log.lock().bytes <= 10_000 && log.lock().entries.len() < 100);
        drop(idle);
        assert_eq!(log.lock().bytes, 0);
    }

    #[tokio::test]
    async fn the_largest_is_read_by_whoever_keeps_up_and_what_is_told_comes_first() {
        let log = Arc::new(Log::new(1000));
        let _reader = log.join(1);
        log.publish(message("large", 1_000_000), false);
        log.tell(1, message("own", 10));
        log.tell(7, message("nobody's", 10));
        assert_eq!(read(&log, 1).await, "own");
        assert_eq!(read(&log, 1).await, "large");
    }

    #[tokio::test]
    async fn one_that_reads_nothing_is_not_waited_for_and_one_that_reads_is() {
        let log = Arc::new(Log::new(1 << 20));
        let _idle = log.join(1);
        log.publish(message("x", 1000), false);
        // It reads nothing, and this comes back.
        log.ready(10, Duration::from_millis(10)).await;
        let _reader = log.join(2);
        log.publish(message("y", 1000), false);
        let ready = log.ready(10, Duration::from_secs(600));
        let reads = async {
            tokio::task::yield_now().await;
            read(&log, 2).await
        };
        let ((), text) = tokio::join!(ready, reads);
        assert_eq!(text, "y");
    }
}
