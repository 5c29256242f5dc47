//! Reading what models write: an object or fenced Python among prose and thoughts. What is not whole is never used, and
//! of a draft and its correction the correction counts.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::fences::{self, Block};
use super::lenient_json;
use super::thoughts::{has_lone_end, without_thoughts};
use crate::policy;

/// Whom the Planner writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    User,
    CodeInterpreter,
}

/// Why the Planner stops, or that it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    #[default]
    InProcess,
    Completed,
    Clarification,
    AdditionalInformation,
    SecurityRisks,
    TaskFailure,
}

impl Stop {
    fn from_name(name: &str) -> Stop {
        match squeezed(name).as_str() {
            "completed" => Stop::Completed,
            "clarification" => Stop::Clarification,
            "additionalinformation" => Stop::AdditionalInformation,
            "securityrisks" => Stop::SecurityRisks,
            "taskfailure" => Stop::TaskFailure,
            _ => Stop::InProcess,
        }
    }
}

/// What the Planner says.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannerReply {
    pub init_plan: String,
    pub plan: String,
    pub current_plan_step: String,
    /// Code to run as it is, for a request that needs no plan.
    pub code: String,
    pub stop: Stop,
    pub send_to: Recipient,
    pub message: String,
}

/// What the CodeInterpreter says.
#[derive(Clone, Debug, PartialEq)]
pub enum CodeReply {
    Code { thought: String, code: String },
    Text(String),
}

/// Why a reply cannot be used. Shown, it is what the model that wrote it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, or an object without fields.
    Empty,
    /// A thought, and nothing behind it.
    ThoughtAlone,
    /// It ends before it is whole.
    Cut,
    /// Words, where an object is wanted.
    Prose(String),
    /// Anything else, in words that go behind "could not be read: ".
    Form(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Empty => f.write_str("Your reply could not be read: it is empty."),
            Fault::ThoughtAlone => f.write_str(
                "Your reply could not be read: it holds a thought alone. Think shorter, and end with the reply.",
            ),
            Fault::Cut => f.write_str(
                "Your reply was cut off before its end, so nothing of it was used. Reply again, with less text.",
            ),
            Fault::Prose(_) => {
                f.write_str("Your reply could not be read: it holds no JSON object that can be read.")
            }
            Fault::Form(reason) => write!(f, "Your reply could not be read: {reason}."),
        }
    }
}

/// Reads a Planner's reply. `cut` tells that the endpoint ended it at its length limit.
///
/// # Errors
/// A [`Fault`] with words for the model. A reply that is not whole is never read.
pub fn planner(text: &str, cut: bool) -> Result<PlannerReply, Fault> {
    let text = reply_in(text, cut)?;
    let parts = parts(text, !cut);
    let fields = match last_object(&parts, "send_to") {
        Some((_, end)) if cut && !is_end(&text[end..]) => return Err(Fault::Cut),
        Some((fields, end)) => match broken_after(text, &parts, end, "send_to") {
            Some(fault) => return Err(fault),
            None => fields,
        },
        None if cut => return Err(Fault::Cut),
        None => return without_object(text, &parts),
    };
    if fields.as_object().is_some_and(serde_json::Map::is_empty) {
        return Err(Fault::Empty);
    }
    let field = |name: &str| text_of(fields.get(name));
    let send_to = match squeezed(&field("send_to")).as_str() {
        "user" | "human" => Recipient::User,
        "codeinterpreter" | "codegenerator" | "programape" => Recipient::CodeInterpreter,
        "" => return Err(Fault::Form("the field \"send_to\" is missing".into())),
        other => {
            return Err(Fault::Form(format!(
                "\"send_to\" is {other:?}; it must be \"CodeInterpreter\" or \"User\""
            )));
        }
    };
    let reply = PlannerReply {
        init_plan: field("init_plan"),
        plan: field("plan"),
        current_plan_step: field("current_plan_step"),
        code: unfenced(&field("code")),
        stop: Stop::from_name(&field("stop")),
        send_to,
        message: field("message"),
    };
    match reply.message.trim().is_empty() && reply.code.trim().is_empty() {
        true => Err(Fault::Form(
            "the field \"message\" is missing or empty".into(),
        )),
        false => Ok(reply),
    }
}

/// A Planner's reply without the object: a lone piece of Python is for the CodeInterpreter.
fn without_object(text: &str, parts: &[Part<'_>]) -> Result<PlannerReply, Fault> {
    if let Some(fault) = broken_after(text, parts, 0, "") {
        return Err(fault);
    }
    match code_in(text, parts)? {
        Some((thought, code)) => Ok(PlannerReply {
            init_plan: String::new(),
            plan: String::new(),
            current_plan_step: String::new(),
            code,
            stop: Stop::InProcess,
            send_to: Recipient::CodeInterpreter,
            message: thought,
        }),
        None => Err(Fault::Prose(text.to_owned())),
    }
}

/// Reads a CodeInterpreter's reply: prose with fenced Python, or TaskWeaver's JSON form. `cut` tells that the endpoint
/// ended it at its length limit.
///
/// # Errors
/// A [`Fault`] with words for the model. A reply that is not whole is never read.
pub fn code(text: &str, cut: bool) -> Result<CodeReply, Fault> {
    let text = reply_in(text, cut)?;
    let parts = parts(text, !cut);
    let form = last_object(&parts, "reply_type");
    if cut && !form.as_ref().is_some_and(|(_, end)| is_end(&text[*end..])) {
        return Err(Fault::Cut);
    }
    if let Some(reply) = form.and_then(|(fields, _)| taskweaver_form(fields)) {
        return Ok(reply);
    }
    if let Some(fault) = broken_after(text, &parts, 0, "reply_type") {
        return Err(fault);
    }
    Ok(match code_in(text, &parts)? {
        Some((thought, code)) => CodeReply::Code { thought, code },
        None => CodeReply::Text(text.to_owned()),
    })
}

fn taskweaver_form(fields: Value) -> Option<CodeReply> {
    #[derive(Deserialize)]
    struct Form {
        #[serde(default)]
        thought: String,
        reply_type: String,
        reply_content: String,
    }
    let form: Form = serde_json::from_value(fields).ok()?;
    Some(match form.reply_type.as_str() {
        "python" => CodeReply::Code {
            thought: form.thought,
            code: unfenced(&form.reply_content),
        },
        _ => CodeReply::Text(form.reply_content),
    })
}

/// The text without its thoughts, where anything is left.
fn reply_in(text: &str, cut: bool) -> Result<&str, Fault> {
    match without_thoughts(text) {
        "" if cut => Err(Fault::Cut),
        "" if text.trim().is_empty() => Err(Fault::Empty),
        "" => Err(Fault::ThoughtAlone),
        reply => Ok(reply),
    }
}

/// A part of a reply at its top level: neither inside a fence nor in a quotation.
enum Part<'a> {
    Object {
        fields: Value,
        end: usize,
    },
    /// Text that begins as an object and cannot be read as one.
    Broken {
        start: usize,
        fault: lenient_json::Fault,
    },
    Block(Block<'a>),
}

/// The most parts of a reply that are looked at.
const MOST_PARTS: usize = 100;

/// Objects and fenced blocks, in their order. Of an object at the very end, brackets may be missing if `mend`.
fn parts(text: &str, mend: bool) -> Vec<Part<'_>> {
    let blocks = fences::blocks(text);
    let mut parts = Vec::new();
    let mut at = 0;
    while parts.len() < MOST_PARTS {
        let block = blocks.iter().find(|block| block.start >= at);
        let brace = next_brace(text, at);
        match (brace, block) {
            (Some(start), block) if block.is_none_or(|block| start < block.start) => {
                match lenient_json::object(&text[start..], mend) {
                    Ok((fields, length)) => {
                        at = start + length;
                        parts.push(Part::Object { fields, end: at });
                    }
                    Err(fault) => {
                        let object = &text[start..];
                        // A brace of prose has no key behind it.
                        let is_object = object.trim_start_matches(['{', '｛']);
                        let is_object = is_object.trim_start().starts_with(['"', '\'', '“']);
                        at = match (end_of_object(object), is_object) {
                            (Some(end), _) => start + end,
                            (None, true) => text.len(),
                            (None, false) => {
                                start + object.chars().next().map_or(1, char::len_utf8)
                            }
                        };
                        if is_object {
                            parts.push(Part::Broken { start, fault });
                        }
                    }
                }
            }
            (_, Some(block)) => {
                at = block.end;
                parts.push(Part::Block(*block));
            }
            _ => break,
        }
    }
    parts
}

/// The next opening brace that is not in a quoted line.
fn next_brace(text: &str, from: usize) -> Option<usize> {
    text[from..]
        .match_indices(['{', '｛'])
        .map(|(at, _)| from + at)
        .find(|at| {
            let line = text[..*at].rfind('\n').map_or(0, |end| end + 1);
            !text[line..*at].trim_start().starts_with('>')
        })
}

/// The last object, also of a block of JSON, that has this field; else the last object. With the byte behind it.
fn last_object(parts: &[Part<'_>], field: &str) -> Option<(Value, usize)> {
    let objects: Vec<(Value, usize)> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Object { fields, end } => Some((fields.clone(), *end)),
            Part::Block(block) => object_of(block).ok().flatten().map(|it| (it, block.end)),
            Part::Broken { .. } => None,
        })
        .map(|(fields, end)| match fields.get("response") {
            // TaskWeaver's examples wrap the fields in "response".
            Some(inner @ Value::Object(_)) => (inner.clone(), end),
            _ => (fields, end),
        })
        .collect();
    let fits = |(fields, _): &&(Value, usize)| fields.get(field).is_some();
    objects.iter().rev().find(fits).or(objects.last()).cloned()
}

/// The object of a block that may hold JSON.
fn object_of(block: &Block<'_>) -> Result<Option<Value>, lenient_json::Fault> {
    let named = ["json", "jsonc", "json5"]
        .iter()
        .any(|name| block.language.eq_ignore_ascii_case(name));
    let body = block.body.trim();
    if !(named || block.language.is_empty()) || !body.starts_with(['{', '｛']) {
        return Ok(None);
    }
    lenient_json::object(body, !block.closed).map(|(fields, _)| Some(fields))
}

/// The fault of an unreadable object that names `field` and begins at or behind this byte. It may be the correction of
/// an earlier one, which must not be used in its place.
fn broken_after(text: &str, parts: &[Part<'_>], from: usize, field: &str) -> Option<Fault> {
    parts.iter().rev().find_map(|part| {
        let (start, object, fault) = match part {
            Part::Broken { start, fault } => (*start, &text[*start..], fault.clone()),
            Part::Block(block) => {
                let fault = object_of(block).err()?;
                (block.start, block.body.trim(), fault)
            }
            Part::Object { .. } => return None,
        };
        if start < from || !object.contains(field) {
            return None;
        }
        if fault.cut {
            return Some(Fault::Cut);
        }
        let read = &object[..object.floor_char_boundary(fault.at)];
        let line = read.matches('\n').count() + 1;
        let column = read.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some(Fault::Form(format!(
            "in line {line}, column {column} of its JSON object: {fault}"
        )))
    })
}

/// Whether nothing but the end of a fence stands here.
fn is_end(rest: &str) -> bool {
    rest.trim().trim_matches('`').is_empty()
}

/// The Python of a reply with the prose before it.
///
/// Of several blocks a later one may need what an earlier one defines: then they belong together. One that defines the
/// same names anew is a correction, and counts alone. Of others it is not clear what is to run.
fn code_in(text: &str, parts: &[Part<'_>]) -> Result<Option<(String, String)>, Fault> {
    let all = || {
        parts.iter().filter_map(|part| match part {
            Part::Block(block) => Some(block),
            _ => None,
        })
    };
    let mut blocks: Vec<&Block<'_>> = all().filter(|block| block.is_python()).collect();
    if blocks.is_empty() {
        blocks.extend(all().filter(|block| block.may_be_python() && block.body.trim() != ""));
    }
    let Some(first) = blocks.first() else {
        return match all().any(|block| block.may_be_python()) {
            true => Err(Fault::Form("the fenced block is empty".into())),
            false => Ok(None),
        };
    };
    let thought = text[..first.start].trim().to_owned();
    let outside: Vec<&str> = blocks
        .iter()
        .zip(
            blocks
                .iter()
                .skip(1)
                .map(|next| next.start)
                .chain([text.len()]),
        )
        .map(|(block, next)| &text[block.end.min(next)..next])
        .collect();
    if outside.iter().any(|prose| has_lone_end(prose)) {
        return Err(Fault::Form(
            "a thought seems to end in the middle of it, so it is not clear which code counts"
                .into(),
        ));
    }
    blocks.retain(|block| !block.body.trim().is_empty());
    let Some(last) = blocks.pop() else {
        return Err(Fault::Form("the fenced block is empty".into()));
    };
    if !last.closed && !policy::is_python(last.body) {
        return Err(Fault::Cut);
    }
    let mut code = last.body.trim_end().to_owned();
    for earlier in blocks.iter().rev().map(|block| block.body.trim_end()) {
        if policy::needs(&code, earlier) {
            code = format!("{earlier}\n\n{code}");
        } else if !policy::redefines(&code, earlier) {
            return Err(Fault::Form(
                "it holds several Python blocks, and it is not clear whether all of them are to run. Put all code that \
                 is to run into one block"
                    .into(),
            ));
        }
    }
    Ok(Some((thought, code)))
}

/// The code of a field, which models put into a fence at times.
fn unfenced(code: &str) -> String {
    let blocks = fences::blocks(code);
    match blocks.as_slice() {
        [block] if block.may_be_python() && code[..block.start].trim().is_empty() => {
            block.body.trim_end().to_owned()
        }
        _ => code.to_owned(),
    }
}

/// The byte after the brace that closes the object at the start.
fn end_of_object(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => depth += 1,
            '}' | ']' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Plans come as text, and from some models as lists of steps.
fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let lines: Vec<String> = items.iter().map(|item| text_of(Some(item))).collect();
            lines.join("\n")
        }
        Some(other) => other.to_string(),
    }
}

fn squeezed(name: &str) -> String {
    name.chars()
        .filter(|character| character.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests;
