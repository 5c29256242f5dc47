//! The table of keys: name, kind, default, help; and the names of TaskWeaver's keys that have no use here.

use super::strictness::Order;

/// Which values a key takes. Text forms (environment, command line, quoted values in a file) follow the same rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text without control characters.
    Text,
    /// An `http://` or `https://` address without user name, query or fragment.
    Url,
    /// A file or folder. `~` and `${AppBaseDir}` are expanded; a relative one is made absolute.
    Path,
    /// A whole number between the two, both included.
    Integer(i64, i64),
    /// A number between the two, both included.
    Number(f64, f64),
    /// A number of seconds between the two, both included. Fractions are allowed.
    Seconds(f64, f64),
    /// true, false, yes, no, on, off, 1 or 0.
    Bool,
    /// A list of texts, or one text with commas.
    List,
    /// The same, of paths that are expanded as [`Kind::Path`] is, each with `:ro` or `:rw` behind it or not.
    Mounts,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl std::fmt::Display for Kind {
    /// What a value must be, to go after "must be".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Text => f.write_str("a text in one line"),
            Kind::Url => f.write_str(
                "an address that starts with http:// or https://, without user name, `?` or `#`",
            ),
            Kind::Path => f.write_str("the path of a file or folder"),
            Kind::Integer(i64::MIN, i64::MAX) => f.write_str("a whole number"),
            Kind::Integer(low, high) => write!(f, "a whole number from {low} to {high}"),
            Kind::Number(low, high) => write!(f, "a number from {low} to {high}"),
            Kind::Seconds(low, high) => write!(f, "a number of seconds from {low} to {high}"),
            Kind::Bool => f.write_str("true or false (also yes, no, on, off, 1, 0)"),
            Kind::List => f.write_str("a list of texts, or one text with commas"),
            Kind::Mounts => f.write_str(
                "a list of paths, or one text with commas, each with :ro or :rw behind it or not",
            ),
            Kind::Choice(words) => write!(f, "one of {}", words.join(", ")),
        }
    }
}

/// Whether a value of a project file counts by itself. Code that runs, or a stranger whose repository was cloned, may
/// have written that file.
#[derive(Clone, Copy, Debug)]
pub enum Trust {
    /// Any value counts.
    Free,
    /// A value counts that is at least as strict, in this order, as the one that counts without the project file. Every
    /// other needs the person's trust; the text says what that value allows.
    Stricter(Order, &'static str),
    /// Each value needs the person's trust; the text says what it allows.
    Ask(&'static str),
}

impl Trust {
    /// What a value that needs trust allows, in words.
    pub fn allows(self) -> &'static str {
        match self {
            Trust::Free => "",
            Trust::Stricter(_, allows) | Trust::Ask(allows) => allows,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted name, the same in every file; `LLM_API_KEY` and `HEDDLE_LLM_API_KEY` are derived from it.
    pub name: &'static str,
    pub kind: Kind,
    /// Whether the value of a project file counts by itself.
    pub trust: Trust,
    /// Text form of the default; none for a key that is unset by default.
    pub default: Option<&'static str>,
    /// Text form of what an explicit `null` stands for, where that is not the default.
    pub null: Option<&'static str>,
    /// One line for `heddle config show` and the documentation.
    pub help: &'static str,
    /// A secret is never shown, neither in errors nor in part.
    pub secret: bool,
    /// The command-line flag of its own, if it has one.
    pub flag: Option<&'static str>,
}

/// A service that speaks OpenAI's Chat Completions format, and the address that it documents for it.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// Value of `llm.api_type`, and the middle of `llm.<type>.model`.
    pub name: &'static str,
    /// `llm.api_base` where none is set.
    pub api_base: &'static str,
}

/// The accepted values of `llm.api_type`.
pub const PROVIDERS: &[Provider] = &[
    Provider {
        name: "openai",
        api_base: "https://api.openai.com/v1",
    },
    Provider {
        name: "ollama",
        api_base: "http://localhost:11434/v1",
    },
    Provider {
        name: "qwen",
        api_base: "https://dashscope.aliyuncs.com/compatible-mode/v1",
    },
    Provider {
        name: "zhipuai",
        api_base: "https://open.bigmodel.cn/api/paas/v4",
    },
    Provider {
        name: "groq",
        api_base: "https://api.groq.com/openai/v1",
    },
    Provider {
        name: "deepseek",
        api_base: "https://api.deepseek.com",
    },
];

const API_TYPES: &[&str] = &["openai", "ollama", "qwen", "zhipuai", "groq", "deepseek"];

/// Values of `llm.api_type` in TaskWeaver whose wire format is another one.
pub(super) const OTHER_API_TYPES: &[&str] = &["azure", "azure_ad", "google_genai", "anthropic"];

/// Values of `execution_service.kernel_mode`.
const KERNEL_MODES: &[&str] = &["auto", "local", "container", "sandbox"];

/// The same, from the loosest to the strictest.
pub(super) const MODES_BY_STRENGTH: &[&[&str]] =
    &[&["local"], &["auto"], &["container", "sandbox"]];

/// Modules that may be imported where no list is set.
pub const ALLOWED_MODULES: &[&str] = &[
    "pandas",
    "matplotlib",
    "numpy",
    "sklearn",
    "scipy",
    "seaborn",
    "datetime",
    "typing",
];

/// Functions that may not be used where no list is set.
pub const BLOCKED_FUNCTIONS: &[&str] = &[
    "eval",
    "exec",
    "execfile",
    "compile",
    "open",
    "input",
    "raw_input",
    "reload",
    "__import__",
    "getattr",
    "setattr",
    "delattr",
    "vars",
    "globals",
    "locals",
    "__getattribute__",
    "__getattr__",
    "__setattr__",
    "__delattr__",
];

/// A day: longer timeouts are taken for mistakes in the unit.
const DAY: f64 = 86_400.0;
const MAX_U32: i64 = u32::MAX as i64;

const fn key(
    name: &'static str,
    trust: Trust,
    kind: Kind,
    default: Option<&'static str>,
    help: &'static str,
) -> Key {
    Key {
        name,
        kind,
        trust,
        default,
        null: None,
        help,
        secret: false,
        flag: None,
    }
}

/// Every key that has an effect.
pub const KEYS: &[Key] = &[
    key(
        "llm.api_type",
        Trust::Ask("requests, and your key with them, go to this service"),
        Kind::Choice(API_TYPES),
        Some("openai"),
        "the service; all speak OpenAI's Chat Completions format",
    ),
    key(
        "llm.api_base",
        Trust::Ask("requests, and your key with them, go to this address"),
        Kind::Url,
        Some("https://api.openai.com/v1"),
        "address of the endpoint; the default follows llm.api_type",
    ),
    Key {
        secret: true,
        ..key(
            "llm.api_key",
            Trust::Ask("the owner of this key can read your requests"),
            Kind::Text,
            None,
            "key of the endpoint; best kept in the environment as LLM_API_KEY",
        )
    },
    Key {
        flag: Some("--model"),
        ..key(
            "llm.model",
            Trust::Free,
            Kind::Text,
            None,
            "name of the model; needed for `ask` and `chat`",
        )
    },
    key(
        "llm.temperature",
        Trust::Free,
        Kind::Number(0.0, 2.0),
        None,
        "sampling temperature; sent only when set",
    ),
    key(
        "llm.top_p",
        Trust::Free,
        Kind::Number(0.0, 1.0),
        None,
        "nucleus sampling; sent only when set",
    ),
    key(
        "llm.max_tokens",
        Trust::Free,
        Kind::Integer(1, MAX_U32),
        None,
        "longest reply in tokens; sent only when set",
    ),
    key(
        "llm.seed",
        Trust::Free,
        Kind::Integer(i64::MIN, i64::MAX),
        None,
        "sampling seed; sent only when set",
    ),
    key(
        "llm.frequency_penalty",
        Trust::Free,
        Kind::Number(-2.0, 2.0),
        None,
        "sent only when set",
    ),
    key(
        "llm.presence_penalty",
        Trust::Free,
        Kind::Number(-2.0, 2.0),
        None,
        "sent only when set",
    ),
    Key {
        null: Some("text"),
        ..key(
            "llm.response_format",
            Trust::Free,
            Kind::Choice(&["json_object", "json_schema", "text"]),
            Some("json_object"),
            "how the endpoint is asked for JSON; `text` asks for nothing",
        )
    },
    key(
        "llm.max_retries",
        Trust::Stricter(Order::Smaller, "more requests are sent, and paid for"),
        Kind::Integer(0, 100),
        Some("3"),
        "further tries after a request failed",
    ),
    key(
        "llm.connect_timeout",
        Trust::Free,
        Kind::Seconds(0.1, DAY),
        Some("10"),
        "seconds to reach the endpoint",
    ),
    key(
        "llm.idle_timeout",
        Trust::Free,
        Kind::Seconds(0.1, DAY),
        Some("120"),
        "seconds without a byte until a reply counts as lost",
    ),
    key(
        "llm.context_chars",
        Trust::Free,
        Kind::Integer(2000, 100_000_000),
        Some("60000"),
        "characters of a conversation that the model is shown; less for one with a small context",
    ),
    Key {
        flag: Some("--record"),
        ..key(
            "llm.record",
            Trust::Ask("each exchange with the model is appended to this file"),
            Kind::Path,
            None,
            "file to which the exchanges with the model are written",
        )
    },
    Key {
        flag: Some("--replay"),
        ..key(
            "llm.replay",
            Trust::Ask("replies, with the code that runs, come from this file"),
            Kind::Path,
            None,
            "file from which the model's replies are taken",
        )
    },
    Key {
        flag: Some("--mode"),
        ..key(
            "execution_service.kernel_mode",
            Trust::Stricter(
                Order::Words(MODES_BY_STRENGTH),
                "code runs in this mode; `local` has no isolation",
            ),
            Kind::Choice(KERNEL_MODES),
            Some("auto"),
            "isolation of the kernel; `local` has none",
        )
    },
    key(
        "execution_service.network",
        Trust::Stricter(Order::Is(false), "code has the network"),
        Kind::Bool,
        Some("false"),
        "whether an isolated kernel has the network",
    ),
    key(
        "execution_service.memory",
        Trust::Stricter(Order::SmallerButZero, "code can take more memory"),
        Kind::Integer(0, MAX_U32),
        Some("0"),
        "MiB for all processes of an isolated kernel; 0 for three quarters of the machine's",
    ),
    key(
        "execution_service.processes",
        Trust::Stricter(Order::Smaller, "code can start more processes"),
        Kind::Integer(16, MAX_U32),
        Some("512"),
        "processes and threads of an isolated kernel",
    ),
    key(
        "execution_service.cpus",
        Trust::Stricter(Order::SmallerButZero, "code can take more CPUs"),
        Kind::Number(0.0, 4096.0),
        Some("0"),
        "CPUs for an isolated kernel, in a sandbox where a cgroup may be made; 0 for all",
    ),
    key(
        "execution_service.disk_free",
        Trust::Stricter(Order::Larger, "code can fill the disks further"),
        Kind::Integer(0, MAX_U32),
        Some("1024"),
        "MiB that an isolated kernel leaves free on the disks that it can write to",
    ),
    key(
        "execution_service.custom_image",
        Trust::Ask("code runs in this image"),
        Kind::Text,
        None,
        "image for kernels in containers, used as it is; without it Heddle's own, see `heddle image`",
    ),
    key(
        "execution_service.image_python",
        Trust::Ask("this program of the image runs the code"),
        Kind::Text,
        None,
        "the Python in custom_image; without it the first with ipykernel on its PATH or in /opt/*/bin",
    ),
    key(
        "execution_service.mounts",
        Trust::Ask("code, and so the model, can read these paths, and write where :rw is"),
        Kind::Mounts,
        None,
        "further paths for an isolated kernel: PATH, read-only, or PATH:rw",
    ),
    Key {
        flag: Some("--kernel"),
        ..key(
            "kernel.name",
            Trust::Ask("this kernelspec's program runs the code"),
            Kind::Text,
            None,
            "name of a kernelspec",
        )
    },
    key(
        "kernel.transport",
        Trust::Stricter(
            Order::Words(&[&["tcp"], &["ipc"]]),
            "the kernel listens on ports of this machine",
        ),
        Kind::Choice(&["ipc", "tcp"]),
        Some("ipc"),
        "how the kernel is reached",
    ),
    key(
        "kernel.start_timeout",
        Trust::Free,
        Kind::Seconds(0.1, DAY),
        Some("60"),
        "seconds until a kernel must be ready",
    ),
    key(
        "kernel.keep",
        Trust::Stricter(Order::Smaller, "a kept kernel goes on for longer"),
        Kind::Seconds(1.0, 30.0 * DAY),
        Some("3600"),
        "seconds without work after which a kept kernel ends",
    ),
    key(
        "code_interpreter.max_retry_count",
        Trust::Stricter(Order::Smaller, "more requests are sent, and paid for"),
        Kind::Integer(0, 100),
        Some("3"),
        "further tries after code failed",
    ),
    Key {
        null: Some("0"),
        ..key(
            "code_interpreter.timeout",
            Trust::Free,
            Kind::Seconds(0.0, 365.0 * DAY),
            Some("600"),
            "seconds for one cell; 0 for no limit",
        )
    },
    key(
        "code_interpreter.output_chars",
        Trust::Stricter(
            Order::Smaller,
            "more text is sent to the model, and paid for",
        ),
        Kind::Integer(200, 10_000_000),
        Some("4000"),
        "how many characters of an outcome the model gets",
    ),
    key(
        "code_interpreter.code_verification_on",
        Trust::Stricter(
            Order::Is(true),
            "the model's code is not checked before it runs",
        ),
        Kind::Bool,
        Some("false"),
        "whether the model's code is checked before it runs, as `heddle check` does",
    ),
    Key {
        flag: Some("--approve"),
        ..key(
            "code_interpreter.approve",
            Trust::Stricter(
                Order::Words(&[&["never"], &["risky"], &["always"]]),
                "more of the model's code runs without asking you",
            ),
            Kind::Choice(&["never", "risky", "always"]),
            Some("never"),
            "when you are asked before the model's code runs",
        )
    },
    key(
        "code_interpreter.allowed_modules",
        Trust::Stricter(
            Order::Within(ALLOWED_MODULES),
            "checked code may import these modules",
        ),
        Kind::List,
        None,
        "modules that checked code may import; by default pandas, numpy, matplotlib and a few more",
    ),
    key(
        "code_interpreter.blocked_modules",
        Trust::Stricter(
            Order::Containing(None),
            "checked code may import every module but these",
        ),
        Kind::List,
        None,
        "modules that checked code may not import; in place of allowed_modules",
    ),
    key(
        "code_interpreter.blocked_functions",
        Trust::Stricter(
            Order::Containing(Some(BLOCKED_FUNCTIONS)),
            "checked code may use every function but these",
        ),
        Kind::List,
        None,
        "functions that checked code may not use; by default eval, open, getattr and their like",
    ),
    key(
        "session.max_internal_chat_round_num",
        Trust::Stricter(Order::Smaller, "more requests are sent, and paid for"),
        Kind::Integer(1, 1000),
        Some("10"),
        "turns between Planner and CodeInterpreter for one request",
    ),
    key(
        "workspace.workspace_path",
        Trust::Ask("sessions are written to this folder, and read from it"),
        Kind::Path,
        None,
        "folder that holds the sessions",
    ),
];

/// The `llm.` keys that a service can have for itself, as `llm.<type>.model`: they win over `llm.model` of the same
/// layer while `llm.api_type` names that service.
const OF_PROVIDER: &[&str] = &[
    "api_base",
    "api_key",
    "model",
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "response_format",
];

/// Keys of TaskWeaver that have no effect here. A `*` stands for any text.
const TASKWEAVER: &[&str] = &[
    "llm.backup_model",
    "llm.embedding_api_type",
    "llm.embedding_model",
    "llm.use_mock",
    "llm.mock.*",
    "llm.azure.*",
    "llm.azure_ad.*",
    "llm.google_genai.*",
    "llm.anthropic.*",
    "llm.*.backup_model",
    "llm.*.embedding_model",
    "llm.*.api_version",
    "llm.*.api_auth_type",
    "llm.*.aad_*",
    "llm.*.stop_token",
    "llm.*.support_system_role",
    "llm.*.require_alternative_roles",
    "llm.*.support_constrained_generation",
    "llm.*.json_schema_enforcer",
    "ext_llms.*",
    "*.llm_alias",
    "execution_service.env_dir",
    "code_interpreter.code_prefix",
    "code_interpreter.use_local_uri",
    "code_generator.role_name",
    "code_generator.load_plugin",
    "code_generator.enable_auto_plugin_selection",
    "code_generator.auto_plugin_selection_topk",
    "*.prompt_compression",
    "*.use_example",
    "*.example_base_path",
    "*.use_experience",
    "*.experience_dir",
    "*.dynamic_*_sub_path",
    "session.roles",
    "round_compressor.rounds_to_compress",
    "round_compressor.rounds_to_retain",
    "experience.retrieve_threshold",
    "logging.log_folder",
    "logging.log_file",
    "tracing.enabled",
    "tracing.endpoint",
    "tracing.service_name",
    "tracing.exporter",
    "plugin.base_path",
];

/// The key of this name; also of `llm.<type>.model` and its kind.
pub fn lookup(name: &str) -> Option<&'static Key> {
    let plain = |name: &str| KEYS.iter().find(|key| key.name == name);
    plain(name).or_else(|| {
        let (provider, field) = name.strip_prefix("llm.")?.split_once('.')?;
        (API_TYPES.contains(&provider) && OF_PROVIDER.contains(&field))
            .then(|| plain(&format!("llm.{field}")))?
    })
}

/// `llm.<type>.model` for `llm.model`; none for a key that no service has for itself.
pub(super) fn of_provider(name: &str, provider: &str) -> Option<String> {
    let field = name.strip_prefix("llm.")?;
    OF_PROVIDER
        .contains(&field)
        .then(|| format!("llm.{provider}.{field}"))
}

/// Every name that a layer may hold.
pub(super) fn names() -> impl Iterator<Item = String> {
    KEYS.iter().flat_map(|key| {
        let own = API_TYPES.iter().filter_map(|p| of_provider(key.name, p));
        std::iter::once(key.name.to_owned()).chain(own)
    })
}

/// Whether TaskWeaver has a key of this name that has no effect here.
pub(super) fn known_to_taskweaver(name: &str) -> bool {
    TASKWEAVER.iter().any(|pattern| matches(pattern, name))
}

/// `*` in the pattern stands for any text. Patterns have at most two, so the recursion is shallow.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, "")) => name.len() > head.len() && name.starts_with(head),
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices()
                .any(|(at, _)| matches(tail, &rest[at..]))
        }),
    }
}

/// The name that a person most likely meant, if one is near.
pub(super) fn nearest(name: &str) -> Option<String> {
    // The distance costs length times length: no real key is longer than this.
    if name.len() > 80 {
        return None;
    }
    let far = 2.max(name.chars().count() / 4);
    names()
        .map(|known| (strsim::damerau_levenshtein(name, &known), known))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
        .or_else(|| misplaced(name))
}

/// The right last part under the wrong table: `model` or `openai.model` for `llm.model`.
fn misplaced(name: &str) -> Option<String> {
    let last = name.rsplit('.').next()?;
    let mut same = KEYS
        .iter()
        .filter(|key| key.name.rsplit('.').next() == Some(last));
    match (same.next(), same.next()) {
        (Some(only), None) => Some(only.name.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_name_and_by_the_name_of_a_service() {
        assert_eq!(lookup("llm.model").map(|k| k.name), Some("llm.model"));
        assert_eq!(lookup("llm.groq.model").map(|k| k.name), Some("llm.model"));
        assert!(lookup("llm.groq.record").is_none());
        assert!(lookup("llm.anthropic.model").is_none());
        assert!(lookup("llm").is_none());
    }

    #[test]
    fn every_name_is_there_once_and_gives_a_variable_of_its_own() {
        let mut variables: Vec<_> = names()
            .map(|n| n.replace('.', "_").to_uppercase())
            .collect();
        let count = variables.len();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), count);
    }

    #[test]
    fn the_choices_of_api_type_are_the_providers() {
        let names: Vec<_> = PROVIDERS.iter().map(|p| p.name).collect();
        assert_eq!(names, API_TYPES);
    }

    #[test]
    fn taskweaver_keys_are_told_from_typing_errors() {
        for known in [
            "planner.use_example",
            "my_role.use_experience",
            "llm.azure.api_version",
            "llm.openai.stop_token",
            "ext_llms.llm_configs.small.llm.model",
            "planner.dynamic_example_sub_path",
            "code_interpreter.code_prefix",
        ] {
            assert!(known_to_taskweaver(known), "{known}");
        }
        for unknown in ["llm.modle", "llm.azure.", "llm.openai.modle", "", "*"] {
            assert!(!known_to_taskweaver(unknown), "{unknown}");
        }
        assert!(KEYS.iter().all(|key| !known_to_taskweaver(key.name)));
    }

    #[test]
    fn the_nearest_key_is_offered_and_nothing_far_fetched() {
        assert_eq!(nearest("llm.modle").as_deref(), Some("llm.model"));
        assert_eq!(
            nearest("kernel.transprot").as_deref(),
            Some("kernel.transport")
        );
        assert_eq!(nearest("model").as_deref(), Some("llm.model"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"x".repeat(5000)), None);
    }
}
