//! The layers laid over one another: which value counts, and where it comes from.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::{self, Contents, Entry, Format};
use super::keys::{self, KEYS, Key, PROVIDERS};
use super::project::{self, Project};
use super::settings::{Settings, Values};
use super::store::Store;
use super::trust::{self, Layers};
use super::value::{self, Bases, Raw, Value};
use super::{ConfigError, Loaded, Request, Resolved, Source, Survey};

/// The keys that one layer holds. A value of `None` is an explicit null.
pub(super) type Layer = BTreeMap<String, (Option<Value>, Source)>;

/// How many faults, and how many unknown keys, of one file are reported one by one.
const MOST_WARNINGS: usize = 20;

/// Find the files, read all layers, check every value in them, and say which counts.
///
/// # Errors
/// The first thing that is wrong in any layer, also where a stronger layer hides it: a file with a mistake in it is
/// to be mended. [`Loaded::warnings`] has what is only odd.
pub fn load(request: &Request<'_>) -> Result<Loaded, ConfigError> {
    let Survey { loaded, faults } = survey(request);
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(loaded),
    }
}

/// The same with all that is wrong. What has a fault is left out, so that a weaker layer or the default counts.
pub fn survey(request: &Request<'_>) -> Survey {
    let mut faults = Vec::new();
    let project = match &request.project {
        Some(dir) => project::named(request.cwd.join(dir)).unwrap_or_else(|fault| {
            faults.push(fault);
            Project::default()
        }),
        None => project::around(&request.cwd, request.home.as_deref()),
    };
    let contents = project.file.as_ref();
    let contents = contents.map(|(path, format)| file::read(path, *format));
    assemble(request, project, contents, faults)
}

/// The settings of a project whose `heddle.toml` was just written with this text. The file is not read: somebody may
/// have changed it meanwhile.
pub fn survey_written(request: &Request<'_>, project: &Path, text: &str) -> Survey {
    let mut faults = Vec::new();
    let mut project = project::named(project.to_owned()).unwrap_or_else(|fault| {
        faults.push(fault);
        Project::default()
    });
    let path = project.dir.clone().unwrap_or_default();
    let path = path.join(project::PROJECT_FILES[0]);
    let contents = file::parse(&path, text.as_bytes(), Format::Toml);
    let contents = contents.map(|entries| Contents { entries, mode: 0 });
    project.file = Some((path, Format::Toml));
    project.empty.clear();
    project.warnings.clear();
    assemble(request, project, Some(contents), faults)
}

fn assemble(
    request: &Request<'_>,
    project: Project,
    contents: Option<Result<Contents, ConfigError>>,
    mut faults: Vec<ConfigError>,
) -> Survey {
    let mut warnings = project.warnings;
    let base = project.dir.as_deref().unwrap_or(&request.cwd);
    let of_file = Bases {
        relative: base,
        project: base,
        home: request.home.as_deref(),
    };
    let of_person = Bases {
        relative: &request.cwd,
        ..of_file
    };
    let mut layers = Layers {
        above: vec![
            flags(request, of_person, &mut faults),
            environment(request, of_person, &mut faults),
        ],
        ..Layers::default()
    };
    let mut files = Vec::new();
    let mut whole = false;
    let store = request.state.clone().map(Store::within);
    if let Some(store) = &store {
        // A file that comes back where there was none is another one. Where nothing can be written, nothing was added.
        let _ = store.remove(&project.empty);
    }
    if let Some(((path, format), contents)) = project.file.zip(contents) {
        let read = contents.map(|contents| {
            from_file(&path, format, contents, of_file, &mut warnings, &mut faults)
        });
        match read {
            Ok(mut layer) => {
                for (name, (value, _)) in &mut layer {
                    *value = keys::lookup(name)
                        .zip(value.take())
                        .map(|(key, value)| trust::resolved(key, value));
                }
                layers.project = layer;
                whole = true;
            }
            Err(fault) => faults.push(fault),
        }
        files.push(path);
    }
    let user_file = request.user_file.clone();
    // One that can't be looked at is there: reading it says why.
    let user_file = user_file.filter(|path| path.try_exists().unwrap_or(true));
    if let Some(path) = user_file {
        let contents = file::read(&path, Format::Toml);
        let read = contents.map(|contents| {
            let (warnings, faults) = (&mut warnings, &mut faults);
            from_file(&path, Format::Toml, contents, of_file, warnings, faults)
        });
        match read {
            Ok(layer) => layers.below.push(layer),
            Err(fault) => faults.push(fault),
        }
        files.push(path);
    }
    // What cannot be read at all says nothing of what was trusted.
    if whole {
        layers.judge(store.as_ref(), project.dir.as_deref());
    }
    let mut loaded = Loaded {
        settings: Settings::default(),
        values: Vec::new(),
        warnings,
        project_dir: project.dir,
        files,
        waiting: Vec::new(),
        declined: false,
        trusted_once: false,
        layers,
        store,
    };
    loaded.settle();
    Survey { loaded, faults }
}

impl Loaded {
    /// Makes the settings of what counts now.
    pub(super) fn settle(&mut self) {
        let (values, resolved) = resolve(&self.layers.with(&self.layers.trusted()));
        self.settings = Settings::from_values(&values);
        self.values = resolved;
        self.waiting = self.layers.waiting();
    }
}

fn flags(request: &Request<'_>, bases: Bases<'_>, faults: &mut Vec<ConfigError>) -> Layer {
    let mut layer = Layer::new();
    for (name, text) in &request.flags {
        let Some(key) = keys::lookup(name) else {
            faults.push(unknown("command line".into(), name));
            continue;
        };
        let source = Source::Flag(key.flag.unwrap_or("command line"));
        let raw = value::from_text(text);
        faults.extend(put(&mut layer, name, key, &raw, source, bases).err());
    }
    layer
}

/// `HEDDLE_LLM_API_KEY` before `LLM_API_KEY`; an empty variable is as good as none.
fn environment(request: &Request<'_>, bases: Bases<'_>, faults: &mut Vec<ConfigError>) -> Layer {
    let mut layer = Layer::new();
    for name in keys::names() {
        let Some(key) = keys::lookup(&name) else {
            continue;
        };
        let plain = name.replace('.', "_").to_uppercase();
        let variables = [format!("HEDDLE_{plain}"), plain];
        let found = variables.into_iter().find_map(|variable| {
            let text = (request.env)(&variable).filter(|text| !text.is_empty())?;
            Some((variable, text))
        });
        if let Some((variable, text)) = found {
            let raw = match text.to_str() {
                Some(text) => value::from_text(text),
                None => Raw::Other("not UTF-8"),
            };
            let source = Source::Env(variable);
            faults.extend(put(&mut layer, &name, key, &raw, source, bases).err());
        }
    }
    layer
}

/// The keys of a file.
fn from_file(
    path: &Path,
    format: Format,
    contents: Contents,
    bases: Bases<'_>,
    warnings: &mut Vec<String>,
    faults: &mut Vec<ConfigError>,
) -> Layer {
    let mut layer = Layer::new();
    let mut unused = Vec::new();
    let mut unknown_keys = Vec::new();
    let mut faulty = 0;
    for Entry { name, line, raw } in contents.entries {
        let source = Source::File {
            path: path.to_owned(),
            line,
        };
        match (keys::lookup(&name), format) {
            (Some(key), _) => match put(&mut layer, &name, key, &raw, source.clone(), bases) {
                Ok(None) => {}
                Ok(Some(before)) => warnings.push(format!(
                    "{name} is set twice, at {before} and {source}: the second counts"
                )),
                Err(fault) if faulty < MOST_WARNINGS => {
                    faulty += 1;
                    faults.push(fault);
                }
                Err(_) => faulty += 1,
            },
            (None, Format::Toml) => {
                // The nearest key takes time to find.
                if faulty < MOST_WARNINGS {
                    faults.push(unknown(place(&source), &name));
                }
                faulty += 1;
            }
            (None, Format::Json) if keys::known_to_taskweaver(&name) => {
                unused.push(format!("{} (line {line})", value::printable(&name)));
            }
            (None, Format::Json) => unknown_keys.push((source, name)),
        }
    }
    if faulty > MOST_WARNINGS {
        faults.push(ConfigError::More {
            path: path.to_owned(),
            count: faulty - MOST_WARNINGS,
        });
    }
    if !unused.is_empty() {
        warnings.push(few(
            &format!("{}: not used by this version: ", path.display()),
            unused,
        ));
    }
    let more = unknown_keys.len().saturating_sub(MOST_WARNINGS);
    for (source, name) in unknown_keys.iter().take(MOST_WARNINGS) {
        warnings.push(format!(
            "{} (it has no effect)",
            unknown(source.to_string(), name)
        ));
    }
    if more > 0 {
        warnings.push(format!("{}: {more} more unknown keys", path.display()));
    }
    warnings.extend(readable_secret(path, contents.mode, &layer));
    layer
}

/// A sentence with the first of many things.
fn few(start: &str, mut things: Vec<String>) -> String {
    let more = things.len().saturating_sub(MOST_WARNINGS);
    things.truncate(MOST_WARNINGS);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{start}{}{rest}", things.join(", "))
}

/// Check a value and keep it. The source of one that it replaces comes back.
fn put(
    layer: &mut Layer,
    name: &str,
    key: &Key,
    raw: &Raw,
    source: Source,
    bases: Bases<'_>,
) -> Result<Option<Source>, ConfigError> {
    if matches!(raw, Raw::Text(text) if text.trim().is_empty()) {
        return Ok(None);
    }
    let value = value::convert(key, raw, bases).map_err(|found| match raw {
        Raw::Text(text) if is_other_api_type(key, text) => ConfigError::ApiType {
            place: place(&source),
            found: text.trim().to_owned(),
            supported: PROVIDERS
                .iter()
                .map(|p| p.name)
                .collect::<Vec<_>>()
                .join(", "),
        },
        _ => ConfigError::Value {
            place: place(&source),
            key: name.to_owned(),
            allowed: key.kind.to_string(),
            found,
        },
    })?;
    let before = layer.insert(name.to_owned(), (value, source));
    Ok(before.map(|(_, source)| source))
}

fn is_other_api_type(key: &Key, text: &str) -> bool {
    key.name == "llm.api_type" && keys::OTHER_API_TYPES.contains(&text.trim())
}

/// A source in an error: a file with its folder, so that it can be opened.
fn place(source: &Source) -> String {
    match source {
        Source::File { path, line } => format!("{}:{line}", path.display()),
        other => other.to_string(),
    }
}

fn unknown(place: String, name: &str) -> ConfigError {
    let hint = if keys::known_to_taskweaver(name) {
        "TaskWeaver has it, but it has no use in this version".to_owned()
    } else if let Some(nearest) = keys::nearest(name) {
        format!("did you mean `{nearest}`?")
    } else {
        "`heddle config show` lists the keys".to_owned()
    };
    ConfigError::UnknownKey {
        place,
        key: value::printable(name),
        hint,
    }
}

/// The strongest layer's value for each key.
fn resolve(layers: &[&Layer]) -> (Values, Vec<Resolved>) {
    let api_type = api_type(layers);
    let mut values = Values(BTreeMap::new());
    let mut resolved = Vec::new();
    for key in KEYS {
        let (value, source) = counting(layers, key, &api_type);
        resolved.push(Resolved {
            key: key.name,
            shown: value
                .as_ref()
                .map_or("not set".to_owned(), Value::to_string),
            source,
        });
        if let Some(value) = value {
            values.0.insert(key.name, value);
        }
    }
    (values, resolved)
}

/// The service whose values count.
pub(super) fn api_type(layers: &[&Layer]) -> String {
    match find(layers, &["llm.api_type".to_owned()]) {
        Some((Some(Value::Text(name)), _)) => name.clone(),
        _ => PROVIDERS[0].name.to_owned(),
    }
}

/// The value of a key that counts, and where it comes from.
pub(super) fn counting(layers: &[&Layer], key: &Key, api_type: &str) -> (Option<Value>, Source) {
    let own = keys::of_provider(key.name, api_type);
    let names: Vec<String> = own.into_iter().chain([key.name.to_owned()]).collect();
    match find(layers, &names) {
        Some((value, source)) => (effective(key, value.clone(), api_type), source.clone()),
        None => {
            let value = default(key, api_type);
            let value = value.map(|value| complete(key, value, api_type));
            (value, Source::Default)
        }
    }
}

/// What a value of a layer comes to; `None` is an explicit null.
pub(super) fn effective(key: &Key, value: Option<Value>, api_type: &str) -> Option<Value> {
    let value = value.or_else(|| null(key, api_type));
    value.map(|value| complete(key, value, api_type))
}

/// The first of the names in the first layer that has any of them.
fn find<'a>(layers: &[&'a Layer], names: &[String]) -> Option<&'a (Option<Value>, Source)> {
    layers
        .iter()
        .find_map(|layer| names.iter().find_map(|name| layer.get(name)))
}

fn default(key: &Key, api_type: &str) -> Option<Value> {
    let provider = PROVIDERS.iter().find(|p| p.name == api_type);
    let text = match (key.name, provider) {
        ("llm.api_base", Some(provider)) => provider.api_base,
        _ => key.default?,
    };
    value::from_table(key.kind, text)
}

fn null(key: &Key, api_type: &str) -> Option<Value> {
    match key.null {
        Some(text) => value::from_table(key.kind, text),
        None => default(key, api_type),
    }
}

/// TaskWeaver gives Ollama's own root as the address; its Chat Completions are below `/v1`.
fn complete(key: &Key, value: Value, api_type: &str) -> Value {
    match value {
        Value::Text(base) if key.name == "llm.api_base" && api_type == "ollama" => {
            let bare = base.matches('/').count() == 2;
            Value::Text(if bare { format!("{base}/v1") } else { base })
        }
        other => other,
    }
}

fn readable_secret(path: &Path, mode: u32, layer: &Layer) -> Option<String> {
    let (name, _) = layer
        .iter()
        .find(|(_, (value, _))| matches!(value, Some(Value::Secret(_))))?;
    (mode & 0o044 != 0).then(|| {
        format!(
            "{0} holds {name} and other users of this machine can read it (mode {mode:04o}): run `chmod 600 {0}`, \
             or keep the key in the environment",
            path.display()
        )
    })
}
