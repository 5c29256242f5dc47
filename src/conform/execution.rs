//! Running code: replies, counts, errors, queues.

use serde_json::json;

use super::heard::{Log, Request};
use super::information::states;
use super::peer::execute;
use super::sample::BEYOND_ASCII;
use super::subject::Subject;
use super::{Flaw, Outcome, family, without_colours};
use crate::protocol::Channel;

family! { "execution";
    "execute_reply is complete" =>
        "status ok, an execution_count, and user_expressions as an object", reply;
    "execute_input comes before any output" =>
        "one execute_input after busy, with the code as sent and the execution_count of the reply", input;
    "a value is an execute_result" =>
        "one execute_result with the value as text/plain and the execution_count of the reply", value;
    "a request of code alone takes the defaults" =>
        "an execute_request without its other fields runs", defaults;
    "code of no effect is answered" =>
        "execute_reply ok and idle for empty code", empty;
    "variables stay" =>
        "a variable of one request is there in the next", variables;
    "execution_count counts what is stored" =>
        "one more for each request with store_history, none for one without", count;
    "silent gives no result and is not counted" =>
        "no execute_result, and the execution_count as before", silent;
    "user_expressions are answered in the reply" =>
        "status ok with the value under data, status error with ename, evalue and traceback", expressions;
    "an error is published and replied" =>
        "an error on iopub and a reply with status error, both with the same ename, evalue and traceback", error;
    "code runs after an error" =>
        "the next request is ok", after_error;
    "stop_on_error aborts what is queued" =>
        "requests that were sent before the error of one with stop_on_error are not run: status aborted, or error, \
         with busy and idle",
        aborts;
    "without stop_on_error the queue goes on" =>
        "status ok for requests behind an error of one with stop_on_error false", goes_on;
    "requests run in their order" =>
        "replies in the order of twenty requests sent at once", order;
    "text beyond ASCII comes back" =>
        "characters of two, three and four bytes as they were sent", beyond_ascii;
    "other clients see what runs" =>
        "execute_input, output and states on iopub for a client that did not ask, with the parent of the one that did",
        seen_by_others;
}

async fn reply(subject: &mut Subject) -> Outcome {
    let code = any(subject)?;
    let ran = subject.peer.run(code).await?;
    let reply = subject.peer.log.reply(&ran)?;
    if reply.text("status")? != "ok" {
        return Err(Flaw::seen(format!("{}", reply.content)));
    }
    reply.number("execution_count")?;
    // Optional where there were none in the request, and where it is there an object.
    if !reply.content["user_expressions"].is_null() {
        reply.object("user_expressions")?;
    }
    Ok(String::new())
}

/// Some code that does no harm.
pub(super) fn any(subject: &Subject) -> Result<&'static str, Flaw> {
    subject.code("does anything", |sample| {
        sample.value.map(|(code, _)| code).or(sample.stdout)
    })
}

async fn input(subject: &mut Subject) -> Outcome {
    let code = subject.code("prints", |sample| sample.stdout)?;
    let ran = subject.peer.run(code).await?;
    let peer = &mut subject.peer;
    let count = peer.log.reply(&ran)?.number("execution_count")?;
    let input = peer.published(&ran, "execute_input").await?;
    if input.text("code")? != code || input.number("execution_count")? != count {
        return Err(Flaw::seen(format!(
            "{} and a reply with {count}",
            input.content
        )));
    }
    let log = &subject.peer.log;
    let mut published = log.published(&ran).filter(|heard| heard.state().is_none());
    let first = published
        .next()
        .is_some_and(|first| first.msg_type() == "execute_input");
    match first && log.all(&ran, "execute_input").count() == 1 {
        true => Ok(String::new()),
        false => Err(Flaw::seen(log.told(&ran))),
    }
}

async fn value(subject: &mut Subject) -> Outcome {
    let (code, value) = subject.code("has a value", |sample| sample.value)?;
    let ran = subject.peer.run(code).await?;
    let result = subject.peer.published(&ran, "execute_result").await?;
    result.object("metadata")?;
    if result.plain().map(without_colours).as_deref() != Some(value) {
        return Err(Flaw::seen(format!("for {code}: {}", result.content)));
    }
    let count = result.number("execution_count")?;
    let log = &subject.peer.log;
    let counts = (count, log.reply(&ran)?.number("execution_count")?);
    match counts.0 == counts.1 && log.all(&ran, "execute_result").count() == 1 {
        true => Ok(format!("{code} is {value}")),
        false => Err(Flaw::seen(format!(
            "execution_count {} in the result, {} in the reply",
            counts.0, counts.1
        ))),
    }
}

async fn defaults(subject: &mut Subject) -> Outcome {
    let code = any(subject)?;
    let peer = &mut subject.peer;
    let ran = peer
        .ask(Channel::Shell, "execute_request", json!({ "code": code }))
        .await?;
    is_ok(&peer.log, &ran)?;
    Ok(String::new())
}

/// That a request has a reply with the status ok.
pub(super) fn is_ok(log: &Log, request: &Request) -> Result<(), Flaw> {
    has_status(log, request, "ok")
}

fn has_status(log: &Log, request: &Request, status: &str) -> Result<(), Flaw> {
    let reply = log.reply(request)?;
    match reply.content["status"] == status {
        true => Ok(()),
        false => Err(Flaw::seen(format!(
            "{}: {}",
            reply.msg_type(),
            reply.content
        ))),
    }
}

async fn empty(subject: &mut Subject) -> Outcome {
    let ran = subject.peer.run("").await?;
    is_ok(&subject.peer.log, &ran)?;
    states(&subject.peer.log, &ran)
}

async fn variables(subject: &mut Subject) -> Outcome {
    let [set, get, value] = subject.code("has variables", |sample| sample.variable)?;
    let peer = &mut subject.peer;
    let ran = peer.run(set).await?;
    is_ok(&peer.log, &ran)?;
    let ran = peer.run(get).await?;
    let result = peer.published(&ran, "execute_result").await?;
    match result.plain().map(without_colours).as_deref() == Some(value) {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "{set}, then {get} is {}",
            result.content
        ))),
    }
}

async fn count(subject: &mut Subject) -> Outcome {
    let code = any(subject)?;
    let mut counts = Vec::new();
    for store in [true, true, false, true] {
        let fields = json!({ "store_history": store });
        let ran = subject.peer.run_with(code, fields).await?;
        counts.push(subject.peer.log.reply(&ran)?.number("execution_count")?);
    }
    let [first, second, unstored, third] = counts[..] else {
        return Err(Flaw::seen("too few replies"));
    };
    let seen = format!("{first}, {second}, (not stored) {unstored}, {third}");
    match second == first.saturating_add(1) && third == second.saturating_add(1) {
        true => Ok(seen),
        false => Err(Flaw::seen(seen)),
    }
}

async fn silent(subject: &mut Subject) -> Outcome {
    let code = any(subject)?;
    let peer = &mut subject.peer;
    let before = peer.run(code).await?;
    let quiet = json!({"silent": true, "store_history": false});
    let ran = peer.run_with(code, quiet).await?;
    let after = peer.run(code).await?;
    let log = &peer.log;
    is_ok(log, &ran)?;
    if log.all(&ran, "execute_result").next().is_some() {
        return Err(Flaw::seen("an execute_result was published"));
    }
    let count = |request| log.reply(request)?.number("execution_count");
    let (before, after) = (count(&before)?, count(&after)?);
    match after == before.saturating_add(1) {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "execution_count {before} before and {after} after"
        ))),
    }
}

async fn expressions(subject: &mut Subject) -> Outcome {
    let (code, value) = subject.code("has a value", |sample| sample.value)?;
    let undefined = subject.code("cannot be evaluated", |sample| sample.undefined)?;
    let fields = json!({"silent": true, "user_expressions": {"good": code, "bad": undefined}});
    let ran = subject.peer.run_with("", fields).await?;
    let reply = subject.peer.log.reply(&ran)?;
    is_ok(&subject.peer.log, &ran)?;
    let answers = reply.object("user_expressions")?;
    let (Some(good), Some(bad)) = (answers.get("good"), answers.get("bad")) else {
        return Err(Flaw::seen(format!(
            "user_expressions: {}",
            reply.content["user_expressions"]
        )));
    };
    let plain = good["data"]["text/plain"].as_str().map(without_colours);
    let right = good["status"] == "ok"
        && plain.as_deref() == Some(value)
        && bad["status"] == "error"
        && bad["ename"].is_string()
        && bad["evalue"].is_string()
        && bad["traceback"].is_array();
    match right {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!("good: {good}, bad: {bad}"))),
    }
}

async fn error(subject: &mut Subject) -> Outcome {
    let (code, ename) = subject.code("fails", |sample| sample.error)?;
    let ran = subject.peer.run(code).await?;
    let reply = subject.peer.log.reply(&ran)?.clone();
    if reply.content["status"] != "error" {
        return Err(Flaw::seen(format!("the reply is {}", reply.content)));
    }
    let published = subject.peer.published(&ran, "error").await?;
    for side in [&reply, published] {
        side.text("ename")?;
        side.text("evalue")?;
        if !side
            .list("traceback")?
            .iter()
            .all(serde_json::Value::is_string)
        {
            return Err(Flaw::seen("traceback is not a list of texts"));
        }
    }
    for field in ["ename", "evalue", "traceback"] {
        if reply.content[field] != published.content[field] {
            return Err(Flaw::seen(format!(
                "{field} is {} in the reply and {} on iopub",
                reply.content[field], published.content[field]
            )));
        }
    }
    let seen = format!("{}: {}", reply.text("ename")?, reply.text("evalue")?);
    match ename.is_empty() || reply.text("ename")? == ename {
        true => Ok(seen),
        false => Err(Flaw::seen(format!("{seen}, where ename should be {ename}"))),
    }
}

async fn after_error(subject: &mut Subject) -> Outcome {
    let (fails, _) = subject.code("fails", |sample| sample.error)?;
    let code = any(subject)?;
    subject.peer.run(fails).await?;
    let ran = subject.peer.run(code).await?;
    is_ok(&subject.peer.log, &ran)?;
    Ok(String::new())
}

/// Sends code that fails late and two requests behind it, and waits for all.
async fn queue(subject: &mut Subject, stop_on_error: bool) -> Result<[Request; 3], Flaw> {
    let fails = subject.code("fails late", |sample| sample.late_error)?;
    let code = any(subject)?;
    let peer = &mut subject.peer;
    let mut sent = Vec::new();
    for code in [fails, code, code] {
        let content = execute(code, json!({ "stop_on_error": stop_on_error }));
        sent.push(
            peer.send(Channel::Shell, "execute_request", content)
                .await?,
        );
    }
    for request in &sent {
        peer.done(request).await?;
    }
    has_status(&peer.log, &sent[0], "error")?;
    sent.try_into()
        .map_err(|_| Flaw::seen("three requests were not sent"))
}

async fn aborts(subject: &mut Subject) -> Outcome {
    let [_, second, third] = queue(subject, true).await?;
    let log = &subject.peer.log;
    for request in [&second, &third] {
        let reply = log.reply(request)?;
        if reply.text("status")? == "ok" {
            return Err(Flaw::seen(format!(
                "a queued request got {}",
                reply.content
            )));
        }
        states(log, request)?;
    }
    // What comes later is not aborted.
    let code = any(subject)?;
    let later = subject.peer.run(code).await?;
    is_ok(&subject.peer.log, &later)?;
    Ok(String::new())
}

async fn goes_on(subject: &mut Subject) -> Outcome {
    let [_, second, third] = queue(subject, false).await?;
    is_ok(&subject.peer.log, &second)?;
    is_ok(&subject.peer.log, &third)?;
    Ok(String::new())
}

async fn order(subject: &mut Subject) -> Outcome {
    let code = any(subject)?;
    let peer = &mut subject.peer;
    let mut sent = Vec::new();
    for _ in 0..20 {
        let content = execute(code, json!({}));
        sent.push(
            peer.send(Channel::Shell, "execute_request", content)
                .await?,
        );
    }
    for request in &sent {
        peer.done(request).await?;
        is_ok(&peer.log, request)?;
    }
    let replies = peer
        .log
        .0
        .iter()
        .filter(|heard| heard.channel == Channel::Shell);
    let ids: Vec<_> = replies.map(|reply| &reply.parent["msg_id"]).collect();
    match ids.iter().eq(sent
        .iter()
        .map(|request| &request.header["msg_id"])
        .collect::<Vec<_>>()
        .iter())
    {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "{} replies in another order",
            ids.len()
        ))),
    }
}

async fn beyond_ascii(subject: &mut Subject) -> Outcome {
    let code = subject.code("prints", |sample| sample.beyond_ascii)?;
    let peer = &mut subject.peer;
    let ran = peer.run(code).await?;
    peer.until(|log| log.printed(&ran, "stdout").contains(BEYOND_ASCII))
        .await?;
    let printed = peer.log.printed(&ran, "stdout");
    let input = peer.published(&ran, "execute_input").await?.text("code")?;
    match printed.trim_end() == BEYOND_ASCII && input == code {
        true => Ok(BEYOND_ASCII.into()),
        false => Err(Flaw::seen(format!("{printed:?} from {input:?}"))),
    }
}

async fn seen_by_others(subject: &mut Subject) -> Outcome {
    let code = subject.code("prints", |sample| sample.stdout)?;
    let mut other = subject.another().await?;
    other.fence(Channel::Shell).await?;
    let ran = subject.peer.run(code).await?;
    let seen = other.until(|log| log.is_idle(&ran)).await?;
    other.published(&ran, "execute_input").await?;
    // A reply that is not its own would have come before this one.
    other.fence(Channel::Shell).await?;
    let log = &other.log;
    if !log.printed(&ran, "stdout").contains("heddle out") || !seen {
        return Err(Flaw::seen(log.told(&ran)));
    }
    match log.is_replied(&ran) {
        false => Ok(String::new()),
        true => Err(Flaw::seen("the other client got the reply as well")),
    }
}
