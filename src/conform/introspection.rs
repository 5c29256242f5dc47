//! Questions about code and its past: complete, inspect, is_complete, history. Positions are in code points.

use serde_json::{Value, json};

use super::execution::is_ok;
use super::heard::Heard;
use super::subject::Subject;
use super::{Flaw, Outcome, family, without_colours};
use crate::protocol::Channel;

family! { "introspection";
    "complete_request finds a name" =>
        "matches with the whole name, and the range from cursor_start to cursor_end that it replaces", complete;
    "completion in the middle of a line" =>
        "matches and their range where code stands behind the cursor", complete_in_the_middle;
    "completion counts in code points" =>
        "matches, and their range in code points, behind a character of two UTF-16 units and four bytes",
        complete_beyond_ascii;
    "inspect_request finds a name" =>
        "found true and text/plain for a name with the cursor in its middle", inspect;
    "inspection counts in code points" =>
        "found true behind characters of two UTF-16 units and four bytes, with the cursor in code points",
        inspect_beyond_ascii;
    "inspect_request of nothing is answered" =>
        "status ok, found false, data an empty object", inspect_nothing;
    "is_complete_request tells what is complete" =>
        "complete, incomplete, invalid", is_complete;
    "history_request tail" =>
        "the last inputs, as [session, line, input]", history_tail;
    "history_request range" =>
        "the inputs of a range of lines of this session", history_range;
    "history_request search" =>
        "the inputs that match a glob", history_search;
    "history_request with output" =>
        "entries as [session, line, [input, output]]", history_output;
}

/// Asks something, and gives the reply.
async fn ask(subject: &mut Subject, msg_type: &str, content: Value) -> Result<Heard, Flaw> {
    let peer = &mut subject.peer;
    let asked = peer.ask(Channel::Shell, msg_type, content).await?;
    peer.log.reply(&asked).cloned()
}

async fn completed(subject: &mut Subject, before: &str, after: &str) -> Outcome {
    let [define, part, whole] = subject.code("has names", |sample| sample.completion)?;
    let ran = subject.peer.run(define).await?;
    is_ok(&subject.peer.log, &ran)?;
    let start = before.chars().count();
    let end = start + part.chars().count();
    let code = format!("{before}{part}{after}");
    if (before, after) != ("", "") {
        let plain = json!({"code": part, "cursor_pos": part.chars().count()});
        let reply = ask(subject, "complete_request", plain).await?;
        if reply.list("matches")?.is_empty() {
            return Err(Flaw::unsupported("it finds no names"));
        }
    }
    let request = json!({"code": code, "cursor_pos": end});
    let reply = ask(subject, "complete_request", request).await?;
    let matches = reply.list("matches")?;
    if matches.is_empty() && code == part {
        return Err(Flaw::unsupported("it finds no names"));
    }
    if reply.content["status"] != "ok" || !matches.iter().any(|found| found == whole) {
        return Err(Flaw::seen(format!(
            "for {code:?} at {end}: {}",
            reply.content
        )));
    }
    reply.object("metadata")?;
    let range = (reply.number("cursor_start")?, reply.number("cursor_end")?);
    let seen = format!("{} to {} of {code}", range.0, range.1);
    match range == (start as u64, end as u64) {
        true => Ok(seen),
        false => Err(Flaw::seen(format!(
            "{seen}, where {start} to {end} is {part}"
        ))),
    }
}

async fn complete(subject: &mut Subject) -> Outcome {
    completed(subject, "", "").await
}

async fn complete_in_the_middle(subject: &mut Subject) -> Outcome {
    completed(subject, "", "; 6").await
}

async fn complete_beyond_ascii(subject: &mut Subject) -> Outcome {
    completed(subject, "'😀'; ", "").await
}

async fn inspected(subject: &mut Subject, before: &str) -> Outcome {
    let (name, said) = subject.code("has a known name", |sample| sample.known)?;
    let code = format!("{before}{name}");
    let cursor = before.chars().count() + 2;
    let request = json!({"code": code, "cursor_pos": cursor, "detail_level": 0});
    let reply = ask(subject, "inspect_request", request).await?;
    let found = reply.content["found"] == true;
    if !found && reply.content["status"] == "ok" {
        let plain = json!({"code": name, "cursor_pos": 2, "detail_level": 0});
        let reply = ask(subject, "inspect_request", plain).await?;
        if reply.content["found"] == false {
            return Err(Flaw::unsupported("it finds no names"));
        }
    }
    let plain = without(reply.plain());
    match reply.content["status"] == "ok" && found && plain.contains(said) {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "for {code:?} at {cursor}: {}",
            reply.content
        ))),
    }
}

fn without(plain: Option<&str>) -> String {
    without_colours(plain.unwrap_or_default())
}

async fn inspect(subject: &mut Subject) -> Outcome {
    inspected(subject, "").await
}

async fn inspect_beyond_ascii(subject: &mut Subject) -> Outcome {
    // So far that a count in UTF-16 units or bytes would point before the name.
    inspected(subject, "'😀😀😀😀'; ").await
}

async fn inspect_nothing(subject: &mut Subject) -> Outcome {
    let request = json!({"code": "heddle_conform_unknown", "cursor_pos": 5, "detail_level": 0});
    let reply = ask(subject, "inspect_request", request).await?;
    reply.object("data")?;
    match reply.content["status"] == "ok" && reply.content["found"] == false {
        true => Ok(String::new()),
        false => Err(Flaw::seen(reply.content.to_string())),
    }
}

async fn is_complete(subject: &mut Subject) -> Outcome {
    let codes = subject.code("can be incomplete", |sample| sample.completeness)?;
    let mut seen = Vec::new();
    for code in codes {
        let reply = ask(subject, "is_complete_request", json!({ "code": code })).await?;
        seen.push(reply.text("status")?.to_owned());
    }
    let told = seen.join(", ");
    match told.as_str() {
        "complete, incomplete, invalid" => Ok(told),
        "unknown, unknown, unknown" => Err(Flaw::unsupported("it is always unknown")),
        _ => Err(Flaw::seen(format!("{told} for {codes:?}"))),
    }
}

/// Runs two inputs and asks for history.
async fn history(subject: &mut Subject, fields: Value) -> Result<(u64, Vec<Value>), Flaw> {
    let code = super::execution::any(subject)?;
    let ran = subject.peer.run(code).await?;
    let count = subject.peer.log.reply(&ran)?.number("execution_count")?;
    let line = |offset: u64| count.saturating_sub(offset);
    let mut request =
        json!({"output": false, "raw": true, "session": 0, "start": line(1), "stop": count + 1});
    if let (Some(request), Value::Object(fields)) = (request.as_object_mut(), fields) {
        request.extend(fields);
    }
    let reply = ask(subject, "history_request", request).await?;
    let history = reply.list("history")?.clone();
    let whole = |entry: &Value| {
        entry
            .as_array()
            .is_some_and(|entry| entry.len() == 3 && entry[0].is_i64() && entry[1].is_i64())
    };
    if history.is_empty() {
        return Err(Flaw::unsupported("the history is empty: it keeps none"));
    }
    match history.iter().all(whole) {
        true => Ok((count, history)),
        false => Err(Flaw::seen(reply.content.to_string())),
    }
}

/// That the last entry is the input that was run last.
fn ends_with(entries: &[Value], code: &str) -> Outcome {
    match entries.last().is_some_and(|entry| entry[2] == code) {
        true => Ok(format!("{} entries", entries.len())),
        false => Err(Flaw::seen(Value::Array(entries.to_vec()).to_string())),
    }
}

async fn history_tail(subject: &mut Subject) -> Outcome {
    let fields = json!({"hist_access_type": "tail", "n": 3});
    let (_, entries) = history(subject, fields).await?;
    if entries.len() > 3 {
        return Err(Flaw::seen(format!(
            "{} entries, and 3 were asked for",
            entries.len()
        )));
    }
    ends_with(&entries, super::execution::any(subject)?)
}

async fn history_range(subject: &mut Subject) -> Outcome {
    let fields = json!({"hist_access_type": "range"});
    let (count, entries) = history(subject, fields).await?;
    let lines: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry[1].as_u64())
        .collect();
    match lines == [count.saturating_sub(1), count] {
        true => ends_with(&entries, super::execution::any(subject)?),
        false => Err(Flaw::seen(format!(
            "lines {lines:?}, where {} and {count} were asked for",
            count.saturating_sub(1)
        ))),
    }
}

async fn history_search(subject: &mut Subject) -> Outcome {
    let code = super::execution::any(subject)?;
    let pattern = format!("{}*", code.split(' ').next().unwrap_or_default());
    let fields = json!({"hist_access_type": "search", "pattern": pattern, "n": 5, "unique": false});
    let (_, entries) = history(subject, fields).await?;
    ends_with(&entries, code)
}

async fn history_output(subject: &mut Subject) -> Outcome {
    let fields = json!({"hist_access_type": "tail", "n": 2, "output": true});
    let (_, entries) = history(subject, fields).await?;
    let paired = |entry: &Value| entry[2].as_array().is_some_and(|pair| pair.len() == 2);
    match entries.iter().all(paired) {
        true => Ok(String::new()),
        false => Err(Flaw::seen(Value::Array(entries).to_string())),
    }
}
