//! What is known of Python's modules: which names run commands, load code, delete, or reach the network.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{RiskKind, Rule};

/// Attributes through which any object leads to the interpreter's inside.
const DUNDERS: &[&str] = &[
    "__base__",
    "__bases__",
    "__builtins__",
    "__class__",
    "__closure__",
    "__code__",
    "__delattr__",
    "__dict__",
    "__func__",
    "__getattr__",
    "__getattribute__",
    "__globals__",
    "__import__",
    "__loader__",
    "__mro__",
    "__reduce__",
    "__reduce_ex__",
    "__self__",
    "__setattr__",
    "__spec__",
    "__subclasses__",
    "__subclasshook__",
    "_evaluate",
    "ag_frame",
    "cr_frame",
    "f_back",
    "f_builtins",
    "f_globals",
    "f_locals",
    "func_globals",
    "gi_frame",
    "mro",
    "tb_frame",
];

pub(super) fn is_dunder(name: &str) -> bool {
    // Almost no name gets past the first comparison.
    matches!(
        name.as_bytes().first(),
        Some(b'_' | b'a' | b'c' | b'f' | b'g' | b'm' | b't')
    ) && DUNDERS.binary_search(&name).is_ok()
}

/// The dangerous dunder that a text holds, as a format string can: `{0.__class__}`.
pub(super) fn dunder_in(text: &str) -> Option<&'static str> {
    let word = |c: char| c == '_' || c.is_alphanumeric();
    if !text.contains('_') {
        return None;
    }
    text.split(|c| !word(c)).find_map(|part| {
        let at = DUNDERS.binary_search(&part).ok()?;
        Some(DUNDERS[at])
    })
}

/// Attributes of `__class__` that tell no more than a name.
pub(super) const NAMES_OF_CLASS: &[&str] = &["__name__", "__qualname__", "__module__", "__doc__"];

/// Modules that libraries carry along as attributes, and that are as dangerous there as when they are imported.
const CARRIED: &[&str] = &[
    "_io",
    "_thread",
    "builtins",
    "codeop",
    "ctypes",
    "fcntl",
    "ftplib",
    "imp",
    "importlib",
    "joblib",
    "marshal",
    "mmap",
    "nt",
    "os",
    "pathlib",
    "pickle",
    "pickletools",
    "pkgutil",
    "posix",
    "pty",
    "requests",
    "runpy",
    "shelve",
    "shutil",
    "smtplib",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "urllib",
    "webbrowser",
];

/// More such modules. A name of the code's own may well be called like them, so that they count only in a module.
const CARRIED_INSIDE: &[&str] = &[
    "_posixsubprocess",
    "bz2",
    "codecs",
    "fileinput",
    "gzip",
    "lzma",
    "tarfile",
    "tempfile",
    "zipfile",
];

pub(super) fn is_carried(name: &str) -> bool {
    CARRIED.contains(&name)
}

/// The module that a part of a dotted name is, or is taken from, if it is one that libraries carry along.
pub(super) fn carried<'a>(parts: &[&'a str], index: usize) -> Option<&'a str> {
    let name = parts[index];
    if is_carried(name) {
        return Some(name);
    }
    if index == 0 {
        return None;
    }
    match name {
        // pandas and scipy have packages of this name.
        "io" => {
            let next = parts.get(index + 1)?;
            matches!(*next, "open" | "open_code" | "FileIO").then_some(name)
        }
        "urlopen" | "urlretrieve" => Some("urllib"),
        "Path" => is_of_pathlib(parts[0], parts[index - 1]).then_some("pathlib"),
        name => CARRIED_INSIDE.contains(&name).then_some(name),
    }
}

/// The index of the last part of a dotted name that is such a module.
pub(super) fn carrier(parts: &[&str]) -> Option<usize> {
    (0..parts.len()).rfind(|index| carried(parts, *index).is_some())
}

/// Whether the use of a module that an earlier cell imported is to be told again.
pub(super) fn is_dangerous(module: &str) -> bool {
    is_carried(module) || CARRIED_INSIDE.contains(&module) || EFFECTS.contains_key(module)
}

/// Whether the `Path` of a module is a path of files: matplotlib has paths that are drawn.
fn is_of_pathlib(package: &str, module: &str) -> bool {
    match package {
        "numpy" | "pandas" | "scipy" | "seaborn" | "sklearn" => true,
        "matplotlib" => matches!(
            module,
            "matplotlib"
                | "animation"
                | "cbook"
                | "core"
                | "dviread"
                | "font_manager"
                | "image"
                | "texmanager"
        ),
        _ => false,
    }
}

/// Whether attributes, the first of which has the name of a module, are those of the module. A column of a table may
/// have such a name, too: `df.os.value_counts()`.
pub(super) fn shows_module(names: &[&str]) -> bool {
    const OF_OS: &[&str] = &[
        "chdir",
        "environ",
        "fdopen",
        "getcwd",
        "getenv",
        "getpid",
        "getuid",
        "listdir",
        "lstat",
        "open",
        "path",
        "putenv",
        "read",
        "scandir",
        "sep",
        "stat",
        "uname",
        "walk",
        "write",
        // What a column cannot be asked for, either.
        "chmod",
        "chown",
        "link",
        "makedirs",
        "mkdir",
        "remove",
        "removedirs",
        "renames",
        "rmdir",
        "symlink",
        "unlink",
    ];
    const OF_SYS: &[&str] = &[
        "argv",
        "executable",
        "exit",
        "path",
        "path_hooks",
        "platform",
        "stdin",
        "stdout",
        "version",
    ];
    match names {
        ["os" | "posix" | "nt", next, ..] => OF_OS.contains(next),
        ["sys", next, ..] => OF_SYS.contains(next),
        [
            "builtins" | "importlib" | "marshal" | "runpy" | "shutil" | "subprocess" | "_io"
            | "_thread",
            ..,
        ] => true,
        _ => false,
    }
}

/// What the kernel's namespace holds beforehand under a short name, and what such a name nearly always means.
pub(super) fn usual(name: &str) -> &str {
    match name {
        "pd" => "pandas",
        "np" => "numpy",
        "plt" => "matplotlib.pyplot",
        "sns" => "seaborn",
        name => name,
    }
}

/// What a function does that makes it worth a finding or a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Starts another program.
    Shell,
    /// Imports a module that is named at run time.
    Import,
    /// Runs a text as code.
    Execute,
    /// Loads data that may hold code.
    Unpickle,
    /// Calls native code by address or name.
    Native,
    Delete,
    Network,
    /// Writes to the path that is its argument of this position.
    Write(usize),
}

impl Effect {
    pub(super) fn rule(self) -> Option<Rule> {
        match self {
            Effect::Shell => Some(Rule::Shell),
            Effect::Import => Some(Rule::Module),
            Effect::Execute | Effect::Native => Some(Rule::Execution),
            Effect::Unpickle => Some(Rule::Unpickle),
            Effect::Delete | Effect::Network | Effect::Write(_) => None,
        }
    }

    pub(super) fn risk(self) -> Option<RiskKind> {
        match self {
            Effect::Shell => Some(RiskKind::Shell),
            Effect::Delete => Some(RiskKind::FileDeletion),
            Effect::Network => Some(RiskKind::Network),
            _ => None,
        }
    }

    /// What the function does, to go after its name; and what to do instead.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Effect::Shell => (
                "runs another program",
                "Do it in Python with the allowed libraries.",
            ),
            Effect::Import => (
                "imports a module by a name that is only known when the code runs",
                "Write an import statement.",
            ),
            Effect::Execute => ("runs a text as code", "Write the code itself."),
            Effect::Unpickle => (
                "may run code that is hidden in the data it loads",
                "Use CSV, JSON, Parquet, or .npy without allow_pickle.",
            ),
            Effect::Native => (
                "reaches native code",
                "Use the functions of the allowed libraries.",
            ),
            Effect::Delete => ("deletes files", "Leave the file where it is."),
            Effect::Network => ("uses the network", "Use the files that are there."),
            Effect::Write(_) => ("writes a file", "Write into the working directory."),
        }
    }
}

/// A module's names with an effect; `*` is every name of the module that no other entry has.
type Members = &'static [(&'static str, Effect)];

const ANNOTATIONS: Members = &[
    ("get_type_hints", Effect::Execute),
    ("evaluate_forward_ref", Effect::Execute),
    ("call_evaluate_function", Effect::Execute),
    ("call_annotate_function", Effect::Execute),
    ("_eval_type", Effect::Execute),
];

const TABLE: &[(&str, Members)] = {
    use Effect::*;
    &[
        (
            "os",
            &[
                ("system", Shell),
                ("popen", Shell),
                ("execl", Shell),
                ("execle", Shell),
                ("execlp", Shell),
                ("execlpe", Shell),
                ("execv", Shell),
                ("execve", Shell),
                ("execvp", Shell),
                ("execvpe", Shell),
                ("spawnl", Shell),
                ("spawnle", Shell),
                ("spawnlp", Shell),
                ("spawnlpe", Shell),
                ("spawnv", Shell),
                ("spawnve", Shell),
                ("spawnvp", Shell),
                ("spawnvpe", Shell),
                ("posix_spawn", Shell),
                ("posix_spawnp", Shell),
                ("startfile", Shell),
                ("fork", Shell),
                ("forkpty", Shell),
                ("kill", Shell),
                ("killpg", Shell),
                ("remove", Delete),
                ("unlink", Delete),
                ("rmdir", Delete),
                ("removedirs", Delete),
                ("truncate", Delete),
                ("mkdir", Write(0)),
                ("makedirs", Write(0)),
                ("mknod", Write(0)),
                ("mkfifo", Write(0)),
                ("chmod", Write(0)),
                ("chown", Write(0)),
                ("rename", Write(1)),
                ("renames", Write(1)),
                ("replace", Write(1)),
                ("link", Write(1)),
                ("symlink", Write(1)),
            ],
        ),
        (
            "subprocess",
            &[
                ("run", Shell),
                ("Popen", Shell),
                ("call", Shell),
                ("check_call", Shell),
                ("check_output", Shell),
                ("getoutput", Shell),
                ("getstatusoutput", Shell),
                ("*", Shell),
            ],
        ),
        ("_posixsubprocess", &[("*", Shell)]),
        ("pty", &[("*", Shell)]),
        ("pexpect", &[("*", Shell)]),
        ("commands", &[("*", Shell)]),
        ("sh", &[("*", Shell)]),
        ("plumbum", &[("*", Shell)]),
        (
            "asyncio",
            &[
                ("create_subprocess_exec", Shell),
                ("create_subprocess_shell", Shell),
                ("open_connection", Network),
                ("start_server", Network),
            ],
        ),
        (
            "importlib",
            &[
                ("import_module", Import),
                ("__import__", Import),
                ("reload", Execute),
                ("util", Import),
                ("machinery", Import),
            ],
        ),
        ("imp", &[("*", Import)]),
        (
            "pkgutil",
            &[("get_loader", Import), ("resolve_name", Import)],
        ),
        ("runpy", &[("*", Execute)]),
        (
            "code",
            &[
                ("interact", Execute),
                ("InteractiveInterpreter", Execute),
                ("InteractiveConsole", Execute),
            ],
        ),
        ("codeop", &[("*", Execute)]),
        // Annotations are texts that these evaluate.
        ("typing", ANNOTATIONS),
        ("typing_extensions", ANNOTATIONS),
        ("annotationlib", ANNOTATIONS),
        (
            "timeit",
            &[("timeit", Execute), ("repeat", Execute), ("Timer", Execute)],
        ),
        ("cProfile", &[("run", Execute), ("runctx", Execute)]),
        ("profile", &[("run", Execute), ("runctx", Execute)]),
        ("pdb", &[("run", Execute), ("runeval", Execute)]),
        (
            "doctest",
            &[("run_docstring_examples", Execute), ("testfile", Execute)],
        ),
        (
            "types",
            &[
                ("FunctionType", Execute),
                ("CodeType", Execute),
                ("LambdaType", Execute),
            ],
        ),
        (
            "sys",
            &[
                ("modules", Import),
                ("_getframe", Execute),
                ("settrace", Execute),
                ("meta_path", Import),
            ],
        ),
        (
            "pickle",
            &[
                ("load", Unpickle),
                ("loads", Unpickle),
                ("Unpickler", Unpickle),
            ],
        ),
        (
            "_pickle",
            &[
                ("load", Unpickle),
                ("loads", Unpickle),
                ("Unpickler", Unpickle),
            ],
        ),
        (
            "cPickle",
            &[
                ("load", Unpickle),
                ("loads", Unpickle),
                ("Unpickler", Unpickle),
            ],
        ),
        ("cloudpickle", &[("load", Unpickle), ("loads", Unpickle)]),
        (
            "dill",
            &[
                ("load", Unpickle),
                ("loads", Unpickle),
                ("load_session", Unpickle),
            ],
        ),
        ("marshal", &[("load", Unpickle), ("loads", Unpickle)]),
        (
            "shelve",
            &[
                ("open", Unpickle),
                ("Shelf", Unpickle),
                ("DbfilenameShelf", Unpickle),
            ],
        ),
        ("joblib", &[("load", Unpickle)]),
        ("jsonpickle", &[("decode", Unpickle)]),
        (
            "yaml",
            &[
                ("load", Unpickle),
                ("unsafe_load", Unpickle),
                ("full_load", Unpickle),
            ],
        ),
        (
            "ctypes",
            &[
                ("CDLL", Native),
                ("PyDLL", Native),
                ("WinDLL", Native),
                ("OleDLL", Native),
                ("LibraryLoader", Native),
                ("cdll", Native),
                ("pydll", Native),
                ("windll", Native),
                ("oledll", Native),
                ("pythonapi", Native),
                ("util", Native),
                ("cast", Native),
                ("memmove", Native),
                ("memset", Native),
                ("string_at", Native),
                ("CFUNCTYPE", Native),
                ("PYFUNCTYPE", Native),
                ("py_object", Native),
                ("POINTER", Native),
            ],
        ),
        ("_ctypes", &[("*", Native)]),
        ("cffi", &[("*", Native)]),
        (
            "pandas",
            &[
                ("read_pickle", Unpickle),
                ("io.pickle.read_pickle", Unpickle),
                ("io.api.read_pickle", Unpickle),
                ("compat.pickle_compat.load", Unpickle),
                ("compat.pickle_compat.loads", Unpickle),
                ("compat.pickle_compat.Unpickler", Unpickle),
                ("compat._optional.import_optional_dependency", Import),
            ],
        ),
        (
            "numpy",
            &[
                ("f2py", Execute),
                ("distutils", Shell),
                ("ctypeslib.load_library", Native),
                ("testing.runstring", Execute),
                ("testing.measure", Execute),
                ("testing.rundocs", Execute),
                ("testing._private.utils.runstring", Execute),
                ("lib.format.read_array", Unpickle),
                ("save", Write(0)),
                ("savez", Write(0)),
                ("savez_compressed", Write(0)),
                ("savetxt", Write(0)),
            ],
        ),
        ("scipy", &[("LowLevelCallable", Native)]),
        (
            "torch",
            &[("load", Unpickle), ("hub", Network), ("save", Write(1))],
        ),
        (
            "shutil",
            &[
                ("rmtree", Delete),
                ("copy", Write(1)),
                ("copy2", Write(1)),
                ("copyfile", Write(1)),
                ("copytree", Write(1)),
                ("move", Write(1)),
                ("make_archive", Write(0)),
                ("unpack_archive", Write(1)),
            ],
        ),
        ("send2trash", &[("*", Delete)]),
        (
            "matplotlib",
            &[("pyplot.savefig", Write(0)), ("pyplot.imsave", Write(0))],
        ),
        ("imageio", &[("imwrite", Write(0)), ("imsave", Write(0))]),
        ("cv2", &[("imwrite", Write(0))]),
        ("requests", &[("*", Network)]),
        ("httpx", &[("*", Network)]),
        ("aiohttp", &[("*", Network)]),
        ("urllib3", &[("*", Network)]),
        ("urllib", &[("request", Network), ("urlopen", Network)]),
        ("http", &[("client", Network), ("server", Network)]),
        ("socket", &[("*", Network)]),
        ("socketserver", &[("*", Network)]),
        ("ssl", &[("*", Network)]),
        ("ftplib", &[("*", Network)]),
        ("smtplib", &[("*", Network)]),
        ("poplib", &[("*", Network)]),
        ("imaplib", &[("*", Network)]),
        ("telnetlib", &[("*", Network)]),
        ("xmlrpc", &[("*", Network)]),
        ("paramiko", &[("*", Network)]),
        ("websocket", &[("*", Network)]),
        ("websockets", &[("*", Network)]),
        ("boto3", &[("*", Network)]),
        ("botocore", &[("*", Network)]),
        ("yfinance", &[("*", Network)]),
        ("webbrowser", &[("*", Network)]),
        ("huggingface_hub", &[("*", Network)]),
        ("openai", &[("*", Network)]),
        ("nltk", &[("download", Network)]),
        (
            "seaborn",
            &[("load_dataset", Network), ("get_dataset_names", Network)],
        ),
        ("datasets", &[("load_dataset", Network)]),
    ]
};

static EFFECTS: LazyLock<HashMap<&str, Members>> =
    LazyLock::new(|| TABLE.iter().copied().collect());

/// The effect of a dotted name that starts with a module. Entries for all names of a module count only if `wild`.
pub(super) fn effect(path: &[&str], wild: bool) -> Option<Effect> {
    let (module, rest) = path.split_first()?;
    if *module == "sklearn" && rest.first() == Some(&"datasets") {
        let fetches = rest.get(1).is_some_and(|name| name.starts_with("fetch_"));
        return fetches.then_some(Effect::Network);
    }
    let module = match *module {
        // Libraries have these under their own name.
        "urlopen" | "urlretrieve" => return Some(Effect::Network),
        // os is these two under its own name.
        "posix" | "nt" => "os",
        module => module,
    };
    let members = EFFECTS.get(module)?;
    if rest.is_empty() {
        return None;
    }
    let named = members.iter().find(|(name, _)| starts_with(rest, name));
    named
        .or_else(|| members.iter().find(|(name, _)| wild && *name == "*"))
        .map(|(_, effect)| *effect)
}

/// Whether the dotted name starts with the parts of `prefix`.
fn starts_with(path: &[&str], prefix: &str) -> bool {
    let mut parts = path.iter();
    prefix.split('.').all(|part| parts.next() == Some(&part))
}

/// A function of another module that is a builtin under another name: `io.open`, `builtins.eval`.
pub(super) fn builtin<'a>(path: &[&'a str]) -> Option<&'a str> {
    match path {
        [
            "io" | "_io" | "codecs" | "os" | "posix" | "nt",
            "open" | "fdopen" | "FileIO",
            ..,
        ] => Some("open"),
        ["builtins" | "__builtin__", name, ..] => Some(name),
        ["importlib", "reload", ..] => Some("reload"),
        ["importlib", "__import__", ..] => Some("__import__"),
        ["operator", "attrgetter" | "methodcaller", ..] => Some("getattr"),
        ["inspect", "getattr_static", ..] => Some("getattr"),
        _ => None,
    }
}

/// Methods that write to a path, and the position of that path.
pub(super) fn writing_method(name: &str) -> Option<usize> {
    const METHODS: &[&str] = &[
        "savefig",
        "extractall",
        "export",
        "dump_model",
        "save_model",
        "to_csv",
        "to_excel",
        "to_parquet",
        "to_json",
        "to_html",
        "to_pickle",
        "to_feather",
        "to_hdf",
        "to_xml",
        "to_latex",
        "to_markdown",
        "to_string",
        "to_stata",
        "to_orc",
        "tofile",
        "write_html",
        "write_image",
        "save",
    ];
    METHODS.contains(&name).then_some(0)
}

/// Methods of a path object that write to it.
pub(super) const PATH_WRITERS: &[&str] = &[
    "write_text",
    "write_bytes",
    "mkdir",
    "touch",
    "symlink_to",
    "hardlink_to",
    "chmod",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dunders_are_sorted_and_start_as_the_quick_test_says() {
        assert!(DUNDERS.is_sorted());
        assert!(DUNDERS.iter().all(|name| is_dunder(name)));
    }

    #[test]
    fn every_module_is_in_the_table_once() {
        assert_eq!(EFFECTS.len(), TABLE.len());
    }

    #[test]
    fn a_name_has_the_effect_of_what_it_starts_with() {
        assert_eq!(effect(&["os", "system"], true), Some(Effect::Shell));
        assert_eq!(effect(&["os", "path", "join"], true), None);
        assert_eq!(effect(&["os"], true), None);
        assert_eq!(effect(&["requests", "mean"], false), None);
        assert_eq!(effect(&["subprocess", "run"], true), Some(Effect::Shell));
        assert_eq!(effect(&["urllib", "parse", "quote"], true), None);
        assert_eq!(
            effect(&["urllib", "request", "urlopen"], true),
            Some(Effect::Network)
        );
        assert_eq!(effect(&["numpy", "savetxt"], true), Some(Effect::Write(0)));
    }
}
