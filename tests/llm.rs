//! Language models over real connections: what a reply becomes, and what each fault becomes.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use heddle::llm::{
    ChatMessage, ChatRequest, LlmError, OpenAi, OpenAiSettings, Provider, Recorder, Replayer,
    Reply, ResponseFormat, Retry, RetryPolicy, Role, StreamEvent,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::model_server::{Answer, ModelServer};

const KEY: &str = "sk-0123456789abcdef0123456789";

fn request(text: &str) -> ChatRequest {
    ChatRequest {
        messages: vec![
            ChatMessage::new(Role::System, "You answer in JSON."),
            ChatMessage::new(Role::User, text),
        ],
        response_format: None,
        purpose: "planner".to_owned(),
    }
}

fn settings(url: &str) -> OpenAiSettings {
    OpenAiSettings {
        api_key: Some(SecretString::from(KEY)),
        idle_timeout: Duration::from_secs(20),
        ..OpenAiSettings::new(url, "mock-1")
    }
}

fn provider(url: &str) -> OpenAi {
    OpenAi::new(settings(url)).unwrap()
}

fn retrying(url: &str) -> Retry<OpenAi> {
    let policy = RetryPolicy {
        first_delay: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    Retry::new(provider(url), policy)
}

/// What a consumer of the stream ends up with, and what it was told besides.
#[derive(Default)]
struct Seen {
    text: String,
    pieces: usize,
    restarts: Vec<String>,
    notices: Vec<String>,
}

async fn ask(provider: &impl Provider, request: &ChatRequest) -> (Result<Reply, LlmError>, Seen) {
    let mut seen = Seen::default();
    let mut sink = |event: StreamEvent<'_>| match event {
        StreamEvent::Text(piece) => {
            seen.text += piece;
            seen.pieces += 1;
        }
        StreamEvent::Restart { reason } => {
            seen.text.clear();
            seen.restarts.push(reason.to_owned());
        }
        StreamEvent::Notice(message) => seen.notices.push(message.to_owned()),
    };
    let result = provider.chat(request, &mut sink).await;
    (result, seen)
}

/// The error that a single answer leads to, without a second try.
async fn fault(answer: Answer) -> LlmError {
    let server = ModelServer::start(vec![answer]).await;
    let error = ask(&provider(server.url()), &request("hi"))
        .await
        .0
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains(KEY));
    error
}

#[tokio::test]
async fn a_reply_is_streamed_and_counted() {
    let server = ModelServer::start(vec![Answer::text("The sum of 1 to 100 is 5050.")]).await;
    let (reply, seen) = ask(&provider(server.url()), &request("sum")).await;
    let reply = reply.unwrap();
    assert_eq!(reply.text, "The sum of 1 to 100 is 5050.");
    assert_eq!(seen.text, reply.text);
    assert_eq!(seen.pieces, 4);
    let usage = reply.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (11, 4));
    assert_eq!(reply.finish_reason.as_deref(), Some("stop"));
}

#[tokio::test]
async fn only_what_is_set_is_sent() {
    let server = ModelServer::start(vec![Answer::text("a"), Answer::text("b")]).await;
    ask(&provider(server.url()), &request("hi"))
        .await
        .0
        .unwrap();
    let all = OpenAi::new(OpenAiSettings {
        api_key: None,
        temperature: Some(0.25),
        top_p: Some(0.5),
        max_tokens: Some(100),
        seed: Some(123456),
        frequency_penalty: Some(0.1),
        presence_penalty: Some(-0.1),
        ..settings(server.url())
    })
    .unwrap();
    let mut planning = request("hi");
    planning.response_format = Some(ResponseFormat::JsonSchema {
        name: "plan".to_owned(),
        schema: json!({"type": "object"}),
    });
    ask(&all, &planning).await.0.unwrap();

    let [plain, full] = &server.requests()[..] else {
        panic!("two requests")
    };
    assert_eq!(
        (plain.method.as_str(), plain.path.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(
        plain.header("authorization"),
        Some(&*format!("Bearer {KEY}"))
    );
    let messages = json!([
        {"role": "system", "content": "You answer in JSON."},
        {"role": "user", "content": "hi"},
    ]);
    assert_eq!(
        plain.body,
        json!({
            "model": "mock-1", "messages": messages, "stream": true,
            "stream_options": {"include_usage": true},
        })
    );
    assert_eq!(full.header("authorization"), None);
    assert_eq!(
        full.body,
        json!({
            "model": "mock-1", "messages": messages, "stream": true,
            "stream_options": {"include_usage": true},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "plan", "strict": true, "schema": {"type": "object"}},
            },
            "max_tokens": 100, "temperature": 0.25, "top_p": 0.5, "seed": 123456,
            "frequency_penalty": 0.1, "presence_penalty": -0.1,
        })
    );
}

#[tokio::test]
async fn a_refused_parameter_is_left_out_once_and_for_all() {
    let server = ModelServer::start(vec![
        Answer::error(
            400,
            "Unrecognized request argument supplied: stream_options",
        ),
        Answer::error(
            400,
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        ),
        Answer::text("one"),
        Answer::text("two"),
    ])
    .await;
    let provider = OpenAi::new(OpenAiSettings {
        max_tokens: Some(100),
        ..settings(server.url())
    })
    .unwrap();
    let (first, seen) = ask(&provider, &request("hi")).await;
    assert_eq!(first.unwrap().text, "one");
    assert_eq!(seen.notices.len(), 2, "{:?}", seen.notices);
    assert_eq!(ask(&provider, &request("hi")).await.0.unwrap().text, "two");

    let last = server.requests().pop().unwrap();
    assert_eq!(last.body["max_completion_tokens"], 100);
    assert!(last.body.get("max_tokens").is_none() && last.body.get("stream_options").is_none());
}

#[tokio::test]
async fn chinese_text_survives_any_cut_of_its_bytes() {
    let text = "一到一百的和是五千零五十。📈";
    for step in [1, 2, 3, 5, 7] {
        let server = ModelServer::start(vec![Answer::text(text).in_writes_of(step)]).await;
        let (reply, seen) = ask(&provider(server.url()), &request("求和")).await;
        assert_eq!(reply.unwrap().text, text);
        assert_eq!(seen.text, text);
        assert_eq!(server.requests()[0].body["messages"][1]["content"], "求和");
    }
}

#[tokio::test]
async fn thoughts_of_a_reasoning_model_are_no_part_of_its_reply() {
    let thought =
        json!({"choices": [{"index": 0, "delta": {"content": null, "reasoning_content": "hm"}}]});
    let text = json!({"choices": [{"index": 0, "delta": {"content": "yes", "reasoning": null}, "finish_reason": "stop"}]});
    let server = ModelServer::start(vec![Answer::events(&[thought, text])]).await;
    let reply = ask(&provider(server.url()), &request("hi"))
        .await
        .0
        .unwrap();
    assert_eq!((reply.text.as_str(), reply.usage), ("yes", None));
}

#[tokio::test]
async fn a_completion_that_is_not_streamed_is_taken_whole() {
    let server = ModelServer::start(vec![Answer::json("数 1").in_writes_of(3)]).await;
    let (reply, seen) = ask(&provider(server.url()), &request("hi")).await;
    assert_eq!(reply.unwrap().text, "数 1");
    assert_eq!(seen.text, "数 1");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let url = ModelServer::closed_url().await;
    let (result, seen) = ask(&retrying(&url), &request("hi")).await;
    let error = result.unwrap_err();
    assert!(matches!(error, LlmError::Unreachable { .. }), "{error:?}");
    let message = error.to_string();
    assert!(
        message.contains("refused") && message.contains("`llm.api_base`"),
        "{message}"
    );
    assert_eq!(seen.notices.len(), 3);
}

#[tokio::test]
async fn a_refused_key_is_not_tried_again_and_never_shown() {
    let echo = format!("Incorrect API key provided: {KEY}");
    let server = ModelServer::start(vec![Answer::error(401, &echo)]).await;
    let provider = retrying(server.url());
    let error = ask(&provider, &request("hi")).await.0.unwrap_err();
    assert!(
        matches!(error, LlmError::Unauthorized { with_key: true, .. }),
        "{error:?}"
    );
    let shown = format!(
        "{error} {error:?} {provider:?} {:?}",
        settings(server.url())
    );
    assert!(!shown.contains("0123456789"), "{shown}");
    assert!(
        shown.contains("[key]") && shown.contains("`LLM_API_KEY`"),
        "{shown}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_echoed_key_reaches_neither_reply_nor_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.jsonl");
    let server = ModelServer::start(vec![
        Answer::text(&format!("Your key is {KEY}, is it not?")).in_writes_of(5),
    ])
    .await;
    let recorder = Recorder::create(provider(server.url()), &path).unwrap();
    let (reply, seen) = ask(&recorder, &request("hi")).await;
    assert_eq!(reply.unwrap().text, "Your key is [key], is it not?");
    assert_eq!(seen.text, "Your key is [key], is it not?");
    let record = std::fs::read_to_string(&path).unwrap();
    assert!(
        record.contains("[key]") && !record.contains("0123456789"),
        "{record}"
    );
}

#[tokio::test]
async fn a_missing_model_is_named() {
    let server = ModelServer::start(vec![Answer::error(404, "no such model")]).await;
    let error = ask(&retrying(server.url()), &request("hi"))
        .await
        .0
        .unwrap_err();
    assert!(
        matches!(&error, LlmError::ModelNotFound { model, .. } if model == "mock-1"),
        "{error:?}"
    );
    assert!(error.to_string().contains("`llm.model`"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_asked() {
    let server = ModelServer::start(vec![
        Answer::error(429, "slow down").header("retry-after", "1"),
        Answer::text("ok"),
    ])
    .await;
    let start = Instant::now();
    let (reply, seen) = ask(&retrying(server.url()), &request("hi")).await;
    assert_eq!(reply.unwrap().text, "ok");
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(seen.notices[0].contains("slow down"), "{:?}", seen.notices);
}

#[tokio::test]
async fn a_rate_limit_of_an_hour_is_told_at_once() {
    let limit = Answer::error(429, "slow down").header("retry-after", "3600");
    let server = ModelServer::start(vec![limit]).await;
    let error = ask(&retrying(server.url()), &request("hi"))
        .await
        .0
        .unwrap_err();
    assert!(error.to_string().contains("try again in 3600 s"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_used_up_quota_is_not_waited_for() {
    let body = r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#;
    let error = fault(Answer::raw(429, "application/json", body)).await;
    assert!(matches!(error, LlmError::NoBalance { .. }), "{error:?}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_failing_server_gets_as_many_tries_as_allowed() {
    let failure = Answer::error(500, "out of memory");
    let server = ModelServer::start(vec![
        failure.clone(),
        failure.clone(),
        failure.clone(),
        Answer::text("ok"),
    ])
    .await;
    assert_eq!(
        ask(&retrying(server.url()), &request("hi"))
            .await
            .0
            .unwrap()
            .text,
        "ok"
    );

    let server = ModelServer::start(vec![failure; 5]).await;
    let error = ask(&retrying(server.url()), &request("hi"))
        .await
        .0
        .unwrap_err();
    assert!(
        matches!(
            error,
            LlmError::Server {
                status: Some(500),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("out of memory"));
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_stream_cut_in_mid_text_begins_anew() {
    let server = ModelServer::start(vec![
        Answer::cut_after("half an ans"),
        Answer::hang_up(),
        Answer::text("a whole answer"),
    ])
    .await;
    let (reply, seen) = ask(&retrying(server.url()), &request("hi")).await;
    assert_eq!(reply.unwrap().text, "a whole answer");
    assert_eq!(seen.text, "a whole answer");
    assert_eq!(seen.restarts.len(), 1, "{:?}", seen.restarts);
    assert_eq!(seen.notices.len(), 1);

    let error = fault(Answer::cut_after("half an ans")).await;
    assert!(matches!(error, LlmError::Cut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_stops_without_an_end_is_cut() {
    let half = json!({"choices": [{"index": 0, "delta": {"content": "half"}}]});
    let error = fault(Answer::events(&[half])).await;
    assert!(matches!(error, LlmError::Cut { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_completion_is_said_to_be_so() {
    for (answer, what) in [
        (Answer::html(), "a web page (\"<!doctype html>"),
        (
            Answer::raw(200, "text/event-stream", "<html>"),
            "a web page",
        ),
        (Answer::empty(), "nothing"),
        (
            Answer::raw(200, "application/json", "{\"ok\":true}"),
            "no chat completion (\"{",
        ),
        (
            Answer::raw(200, "application/json", "{\"choices\": 1"),
            "no chat completion",
        ),
        (
            Answer::raw(200, "text/plain", "\u{1b}[2Jupstream \u{7}gone"),
            "no chat completion (\"[2Jupstream gone\")",
        ),
        (
            Answer::raw(200, "text/event-stream", "data: \u{0}\n\n"),
            "no chat completion",
        ),
        (
            Answer::raw(200, "text/event-stream", b"data: {\"choices\":[\xff\n\n"),
            "no chat completion",
        ),
    ] {
        let error = fault(answer).await;
        assert!(matches!(error, LlmError::BadReply { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
}

/// A stream that ends with this reason.
fn ending(text: &str, reason: &str) -> Answer {
    Answer::events(&[
        json!({"choices": [{"index": 0, "delta": {"content": text}}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
    ])
}

/// Whether the error's kind is asked again, and a word of what a person reads.
async fn assert_fault(answer: Answer, asked_again: bool, word: &str) {
    let error = fault(answer).await;
    assert_eq!(error.is_transient(), asked_again, "{error:?}");
    assert!(error.to_string().contains(word), "{word}: {error}");
}

#[tokio::test]
async fn what_an_endpoint_says_in_its_own_words_is_understood() {
    let error = |status, body: Value| Answer::raw(status, "application/json", body.to_string());
    let said = |code: Value, message: &str| json!({"error": {"code": code, "message": message}});
    let stream = |code: Value, message: &str| Answer::events(&[said(code, message)]);
    for (answer, asked_again, word) in [
        (
            error(429, said(json!("credit_balance_exhausted"), "x")),
            false,
            "no balance",
        ),
        (error(429, said(json!("1113"), "x")), false, "no balance"),
        (error(402, said(json!(null), "x")), false, "no balance"),
        (
            error(429, said(json!("1302"), "x")),
            true,
            "no more requests",
        ),
        (
            error(
                400,
                said(
                    json!("context_length_exceeded"),
                    "maximum is 8192, you sent 9000",
                ),
            ),
            false,
            "maximum is 8192, you sent 9000",
        ),
        (
            stream(
                json!(400),
                "the request exceeds the available context size (4096)",
            ),
            false,
            "llm.context_chars",
        ),
        (
            error(400, said(json!("content_filter"), "x")),
            false,
            "filter",
        ),
        (
            stream(json!("rate_limit_exceeded"), "x"),
            true,
            "no more requests",
        ),
        (
            stream(json!("server_error"), "boom"),
            true,
            "while it answered (boom)",
        ),
        (stream(json!(null), "boom"), true, "boom"),
        (stream(json!("1305"), "busy"), true, "busy"),
        (ending("half", "content_filter"), false, "filter"),
        (ending("", "stop"), true, "empty reply"),
        (
            Answer::raw(200, "text/event-stream", "data: [DONE]\n\n"),
            true,
            "empty reply",
        ),
        (ending(" \n", "length"), true, "llm.max_tokens"),
        (
            Answer::events(&[
                json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm, hm"}}]}),
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}),
            ]),
            false,
            "thought for 6 characters",
        ),
        (
            Answer::events(&[
                json!({"choices": [{"index": 0, "delta": {"refusal": "I will not."}}]}),
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            ]),
            false,
            "declined: I will not.",
        ),
    ] {
        assert_fault(answer, asked_again, word).await;
    }
}

#[tokio::test]
async fn a_whole_object_without_an_end_and_a_refused_generation_are_taken() {
    let open = json!({"choices": [{"index": 0, "delta": {"content": "{\"a\": 1}"}}]});
    let refused = json!({"error": {"code": "json_validate_failed", "message": "x", "failed_generation": "{\"a\": 1}"}});
    for answer in [
        Answer::events(&[open]),
        Answer::raw(400, "application/json", refused.to_string()),
    ] {
        let server = ModelServer::start(vec![answer]).await;
        let (reply, seen) = ask(&retrying(server.url()), &request("hi")).await;
        assert_eq!(reply.unwrap().text, "{\"a\": 1}");
        assert_eq!(seen.text, "{\"a\": 1}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_a_model_does_not_take_is_learnt_once() {
    for (complaint, gone) in [
        (
            "Your organization must be verified to stream this model.",
            "stream_options",
        ),
        ("System role not supported", "system"),
        (
            "This model does not support structured output",
            "response_format",
        ),
    ] {
        let body = json!({"error": {"message": complaint}}).to_string();
        let server = ModelServer::start(vec![
            Answer::raw(400, "application/json", body),
            Answer::json("one"),
            Answer::json("two"),
        ])
        .await;
        let provider = retrying(server.url());
        let mut request = request("hi");
        request
            .messages
            .insert(0, ChatMessage::new(Role::System, "be brief"));
        request.response_format = Some(ResponseFormat::JsonObject);
        assert_eq!(
            ask(&provider, &request).await.0.unwrap().text,
            "one",
            "{complaint}"
        );
        assert_eq!(ask(&provider, &request).await.0.unwrap().text, "two");
        let requests = server.requests();
        assert_eq!(requests.len(), 3, "{complaint}");
        let has = |request: &support::model_server::Request| match gone {
            "system" => request.messages().iter().any(|(role, _)| *role == "system"),
            key => request.body.get(key).is_some(),
        };
        let sent: Vec<bool> = requests.iter().map(has).collect();
        assert_eq!(sent, [true, false, false], "{complaint}");
        assert!(requests[2].body.to_string().contains("You answer in JSON."));
    }
}

#[tokio::test]
async fn an_error_inside_a_stream_counts_as_its_status() {
    let error = fault(Answer::events(&[
        json!({"error": {"message": "busy", "code": 503}}),
    ]))
    .await;
    assert!(
        matches!(
            error,
            LlmError::Server {
                status: Some(503),
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let moved = Answer::raw(308, "text/html", "").header("location", "https://elsewhere.test/v1");
    let error = fault(moved).await;
    assert!(
        error
            .to_string()
            .contains("moved to https://elsewhere.test/v1"),
        "{error}"
    );
}

#[tokio::test]
async fn one_megabyte_is_a_reply_and_more_is_an_error() {
    let megabyte = "0123456789abcde\n".repeat(1 << 16);
    for answer in [Answer::pieces(&[&megabyte]), Answer::json(&megabyte)] {
        let server = ModelServer::start(vec![answer]).await;
        let (reply, seen) = ask(&provider(server.url()), &request("hi")).await;
        assert!(reply.unwrap().text == megabyte && seen.text == megabyte);
    }

    let error = fault(Answer::pieces(&[megabyte.as_str(), "x"])).await;
    assert!(
        matches!(
            error,
            LlmError::TooLarge {
                limit: 1_048_576,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("`llm.max_tokens`"));

    let padding = " ".repeat(9 << 20);
    for (kind, start) in [("text/event-stream", "data: "), ("application/json", "{")] {
        let error = fault(Answer::raw(200, kind, format!("{start}{padding}"))).await;
        assert!(matches!(error, LlmError::TooLarge { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_huge_error_body_is_read_in_part() {
    let error = fault(Answer::raw(500, "text/plain", "x".repeat(10 << 20))).await;
    assert!(error.to_string().len() < 400);
}

#[tokio::test]
async fn silence_ends_in_a_timeout() {
    for answer in [Answer::silence(), Answer::stall_after("so")] {
        let server = ModelServer::start(vec![answer]).await;
        let provider = OpenAi::new(OpenAiSettings {
            idle_timeout: Duration::from_millis(200),
            ..settings(server.url())
        })
        .unwrap();
        let error = ask(
            &Retry::new(provider, RetryPolicy::default()),
            &request("hi"),
        )
        .await
        .0
        .unwrap_err();
        assert!(matches!(error, LlmError::Timeout { .. }), "{error:?}");
        assert!(error.to_string().contains("nothing for 0.2 s"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_record_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.jsonl");
    std::fs::write(&path, "").unwrap();
    let server = ModelServer::start(vec![
        Answer::text("第一"),
        Answer::error(401, "no"),
        Answer::text("second"),
    ])
    .await;
    let recorder = Recorder::create(provider(server.url()), &path).unwrap();
    let first = ask(&recorder, &request("1")).await.0.unwrap();
    ask(&recorder, &request("2")).await.0.unwrap_err();
    let second = ask(&recorder, &request("3")).await.0.unwrap();

    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let record = std::fs::read_to_string(&path).unwrap();
    assert_eq!(record.lines().count(), 2);
    let line: serde_json::Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    assert_eq!(line["model"], "mock-1");
    assert_eq!(line["purpose"], "planner");
    assert_eq!(line["messages"][1], json!({"role": "user", "content": "1"}));
    assert_eq!(line["reply"], "第一");
    assert_eq!(
        line["usage"],
        json!({"prompt_tokens": 11, "completion_tokens": 1})
    );

    let replayer = Replayer::from_path(&path).unwrap();
    assert_eq!(replayer.model(), "mock-1");
    assert_eq!(ask(&replayer, &request("1")).await.0.unwrap(), first);
    let (reply, seen) = ask(&replayer, &request("3")).await;
    assert_eq!(reply.unwrap(), second);
    assert_eq!(seen.text, "second");
    let error = ask(&replayer, &request("4")).await.0.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no reply for `planner` is left (2 of 2 are used)"),
        "{error}"
    );
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let replay = Replayer::from_path(&folder.path().join("none.jsonl"))
        .unwrap_err()
        .to_string();
    assert!(
        replay.contains("none.jsonl") && replay.contains("`llm.replay`"),
        "{replay}"
    );
    let replayer = Replayer::from_str("x", "").unwrap();
    let record = Recorder::create(replayer, folder.path())
        .unwrap_err()
        .to_string();
    assert!(record.contains("`llm.record`"), "{record}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_sent() {
    for (settings, key) in [
        (OpenAiSettings::new("http://h", " "), "`llm.model`"),
        (OpenAiSettings::new("h/v1", "m"), "`llm.api_base`"),
        (
            OpenAiSettings {
                api_key: Some(SecretString::from("sk\nsecret")),
                ..OpenAiSettings::new("http://h", "m")
            },
            "`llm.api_key`",
        ),
    ] {
        let message = OpenAi::new(settings).unwrap_err().to_string();
        assert!(
            message.contains(key) && !message.contains("secret"),
            "{message}"
        );
    }
}
