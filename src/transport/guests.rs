//! Who is connected to a channel, and who has to go when it is full.
//!
//! A guest is a stranger until it has shown that it belongs here. Strangers have few seats of their own, of which a
//! newcomer takes that of the one that has done nothing for the longest time: however many there are, they keep nobody
//! out who shows at once who it is, and nobody who has done so.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::task::AbortHandle;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every update is a single insert, remove or replacement, so a panic elsewhere leaves the data whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many of each kind a channel serves at a time.
#[derive(Clone, Copy)]
pub(super) struct Seats {
    pub strangers: usize,
    pub known: usize,
}

/// The identities that have been shown to be a client's, on any channel.
#[derive(Clone, Default)]
pub(super) struct Acquaintances(Arc<Mutex<HashMap<Bytes, usize>>>);

impl Acquaintances {
    pub(super) fn add(&self, identity: &Bytes) {
        *lock(&self.0).entry(identity.clone()).or_default() += 1;
    }

    pub(super) fn remove(&self, identity: &Bytes) {
        let mut all = lock(&self.0);
        if let Some(connections) = all.get_mut(identity) {
            *connections -= 1;
            if *connections == 0 {
                all.remove(identity);
            }
        }
    }

    fn has(&self, identity: &Bytes) -> bool {
        lock(&self.0).contains_key(identity)
    }
}

/// One connection.
pub(super) struct Guest {
    known: AtomicBool,
    identity: OnceLock<Bytes>,
    active: Mutex<Instant>,
}

impl Guest {
    /// It has shown that it belongs here.
    pub(super) fn know(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// The name that it goes by, whether it is its own or not.
    pub(super) fn calls_itself(&self, identity: Bytes) {
        // A connection shakes hands once.
        let _ = self.identity.set(identity);
    }

    /// It has done something.
    pub(super) fn touch(&self) {
        *lock(&self.active) = Instant::now();
    }
}

/// All connections of one channel.
pub(super) struct Guests {
    seats: Seats,
    acquaintances: Acquaintances,
    all: Vec<(Arc<Guest>, AbortHandle)>,
}

impl Guests {
    pub(super) fn new(seats: Seats, acquaintances: Acquaintances) -> Guests {
        Guests {
            seats,
            acquaintances,
            all: Vec::new(),
        }
    }

    /// A seat for a newcomer; `None` where all are taken by those who belong here.
    pub(super) fn seat(&mut self) -> Option<Arc<Guest>> {
        self.all.retain(|(_, task)| !task.is_finished());
        let known = self.all.iter().filter(|(guest, _)| guest.is_known());
        let known = known.count();
        if known >= self.seats.known {
            return None;
        }
        if self.all.len() - known >= self.seats.strangers
            && let Some(at) = self.least()
        {
            self.all.remove(at).1.abort();
        }
        Some(Arc::new(Guest {
            known: AtomicBool::new(false),
            identity: OnceLock::new(),
            active: Mutex::new(Instant::now()),
        }))
    }

    pub(super) fn add(&mut self, guest: Arc<Guest>, task: AbortHandle) {
        self.all.push((guest, task));
    }

    /// The stranger that has done nothing for the longest time. The first that goes by the name of a client stays as long
    /// as others can go: a client has connections that it says nothing on before it is asked.
    fn least(&self) -> Option<usize> {
        let mut names = HashSet::new();
        let strangers = self.all.iter().enumerate();
        let strangers = strangers.filter(|(_, (guest, _))| !guest.is_known());
        let ranked = strangers.map(|(at, (guest, _))| {
            let name = guest.identity.get();
            let vouched =
                name.is_some_and(|name| self.acquaintances.has(name) && names.insert(name));
            ((vouched, *lock(&guest.active)), at)
        });
        ranked.min().map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(guests: &mut Guests) -> Option<(Arc<Guest>, tokio::task::JoinHandle<()>)> {
        let guest = guests.seat()?;
        let task = tokio::spawn(std::future::pending());
        guests.add(guest.clone(), task.abort_handle());
        Some((guest, task))
    }

    #[tokio::test]
    async fn a_newcomer_takes_the_seat_of_the_stranger_that_did_nothing_longest() {
        let acquaintances = Acquaintances::default();
        let seats = Seats {
            strangers: 3,
            known: 2,
        };
        let mut guests = Guests::new(seats, acquaintances.clone());
        let (client, at_home) = enter(&mut guests).unwrap();
        client.know();
        acquaintances.add(&Bytes::from_static(b"client"));
        // Its other connection, on which it waits to be asked.
        let (silent, listening) = enter(&mut guests).unwrap();
        silent.calls_itself(Bytes::from_static(b"client"));
        let (imitator, imitating) = enter(&mut guests).unwrap();
        imitator.calls_itself(Bytes::from_static(b"client"));
        let (_, idle) = enter(&mut guests).unwrap();
        imitator.touch();
        let (_, next) = enter(&mut guests).unwrap();
        assert!(idle.await.unwrap_err().is_cancelled());
        let _last = enter(&mut guests).unwrap();
        assert!(imitating.await.unwrap_err().is_cancelled());
        assert!(
            ![&at_home, &listening, &next]
                .iter()
                .any(|task| task.is_finished())
        );
        silent.know();
        assert!(enter(&mut guests).is_none(), "all known have their seats");
    }
}
