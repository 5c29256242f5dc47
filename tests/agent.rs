//! The agent from the outside: `heddle ask` and `heddle chat` as processes, with a scripted model and real kernels.

mod support;

use serde_json::{Value, json};
use support::model_server::{Answer, ModelServer, Request};
use support::world::{Ended, KEY, World, eventually, within};

/// A Planner's reply.
fn planner(fields: Value) -> String {
    let mut reply = json!({
        "plan_reasoning": "", "init_plan": "", "plan": "", "current_plan_step": "", "code": "",
        "stop": "InProcess", "send_to": "CodeInterpreter", "message": "",
    });
    for (name, value) in fields.as_object().unwrap() {
        reply[name] = value.clone();
    }
    reply.to_string()
}

/// A Planner that gives a task, with a plan around it.
fn task(message: &str) -> Answer {
    Answer::text(&planner(json!({
        "init_plan": "1. compute\n2. tell", "plan": "1. compute and tell",
        "current_plan_step": "1. compute and tell", "message": message,
    })))
}

/// A Planner that writes the code itself.
fn short(code: &str) -> Answer {
    let message = "Run this.";
    Answer::text(&planner(json!({"code": code, "message": message})))
}

/// A Planner that answers the User.
fn answer(message: &str) -> Answer {
    ending("Completed", message)
}

fn ending(stop: &str, message: &str) -> Answer {
    Answer::text(&planner(
        json!({"stop": stop, "send_to": "User", "message": message}),
    ))
}

/// A Planner that repeats the first line that the code printed.
fn answer_with_figure(before: &'static str) -> Answer {
    Answer::made_of(move |request| answer(&format!("{before}{}", printed(request))))
}

/// A CodeInterpreter's reply.
fn code(code: &str) -> Answer {
    Answer::text(&format!("I do it so.\n```python\n{code}\n```\n"))
}

/// The first line that the code printed, as the model is told it.
fn printed(request: &Request) -> String {
    let report = request.last().split("Printed:\n").nth(1);
    let line = report.and_then(|report| report.lines().next());
    line.unwrap_or("nothing was printed").to_owned()
}

fn is_planner(request: &Request) -> bool {
    request.messages()[0].1.starts_with("You are the Planner")
}

fn characters(requests: &[Request]) -> usize {
    let messages = requests.iter().flat_map(Request::messages);
    messages.map(|(_, content)| content.chars().count()).sum()
}

/// A person with a model that gives these answers.
async fn with(answers: Vec<Answer>) -> (ModelServer, World) {
    let server = ModelServer::start(answers).await;
    let world = World::new(server.url());
    (server, world)
}

/// That a request went well, and left nothing running.
fn assert_done(world: &World, ended: &Ended) {
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    assert_eq!(ended.events.last().unwrap()["event"], "done");
    assert_eq!(ended.one("done")["status"], "ok");
    assert_eq!(world.processes(), [0; 0]);
}

#[tokio::test]
async fn a_figure_travels_from_the_kernel_into_the_answer() {
    let (server, world) = with(vec![
        task("Sum the numbers from 1 to 100."),
        code("total = sum(range(1, 101))\nprint(total)"),
        answer_with_figure("The sum is "),
    ])
    .await;
    let ended = world
        .ask(&["What is the sum of the numbers from 1 to 100?"])
        .await;
    assert_done(&world, &ended);
    assert_eq!(ended.answer(), "The sum is 5050");
    assert_eq!(
        ended.kinds(),
        [
            "session", "user", "plan", "kernel", "code", "stream", "executed", "answer", "done"
        ],
        "{ended:#?}"
    );
    assert_eq!(ended.one("executed")["status"], "ok");
    assert_eq!(ended.one("kernel")["state"], "fresh");
    assert_eq!(ended.one("session")["mode"], "local");
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    let spent = characters(&requests);
    println!("characters of the three requests: {spent}");
    assert!(spent < 16_000, "{spent}");
}

#[tokio::test]
async fn each_request_of_a_role_begins_with_the_whole_of_its_last_one() {
    let (server, world) = with(vec![
        task("First step."),
        code("a = 1"),
        task("Second step."),
        code("a + 1"),
        answer("Done."),
    ])
    .await;
    assert_done(&world, &world.ask(&["Two steps"]).await);
    let requests = server.requests();
    let (planner, interpreter): (Vec<_>, Vec<_>) = requests.iter().partition(|r| is_planner(r));
    assert_eq!((planner.len(), interpreter.len()), (3, 2));
    for role in [planner, interpreter] {
        for pair in role.windows(2) {
            let (before, after) = (pair[0].messages(), pair[1].messages());
            assert_eq!(before, after[..before.len()]);
            let roles: Vec<&str> = after[before.len()..]
                .iter()
                .map(|(role, _)| *role)
                .collect();
            assert_eq!(roles, ["assistant", "user"]);
        }
    }
}

#[tokio::test]
async fn chinese_is_read_plotted_logged_and_exported_as_it_is() {
    let plot = "\
import pandas as pd, matplotlib.pyplot as plt
表 = pd.read_csv('销售数据.csv')
print(int(表['销售额'].sum()))
表.plot(x='月份', y='销售额', kind='bar', title='月度销售趋势')
plt.show()";
    let (server, world) = with(vec![
        task("读取 销售数据.csv，求销售额合计并画柱状图。"),
        code(plot),
        answer_with_figure("销售额合计："),
    ])
    .await;
    let table = world.file(
        "销售数据.csv",
        "月份,销售额\n一月,1200\n二月,1350\n三月,980\n",
    );
    let ended = world
        .ask(&["画出销售趋势", "--file", table.to_str().unwrap()])
        .await;
    assert_done(&world, &ended);
    assert_eq!(ended.answer(), "销售额合计：3530");
    assert_eq!(ended.one("user")["files"], json!(["销售数据.csv"]));
    assert!(!ended.text().contains("missing from"), "{}", ended.text());
    let picture = ended.one("artifact");
    assert_eq!(picture["mime"], "image/png");
    let bytes = std::fs::read(picture["path"].as_str().unwrap()).unwrap();
    assert!(bytes.starts_with(b"\x89PNG"));
    let requests = server.requests();
    assert!(requests[0].last().contains("月份,销售额\n一月,1200"));
    assert!(requests[2].last().contains(".png (image/png)"));

    let exported = world.run(&["session", "export", "-o", "会话.ipynb"]).await;
    assert_eq!(exported.code(), Some(0), "{exported:#?}");
    let notebook = std::fs::read_to_string(world.desk().join("会话.ipynb")).unwrap();
    for text in [world.log(), notebook] {
        for part in [
            "画出销售趋势",
            "月度销售趋势",
            "销售额合计：3530",
            "销售数据.csv",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!text.contains("\\u9500"));
    }
}

#[tokio::test]
async fn an_answer_without_code_costs_one_call() {
    let (server, world) = with(vec![answer("Paris.")]).await;
    let ended = world.ask(&["What is the capital of France?"]).await;
    assert_done(&world, &ended);
    assert_eq!(ended.kinds(), ["session", "user", "answer", "done"]);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn code_of_the_planner_costs_two_calls() {
    let (server, world) = with(vec![short("print(6 * 7)"), answer_with_figure("It is ")]).await;
    let ended = world.ask(&["What is 6 times 7?"]).await;
    assert_done(&world, &ended);
    assert_eq!(ended.answer(), "It is 42");
    assert_eq!(ended.one("code")["code"], "print(6 * 7)");
    assert!(server.requests().iter().all(is_planner));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn code_that_fails_is_mended_with_its_error_in_view() {
    let (server, world) = with(vec![
        task("Divide."),
        code("1 / 0"),
        code("{}['月份']"),
        code("print('mended')"),
        answer_with_figure(""),
    ])
    .await;
    let ended = world.ask(&["Divide"]).await;
    assert_done(&world, &ended);
    assert_eq!(ended.answer(), "mended");
    let attempts: Vec<&Value> = ended
        .of("code")
        .iter()
        .map(|code| &code["attempt"])
        .collect();
    assert_eq!(attempts, [1, 2, 3]);
    let requests = server.requests();
    assert!(
        requests[2]
            .last()
            .ends_with("ZeroDivisionError: division by zero")
    );
    assert!(requests[3].last().ends_with("KeyError: '月份'"));
}

#[tokio::test]
async fn code_that_never_works_is_tried_as_often_as_set_and_told_to_the_planner() {
    let (server, world) = with(vec![
        task("Divide."),
        code("1 / 0"),
        code("2 / 0"),
        code("3 / 0"),
        ending("TaskFailure", "It cannot be done."),
    ])
    .await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_MAX_RETRY_COUNT", 2);
    let ended = world.ask(&["Divide"]).await;
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    assert_eq!(ended.answer(), "It cannot be done.");
    assert_eq!(ended.one("done")["status"], "error");
    assert_eq!(ended.of("code").len(), 3);
    let last = server.requests()[4].last().to_owned();
    assert!(last.contains("I tried 3 times"), "{last}");
    assert!(
        last.ends_with("ZeroDivisionError: division by zero"),
        "{last}"
    );
    assert_eq!(world.processes(), [0; 0]);
}

#[tokio::test]
async fn replies_are_read_through_what_models_put_around_them() {
    let reply = planner(json!({"send_to": "User", "stop": "Completed", "message": "Yes."}));
    let trailing = reply.replace('}', ",}");
    for (text, calls) in [
        (format!("```json\n{reply}\n```"), 1),
        (
            format!("<think>{{\"send_to\": \"Boss\"}}</think>\n\n{reply}"),
            1,
        ),
        (trailing, 1),
        ("Yes, I think so.".to_owned(), 2),
        (reply.replace("\"User\"", "\"Boss\""), 2),
    ] {
        let (server, world) = with(vec![Answer::text(&text), answer("Yes.")]).await;
        let ended = world.ask(&["Is it so?"]).await;
        assert_done(&world, &ended);
        assert_eq!(ended.answer(), "Yes.", "{text}");
        let requests = server.requests();
        assert_eq!(requests.len(), calls, "{text}");
        if calls == 2 {
            let last = requests[1].last();
            assert!(last.contains("could not be read"), "{last}");
            assert_eq!(text.contains("Boss"), last.contains("boss"), "{last}");
        }
    }
}

#[tokio::test]
async fn a_model_that_never_finds_the_form_is_asked_a_few_times_and_quoted() {
    let prose = "I would rather talk about the weather.";
    let (server, world) = with(vec![Answer::text(prose); 50]).await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_MAX_RETRY_COUNT", 2);
    let ended = world.ask(&["Sum"]).await;
    assert_eq!(ended.code(), Some(1), "{ended:#?}");
    assert!(ended.answer().contains("did not reply in the form"));
    assert!(ended.answer().contains(prose));
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn code_in_the_json_form_of_taskweaver_runs() {
    let form = json!({"response": {
        "thought": "Print it.", "reply_type": "python", "reply_content": "print('一')\n",
    }});
    let (_server, world) = with(vec![
        task("Print."),
        Answer::text(&form.to_string()),
        answer_with_figure(""),
    ])
    .await;
    let ended = world.ask(&["Print"]).await;
    assert_done(&world, &ended);
    assert_eq!(ended.answer(), "一");
    assert_eq!(ended.one("code")["thought"], "Print it.");
}

#[tokio::test]
async fn rounds_end_at_their_limit_with_an_answer() {
    let endless = |last| vec![short("print(1)"), short("print(2)"), last];
    for (last, exit, text) in [
        (answer("Two of three."), 0, "Two of three."),
        (short("print(3)"), 1, "max_internal_chat_round_num"),
    ] {
        let (server, world) = with(endless(last)).await;
        let world = world.with("HEDDLE_SESSION_MAX_INTERNAL_CHAT_ROUND_NUM", 2);
        let ended = world.ask(&["Count"]).await;
        assert_eq!(ended.code(), Some(exit), "{ended:#?}");
        assert!(ended.answer().contains(text), "{}", ended.answer());
        assert_eq!(ended.of("executed").len(), 2);
        assert!(server.requests()[2].last().contains("no more runs left"));
    }
}
