//! What running code publishes: streams, displays, cleared output.

use serde_json::json;

use super::execution::is_ok;
use super::subject::Subject;
use super::{Flaw, Outcome, family, without_colours};

family! { "outputs";
    "stdout is a stream" =>
        "a stream named stdout with the text, before idle", stdout;
    "stderr is a stream of its own" =>
        "a stream named stderr with the text, and nothing on stdout", stderr;
    "much output comes whole and in order" =>
        "a thousand lines, none missing, before idle", lines;
    "display_data carries its display_id" =>
        "a display_data with data, metadata and transient.display_id", display;
    "update_display_data names the display" =>
        "an update_display_data with the display_id of the display before", update;
    "clear_output says whether to wait" =>
        "a clear_output with wait true", clear;
}

/// What of `stdout` and `stderr` came before the idle.
async fn printed(subject: &mut Subject, code: &str) -> Result<[String; 2], Flaw> {
    let ran = subject.peer.run(code).await?;
    // Without any output, that it comes late is to be known.
    subject.peer.published(&ran, "stream").await?;
    let log = &subject.peer.log;
    is_ok(log, &ran)?;
    if !log.is_idle(&ran) {
        return Err(Flaw::seen(log.told(&ran)));
    }
    let texts = |name: &str| {
        log.published(&ran)
            .take_while(|heard| heard.state() != Some("idle"))
            .filter(|heard| heard.msg_type() == "stream" && heard.content["name"] == name)
            .filter_map(|heard| heard.content["text"].as_str())
            .collect::<String>()
    };
    Ok([texts("stdout"), texts("stderr")])
}

async fn stdout(subject: &mut Subject) -> Outcome {
    let code = subject.code("prints", |sample| sample.stdout)?;
    match printed(subject, code).await? {
        [out, _] if out == "heddle out\n" => Ok(String::new()),
        [out, err] => Err(Flaw::seen(format!("stdout {out:?}, stderr {err:?}"))),
    }
}

async fn stderr(subject: &mut Subject) -> Outcome {
    let code = subject.code("prints to standard error", |sample| sample.stderr)?;
    match printed(subject, code).await? {
        [out, err] if out.is_empty() && err == "heddle err\n" => Ok(String::new()),
        [out, err] => Err(Flaw::seen(format!("stdout {out:?}, stderr {err:?}"))),
    }
}

async fn lines(subject: &mut Subject) -> Outcome {
    let code = subject.code("prints much", |sample| sample.lines)?;
    let [out, _] = printed(subject, code).await?;
    let plain = without_colours(&out);
    let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
    match plain == expected {
        true => Ok(String::new()),
        false => Err(Flaw::seen(format!(
            "{} lines before idle, {} bytes of {}",
            plain.lines().count(),
            plain.len(),
            expected.len()
        ))),
    }
}

async fn display(subject: &mut Subject) -> Outcome {
    let [show, _] = subject.code("displays", |sample| sample.display)?;
    let ran = subject.peer.run(show).await?;
    let shown = subject.peer.published(&ran, "display_data").await?;
    shown.object("metadata")?;
    let display_id = &shown.content["transient"]["display_id"];
    match shown.plain() == Some("one") && display_id == "heddle-conform" {
        true => Ok(String::new()),
        false => Err(Flaw::seen(shown.content.to_string())),
    }
}

async fn update(subject: &mut Subject) -> Outcome {
    let [show, update] = subject.code("displays", |sample| sample.display)?;
    let peer = &mut subject.peer;
    peer.run(show).await?;
    let ran = peer.run(update).await?;
    let updated = peer.published(&ran, "update_display_data").await?;
    updated.object("metadata")?;
    let display_id = &updated.content["transient"]["display_id"];
    match updated.plain() == Some("two") && display_id == "heddle-conform" {
        true => Ok(String::new()),
        false => Err(Flaw::seen(updated.content.to_string())),
    }
}

async fn clear(subject: &mut Subject) -> Outcome {
    let code = subject.code("clears output", |sample| sample.clear)?;
    let ran = subject.peer.run(code).await?;
    let cleared = subject.peer.published(&ran, "clear_output").await?;
    match cleared.content["wait"] == json!(true) {
        true => Ok(String::new()),
        false => Err(Flaw::seen(cleared.content.to_string())),
    }
}
