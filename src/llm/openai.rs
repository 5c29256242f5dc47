//! OpenAI-compatible Chat Completions: OpenAI, DeepSeek, Ollama, vLLM, llama.cpp and others.

mod failure;
mod reply;
mod request;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::excerpt::Redactor;
use super::{BoxFuture, ChatRequest, LlmError, Provider, Reply, Sink, StreamEvent};
use reply::Assembler;
use request::Dialect;

/// Largest text of a reply in bytes, unless set otherwise.
pub const MAX_REPLY_BYTES: usize = 1 << 20;

/// Bytes of an error body that are read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// How far an endpoint can constrain a reply to JSON. What it refuses is found out and not sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonMode {
    /// `response_format` is never sent.
    None,
    /// JSON, but no schema.
    JsonObject,
    /// JSON that fits a schema.
    #[default]
    JsonSchema,
}

/// Where and how to ask. What is `None` is not sent.
#[derive(Clone, Debug)]
pub struct OpenAiSettings {
    /// The address before `/chat/completions`, such as `https://api.openai.com/v1`. That ending, and a slash at
    /// the end, may be there; an address without a path gets `/v1`.
    pub api_base: String,
    /// `None` for servers that want none.
    pub api_key: Option<SecretString>,
    pub model: String,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_tokens: Option<u64>,
    pub seed: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub connect_timeout: Duration,
    /// Longest silence: before the answer starts and between its pieces.
    pub idle_timeout: Duration,
    pub json_mode: JsonMode,
    /// Largest text of a reply in bytes.
    pub max_reply_bytes: usize,
}

impl OpenAiSettings {
    pub fn new(api_base: impl Into<String>, model: impl Into<String>) -> OpenAiSettings {
        OpenAiSettings {
            api_base: api_base.into(),
            api_key: None,
            model: model.into(),
            temperature: None,
            top_p: None,
            max_tokens: None,
            seed: None,
            frequency_penalty: None,
            presence_penalty: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(180),
            json_mode: JsonMode::default(),
            max_reply_bytes: MAX_REPLY_BYTES,
        }
    }
}

/// What every step of an exchange has to know about the other side.
struct Endpoint {
    /// Host and port. The rest of the address may hold secrets, so it is never shown.
    host: String,
    model: String,
    with_key: bool,
    max_reply_bytes: usize,
    redactor: Redactor,
}

/// A provider that asks an OpenAI-compatible endpoint, once per request; see [`Retry`](super::Retry).
pub struct OpenAi {
    settings: OpenAiSettings,
    url: Url,
    authorization: Option<HeaderValue>,
    client: Client,
    endpoint: Endpoint,
    dialect: Mutex<Dialect>,
}

impl OpenAi {
    /// Checks the settings; connects to nothing.
    pub fn new(mut settings: OpenAiSettings) -> Result<OpenAi, LlmError> {
        if settings.model.trim().is_empty() {
            return Err(LlmError::NotConfigured {
                key: "llm.model",
                problem: "is empty".to_owned(),
                help: "set it, or `LLM_MODEL`, to a model that the endpoint has",
            });
        }
        // Keys come from files and the clipboard, with a line end behind them.
        settings.api_key = settings
            .api_key
            .map(|key| SecretString::from(key.expose_secret().trim()))
            .filter(|key| !key.expose_secret().is_empty());
        let url = completions_url(&settings.api_base)?;
        let authorization = settings.api_key.as_ref().map(authorization).transpose()?;
        let client = client(&url, settings.connect_timeout)?;
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        Ok(OpenAi {
            endpoint: Endpoint {
                host,
                model: settings.model.clone(),
                with_key: authorization.is_some(),
                max_reply_bytes: settings.max_reply_bytes,
                redactor: Redactor::new(settings.api_key.clone()),
            },
            dialect: Mutex::new(Dialect::new(settings.json_mode)),
            settings,
            url,
            authorization,
            client,
        })
    }

    async fn exchange(
        &self,
        request: &ChatRequest,
        sink: &mut Sink<'_>,
    ) -> Result<Reply, LlmError> {
        // Ends, since each turn leaves out one more of the parameters that are there to be left out.
        loop {
            let body = self.with_dialect(|dialect| dialect.body(&self.settings, request));
            let response = self.post(&body).await?;
            let status = response.status().as_u16();
            if response.status().is_success() {
                return self.read_reply(response, sink).await;
            }
            let retry_after = retry_after(response.headers(), Timestamp::now());
            let said = self.read_error(response).await?;
            if let Some(text) = failed_generation(&said) {
                sink(StreamEvent::Text(&text));
                return Ok(Reply {
                    text,
                    ..Reply::default()
                });
            }
            if matches!(status, 400 | 422)
                && let Some(change) = self.with_dialect(|dialect| dialect.learn(&body, &said))
            {
                let host = &self.endpoint.host;
                sink(StreamEvent::Notice(&format!(
                    "the endpoint {host} does not take all parameters: {change} from now on"
                )));
                continue;
            }
            return Err(self.endpoint.failure(status, retry_after, &said));
        }
    }

    /// The same, with the size of a request that is too long.
    async fn ask(&self, request: &ChatRequest, sink: &mut Sink<'_>) -> Result<Reply, LlmError> {
        let mut asked = self.exchange(request, sink).await;
        if let Err(LlmError::TooLong { characters, .. }) = &mut asked {
            let contents = request.messages.iter().map(|message| &message.content);
            *characters = contents.map(|content| content.chars().count()).sum();
        }
        asked
    }

    async fn post(&self, body: &Map<String, Value>) -> Result<Response, LlmError> {
        let mut request = self.client.post(self.url.clone()).json(body);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        match timeout(self.settings.idle_timeout, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(LlmError::Unreachable {
                host: self.endpoint.host.clone(),
                reason: self.endpoint.redactor.excerpt(&root_cause(&error)),
            }),
            Ok(Err(error)) => Err(self.endpoint.cut(&root_cause(&error))),
            Err(_) => Err(self.silent()),
        }
    }

    async fn read_reply(
        &self,
        mut response: Response,
        sink: &mut Sink<'_>,
    ) -> Result<Reply, LlmError> {
        let mut assembler = Assembler::new(&self.endpoint, sink);
        loop {
            match timeout(self.settings.idle_timeout, response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    if assembler.push(&bytes)? {
                        return assembler.finish(None);
                    }
                }
                Ok(Ok(None)) => return assembler.finish(None),
                Ok(Err(error)) => {
                    return assembler.finish(Some(self.endpoint.cut(&root_cause(&error))));
                }
                Err(_) => return assembler.finish(Some(self.silent())),
            }
        }
    }

    /// The start of an error's body. A redirect's is its target, since a request with a key is not sent elsewhere.
    async fn read_error(&self, mut response: Response) -> Result<String, LlmError> {
        if let Some(target) = response.headers().get(LOCATION) {
            return Ok(format!(
                "moved to {}",
                String::from_utf8_lossy(target.as_bytes())
            ));
        }
        let mut body = Vec::new();
        // A body that breaks off still says something.
        while body.len() < MAX_ERROR_BYTES
            && let Ok(Some(bytes)) = timeout(self.settings.idle_timeout, response.chunk())
                .await
                .map_err(|_| self.silent())?
        {
            body.extend_from_slice(&bytes);
        }
        body.truncate(MAX_ERROR_BYTES);
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn with_dialect<T>(&self, use_it: impl FnOnce(&mut Dialect) -> T) -> T {
        // A dialect is valid after each step of a change, so one that a panic left behind is as good.
        use_it(&mut self.dialect.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn silent(&self) -> LlmError {
        LlmError::Timeout {
            host: self.endpoint.host.clone(),
            silence: self.settings.idle_timeout,
        }
    }
}

impl Provider for OpenAi {
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        sink: &'a mut Sink<'a>,
    ) -> BoxFuture<'a, Result<Reply, LlmError>> {
        Box::pin(self.ask(request, sink))
    }

    fn model(&self) -> &str {
        &self.settings.model
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("host", &self.endpoint.host)
            .field("model", &self.endpoint.model)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    fn cut(&self, reason: &str) -> LlmError {
        LlmError::Cut {
            host: self.host.clone(),
            reason: self.redactor.excerpt(reason),
        }
    }
}

fn completions_url(api_base: &str) -> Result<Url, LlmError> {
    let problem = |problem: String| LlmError::NotConfigured {
        key: "llm.api_base",
        problem,
        help: "set it, or `LLM_API_BASE`, to an address such as `https://api.openai.com/v1`",
    };
    let mut url = match Url::parse(api_base.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Ok(_) => {
            return Err(problem(
                "does not start with `http://` or `https://`".to_owned(),
            ));
        }
        Err(error) => return Err(problem(format!("is no web address ({error})"))),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(problem("holds a user name or password".to_owned()));
    }
    let path = match url.path().trim_end_matches('/') {
        "" => "/v1/chat/completions".to_owned(),
        path if path.ends_with("/chat/completions") => path.to_owned(),
        path => format!("{path}/chat/completions"),
    };
    url.set_path(&path);
    Ok(url)
}

fn authorization(key: &SecretString) -> Result<HeaderValue, LlmError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).map_err(|_| {
            LlmError::NotConfigured {
                key: "llm.api_key",
                problem: "has characters that a key cannot have".to_owned(),
                help: "copy the key again, and only the key",
            }
        })?;
    value.set_sensitive(true);
    Ok(value)
}

fn client(url: &Url, connect_timeout: Duration) -> Result<Client, LlmError> {
    // Fails if another part of the program has installed one, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("heddle/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .redirect(redirect::Policy::none());
    if url.scheme() == "http" {
        // Without this, the system's certificates would be read, and would have to be there.
        builder = builder.tls_certs_only([]);
    }
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| LlmError::NotConfigured {
        key: "llm.api_base",
        problem: format!("cannot be used: {}", root_cause(&error)),
        help: "install the system's certificates (often the package `ca-certificates`)",
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// What the model wrote, of an endpoint that refuses to pass it on because it is not in the form that was asked for.
fn failed_generation(body: &str) -> Option<String> {
    let error = serde_json::from_str::<Value>(body).ok()?;
    let text = error.pointer("/error/failed_generation")?.as_str()?;
    (!text.trim().is_empty()).then(|| text.to_owned())
}

/// The innermost reason; the outer ones name the address.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// `retry-after`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_to_the_base_however_the_base_ends() {
        for (base, url) in [
            (
                "https://api.openai.com",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "https://api.openai.com/",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "https://api.openai.com/v1",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "http://[::1]:8000/api/v3//",
                "http://[::1]:8000/api/v3/chat/completions",
            ),
            (
                "http://h/v1/chat/completions/",
                "http://h/v1/chat/completions",
            ),
            (
                "http://h/x?api-version=1",
                "http://h/x/chat/completions?api-version=1",
            ),
        ] {
            assert_eq!(completions_url(base).unwrap().as_str(), url);
        }
    }

    #[test]
    fn a_base_that_cannot_work_is_named_without_its_password() {
        for base in [
            "",
            "api.openai.com/v1",
            "localhost:11434/v1",
            "http://me:secret@h/v1",
        ] {
            let message = completions_url(base).unwrap_err().to_string();
            assert!(message.contains("`llm.api_base`"), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_wait_is_read_as_seconds_or_as_a_date() {
        let now = "2024-11-06T08:49:30Z".parse().unwrap();
        for (value, seconds) in [
            ("7", Some(7.0)),
            ("0.5", Some(0.5)),
            ("Wed, 06 Nov 2024 08:49:37 GMT", Some(7.0)),
            ("Wed, 06 Nov 2024 08:00:00 GMT", Some(0.0)),
            ("-1", None),
            ("nan", None),
            ("1e300", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let wait = retry_after(&headers, now).map(|wait| wait.as_secs_f64());
            assert_eq!(wait, seconds, "{value}");
        }
    }
}
