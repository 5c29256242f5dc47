//! Reading what models write: JSON in prose and fences, `<think>` blocks, trailing commas, code in either form.

use serde::Deserialize;
use serde_json::Value;

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

/// Reads a Planner's reply.
///
/// # Errors
/// What is wrong with it, in words for the model that wrote it.
pub fn planner(text: &str) -> Result<PlannerReply, String> {
    let text = without_thinking(text);
    let fields = object_in(text).ok_or("it holds no JSON object that can be read")?;
    // TaskWeaver's examples wrap the fields in "response".
    let fields = match fields.get("response") {
        Some(inner @ Value::Object(_)) => inner.clone(),
        _ => fields,
    };
    let field = |name: &str| text_of(fields.get(name));
    let send_to = match squeezed(&field("send_to")).as_str() {
        "user" | "human" => Recipient::User,
        "codeinterpreter" | "codegenerator" | "programape" => Recipient::CodeInterpreter,
        "" => return Err("the field \"send_to\" is missing".into()),
        other => {
            return Err(format!(
                "\"send_to\" is {other:?}; it must be \"CodeInterpreter\" or \"User\""
            ));
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
        true => Err("the field \"message\" is missing or empty".into()),
        false => Ok(reply),
    }
}

/// Reads a CodeInterpreter's reply: prose with a fenced block, or TaskWeaver's JSON form.
///
/// # Errors
/// What is wrong with it, in words for the model that wrote it.
pub fn code(text: &str) -> Result<CodeReply, String> {
    let text = without_thinking(text).trim();
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if let Some(reply) = taskweaver_form(text) {
        return Ok(reply);
    }
    let Some((before, block)) = first_block(text) else {
        return Ok(CodeReply::Text(text.to_owned()));
    };
    match block.trim().is_empty() {
        true => Err("the fenced block is empty".into()),
        false => Ok(CodeReply::Code {
            thought: before.trim().to_owned(),
            code: block.trim_end().to_owned(),
        }),
    }
}

fn taskweaver_form(text: &str) -> Option<CodeReply> {
    #[derive(Deserialize)]
    struct Form {
        #[serde(default)]
        thought: String,
        reply_type: String,
        reply_content: String,
    }
    let fields = object_in(text)?;
    let fields = fields.get("response").cloned().unwrap_or(fields);
    let form: Form = serde_json::from_value(fields).ok()?;
    Some(match form.reply_type.as_str() {
        "python" => CodeReply::Code {
            thought: form.thought,
            code: unfenced(&form.reply_content),
        },
        _ => CodeReply::Text(form.reply_content),
    })
}

/// What follows the last block of thinking. A block that never ends is all there is, and is kept.
fn without_thinking(text: &str) -> &str {
    for end in ["</think>", "</thinking>"] {
        if let Some((_, answer)) = text.rsplit_once(end) {
            return answer;
        }
    }
    text
}

/// The first fenced block and the prose before it; a block that was cut off counts. Blocks of Python go first, blocks
/// of another language do not count.
fn first_block(text: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    let mut plain = None;
    while let Some(at) = text[from..].find("```").map(|at| from + at) {
        let inner = at + 3;
        let line_end = text[inner..].find('\n').map(|n| inner + n)?;
        let language = text[inner..line_end].trim().to_ascii_lowercase();
        let body = line_end + 1;
        let close = close_of(&text[body..]).map_or(text.len(), |n| body + n);
        let block = (&text[..at], &text[body..close]);
        match language.as_str() {
            "python" | "py" | "python3" | "ipython" => return Some(block),
            "" => plain = plain.or(Some(block)),
            _ => {}
        }
        from = (close + 3).min(text.len());
    }
    plain
}

/// Where the closing fence begins: at the start of a line, so that a string with backticks does not end the block.
fn close_of(body: &str) -> Option<usize> {
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            return Some(at);
        }
        at += line.len();
    }
    None
}

fn unfenced(code: &str) -> String {
    match first_block(code) {
        Some((_, block)) => block.trim_end().to_owned(),
        None => code.to_owned(),
    }
}

/// The outermost JSON object of a text, mended where models slip.
fn object_in(text: &str) -> Option<Value> {
    text.char_indices()
        .filter(|(_, character)| *character == '{')
        .take(20)
        .find_map(|(start, _)| {
            let end = end_of_object(&text[start..]).map_or(text.len(), |end| start + end);
            let object = mended(&text[start..end]);
            match serde_json::from_str(&object) {
                Ok(value @ Value::Object(_)) => Some(value),
                _ => None,
            }
        })
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

/// Line breaks inside strings escaped, trailing commas dropped, whatever is still open closed.
fn mended(object: &str) -> String {
    let mut out = String::with_capacity(object.len());
    let mut open = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for character in object.chars() {
        if in_string {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                '\n' => {
                    out.push_str("\\n");
                    continue;
                }
                '\r' => continue,
                '\t' => {
                    out.push_str("\\t");
                    continue;
                }
                _ => {}
            }
        } else {
            match character {
                '"' => in_string = true,
                '{' => open.push('}'),
                '[' => open.push(']'),
                '}' | ']' => {
                    let kept = out.trim_end().trim_end_matches(',').len();
                    out.truncate(kept);
                    open.pop();
                }
                _ => {}
            }
        }
        out.push(character);
    }
    if in_string {
        out.push('"');
    }
    if !open.is_empty() {
        let kept = out.trim_end().trim_end_matches(',').len();
        out.truncate(kept);
    }
    out.extend(open.into_iter().rev());
    out
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIELDS: &str = r#""init_plan":"1. a","plan":"1. a","current_plan_step":"1. a","stop":"InProcess","send_to":"CodeInterpreter","message":"sum 1 to 100""#;

    #[test]
    fn a_planner_is_read_through_everything_that_models_put_around_it() {
        let plain = planner(&format!("{{{FIELDS}}}")).unwrap();
        assert_eq!(plain.send_to, Recipient::CodeInterpreter);
        for wrapped in [
            format!("```json\n{{{FIELDS}}}\n```"),
            format!("<think>{{\"send_to\": \"User\"}} hm</think>\n{{{FIELDS}}}"),
            format!("Sure! Here is my plan: {{{FIELDS},}} I hope it helps."),
            format!("{{\"response\": {{{FIELDS}}}}}"),
            format!("{{{FIELDS}"),
        ] {
            assert_eq!(planner(&wrapped).unwrap(), plain, "{wrapped}");
        }
    }

    #[test]
    fn line_breaks_in_strings_and_lists_as_plans_are_read() {
        let reply = planner(
            "{\"plan\": [\"1. a\", \"2. b\"], \"send_to\": \"User\", \"message\": \"two\nlines\"}",
        );
        let reply = reply.unwrap();
        assert_eq!(reply.plan, "1. a\n2. b");
        assert_eq!(reply.message, "two\nlines");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert!(planner("I think so.").unwrap_err().contains("no JSON"));
        let odd = planner(r#"{"send_to": "Boss", "message": "x"}"#).unwrap_err();
        assert!(odd.contains("boss") && odd.contains("CodeInterpreter"));
        assert!(
            planner(r#"{"send_to": "User"}"#)
                .unwrap_err()
                .contains("message")
        );
    }

    #[test]
    fn code_is_read_from_a_fence_and_from_the_json_form() {
        let code_of = |text: &str| match code(text).unwrap() {
            CodeReply::Code { code, .. } => code,
            CodeReply::Text(text) => panic!("text: {text}"),
        };
        assert_eq!(
            code_of("I add.\n```python\nprint(1)\n```\ndone"),
            "print(1)"
        );
        assert_eq!(code_of("```\nx = 1\n```"), "x = 1");
        assert_eq!(code_of("```json\n{}\n```\n```py\nx\n```"), "x");
        assert_eq!(
            code_of("```python\ns = '''\n a ``` b'''\n```"),
            "s = '''\n a ``` b'''"
        );
        assert_eq!(code_of("```python\ncut off"), "cut off");
        let form = r#"{"thought": "t", "reply_type": "python", "reply_content": "x = 1"}"#;
        assert_eq!(code_of(form), "x = 1");
        assert_eq!(code_of(&format!("```json\n{form}\n```")), "x = 1");
    }

    #[test]
    fn code_that_looks_like_an_object_is_code() {
        let text = "```python\nd = {'reply_type': 1}\nprint(d)\n```";
        assert!(matches!(code(text).unwrap(), CodeReply::Code { .. }));
    }

    #[test]
    fn prose_is_text() {
        assert_eq!(
            code("No code is needed.").unwrap(),
            CodeReply::Text("No code is needed.".into())
        );
    }

    proptest! {
        #[test]
        fn no_reply_panics(text in "[{}\\[\\]\",:`a-z中\\\\\n\r ]{0,200}") {
            let _ = planner(&text);
            let _ = code(&text);
        }
    }
}
