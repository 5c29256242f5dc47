//! What the person trusts: for the real path of a folder, a seal for each key whose value in that folder's project file
//! they said yes to.
//!
//! A seal is an HMAC over folder, key and value, with a random key that lies beside the file. It tells nothing of the
//! value, which may be a secret, and cannot be made by whoever reads the file alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How long another process may hold the lock, which it takes for a few reads and writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Seals by key, by folder.
type Seals = BTreeMap<String, BTreeMap<String, String>>;

/// The name of a key with its value, as [`Value::encoded`](super::value::Value::encoded) gives it; `None` for a null.
pub(super) type Sealable<'a> = (&'a str, Option<Vec<u8>>);

/// Where it is kept.
#[derive(Clone, Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// In this folder, which is made when something is kept.
    pub fn within(folder: PathBuf) -> Store {
        Store { folder }
    }

    fn seals(&self) -> PathBuf {
        self.folder.join("trust")
    }

    /// Which of these, all that the project file of `project` holds, are trusted. Seals of other values, or of keys that
    /// the file has no more, are removed: who changed a value has taken back what they said of the one before.
    pub fn known(&self, project: &Path, values: &[Sealable]) -> BTreeSet<String> {
        let Some(key) = self.key() else {
            return BTreeSet::new();
        };
        let name = name(project);
        let Some(seals) = read(&self.seals()).remove(&name) else {
            return BTreeSet::new();
        };
        let holds = |(known, seal): (&String, &String)| {
            let value = values.iter().find(|(name, _)| name == known);
            value.is_some_and(|(name, value)| verify(&key, project, name, value.as_deref(), seal))
        };
        let trusted: BTreeSet<String> = seals
            .iter()
            .filter(|entry| holds(*entry))
            .map(|(name, _)| name.clone())
            .collect();
        if trusted.len() < seals.len() {
            // Where nothing can be written, the entry is told again by the next command, as now.
            let _ = self.change(|all| {
                if let Some(now) = all.get_mut(&name) {
                    now.retain(|known, seal| {
                        trusted.contains(known) || seals.get(known) != Some(seal)
                    });
                }
            });
        }
        trusted
    }

    /// Trusts these values of the project file there.
    pub fn add(&self, project: &Path, values: &[Sealable]) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let _lock = self.lock()?;
        let (key, mut all) = match self.key() {
            Some(key) => (key, read(&self.seals())),
            // Without the key that they were made with, earlier seals say nothing.
            None => (self.new_key()?, Seals::new()),
        };
        let seals = all.entry(name(project)).or_default();
        for (name, value) in values {
            let seal = mac(&key, project, name, value.as_deref()).finalize();
            seals.insert((*name).to_owned(), hexadecimal(&seal.into_bytes()));
        }
        self.write(&all)
    }

    /// Trusts nothing any more in these folders. Gives those that something was trusted in.
    pub fn remove(&self, projects: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
        let known = read(&self.seals());
        let gone: Vec<PathBuf> = projects
            .iter()
            .filter(|project| known.contains_key(&name(project)))
            .cloned()
            .collect();
        if !gone.is_empty() {
            self.change(|all| all.retain(|folder, _| !gone.iter().any(|it| name(it) == *folder)))?;
        }
        Ok(gone)
    }

    /// The folders, and the keys that are trusted in each.
    pub fn list(&self) -> Vec<(String, Vec<String>)> {
        read(&self.seals())
            .into_iter()
            .map(|(folder, seals)| (folder, seals.into_keys().collect()))
            .collect()
    }

    fn change(&self, change: impl FnOnce(&mut Seals)) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut all = read(&self.seals());
        change(&mut all);
        all.retain(|_, seals| !seals.is_empty());
        self.write(&all)
    }

    fn write(&self, all: &Seals) -> io::Result<()> {
        self.replace(&self.seals(), &serde_json::to_vec_pretty(all)?)
    }

    /// Writes a file anew, for this user alone. Whoever reads it finds the old or the new one, whole.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    fn key(&self) -> Option<Vec<u8>> {
        let key = fs::read(self.folder.join("trust.key")).ok()?;
        (key.len() >= 32).then_some(key)
    }

    fn new_key(&self) -> io::Result<Vec<u8>> {
        let parts = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        let key = parts.map(|part| part.simple().to_string()).concat();
        self.replace(&self.folder.join("trust.key"), key.as_bytes())?;
        Ok(key.into_bytes())
    }

    /// Ends with the file that it gives.
    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.folder.join("trust.lock"))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                // The system tells of no end of a lock that is waited for with a limit.
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::other("another process has its lock"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// What cannot be read is as if nothing was trusted.
fn read(path: &Path) -> Seals {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// A folder as an entry names it. The seals are over its exact bytes.
fn name(project: &Path) -> String {
    project.to_string_lossy().into_owned()
}

fn mac(key: &[u8], project: &Path, name: &str, value: Option<&[u8]>) -> Hmac<Sha256> {
    let mut mac = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    };
    let project = project.as_os_str().as_encoded_bytes();
    for part in [project, name.as_bytes()] {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.update(&[u8::from(value.is_some())]);
    mac.update(value.unwrap_or_default());
    mac
}

fn verify(key: &[u8], project: &Path, name: &str, value: Option<&[u8]>, seal: &str) -> bool {
    let byte = |at| seal.get(at..at + 2).map(|it| u8::from_str_radix(it, 16));
    let bytes: Option<Result<Vec<u8>, _>> = (0..seal.len()).step_by(2).map(byte).collect();
    match bytes {
        Some(Ok(bytes)) => mac(key, project, name, value).verify_slice(&bytes).is_ok(),
        _ => false,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn values(of: &[(&'static str, &str)]) -> Vec<Sealable<'static>> {
        of.iter()
            .map(|(name, value)| (*name, Some(value.as_bytes().to_vec())))
            .collect()
    }

    fn known(store: &Store, project: &str, of: &[(&'static str, &str)]) -> Vec<String> {
        let known = store.known(Path::new(project), &values(of));
        known.into_iter().collect()
    }

    #[test]
    fn a_yes_holds_for_the_folder_the_key_and_the_value_and_ends_when_the_value_was_another() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::within(folder.path().join("made/heddle"));
        assert_eq!(known(&store, "/p", &[("a", "1")]), [""; 0]);
        store
            .add(Path::new("/p"), &values(&[("a", "1"), ("b", "2")]))
            .unwrap();
        assert_eq!(
            known(&store, "/p", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ["a", "b"]
        );
        assert_eq!(known(&store, "/q", &[("a", "1")]), [""; 0]);
        // One that has another value, and one that is gone.
        assert_eq!(known(&store, "/p", &[("a", "9")]), [""; 0]);
        assert_eq!(known(&store, "/p", &[("a", "1"), ("b", "2")]), [""; 0]);
        assert_eq!(store.list(), []);

        store.add(Path::new("/p"), &values(&[("a", "1")])).unwrap();
        assert_eq!(store.list(), [("/p".to_owned(), vec!["a".to_owned()])]);
        for name in ["trust", "trust.key", "trust.lock"] {
            let meta = fs::metadata(folder.path().join("made/heddle").join(name)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        }
        assert_eq!(
            store.remove(&["/p".into(), "/q".into()]).unwrap(),
            [PathBuf::from("/p")]
        );
        assert_eq!(known(&store, "/p", &[("a", "1")]), [""; 0]);
    }

    #[test]
    fn entries_that_were_written_by_others_or_with_another_key_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::within(folder.path().into());
        let project = Path::new("/p");
        store.add(project, &values(&[("a", "1")])).unwrap();
        let file = folder.path().join("trust");
        let text = fs::read_to_string(&file).unwrap();
        // The same seal for another folder or key.
        for (from, to) in [("/p", "/q"), ("\"a\"", "\"b\"")] {
            fs::write(&file, text.replace(from, to)).unwrap();
            assert_eq!(known(&store, "/q", &[("a", "1"), ("b", "1")]), [""; 0]);
        }
        for bad in [
            "{",
            "",
            "{\"/p\": {\"a\": \"zz\"}}",
            "{\"/p\": {\"a\": \"é\"}}",
        ] {
            fs::write(&file, bad).unwrap();
            assert_eq!(known(&store, "/p", &[("a", "1")]), [""; 0]);
        }
        fs::write(&file, &text).unwrap();
        fs::remove_file(folder.path().join("trust.key")).unwrap();
        assert_eq!(known(&store, "/p", &[("a", "1")]), [""; 0]);
        store.add(project, &values(&[("b", "2")])).unwrap();
        assert_eq!(known(&store, "/p", &[("a", "1"), ("b", "2")]), ["b"]);
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::within(folder.path().into());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    let project = PathBuf::from(format!("/p{number}"));
                    store.add(&project, &values(&[("a", "1")])).unwrap();
                });
            }
        });
        assert_eq!(store.list().len(), 8);
    }
}
