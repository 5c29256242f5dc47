//! The settings as the other modules use them: one typed field for each key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::keys::{KEYS, MODES_BY_STRENGTH};
use super::value::{self, Value};

/// All settings. The names are those of the keys, see [`super::KEYS`] for their meaning.
#[derive(Clone, Debug)]
pub struct Settings {
    pub llm: Llm,
    pub execution_service: ExecutionService,
    pub kernel: Kernel,
    pub code_interpreter: CodeInterpreter,
    pub session: Session,
    pub workspace: Workspace,
}

/// The language model. What is `None` is not sent.
#[derive(Clone, Debug)]
pub struct Llm {
    pub api_type: String,
    /// Without a trailing `/`; `/chat/completions` goes behind it.
    pub api_base: String,
    pub api_key: Option<SecretString>,
    pub model: Option<String>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_tokens: Option<u32>,
    pub seed: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub response_format: ResponseFormat,
    pub max_retries: u32,
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
    /// Characters of a conversation that the model is shown.
    pub context_chars: usize,
    pub record: Option<PathBuf>,
    pub replay: Option<PathBuf>,
}

/// How the endpoint is asked for JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFormat {
    JsonObject,
    JsonSchema,
    /// It is not asked at all.
    Text,
}

#[derive(Clone, Debug)]
pub struct ExecutionService {
    pub kernel_mode: KernelMode,
    pub network: bool,
    /// MiB; 0 for three quarters of the machine's.
    pub memory: u64,
    pub processes: u64,
    /// 0 for all.
    pub cpus: f64,
    /// MiB that stay free on the disks that a kernel writes to.
    pub disk_free: u64,
    pub custom_image: Option<String>,
    pub image_python: Option<String>,
    /// `PATH`, `PATH:ro` or `PATH:rw`.
    pub mounts: Vec<String>,
}

/// The isolation of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelMode {
    /// The best isolation that there is; never a silent `Local`.
    Auto,
    /// No isolation: a process of the user's.
    Local,
    Container,
    Sandbox,
}

impl KernelMode {
    /// The value of `execution_service.kernel_mode`.
    pub fn name(self) -> &'static str {
        match self {
            KernelMode::Auto => "auto",
            KernelMode::Local => "local",
            KernelMode::Container => "container",
            KernelMode::Sandbox => "sandbox",
        }
    }

    /// The mode of such a name.
    pub fn of_name(name: &str) -> Option<KernelMode> {
        let all = [
            KernelMode::Auto,
            KernelMode::Local,
            KernelMode::Container,
            KernelMode::Sandbox,
        ];
        all.into_iter().find(|mode| mode.name() == name)
    }

    /// Higher is stricter.
    pub fn strength(self) -> usize {
        let groups = MODES_BY_STRENGTH.iter();
        groups
            .take_while(|group| !group.contains(&self.name()))
            .count()
    }
}

#[derive(Clone, Debug)]
pub struct Kernel {
    /// Name of a kernelspec.
    pub name: Option<String>,
    pub transport: Transport,
    pub start_timeout: Duration,
    /// How long a kept kernel may have nothing to do before it ends.
    pub keep: Duration,
}

/// The `transport` of a connection file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Ipc,
    Tcp,
}

/// When a person is asked before code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approve {
    Never,
    Risky,
    Always,
}

#[derive(Clone, Debug)]
pub struct CodeInterpreter {
    pub max_retry_count: u32,
    /// For one cell; `None` for no limit.
    pub timeout: Option<Duration>,
    pub output_chars: usize,
    pub code_verification_on: bool,
    pub approve: Approve,
    /// `None` for the policy's own list; an empty list allows none.
    pub allowed_modules: Option<Vec<String>>,
    pub blocked_modules: Option<Vec<String>>,
    pub blocked_functions: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub max_internal_chat_round_num: u32,
}

#[derive(Clone, Debug)]
pub struct Workspace {
    pub workspace_path: Option<PathBuf>,
}

impl Default for Settings {
    /// The defaults of the table.
    fn default() -> Self {
        let values = KEYS.iter().filter_map(|key| {
            let value = value::from_table(key.kind, key.default?)?;
            Some((key.name, value))
        });
        Settings::from_values(&Values(values.collect()))
    }
}

/// The value of each key that has one.
pub(super) struct Values(pub BTreeMap<&'static str, Value>);

impl Values {
    fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn secret(&self, key: &str) -> Option<SecretString> {
        match self.0.get(key) {
            Some(Value::Secret(secret)) => Some(secret.clone()),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.0.get(key) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn integer(&self, key: &str) -> Option<i64> {
        match self.0.get(key) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    fn seconds(&self, key: &str) -> Option<Duration> {
        match self.0.get(key) {
            Some(Value::Seconds(time)) => Some(*time),
            _ => None,
        }
    }

    fn truth(&self, key: &str) -> bool {
        matches!(self.0.get(key), Some(Value::Bool(true)))
    }

    fn list(&self, key: &str) -> Option<Vec<String>> {
        match self.0.get(key) {
            Some(Value::List(items)) => Some(items.clone()),
            _ => None,
        }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        match self.0.get(key) {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }
}

/// A key with a default always has a value of its kind, and the table bounds it to the field's type. Both are
/// constants of this crate, which `every_default_is_a_value_of_its_key` goes through.
fn given<T>(key: &str, value: Option<T>) -> T {
    value.unwrap_or_else(|| unreachable!("the table has a default for {key}"))
}

impl Settings {
    pub(super) fn from_values(values: &Values) -> Settings {
        let text = |key| given(key, values.text(key));
        let seconds = |key| given(key, values.seconds(key));
        let count = |key| given(key, values.integer(key).and_then(|n| u32::try_from(n).ok()));
        Settings {
            llm: Llm {
                api_type: text("llm.api_type"),
                api_base: text("llm.api_base"),
                api_key: values.secret("llm.api_key"),
                model: values.text("llm.model"),
                temperature: values.number("llm.temperature"),
                top_p: values.number("llm.top_p"),
                max_tokens: values
                    .integer("llm.max_tokens")
                    .and_then(|n| u32::try_from(n).ok()),
                seed: values.integer("llm.seed"),
                frequency_penalty: values.number("llm.frequency_penalty"),
                presence_penalty: values.number("llm.presence_penalty"),
                response_format: match text("llm.response_format").as_str() {
                    "json_schema" => ResponseFormat::JsonSchema,
                    "text" => ResponseFormat::Text,
                    _ => ResponseFormat::JsonObject,
                },
                max_retries: count("llm.max_retries"),
                connect_timeout: seconds("llm.connect_timeout"),
                idle_timeout: seconds("llm.idle_timeout"),
                context_chars: count("llm.context_chars") as usize,
                record: values.path("llm.record"),
                replay: values.path("llm.replay"),
            },
            execution_service: ExecutionService {
                kernel_mode: match text("execution_service.kernel_mode").as_str() {
                    "local" => KernelMode::Local,
                    "container" => KernelMode::Container,
                    "sandbox" => KernelMode::Sandbox,
                    _ => KernelMode::Auto,
                },
                network: values.truth("execution_service.network"),
                memory: u64::from(count("execution_service.memory")),
                processes: u64::from(count("execution_service.processes")),
                cpus: given(
                    "execution_service.cpus",
                    values.number("execution_service.cpus"),
                ),
                disk_free: u64::from(count("execution_service.disk_free")),
                custom_image: values.text("execution_service.custom_image"),
                image_python: values.text("execution_service.image_python"),
                mounts: values.list("execution_service.mounts").unwrap_or_default(),
            },
            kernel: Kernel {
                name: values.text("kernel.name"),
                transport: match text("kernel.transport").as_str() {
                    "tcp" => Transport::Tcp,
                    _ => Transport::Ipc,
                },
                start_timeout: seconds("kernel.start_timeout"),
                keep: seconds("kernel.keep"),
            },
            code_interpreter: CodeInterpreter {
                max_retry_count: count("code_interpreter.max_retry_count"),
                timeout: Some(seconds("code_interpreter.timeout")).filter(|time| !time.is_zero()),
                output_chars: count("code_interpreter.output_chars") as usize,
                code_verification_on: values.truth("code_interpreter.code_verification_on"),
                approve: match text("code_interpreter.approve").as_str() {
                    "always" => Approve::Always,
                    "risky" => Approve::Risky,
                    _ => Approve::Never,
                },
                allowed_modules: values.list("code_interpreter.allowed_modules"),
                blocked_modules: values.list("code_interpreter.blocked_modules"),
                blocked_functions: values.list("code_interpreter.blocked_functions"),
            },
            session: Session {
                max_internal_chat_round_num: count("session.max_internal_chat_round_num"),
            },
            workspace: Workspace {
                workspace_path: values.path("workspace.workspace_path"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in KEYS {
            for text in [key.default, key.null].into_iter().flatten() {
                assert!(value::from_table(key.kind, text).is_some(), "{}", key.name);
            }
        }
    }

    #[test]
    fn the_defaults_are_those_that_are_documented() {
        let settings = Settings::default();
        assert_eq!(settings.llm.api_base, "https://api.openai.com/v1");
        assert_eq!(settings.llm.model, None);
        assert_eq!(settings.llm.connect_timeout, Duration::from_secs(10));
        assert_eq!(settings.llm.idle_timeout, Duration::from_secs(120));
        assert_eq!(settings.llm.max_retries, 3);
        assert_eq!(settings.llm.response_format, ResponseFormat::JsonObject);
        assert_eq!(settings.execution_service.kernel_mode, KernelMode::Auto);
        assert_eq!(settings.kernel.transport, Transport::Ipc);
        assert_eq!(settings.kernel.start_timeout, Duration::from_secs(60));
        assert_eq!(settings.code_interpreter.max_retry_count, 3);
        assert_eq!(
            settings.code_interpreter.timeout,
            Some(Duration::from_secs(600))
        );
        assert_eq!(settings.code_interpreter.output_chars, 4000);
        assert!(!settings.code_interpreter.code_verification_on);
        assert_eq!(settings.code_interpreter.allowed_modules, None);
        assert_eq!(settings.code_interpreter.blocked_modules, None);
        assert_eq!(settings.code_interpreter.blocked_functions, None);
        assert_eq!(settings.session.max_internal_chat_round_num, 10);
    }
}
