//! The connection file: where a kernel's channels are, and the key its messages are signed with.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{ProtocolError, Signer, json};

/// The longest path of a Unix socket, in bytes: `sun_path` without its final NUL.
pub const IPC_PATH_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// How the frames travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    #[default]
    Tcp,
    Ipc,
}

/// The five sockets of a kernel (messaging: Introduction).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Shell,
    Control,
    Iopub,
    Stdin,
    Heartbeat,
}

impl Channel {
    pub const ALL: [Channel; 5] = [
        Channel::Shell,
        Channel::Control,
        Channel::Iopub,
        Channel::Stdin,
        Channel::Heartbeat,
    ];

    /// The channel's name in the WebSocket protocol and in messages to people.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Shell => "shell",
            Channel::Control => "control",
            Channel::Iopub => "iopub",
            Channel::Stdin => "stdin",
            Channel::Heartbeat => "hb",
        }
    }
}

/// Where one channel is. Displayed as ZeroMQ writes it: `tcp://host:port`, `ipc://path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(String, u16),
    Ipc(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') && !host.starts_with('[') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Address::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Address::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

/// A connection file (jupyter_client: Connection files). Always valid when it was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ConnectionInfo {
    pub transport: Transport,
    /// A host for tcp; for ipc the path that each socket file's name begins with.
    pub ip: String,
    /// For ipc the number at the end of the socket file's name, as for the four others.
    pub shell_port: u16,
    pub iopub_port: u16,
    pub stdin_port: u16,
    pub control_port: u16,
    pub hb_port: u16,
    /// Empty when messages are not signed. Written into the file, never into Debug output.
    #[serde(serialize_with = "expose")]
    pub key: SecretString,
    pub signature_scheme: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_name: Option<String>,
    /// Fields that are not ours, kept for whoever wrote them.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The JSON before it was checked.
#[derive(Deserialize)]
struct Unchecked {
    #[serde(default)]
    transport: Transport,
    ip: String,
    shell_port: u16,
    iopub_port: u16,
    stdin_port: u16,
    control_port: u16,
    hb_port: u16,
    #[serde(default)]
    key: Box<str>,
    #[serde(default = "default_scheme")]
    signature_scheme: String,
    kernel_name: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

fn default_scheme() -> String {
    "hmac-sha256".to_owned()
}

fn expose<S: Serializer>(key: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key.expose_secret())
}

impl TryFrom<Unchecked> for ConnectionInfo {
    type Error = ProtocolError;

    fn try_from(file: Unchecked) -> Result<ConnectionInfo, ProtocolError> {
        for field in ["curve_publickey", "curve_secretkey"] {
            if file.extra.get(field).is_some_and(|key| !key.is_null()) {
                return Err(ProtocolError::Curve { field });
            }
        }
        let info = ConnectionInfo {
            transport: file.transport,
            ip: file.ip,
            shell_port: file.shell_port,
            iopub_port: file.iopub_port,
            stdin_port: file.stdin_port,
            control_port: file.control_port,
            hb_port: file.hb_port,
            key: file.key.into(),
            signature_scheme: file.signature_scheme,
            kernel_name: file.kernel_name,
            extra: file.extra,
        };
        info.validate()?;
        Ok(info)
    }
}

impl ConnectionInfo {
    /// Unix sockets named `prefix-1` to `prefix-5`, signed by hmac-sha256.
    ///
    /// # Errors
    /// [`ProtocolError::IpcPathTooLong`].
    pub fn ipc(prefix: &str, key: SecretString) -> Result<ConnectionInfo, ProtocolError> {
        ConnectionInfo::new(Transport::Ipc, prefix, [1, 2, 3, 4, 5], key)
    }

    /// `ports` in the order of [`Channel::ALL`], signed by hmac-sha256.
    ///
    /// # Errors
    /// [`ProtocolError::Port`] where a port is 0 or repeated.
    pub fn tcp(
        ip: &str,
        ports: [u16; 5],
        key: SecretString,
    ) -> Result<ConnectionInfo, ProtocolError> {
        ConnectionInfo::new(Transport::Tcp, ip, ports, key)
    }

    fn new(
        transport: Transport,
        ip: &str,
        [shell, control, iopub, stdin, heartbeat]: [u16; 5],
        key: SecretString,
    ) -> Result<ConnectionInfo, ProtocolError> {
        let info = ConnectionInfo {
            transport,
            ip: ip.to_owned(),
            shell_port: shell,
            iopub_port: iopub,
            stdin_port: stdin,
            control_port: control,
            hb_port: heartbeat,
            key,
            signature_scheme: default_scheme(),
            kernel_name: None,
            extra: Map::new(),
        };
        info.validate()?;
        Ok(info)
    }

    /// Reads a connection file.
    ///
    /// # Errors
    /// [`ProtocolError::ConnectionFile`] for what is no JSON or lacks a field, [`ProtocolError::Curve`], and
    /// those of [`ConnectionInfo::validate`].
    pub fn from_json(file: &[u8]) -> Result<ConnectionInfo, ProtocolError> {
        json::from_strict::<Unchecked>(file)
            .map_err(ProtocolError::ConnectionFile)?
            .try_into()
    }

    /// The connection file, with the key: to be written with mode 0600.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("maps with string keys are JSON")
    }

    /// Whether every channel has an address of its own that a system call can take.
    ///
    /// # Errors
    /// [`ProtocolError::Port`] or [`ProtocolError::IpcPathTooLong`].
    pub fn validate(&self) -> Result<(), ProtocolError> {
        let mut ports = Vec::with_capacity(5);
        for channel in Channel::ALL {
            let port = self.port(channel);
            let refused = |reason| ProtocolError::Port {
                channel: channel.name(),
                port,
                reason,
            };
            if ports.contains(&port) {
                return Err(refused("another channel has too"));
            }
            ports.push(port);
            match self.address(channel) {
                Address::Tcp(_, 0) => return Err(refused("names no socket")),
                Address::Tcp(..) => {}
                Address::Ipc(path) => {
                    let length = path.as_os_str().len();
                    if length > IPC_PATH_MAX {
                        return Err(ProtocolError::IpcPathTooLong {
                            path: path.display().to_string(),
                            length,
                            limit: IPC_PATH_MAX,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The port of a channel; for ipc, the number at the end of its socket's name.
    pub fn port(&self, channel: Channel) -> u16 {
        match channel {
            Channel::Shell => self.shell_port,
            Channel::Control => self.control_port,
            Channel::Iopub => self.iopub_port,
            Channel::Stdin => self.stdin_port,
            Channel::Heartbeat => self.hb_port,
        }
    }

    /// Where a channel is.
    pub fn address(&self, channel: Channel) -> Address {
        let port = self.port(channel);
        match self.transport {
            Transport::Tcp => Address::Tcp(self.ip.clone(), port),
            Transport::Ipc => Address::Ipc(format!("{}-{port}", self.ip).into()),
        }
    }

    /// The signer of this file's scheme and key.
    ///
    /// # Errors
    /// [`ProtocolError::UnknownScheme`].
    pub fn signer(&self) -> Result<Signer, ProtocolError> {
        Signer::new(&self.signature_scheme, self.key.expose_secret().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file() -> Value {
        json!({
            "shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5,
            "ip": "127.0.0.1", "key": "s3cret", "transport": "tcp", "signature_scheme": "hmac-sha256",
            "kernel_name": "python3", "jupyter_session": "/a/b.ipynb"
        })
    }

    fn read(file: &Value) -> Result<ConnectionInfo, ProtocolError> {
        ConnectionInfo::from_json(file.to_string().as_bytes())
    }

    #[test]
    fn a_file_is_read_and_written_with_all_its_fields() {
        let info = read(&file()).unwrap();
        assert_eq!(
            info.address(Channel::Control).to_string(),
            "tcp://127.0.0.1:4"
        );
        assert_eq!(
            info.address(Channel::Heartbeat),
            Address::Tcp("127.0.0.1".into(), 5)
        );
        let written: Value = serde_json::from_str(&info.to_json()).unwrap();
        assert_eq!(written, file());
    }

    #[test]
    fn debug_output_has_no_key() {
        let info = read(&file()).unwrap();
        assert!(!format!("{info:?} {:?}", info.signer()).contains("s3cret"));
    }

    #[test]
    fn an_ipc_address_is_the_prefix_and_the_number() {
        let info = ConnectionInfo::ipc("/run/k/kernel", "key".into()).unwrap();
        assert_eq!(
            info.address(Channel::Shell).to_string(),
            "ipc:///run/k/kernel-1"
        );
        let info = ConnectionInfo::tcp("::1", [1, 2, 3, 4, 5], "key".into()).unwrap();
        assert_eq!(info.address(Channel::Iopub).to_string(), "tcp://[::1]:3");
    }

    #[test]
    fn a_socket_path_must_fit_the_system_call() {
        let fits = "p".repeat(IPC_PATH_MAX - 2);
        ConnectionInfo::ipc(&fits, "".into()).unwrap();
        let error = ConnectionInfo::ipc(&format!("{fits}p"), "".into()).unwrap_err();
        assert!(
            matches!(error, ProtocolError::IpcPathTooLong { length, .. } if length == IPC_PATH_MAX + 1)
        );
    }

    #[test]
    fn curve_is_refused_with_what_to_do() {
        for field in ["curve_publickey", "curve_secretkey"] {
            let mut file = file();
            file[field] = json!("hidden");
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("ipc"), "{error}");
            assert!(!error.contains("hidden"));
            assert!(serde_json::from_value::<ConnectionInfo>(file.clone()).is_err());
            file[field] = Value::Null;
            read(&file).unwrap();
        }
    }

    #[test]
    fn ports_must_be_given_and_distinct() {
        let mut twice = file();
        twice["hb_port"] = json!(1);
        assert!(matches!(
            read(&twice),
            Err(ProtocolError::Port { channel: "hb", .. })
        ));
        let mut none = file();
        none["hb_port"] = json!(0);
        assert!(matches!(
            read(&none),
            Err(ProtocolError::Port { port: 0, .. })
        ));
        none.as_object_mut().unwrap().remove("hb_port");
        let error = read(&none).unwrap_err().to_string();
        assert!(error.contains("hb_port"), "{error}");
    }
}
