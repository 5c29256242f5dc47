//! An OpenAI-compatible endpoint on loopback that answers from a script, and misbehaves on request.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// One request that the server got.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
    /// Null if it was no JSON.
    pub body: Value,
}

impl Request {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The messages of a chat request: role and content.
    pub fn messages(&self) -> Vec<(&str, &str)> {
        let messages = self.body["messages"].as_array().into_iter().flatten();
        messages
            .map(|message| {
                let role = message["role"].as_str().unwrap_or_default();
                (role, message["content"].as_str().unwrap_or_default())
            })
            .collect()
    }

    /// The content of the last message: what is new in this request.
    pub fn last(&self) -> &str {
        self.messages().last().map_or("", |(_, content)| content)
    }
}

/// What the server does with one request.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes that are written, and framed by HTTP, at a time.
    step: usize,
    end: End,
    /// Gives the real answer once the request is known.
    maker: Option<Maker>,
}

#[derive(Clone)]
struct Maker(Arc<dyn Fn(&Request) -> Answer + Send + Sync>);

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Maker")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The body ends as HTTP says.
    Clean,
    /// The connection closes in the middle of the body.
    Cut,
    /// Nothing is ever answered.
    Silence,
    /// What is answered so far is not followed by anything.
    Stall,
}

impl Answer {
    /// A complete stream that gives `text` in pieces of a few characters.
    pub fn text(text: &str) -> Answer {
        let characters: Vec<char> = text.chars().collect();
        let pieces: Vec<String> = characters
            .chunks(8)
            .map(|piece| piece.iter().collect())
            .collect();
        Answer::pieces(&pieces)
    }

    /// A complete stream that gives these pieces.
    pub fn pieces(pieces: &[impl AsRef<str>]) -> Answer {
        let mut chunks = vec![delta(json!({"role": "assistant", "content": ""}))];
        chunks.extend(
            pieces
                .iter()
                .map(|piece| delta(json!({"content": piece.as_ref()}))),
        );
        chunks.push(chunk(
            json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        ));
        let mut usage = chunk(json!([]));
        usage["usage"] = json!({"prompt_tokens": 11, "completion_tokens": pieces.len(), "total_tokens": 11 + pieces.len()});
        chunks.push(usage);
        Answer::events(&chunks).followed_by("data: [DONE]\n\n")
    }

    /// A stream of these events and no `[DONE]`.
    pub fn events(events: &[Value]) -> Answer {
        let body: String = events
            .iter()
            .map(|event| format!("data: {event}\n\n"))
            .collect();
        Answer::raw(200, "text/event-stream", body)
    }

    /// A completion that is not streamed.
    pub fn json(text: &str) -> Answer {
        let body = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        });
        Answer::raw(200, "application/json", body.to_string())
    }

    /// A stream that gives `text` and breaks off.
    pub fn cut_after(text: &str) -> Answer {
        let mut answer = Answer::events(&[delta(json!({"content": text}))]);
        answer.end = End::Cut;
        answer
    }

    /// A stream that gives `text`, then nothing more, and stays open.
    pub fn stall_after(text: &str) -> Answer {
        let mut answer = Answer::cut_after(text);
        answer.end = End::Stall;
        answer
    }

    /// The connection closes before anything is answered.
    pub fn hang_up() -> Answer {
        let mut answer = Answer::empty();
        answer.step = 0;
        answer.end = End::Cut;
        answer
    }

    /// A status with an error body in OpenAI's form.
    pub fn error(status: u16, message: &str) -> Answer {
        let body =
            json!({"error": {"message": message, "type": "error", "param": null, "code": null}});
        Answer::raw(status, "application/json", body.to_string())
    }

    /// The web page of something that is no endpoint.
    pub fn html() -> Answer {
        let page = "<!doctype html>\n<title>Welcome</title><p>Log in to go on</p>";
        Answer::raw(200, "text/html", page)
    }

    /// Status 200 and nothing else.
    pub fn empty() -> Answer {
        Answer::raw(200, "text/event-stream", "")
    }

    /// The request is read and never answered.
    pub fn silence() -> Answer {
        let mut answer = Answer::empty();
        answer.end = End::Silence;
        answer
    }

    pub fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            step: 16 << 10,
            end: End::Clean,
            maker: None,
        }
    }

    /// An answer that is made of the request, so that what it says has truly come through it.
    pub fn made_of(make: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Answer {
        let mut answer = Answer::empty();
        answer.maker = Some(Maker(Arc::new(make)));
        answer
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds bytes to the end of the body.
    pub fn followed_by(mut self, bytes: &str) -> Answer {
        self.body.extend_from_slice(bytes.as_bytes());
        self
    }

    /// Sends the body in writes of so many bytes.
    pub fn in_writes_of(mut self, bytes: usize) -> Answer {
        self.step = bytes;
        self
    }
}

fn delta(delta: Value) -> Value {
    chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]))
}

fn chunk(choices: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock",
        "system_fingerprint": null, "choices": choices, "usage": null,
    })
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    requests: Vec<Request>,
}

/// The server; it ends, with all its connections, when dropped.
pub struct ModelServer {
    url: String,
    script: Arc<Mutex<Script>>,
    accepting: JoinHandle<()>,
}

impl ModelServer {
    /// Listens on a free port and gives one answer per request. A request beyond them gets status 400.
    pub async fn start(answers: Vec<Answer>) -> ModelServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            answers: answers.into(),
            requests: Vec::new(),
        }));
        let served = script.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, served.clone()));
            }
        });
        ModelServer {
            url,
            script,
            accepting,
        }
    }

    /// An address on which nothing listens.
    pub async fn closed_url() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    }

    /// The value for `llm.api_base`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Adds answers to the end of the script.
    pub fn then(&self, answers: Vec<Answer>) {
        self.script.lock().unwrap().answers.extend(answers);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().requests.clone()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection; it ends when the client goes away.
async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let request = read_request(&mut stream).await?;
    let answer = {
        let mut script = script.lock().unwrap();
        script.requests.push(request.clone());
        let end = || Answer::error(400, "the script has no more answers");
        script.answers.pop_front().unwrap_or_else(end)
    };
    let answer = match &answer.maker {
        Some(Maker(make)) => make(&request),
        None => answer,
    };
    write_answer(&mut stream, &answer).await?;
    if matches!(answer.end, End::Silence | End::Stall) {
        stream.read_u8().await?;
    }
    Ok(())
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers: Vec::new(),
        body: Value::Null,
    };
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let header = (name.to_lowercase(), value.trim().to_owned());
        request.headers.push(header);
    }
    let length = request
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    request.body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(request)
}

async fn write_answer(stream: &mut BufReader<TcpStream>, answer: &Answer) -> io::Result<()> {
    if answer.end == End::Silence || answer.step == 0 {
        return Ok(());
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for piece in answer.body.chunks(answer.step) {
        let mut frame = format!("{:x}\r\n", piece.len()).into_bytes();
        frame.extend_from_slice(piece);
        frame.extend_from_slice(b"\r\n");
        stream.write_all(&frame).await?;
        stream.flush().await?;
    }
    if answer.end == End::Clean {
        stream.write_all(b"0\r\n\r\n").await?;
        stream.flush().await?;
    }
    Ok(())
}
