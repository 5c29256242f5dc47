//! Input that running code asks for.

use serde_json::json;

use super::execution::is_ok;
use super::heard::{Heard, Request};
use super::peer::execute;
use super::subject::Subject;
use super::{Flaw, Outcome, family};
use crate::protocol::Channel;

family! { "stdin";
    "input is asked for on stdin" =>
        "an input_request with the prompt and password false, with the cell as parent; the cell uses the answer", asked;
    "input is asked of the client that sent the cell" =>
        "no input_request to another client", asked_of_one;
    "a password is asked for as one" =>
        "an input_request with password true", password;
    "no input is asked for without allow_stdin" =>
        "no input_request, and the cell ends", not_asked;
}

/// Runs code until it asks, and gives its request.
async fn ask(subject: &mut Subject, code: &str) -> Result<(Request, Heard), Flaw> {
    let peer = &mut subject.peer;
    let content = execute(code, json!({"allow_stdin": true}));
    let ran = peer
        .send(Channel::Shell, "execute_request", content)
        .await?;
    peer.until(|log| log.on(Channel::Stdin, &ran).next().is_some() || log.is_replied(&ran))
        .await?;
    let asked = peer.log.on(Channel::Stdin, &ran).next().cloned();
    match asked {
        Some(asked) if asked.msg_type() == "input_request" => Ok((ran, asked)),
        Some(other) => Err(Flaw::seen(format!("{} on stdin", other.msg_type()))),
        None => Err(Flaw::seen(format!(
            "no input_request: {}",
            peer.log.told(&ran)
        ))),
    }
}

/// Answers, and gives what the cell printed.
async fn answer(subject: &mut Subject, (ran, asked): (Request, Heard)) -> Result<String, Flaw> {
    let peer = &mut subject.peer;
    let (_, mut reply) = peer.make(
        Channel::Stdin,
        "input_reply",
        &json!({"value": "heddle 😀"}),
    );
    reply.parent_header = super::peer::frame(&asked.header);
    peer.signer.sign(&mut reply);
    peer.send_frames(Channel::Stdin, reply.into_frames())
        .await?;
    peer.done(&ran).await?;
    is_ok(&peer.log, &ran)?;
    Ok(peer.log.printed(&ran, "stdout"))
}

async fn asked(subject: &mut Subject) -> Outcome {
    let code = subject.code("asks for input", |sample| sample.input)?;
    let (ran, asked) = ask(subject, code).await?;
    let content = asked.content.clone();
    let printed = answer(subject, (ran, asked)).await?;
    match content["prompt"] == "name? "
        && content["password"] == false
        && printed.trim_end() == "heddle 😀"
    {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "{content}, and the cell got {printed:?}"
        ))),
    }
}

async fn asked_of_one(subject: &mut Subject) -> Outcome {
    let code = subject.code("asks for input", |sample| sample.input)?;
    let mut other = subject.another().await?;
    other.fence(Channel::Shell).await?;
    let question = ask(subject, code).await?;
    answer(subject, question).await?;
    other.fence(Channel::Shell).await?;
    let mut heard = other.log.0.iter();
    match heard.any(|heard| heard.channel == Channel::Stdin) {
        false => Ok(String::new()),
        true => Err(Flaw::seen("another client was asked as well")),
    }
}

async fn password(subject: &mut Subject) -> Outcome {
    let code = subject.code("asks for a password", |sample| sample.password)?;
    let (ran, asked) = ask(subject, code).await?;
    let content = asked.content.clone();
    let printed = answer(subject, (ran, asked)).await?;
    match content["prompt"] == "secret? "
        && content["password"] == true
        && printed.trim_end() == "heddle 😀"
    {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "{content}, and the cell got {printed:?}"
        ))),
    }
}

async fn not_asked(subject: &mut Subject) -> Outcome {
    let code = subject.code("asks for input", |sample| sample.input)?;
    let peer = &mut subject.peer;
    let ran = peer
        .send(Channel::Shell, "execute_request", execute(code, json!({})))
        .await?;
    peer.until(|log| log.is_replied(&ran) || log.on(Channel::Stdin, &ran).next().is_some())
        .await?;
    let asked = peer.log.on(Channel::Stdin, &ran).next().cloned();
    if let Some(asked) = asked {
        // So that it does not wait for ever.
        answer(subject, (ran, asked)).await.ok();
        return Err(Flaw::seen("an input_request came all the same"));
    }
    let reply = peer.log.reply(&ran)?;
    match reply.text("status")? {
        "error" => reply.text("ename").map(str::to_owned),
        status => Ok(format!("status {status}")),
    }
}
