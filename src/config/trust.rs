//! Which values of a project file count: those that their key lets count by themselves, and those that the person
//! trusts. Every other is as if it was not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::keys::{self, Key, Kind, Trust};
use super::layers::{self, Layer};
use super::store::{Sealable, Store};
use super::value::{self, Value};
use super::{Loaded, Source};

/// Links that lead to links; a path with more is left as it is.
const MOST_LINKS: usize = 40;

/// A value of the project file that needs trust and has none.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The key as the file has it, such as `llm.groq.api_base`.
    pub name: String,
    /// The value as a person sees it.
    pub shown: String,
    pub source: Source,
    /// What the value allows, in words.
    pub allows: &'static str,
    /// Whether it would count; another of the file, or a stronger layer, may hide it.
    pub effective: bool,
    value: Option<Value>,
}

impl PartialEq for Waiting {
    /// The same value for the same key, wherever it stands in the file.
    fn eq(&self, other: &Waiting) -> bool {
        self.name == other.name && Value::same(self.value.as_ref(), other.value.as_ref())
    }
}

/// All that was read, for as long as somebody may still say yes to a part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// Stronger than the project file.
    pub above: Vec<Layer>,
    pub project: Layer,
    /// Weaker than the project file.
    pub below: Vec<Layer>,
    /// Names of the project file whose values do not count.
    pub untrusted: BTreeSet<String>,
}

impl Layers {
    /// With this as the project file.
    pub fn with<'a>(&'a self, project: &'a Layer) -> Vec<&'a Layer> {
        let above = self.above.iter();
        above.chain([project]).chain(&self.below).collect()
    }

    /// What of the project file counts.
    pub fn trusted(&self) -> Layer {
        let counts = |(name, _): &(&String, _)| !self.untrusted.contains(*name);
        let trusted = self.project.iter().filter(counts);
        trusted
            .map(|(name, it)| (name.clone(), it.clone()))
            .collect()
    }

    /// Names of the project file whose values do not count by themselves.
    fn demanding(&self) -> BTreeSet<String> {
        let nothing = Layer::new();
        let (without, with) = (self.with(&nothing), self.with(&self.project));
        let service = layers::api_type(&without);
        // Which service's values count is the file's to say, where it is trusted to.
        let services = [&service, &layers::api_type(&with)].map(String::clone);
        let needs = |name: &str, set: &Option<Value>| {
            let key = keys::lookup(name)?;
            let of_service = keys::of_provider(key.name, &service).is_some();
            let comparable = !of_service || services[0] == services[1];
            let (value, other) = (
                layers::effective(key, set.clone(), &service),
                layers::counting(&without, key, &service).0,
            );
            let same = comparable && Value::same(value.as_ref(), other.as_ref());
            Some(match key.trust {
                Trust::Free => false,
                Trust::Stricter(order, _) => !order.holds(value.as_ref(), other.as_ref()),
                Trust::Ask(_) => !same,
            })
        };
        let demands = |(name, (value, _)): &(&String, &(Option<Value>, Source))| {
            needs(name, value).unwrap_or(true)
        };
        let demanding = self.project.iter().filter(demands);
        demanding.map(|(name, _)| name.clone()).collect()
    }

    fn sealable(&self) -> Vec<Sealable<'_>> {
        let all = self.project.iter();
        all.map(|(name, (value, _))| (name.as_str(), value.as_ref().map(Value::encoded)))
            .collect()
    }

    /// Leaves out what needs trust and has none.
    pub fn judge(&mut self, store: Option<&Store>, project: Option<&Path>) {
        let known = store.zip(project);
        let known = known.map(|(store, project)| store.known(project, &self.sealable()));
        let known = known.unwrap_or_default();
        self.untrusted = &self.demanding() - &known;
    }

    /// What was left out.
    pub fn waiting(&self) -> Vec<Waiting> {
        let all = self.with(&self.project);
        let service = layers::api_type(&all);
        let counts =
            |key: &Key, source: &Source| layers::counting(&all, key, &service).1 == *source;
        let waiting = self.untrusted.iter().filter_map(|name| {
            let (value, source) = self.project.get(name)?;
            let key = keys::lookup(name)?;
            Some(Waiting {
                name: name.clone(),
                shown: value.as_ref().map_or("null".to_owned(), Value::to_string),
                source: source.clone(),
                allows: key.trust.allows(),
                effective: counts(key, source),
                value: value.clone(),
            })
        });
        let mut waiting: Vec<Waiting> = waiting.collect();
        // As the person finds them in the file.
        waiting.sort_by_key(|waiting| match &waiting.source {
            Source::File { line, .. } => *line,
            _ => 0,
        });
        waiting
    }
}

impl Loaded {
    /// Lets these values count, as far as they are [`Loaded::waiting`].
    pub fn accept(&mut self, values: &[Waiting]) {
        let names = self.waiting.iter().filter(|it| values.contains(it));
        for name in names.map(|it| it.name.clone()).collect::<Vec<_>>() {
            self.layers.untrusted.remove(&name);
        }
        self.settle();
    }

    /// Remembers that these values of the project file are trusted.
    ///
    /// # Errors
    /// Why they count for this command alone, in words.
    pub fn remember(&self, values: &[Waiting]) -> Result<(), String> {
        let (Some(store), Some(project)) = (&self.store, &self.project_dir) else {
            return Err("there is no home folder: set HOME or XDG_STATE_HOME".into());
        };
        let sealable = values.iter().map(|it| {
            let value = it.value.as_ref().map(Value::encoded);
            (it.name.as_str(), value)
        });
        store
            .add(project, &sealable.collect::<Vec<_>>())
            .map_err(|error| error.to_string())
    }
}

/// The value with its paths as they are without links, so that what was trusted is what is used: a link that leads
/// elsewhere later makes another value.
pub(super) fn resolved(key: &Key, value: Value) -> Value {
    match (key.kind, value) {
        (Kind::Path, Value::Path(path)) => Value::Path(real(&path, MOST_LINKS)),
        (Kind::Mounts, Value::List(mounts)) => {
            let real = |mount: &String| {
                let (path, access) = value::access(mount);
                let path = real(Path::new(path), MOST_LINKS);
                // What is no text cannot be written down; it is refused when it is used.
                path.to_str()
                    .map_or_else(|| mount.clone(), |path| format!("{path}{access}"))
            };
            Value::List(mounts.iter().map(real).collect())
        }
        (_, other) => other,
    }
}

/// The real path, of one that is not there as far as it is.
fn real(path: &Path, links: usize) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    let parent = real(parent, links);
    match parent.join(name).read_link() {
        // It leads to what is not there, and would be followed when that is made.
        Ok(target) if links > 0 => real(&parent.join(target), links - 1),
        _ => parent.join(name),
    }
}

/// What is remembered for this user.
pub struct Remembered(Option<Store>);

impl Remembered {
    /// In Heddle's state folder.
    pub fn of_process() -> Remembered {
        Remembered(crate::folders::state().map(Store::within))
    }

    /// The folders, and the keys that are trusted in the project file of each.
    pub fn list(&self) -> Vec<(String, Vec<String>)> {
        self.0.as_ref().map(Store::list).unwrap_or_default()
    }

    /// Takes back whatever was trusted in a folder. Whether there was anything.
    pub fn revoke(&self, project: &Path) -> std::io::Result<bool> {
        match &self.0 {
            Some(store) => Ok(!store.remove(&[project.to_owned()])?.is_empty()),
            None => Ok(false),
        }
    }
}
