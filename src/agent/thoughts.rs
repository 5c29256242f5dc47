//! Thoughts that a model writes into its reply, in the forms that open models and their servers have.

/// Where a thought begins and ends. The first are tags, the last is the analysis channel of the harmony format.
const FORMS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<unused94>", "<unused95>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis", "<|end|>"),
    ("<|channel|>commentary", "<|end|>"),
];

/// Markers that may stand between the thoughts and the reply.
const OPENERS: &[&str] = &[
    "<|start|>assistant",
    "<|channel|>final",
    "<|message|>",
    "<|begin_of_solution|>",
    "<answer>",
];
/// Markers that may stand behind the reply.
const CLOSERS: &[&str] = &["<|return|>", "<|end|>", "<|end_of_solution|>", "</answer>"];

/// The reply without the thoughts at its start; empty where a thought never ends.
///
/// A thought is what an opening tag or channel at the start begins, up to its end. Without one, it is what stands
/// before a closing tag that comes before any fence and any brace, since some chat templates open the thought
/// themselves. Nothing after the first fence or object is taken for a thought: a tag there may be in a string.
pub fn without_thoughts(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = OPENERS.iter().find_map(|opener| strip(rest, opener)) {
            rest = after.trim_start();
        } else if let Some((after, end)) = FORMS
            .iter()
            .find_map(|(start, end)| Some((strip(rest, start)?, end)))
        {
            match find(after, end) {
                Some(at) => rest = after[at + end.len()..].trim_start(),
                None => return "",
            }
        } else {
            let body = rest.find("```").into_iter().chain(rest.find('{')).min();
            let before = &rest[..body.unwrap_or(rest.len())];
            let lone = FORMS
                .iter()
                .filter_map(|(_, end)| Some(find(before, end)? + end.len()))
                .max();
            match lone {
                Some(end) => rest = rest[end..].trim_start(),
                None => break,
            }
        }
    }
    let mut reply = rest.trim_end();
    while let Some(inner) = CLOSERS.iter().find_map(|closer| reply.strip_suffix(closer)) {
        reply = inner.trim_end();
    }
    reply
}

/// Whether a closing tag of a thought stands alone somewhere in this text, which has no fences and objects.
pub fn has_lone_end(text: &str) -> bool {
    FORMS
        .iter()
        .take_while(|(_, end)| *end != "<|end|>")
        .any(|(start, end)| find(text, end).is_some() && find(text, start).is_none())
}

/// Tags are written in any case.
fn strip<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let start = text.get(..tag.len())?;
    start.eq_ignore_ascii_case(tag).then(|| &text[tag.len()..])
}

fn find(text: &str, tag: &str) -> Option<usize> {
    let (text, tag) = (text.as_bytes(), tag.as_bytes());
    text.windows(tag.len())
        .position(|part| part.eq_ignore_ascii_case(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_a_thought_at_the_start_is_taken_away() {
        for (start, end) in FORMS {
            let text = format!("\n{start} ```python\nbad()\n``` or {{\"a\": 1}} {end}\n\nanswer");
            assert_eq!(without_thoughts(&text), "answer", "{start}");
            assert_eq!(without_thoughts(&format!("{start} never ends")), "");
        }
        let harmony = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>";
        assert_eq!(without_thoughts(harmony), "{}");
        assert_eq!(without_thoughts("<think>a</think><think>b</think> c"), "c");
        assert_eq!(without_thoughts("<THINK>a</Think>b"), "b");
    }

    #[test]
    fn a_lone_closing_tag_counts_before_any_fence_and_any_brace() {
        assert_eq!(without_thoughts("I wonder.</think>\n{}"), "{}");
        let code = "```python\nprint('</think>')\n```";
        assert_eq!(without_thoughts(code), code);
        let object = r#"{"message": "use </think>"}"#;
        assert_eq!(without_thoughts(object), object);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(<think>|</think>|\\[THINK\\]|◁|```|\\{|é|a| |\n|<\\|channel\\|>analysis|<\\|end\\|>){0,30}") {
            let _ = without_thoughts(&text);
        }
    }
}
