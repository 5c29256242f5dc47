//! What real peers send, read as they meant it.

use serde_json::{Value, json};

use super::*;

fn decode(msg_type: &str, content: Value) -> Content {
    Content::decode(msg_type, &Bytes::from(content.to_string()))
}

macro_rules! typed {
    ($name:ident, $msg_type:literal, $content:expr) => {
        match decode($msg_type, $content) {
            Content::$name(content) => content,
            other => panic!("{other:?}"),
        }
    };
}

#[test]
fn every_type_takes_empty_content_and_writes_what_it_reads_again() {
    for msg_type in MSG_TYPES {
        for empty in [json!({}), Value::Null] {
            let content = decode(msg_type, empty);
            assert!(!matches!(content, Content::Unknown { .. }), "{msg_type}");
            assert_eq!(content.msg_type(), *msg_type);
            assert_eq!(Content::decode(msg_type, &content.encode()), content);
        }
    }
}

#[test]
fn null_fields_get_their_defaults() {
    let request = typed!(
        ExecuteRequest,
        "execute_request",
        json!({"code": "1", "silent": null, "store_history": null, "user_expressions": [], "allow_stdin": null})
    );
    assert_eq!(
        request,
        ExecuteRequest {
            code: "1".into(),
            ..ExecuteRequest::default()
        }
    );
    let reply = typed!(ShutdownReply, "shutdown_reply", json!({"restart": true}));
    assert_eq!((reply.status, reply.restart), (ReplyStatus::Ok, true));
    let request = typed!(InputRequest, "input_request", json!({"prompt": "name: "}));
    assert!(!request.password);
}

#[test]
fn text_that_came_as_lines_is_joined() {
    let stream = typed!(
        Stream,
        "stream",
        json!({"name": "stdout", "text": ["a\n", "b"]})
    );
    assert_eq!(stream.text, "a\nb");
    let display = typed!(
        DisplayData,
        "display_data",
        json!({"data": {
            "text/plain": ["a\n", "b"], "image/svg+xml": ["<svg>", "</svg>"],
            "application/json": ["a", "b"], "application/geo+json": ["c"], "text/odd": ["a", 1]
        }, "metadata": null})
    );
    assert_eq!(
        Value::Object(display.data),
        json!({
            "text/plain": "a\nb", "image/svg+xml": "<svg></svg>",
            "application/json": ["a", "b"], "application/geo+json": ["c"], "text/odd": ["a", 1]
        })
    );
    let error = typed!(
        Error,
        "error",
        json!({"ename": "E", "evalue": 5, "traceback": "only line"})
    );
    assert_eq!((error.evalue.as_str(), error.traceback.len()), ("5", 1));
}

#[test]
fn an_execute_reply_says_how_it_ended() {
    let status = |content| typed!(ExecuteReply, "execute_reply", content).status;
    assert_eq!(status(json!({"status": "ok"})), ReplyStatus::Ok);
    assert_eq!(status(json!({"status": "aborted"})), ReplyStatus::Aborted);
    assert_eq!(status(json!({"status": "abort"})), ReplyStatus::Aborted);
    assert_eq!(status(json!({"status": "odd"})), ReplyStatus::Error);
    let reply = typed!(
        ExecuteReply,
        "execute_reply",
        json!({"status": "error", "execution_count": 3.0, "ename": "ValueError", "evalue": "x",
               "traceback": ["l1", null], "payload": {}, "engine_info": {"x": 1}})
    );
    assert_eq!(reply.execution_count, Some(3));
    assert_eq!(reply.traceback, ["l1", ""]);
}

#[test]
fn history_has_entries_with_and_without_output() {
    let reply = typed!(
        HistoryReply,
        "history_reply",
        json!({"status": "ok", "history": [[1, 2, "a"], [1, 3, ["b", null]], [1, 4, ["c", "3"]]]})
    );
    let inputs: Vec<_> = reply.history.iter().map(|entry| entry.2.input()).collect();
    assert_eq!(inputs, ["a", "b", "c"]);
    assert_eq!(
        reply.history[1].2,
        HistoryCell::WithOutput("b".into(), None)
    );
    let request = typed!(
        HistoryRequest,
        "history_request",
        json!({"hist_access_type": "range", "session": 0, "start": 1})
    );
    assert_eq!(request.stop, None);
}

#[test]
fn a_kernel_info_reply_keeps_what_it_does_not_know() {
    let content = json!({
        "status": "ok", "protocol_version": "5.3", "implementation": "ipython", "implementation_version": "9",
        "language_info": {"name": "python", "version": "3", "mimetype": "text/x-python", "file_extension": ".py",
                          "codemirror_mode": {"name": "ipython", "version": 3}},
        "banner": "", "help_links": [{"text": "a", "url": "b"}], "supported_features": ["kernel subshells"],
        "debugger": true, "site": "x"
    });
    let reply = typed!(KernelInfoReply, "kernel_info_reply", content.clone());
    assert!(reply.supports("kernel subshells") && reply.supports("debugger"));
    let mut written: Value = serde_json::from_slice(&Content::from(reply).encode()).unwrap();
    written.sort_all_objects();
    let mut content = content;
    content.sort_all_objects();
    assert_eq!(written, content);
}

#[test]
fn an_error_reply_of_any_type_is_read() {
    let reply = typed!(
        CompleteReply,
        "complete_reply",
        json!({"status": "error", "ename": "E", "evalue": "v", "traceback": ["t"]})
    );
    assert_eq!(
        (reply.status, reply.failure.ename.as_str()),
        (ReplyStatus::Error, "E")
    );
}

#[test]
fn execution_states_keep_their_names() {
    for name in ["busy", "idle", "starting", "restarting"] {
        let content = decode("status", json!({"execution_state": name}));
        assert_eq!(
            content.encode(),
            json!({"execution_state": name}).to_string()
        );
    }
    let idle = typed!(Status, "status", json!({"execution_state": "idle"}));
    assert_eq!(idle.execution_state, ExecutionState::Idle);
}

#[test]
fn content_that_no_type_can_hold_is_kept_byte_for_byte() {
    for (msg_type, raw) in [
        ("stream", &b"[[1]"[..]),
        ("stream", br#"{"text": {"a": 1}}"#),
        ("execute_request", br#"{"silent": "no"}"#),
        ("custom_request", b"\xff\x00"),
        ("", b""),
    ] {
        let raw = Bytes::from_static(raw);
        let content = Content::decode(msg_type, &raw);
        assert!(matches!(content, Content::Unknown { .. }), "{content:?}");
        assert_eq!(content.msg_type(), msg_type);
        assert_eq!(content.encode(), raw);
    }
}

#[test]
fn deep_nesting_is_not_followed() {
    let deep = Bytes::from("[".repeat(200_000));
    assert!(matches!(
        Content::decode("comm_msg", &deep),
        Content::Unknown { .. }
    ));
}

#[test]
fn nesting_hidden_in_strings_is_not_followed() {
    let mut hidden = String::from("1");
    for _ in 0..20 {
        let nested = format!("{}{hidden}{}", "[".repeat(120), "]".repeat(120));
        hidden = json!({"$serde_json::private::RawValue": nested}).to_string();
    }
    let escaped = r#"{"\u0024serde_json::private::Raw\u0056alue": "[1]"}"#.to_owned();
    let not_json = hidden.replacen("{", "{\"x\": NaN,", 1);
    for hidden in [hidden, escaped, not_json] {
        let raw = Bytes::from(format!(r#"{{"data": {{"a": {hidden}}}}}"#));
        let content = Content::decode("display_data", &raw);
        assert!(matches!(content, Content::Unknown { .. }));
    }
}

#[test]
fn debug_output_has_no_typed_password() {
    let reply = decode("input_reply", json!({"value": "hunter2"}));
    let broken = decode("input_reply", json!({"value": {"value": "hunter2"}}));
    assert!(!format!("{reply:?}{broken:?}").contains("hunter2"));
}
