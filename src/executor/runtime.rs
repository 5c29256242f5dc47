//! The Python package that Heddle brings into a kernel, and calls to it.
//!
//! It is sent over the protocol, so that no kernel needs it installed, and answers in the reply to a silent
//! `execute_request` whose code is empty (`user_expressions`): nothing is read out of printed text.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::kernel::{Client, KernelError};
use crate::protocol::content::{ExecuteReply, ExecuteRequest};
use crate::protocol::{Channel, Content};

/// The package, module by module.
const MODULES: &[(&str, &str)] = &[
    (
        "heddle_runtime",
        include_str!("../../kernelspec/heddle_runtime/__init__.py"),
    ),
    (
        "heddle_runtime.answer",
        include_str!("../../kernelspec/heddle_runtime/answer.py"),
    ),
    (
        "heddle_runtime.files",
        include_str!("../../kernelspec/heddle_runtime/files.py"),
    ),
    (
        "heddle_runtime.imports",
        include_str!("../../kernelspec/heddle_runtime/imports.py"),
    ),
    (
        "heddle_runtime.loader",
        include_str!("../../kernelspec/heddle_runtime/loader.py"),
    ),
    (
        "heddle_runtime.magics",
        include_str!("../../kernelspec/heddle_runtime/magics.py"),
    ),
    (
        "heddle_runtime.packages",
        include_str!("../../kernelspec/heddle_runtime/packages.py"),
    ),
    (
        "heddle_runtime.plotting",
        include_str!("../../kernelspec/heddle_runtime/plotting.py"),
    ),
    (
        "heddle_runtime.publishing",
        include_str!("../../kernelspec/heddle_runtime/publishing.py"),
    ),
    (
        "heddle_runtime.shelter",
        include_str!("../../kernelspec/heddle_runtime/shelter.py"),
    ),
    (
        "heddle_runtime.short",
        include_str!("../../kernelspec/heddle_runtime/short.py"),
    ),
    (
        "heddle_runtime.tables",
        include_str!("../../kernelspec/heddle_runtime/tables.py"),
    ),
    (
        "heddle_runtime.namespace",
        include_str!("../../kernelspec/heddle_runtime/namespace.py"),
    ),
];

/// The expression that installs the package; `__SOURCES__` stands for the modules, `__ENTRY__` for what is called.
const BOOTSTRAP: &str = include_str!("../../kernelspec/bootstrap.py");

/// How calls find the package whatever names the user has bound.
const CALL: &str = r#"(0 for _ in ()).gi_frame.f_builtins["__import__"]("heddle_runtime")"#;

/// How long the runtime may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

const EXPRESSION: &str = "heddle";

/// A variable of the user's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Variable {
    pub name: String,
    /// The type's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Lengths by dimension, of what has a shape.
    pub shape: Option<Vec<Value>>,
    pub dtype: Option<String>,
    /// A table's columns and their types.
    pub columns: Option<Map<String, Value>>,
    /// A function's parameters.
    pub signature: Option<String>,
    /// A short form of the value.
    pub summary: String,
}

/// A table as a model needs it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Table {
    pub rows: u64,
    pub columns: Map<String, Value>,
    /// The first rows, as CSV with a header line.
    pub head: String,
}

/// Sends the package and prepares the kernel for cells. The kernel works requests off in order, so nobody needs to wait
/// for the answer.
pub fn install(client: &Client) {
    send(client, "start");
}

/// Sends the package and changes nothing else: the kernel is somebody else's. Calls can follow.
pub fn visit(client: &Client) {
    send(client, "visit");
}

fn send(client: &Client, entry: &str) {
    let modules: Map<String, Value> = MODULES
        .iter()
        .map(|(name, source)| ((*name).to_owned(), json!(source)))
        .collect();
    let expression = BOOTSTRAP
        .replace("__ENTRY__", entry)
        .replace("__SOURCES__", &Value::Object(modules).to_string());
    drop(client.request(Channel::Shell, request(&expression)));
}

/// Lets imports find what is in this folder by now. Every request that follows comes after it.
pub fn use_packages(client: &Client, folder: &Path) {
    let folder = json!(folder.to_string_lossy());
    let expression = format!("{CALL}.use_packages({folder})");
    drop(client.request(Channel::Shell, request(&expression)));
}

/// The user's variables.
pub async fn variables(client: &Client) -> Result<Vec<Variable>, KernelError> {
    #[derive(Deserialize)]
    struct Variables {
        variables: Vec<Variable>,
    }
    let answer: Option<Variables> = call(client, "variables()").await?;
    Ok(answer.map(|answer| answer.variables).unwrap_or_default())
}

/// The files of the kernel's working directory with their sizes in bytes, as the kernel sees it.
pub async fn files(client: &Client) -> Result<Vec<(String, u64)>, KernelError> {
    #[derive(Deserialize)]
    struct Folder {
        files: Vec<(String, u64)>,
    }
    let answer: Option<Folder> = call(client, "working_directory()").await?;
    Ok(answer.map(|answer| answer.files).unwrap_or_default())
}

/// The last cell's value as a table, where it is one.
pub async fn last_table(client: &Client) -> Result<Option<Table>, KernelError> {
    call(client, "last_table()").await
}

fn request(expression: &str) -> Content {
    let mut user_expressions = Map::new();
    user_expressions.insert(EXPRESSION.to_owned(), json!(expression));
    Content::ExecuteRequest(ExecuteRequest {
        silent: true,
        store_history: false,
        allow_stdin: false,
        stop_on_error: false,
        user_expressions,
        ..ExecuteRequest::default()
    })
}

/// `None` where the runtime has no answer: a kernel of another language, or one whose memory is spoilt.
async fn call<T: for<'a> Deserialize<'a>>(
    client: &Client,
    function: &str,
) -> Result<Option<T>, KernelError> {
    let asked = client.ask(Channel::Shell, request(&format!("{CALL}.{function}")));
    // A kernel may be kept busy by what a cell left running; what it would say is only good to know.
    let Ok(reply) = tokio::time::timeout(PATIENCE, asked).await else {
        return Ok(None);
    };
    let reply = reply?;
    let Content::ExecuteReply(ExecuteReply {
        mut user_expressions,
        ..
    }) = reply.content
    else {
        return Ok(None);
    };
    let data = user_expressions
        .get_mut(EXPRESSION)
        .and_then(|value| value.pointer_mut("/data/application~1json"))
        .map(Value::take);
    Ok(data.and_then(|data| serde_json::from_value(data).ok()))
}
