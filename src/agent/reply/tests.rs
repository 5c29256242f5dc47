use proptest::prelude::*;

use super::*;

const FIELDS: &str = r#""init_plan":"1. a","plan":"1. a","current_plan_step":"1. a","stop":"InProcess","send_to":"CodeInterpreter","message":"sum 1 to 100""#;

#[test]
fn a_planner_is_read_through_everything_that_models_put_around_it() {
    let plain = planner(&format!("{{{FIELDS}}}"), false).unwrap();
    assert_eq!(plain.send_to, Recipient::CodeInterpreter);
    for wrapped in [
        format!("```json\n{{{FIELDS}}}\n```"),
        format!("<think>{{\"send_to\": \"User\"}} hm</think>\n{{{FIELDS}}}"),
        format!("Sure! Here is my {{plan}}: {{{FIELDS},}} I hope it helps."),
        format!("{{\"response\": {{{FIELDS}}}}}"),
        format!("{{{FIELDS}"),
    ] {
        assert_eq!(planner(&wrapped, false).unwrap(), plain, "{wrapped}");
    }
}

#[test]
fn line_breaks_in_strings_and_lists_as_plans_are_read() {
    let text =
        "{\"plan\": [\"1. a\", \"2. b\"], \"send_to\": \"User\", \"message\": \"two\nlines\"}";
    let reply = planner(text, false).unwrap();
    assert_eq!(reply.plan, "1. a\n2. b");
    assert_eq!(reply.message, "two\nlines");
}

#[test]
fn what_cannot_be_read_says_why() {
    let why = |text: &str| planner(text, false).unwrap_err();
    assert_eq!(why("I think so."), Fault::Prose("I think so.".into()));
    assert_eq!(why(" "), Fault::Empty);
    assert_eq!(why("{}"), Fault::Empty);
    assert_eq!(
        why("<think>{\"send_to\": \"User\", \"message\": \"x\"}"),
        Fault::ThoughtAlone
    );
    let odd = why(r#"{"send_to": "Boss", "message": "x"}"#).to_string();
    assert!(odd.contains("boss") && odd.contains("CodeInterpreter"));
    assert!(
        why(r#"{"send_to": "User"}"#)
            .to_string()
            .contains("message")
    );
    let quote = why("{\"send_to\": \"User\",\n \"message\": \"he said \"hi\"\"}").to_string();
    assert!(
        quote.contains("line 2, column 22") && quote.contains("quote"),
        "{quote}"
    );
}

#[test]
fn what_was_cut_is_never_used() {
    let total = r#"{"send_to": "User", "stop": "Completed", "message": "The total is 12"#;
    for cut in [true, false] {
        assert_eq!(planner(total, cut), Err(Fault::Cut));
        assert_eq!(code("```python\nfor p in (1,\n", cut), Err(Fault::Cut));
    }
    let whole = format!("{{{FIELDS}}}");
    for (text, used) in [
        // Some endpoints go on with white space up to the limit.
        (format!("{whole}\n\n  \n"), true),
        (format!("```json\n{whole}\n```"), true),
        (format!("{whole} And"), false),
        (format!("{{{FIELDS}"), false),
        ("I think".into(), false),
    ] {
        assert_eq!(planner(&text, true).is_ok(), used, "{text}");
    }
    // The block is whole, but the part that was cut off may have changed its meaning.
    assert_eq!(code("```python\nprint(1)\n```", true), Err(Fault::Cut));
    assert_eq!(
        code("<think>```python\nprint(1)\n```", true),
        Err(Fault::Cut)
    );
}

#[test]
fn of_a_draft_and_its_correction_the_correction_counts() {
    let draft = r#"{"send_to": "User", "message": "draft"}"#;
    let text = format!("{draft}\nNo, wait:\n{{{FIELDS}}}");
    assert_eq!(planner(&text, false).unwrap().message, "sum 1 to 100");
    let broken =
        format!("{draft}\nNo, wait:\n{{\"send_to\": \"User\", \"message\": \"a \"b\" c\"}}");
    assert!(planner(&broken, false).is_err());
    for quoted in [
        format!("{{{FIELDS}}}\n> {draft}"),
        format!("{{{FIELDS}}}\n```python\nx = {draft}\n```"),
        format!("{{{FIELDS}}}\n```js\n{draft}\n```"),
    ] {
        assert_eq!(
            planner(&quoted, false).unwrap().message,
            "sum 1 to 100",
            "{quoted}"
        );
    }
}

#[test]
fn python_from_the_planner_is_for_the_code_interpreter() {
    let reply = planner(
        "I compute it.\n```python\nprint(sum(range(101)))\n```",
        false,
    );
    let reply = reply.unwrap();
    assert_eq!(reply.send_to, Recipient::CodeInterpreter);
    assert_eq!(reply.code, "print(sum(range(101)))");
    assert_eq!(reply.message, "I compute it.");
}

fn code_of(text: &str) -> String {
    match code(text, false).unwrap() {
        CodeReply::Code { code, .. } => code,
        CodeReply::Text(text) => panic!("text: {text}"),
    }
}

#[test]
fn code_is_read_from_a_fence_and_from_the_json_form() {
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
    assert_eq!(code_of("```python\nx = '</think>'\n```"), "x = '</think>'");
    assert_eq!(code_of("Use {x} here.\n```python\nprint(1)"), "print(1)");
    let form = r#"{"thought": "t", "reply_type": "python", "reply_content": "x = 1"}"#;
    assert_eq!(code_of(form), "x = 1");
    assert_eq!(code_of(&format!("```json\n{form}\n```")), "x = 1");
}

#[test]
fn blocks_that_belong_together_are_run_together_and_corrections_alone() {
    let two = |a: &str, b: &str| format!("```python\n{a}\n```\nthen\n```python\n{b}\n```");
    assert_eq!(code_of(&two("x = 1", "print(x)")), "x = 1\n\nprint(x)");
    assert_eq!(
        code_of(&two("x = 1 / 0", "x = 1\nprint(x)")),
        "x = 1\nprint(x)"
    );
    for unclear in [
        two("remove('a')", "print(1)"),
        "I try\n```python\nremove('a')\n```\nno.</think>\n```python\nprint(1)\n```".into(),
    ] {
        assert!(
            matches!(code(&unclear, false), Err(Fault::Form(_))),
            "{unclear}"
        );
    }
}

#[test]
fn code_that_looks_like_an_object_is_code() {
    let text = "```python\nd = {'reply_type': 1}\nprint(d)\n```";
    assert_eq!(code_of(text), "d = {'reply_type': 1}\nprint(d)");
}

#[test]
fn prose_is_text() {
    assert_eq!(
        code("No code is needed.", false).unwrap(),
        CodeReply::Text("No code is needed.".into())
    );
}

proptest! {
    #[test]
    fn no_reply_panics(text in "([{}\\[\\]\",:`a-z中\\\\\n\r ]|```|python\n|\"send_to\":|｛|>){0,80}") {
        for cut in [true, false] {
            let _ = planner(&text, cut);
            let _ = code(&text, cut);
        }
    }
}
