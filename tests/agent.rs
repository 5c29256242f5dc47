//! The agent from the outside: `heddle ask` and `heddle chat` as processes, with a scripted model and real kernels.

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::model_server::{Answer, ModelServer, Request};
use support::roles::{answer, answer_with_figure, code, ending, planner, printed, short, task};
use support::terminal::Terminal;
use support::world::{Ended, KEY, World, eventually, within};

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
async fn assert_done(world: &World, ended: &Ended) {
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(ended.events.last().unwrap()["event"], "done");
    assert_eq!(ended.one("done")["status"], "ok");
    world.is_quiet().await;
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
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "The sum is 5050");
    assert_eq!(
        ended.kinds(),
        [
            "session", "user", "plan", "kernel", "code", "stream", "executed", "answer", "done"
        ],
        "{ended:?}"
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
    assert_done(&world, &world.ask(&["Two steps"]).await).await;
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
    assert_done(&world, &ended).await;
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
    assert_eq!(exported.code(), Some(0), "{exported:?}");
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
    assert_done(&world, &ended).await;
    assert_eq!(ended.kinds(), ["session", "user", "answer", "done"]);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn code_of_the_planner_costs_two_calls() {
    let (server, world) = with(vec![short("print(6 * 7)"), answer_with_figure("It is ")]).await;
    let ended = world.ask(&["What is 6 times 7?"]).await;
    assert_done(&world, &ended).await;
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
    assert_done(&world, &ended).await;
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
async fn code_that_the_policy_forbids_is_not_run_and_counts_as_a_try() {
    let (server, world) = with(vec![
        short("print('ran')\nopen('x.txt', 'w')"),
        code("import os\nprint('ran')"),
        code("print('mended')"),
        answer_with_figure(""),
    ])
    .await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_CODE_VERIFICATION_ON", true);
    let ended = world.ask(&["Write"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "mended");
    assert_eq!(ended.of("stream").len(), 1, "{ended:?}");
    let executed: Vec<&Value> = ended
        .of("executed")
        .iter()
        .map(|it| &it["status"])
        .collect();
    assert_eq!(executed, ["error", "error", "ok"]);
    assert_eq!(ended.of("error")[0]["ename"], "CodeVerificationError");
    let requests = server.requests();
    let told = requests[1].last();
    assert!(told.contains("was not run"), "{told}");
    assert!(
        told.contains("line 2:1: The function `open` is not allowed"),
        "{told}"
    );
    assert!(
        requests[2]
            .last()
            .contains("line 1:8: The module `os` is not allowed")
    );
}

#[tokio::test]
async fn code_is_checked_with_the_names_that_earlier_code_bound() {
    let (server, world) = with(vec![
        short("import datetime as d\n1 / 0"),
        code("print('ran')\nd.sys.path"),
        code("print('mended')"),
        answer_with_figure(""),
    ])
    .await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_CODE_VERIFICATION_ON", true);
    let ended = world.ask(&["Look"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "mended");
    let requests = server.requests();
    let told = requests[2].last();
    assert!(
        told.contains("line 2:1: `datetime.sys.path` reaches the module `sys`"),
        "{told}"
    );
}

#[tokio::test]
async fn lists_of_modules_that_contradict_each_other_are_told_before_a_model_is_asked() {
    let (server, world) = with(vec![]).await;
    let world = world
        .with("HEDDLE_CODE_INTERPRETER_CODE_VERIFICATION_ON", true)
        .with("HEDDLE_CODE_INTERPRETER_ALLOWED_MODULES", "os")
        .with("HEDDLE_CODE_INTERPRETER_BLOCKED_MODULES", "sys");
    let ended = world.ask(&["Write"]).await;
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert!(server.requests().is_empty());
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
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert_eq!(ended.answer(), "It cannot be done.");
    assert_eq!(ended.one("done")["status"], "error");
    assert_eq!(ended.of("code").len(), 3);
    let last = server.requests()[4].last().to_owned();
    assert!(last.contains("I tried 3 times"), "{last}");
    assert!(
        last.ends_with("ZeroDivisionError: division by zero"),
        "{last}"
    );
    world.is_quiet().await;
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
        assert_done(&world, &ended).await;
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
    let odd = r#"{"send_to": "Weather", "message": "It rains."}"#;
    let (server, world) = with(vec![Answer::text(odd); 50]).await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_MAX_RETRY_COUNT", 2);
    let ended = world.ask(&["Sum"]).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let answer = ended.answer();
    assert!(
        answer.contains("did not reply in the form") && answer.contains("nothing was run"),
        "{answer}"
    );
    assert!(answer.contains("weather"), "{answer}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_plain_sentence_is_asked_for_the_form_once_and_is_the_answer_the_second_time() {
    let (server, world) = with(vec![Answer::text("Hello!"), Answer::text("Hello again!")]).await;
    let ended = world.ask(&["Hi"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "Hello again!");
    assert_eq!(server.requests().len(), 2);
}

/// A reply that the endpoint ended at its length limit.
fn cut(text: &str) -> Answer {
    let events = [
        json!({"choices": [{"index": 0, "delta": {"content": text}}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}),
    ];
    Answer::events(&events)
}

#[tokio::test]
async fn a_reply_that_was_cut_is_neither_run_nor_an_answer() {
    let total = r#"{"send_to": "User", "stop": "Completed", "message": "The total is 12"#;
    let half = "```python\nopen('ran', 'w')\nfor x in (1,";
    let thought = "<think>I could run ```python\nopen('ran', 'w')\n``` but";
    let (server, world) = with(vec![
        cut(total),
        task("Write."),
        cut(half),
        cut(thought),
        cut("```python\nopen('ran', 'w')\n```"),
        Answer::text("```python\nprint('whole')\n```"),
        answer("Done."),
    ])
    .await;
    let ended = world.ask(&["Write"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "Done.");
    assert!(
        ended.one("code")["code"]
            .as_str()
            .unwrap()
            .contains("whole")
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 7);
    for told in [&requests[1], &requests[3], &requests[4], &requests[5]] {
        assert!(told.last().contains("cut off"), "{}", told.last());
    }
}

#[tokio::test]
async fn a_model_whose_replies_are_always_cut_is_said_to_be() {
    let (server, world) = with(vec![cut("{\"send_to\": \"User\", \"message\": \"12"); 9]).await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_MAX_RETRY_COUNT", 1);
    let ended = world.ask(&["Total?"]).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(ended.answer().contains("cut off") && ended.answer().contains("llm.max_tokens"));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_lone_block_of_the_planner_is_run() {
    let block = "I compute it.\n```python\nprint(6 * 7)\n```";
    let (server, world) = with(vec![Answer::text(block), answer_with_figure("")]).await;
    let ended = world.ask(&["Compute"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "42");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_model_that_finds_nothing_in_json_is_asked_without_it() {
    let (server, world) = with(vec![Answer::text("{}"), Answer::text("{}"), answer("Yes.")]).await;
    let ended = world.ask(&["Is it so?"]).await;
    assert_done(&world, &ended).await;
    let forms: Vec<bool> = server
        .requests()
        .iter()
        .map(|request| request.body.get("response_format").is_some())
        .collect();
    assert_eq!(forms, [true, true, false]);
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
    assert_done(&world, &ended).await;
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
        assert_eq!(ended.code(), Some(exit), "{ended:?}");
        assert!(ended.answer().contains(text), "{}", ended.answer());
        assert_eq!(ended.of("executed").len(), 2);
        assert!(server.requests()[2].last().contains("no more runs left"));
    }
}

/// A model's endpoint that fails, with a record being kept; the world has no secret left in it afterwards.
async fn faulty(url: &str, settings: &[(&str, &str)]) -> (World, Ended) {
    let mut world = World::new(url);
    for (name, value) in settings {
        world = world.with(name, value);
    }
    let ended = world.ask(&["Hello", "--record", "record.jsonl"]).await;
    assert_eq!(ended.events.last().unwrap()["event"], "done", "{ended:?}");
    assert!(!ended.text().contains("SECRET"), "{}", ended.text());
    assert_eq!(
        world.files_with("SECRET"),
        [""; 0].map(std::path::PathBuf::from)
    );
    world.is_quiet().await;
    (world, ended)
}

/// The one message that says what is wrong.
fn complaint(ended: &Ended) -> &str {
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    assert_eq!(ended.one("done")["status"], "error");
    let errors: Vec<&Value> = ended
        .of("notice")
        .into_iter()
        .filter(|notice| notice["level"] == "error")
        .collect();
    assert_eq!(errors.len(), 1, "{ended:?}");
    let message = errors[0]["message"].as_str().unwrap();
    assert!(!ended.stderr.contains(message), "said twice: {ended:?}");
    message
}

#[tokio::test]
async fn an_endpoint_that_fails_for_good_ends_the_request_with_one_message() {
    let leak = format!("Incorrect API key provided: {KEY}");
    let huge = Answer::pieces(&vec!["x".repeat(64 << 10); 32]);
    let hour = Answer::error(429, "slow down").header("retry-after", "3600");
    for (fault, calls, parts) in [
        (
            Answer::error(401, &leak),
            1,
            ["refuses the key", "LLM_API_KEY"],
        ),
        (
            Answer::error(404, "no such model"),
            1,
            ["model `mock`", "llm.model"],
        ),
        (hour, 1, ["try again in 3600 s", "slow down"]),
        (Answer::html(), 1, ["a web page", "llm.api_base"]),
        (
            Answer::empty(),
            1,
            ["answered with nothing", "llm.api_base"],
        ),
        (
            Answer::silence(),
            1,
            ["sent nothing for 1 s", "llm.idle_timeout"],
        ),
        (Answer::error(500, "oops"), 2, ["status 500", "oops"]),
        (
            Answer::cut_after("{\"plan\": \"1."),
            2,
            ["broke off", "try again"],
        ),
        (Answer::hang_up(), 2, ["broke off", "try again"]),
        (huge, 1, ["more than 1048576 bytes", "llm.max_tokens"]),
    ] {
        let server = ModelServer::start(vec![fault.clone(); 10]).await;
        let (_world, ended) = faulty(server.url(), &[("LLM_IDLE_TIMEOUT", "1")]).await;
        let message = complaint(&ended);
        for part in parts {
            assert!(message.contains(part), "no {part:?} in {message:?}");
        }
        assert_eq!(server.requests().len(), calls, "{message}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named() {
    let url = ModelServer::closed_url().await;
    let host = url.strip_prefix("http://").unwrap().strip_suffix("/v1");
    let (world, ended) = faulty(&url, &[]).await;
    let message = complaint(&ended);
    assert!(message.contains(host.unwrap()), "{message}");
    assert!(message.contains("cannot connect"), "{message}");

    let plain = world.run(&["ask", "--mode", "local", "Hello"]).await;
    assert_eq!(plain.code(), Some(3), "{plain:?}");
    assert_eq!(plain.stdout, "");
    let told = plain.stderr.matches("error: cannot connect").count();
    assert_eq!(told, 1, "{}", plain.stderr);
}

#[tokio::test]
async fn an_endpoint_that_recovers_is_asked_again() {
    let busy = Answer::error(429, "slow down").header("retry-after", "1");
    for fault in [
        busy,
        Answer::error(500, "oops"),
        Answer::cut_after(r#"{"send_to": "User", "message": "Half an an"#),
        Answer::hang_up(),
    ] {
        let server = ModelServer::start(vec![fault, answer("Whole.")]).await;
        let (world, ended) = faulty(server.url(), &[]).await;
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert_eq!(ended.answer(), "Whole.");
        assert!(world.desk().join("record.jsonl").exists());
        assert_eq!(server.requests().len(), 2);
        assert!(ended.text().contains("Try 1 of 1"), "{ended:?}");
    }
}

#[tokio::test]
async fn an_answer_of_a_megabyte_is_an_answer() {
    let long = "长".repeat(300_000);
    let reply = planner(json!({"send_to": "User", "stop": "Completed", "message": long}));
    let characters: Vec<char> = reply.chars().collect();
    let pieces: Vec<String> = characters
        .chunks(20_000)
        .map(|piece| piece.iter().collect())
        .collect();
    let (_server, world) = with(vec![Answer::pieces(&pieces)]).await;
    let ended = world.ask(&["Tell me everything"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), long);
}

#[tokio::test]
async fn a_kernel_killed_in_a_cell_is_told_to_model_and_person() {
    let (server, world) = with(vec![
        task("Compute."),
        // The pause is the kernel's own: what it printed has left it, and only then it dies.
        code("x = 41\nprint('before', flush=True)\nimport os, signal, time\ntime.sleep(1)\nos.kill(os.getpid(), 9)"),
        code("print('x' in globals())"),
        answer_with_figure("still there: "),
    ])
    .await;
    let ended = world.ask(&["Compute"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "still there: False");
    let error = ended.one("error");
    assert!(
        error["evalue"].as_str().unwrap().contains("signal 9"),
        "{error}"
    );
    let states: Vec<&Value> = ended
        .of("kernel")
        .iter()
        .map(|event| &event["state"])
        .collect();
    assert_eq!(states, ["fresh", "lost"]);
    let told = server.requests()[2].last().to_owned();
    for part in ["signal 9", "variables and imports are lost", "before"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_that_dies_between_cells_is_told_to_model_and_person() {
    let suicide = "\
import os, threading
x = 41
threading.Timer(0.2, os.kill, (os.getpid(), 9)).start()
print(os.getpid())";
    let when_dead = Answer::made_of(|request| {
        let process = std::path::PathBuf::from("/proc").join(printed(request));
        let deadline = std::time::Instant::now() + support::world::PATIENCE;
        while process.exists() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        short("print('x' in globals())")
    });
    let (server, world) = with(vec![short(suicide), when_dead, answer_with_figure("")]).await;
    let ended = world.ask(&["Compute"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "False");
    let states: Vec<&Value> = ended
        .of("kernel")
        .iter()
        .map(|event| &event["state"])
        .collect();
    assert_eq!(states, ["fresh", "lost"], "{ended:?}");
    let told = server.requests()[2].last().to_owned();
    for part in ["signal 9", "variables and imports are lost"] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_that_prints_200_mib_costs_neither_memory_nor_log_nor_model() {
    // In portions, and one at once.
    let flood = "\
import sys
part = ('x' * 1023 + '\\n') * 1024
for _ in range(168):
    sys.stdout.write(part)
    sys.stdout.flush()
sys.stdout.write(part * 32)
print('the end')";
    let (server, world) = with(vec![short(flood), Answer::silence()]).await;
    let running = world.start_ask(&["Print a lot"]);
    let status = format!("/proc/{}/status", running.pid());
    let end = tokio::spawn(running.end());
    // The second request to the model says that the cell is over.
    eventually(support::world::PATIENCE, "the end of the cell", || {
        server.requests().len() == 2
    })
    .await;
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    println!("peak memory: {} MiB", kib >> 10);
    assert!(kib < 400 << 10, "{kib} KiB");
    let told = server.requests()[1].last().to_owned();
    assert!(told.contains("the end"), "{told}");
    assert!(told.chars().count() < 8000, "{}", told.len());
    let whole = told
        .split("the first 64 MiB are in ")
        .nth(1)
        .expect("a pointer");
    let whole = whole.split(" …]").next().unwrap();
    let bytes = std::fs::metadata(world.session().join("cwd").join(whole))
        .unwrap()
        .len();
    assert_eq!(bytes, 64 << 20);
    assert!(world.log().len() < 5 << 20, "{}", world.log().len());
    drop(server);
    within(support::world::PATIENCE, "the end", end)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cell_that_takes_too_long_is_interrupted_and_what_it_printed_is_told() {
    let (server, world) = with(vec![
        task("Wait."),
        code("import time\nprint('before', flush=True)\ntime.sleep(600)"),
        code("print('shorter')"),
        answer_with_figure(""),
    ])
    .await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_TIMEOUT", 1);
    let ended = world.ask(&["Wait"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "shorter");
    assert_eq!(ended.of("kernel").len(), 1, "the kernel is kept");
    let told = server.requests()[2].last().to_owned();
    for part in [
        "longer than a cell may",
        "Printed:\nbefore",
        "KeyboardInterrupt",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
}

#[tokio::test]
async fn a_cell_that_swallows_interrupts_ends_with_its_kernel() {
    let stubborn = "\
import time
while True:
    try:
        time.sleep(1)
    except KeyboardInterrupt:
        print('no', flush=True)";
    let (server, world) = with(vec![
        task("Wait."),
        code(stubborn),
        code("print('on it goes')"),
        answer_with_figure(""),
    ])
    .await;
    let world = world.with("HEDDLE_CODE_INTERPRETER_TIMEOUT", 1);
    let ended = world.ask(&["Wait"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "on it goes");
    let told = server.requests()[2].last().to_owned();
    for part in [
        "longer than a cell may",
        "variables and imports are lost",
        "no\nno",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
}

/// A cell that says when it runs, and then takes its time.
const LONG: &str = "import time\nprint('started', flush=True)\ntime.sleep(600)";

async fn assert_interrupted(world: &World, ended: &Ended) {
    assert_eq!(ended.code(), Some(130), "{ended:?}");
    assert_eq!(ended.events.last().unwrap()["event"], "done");
    assert_eq!(ended.one("done")["status"], "interrupted");
    assert!(
        world
            .log()
            .contains(r#""event":"done","status":"interrupted""#)
    );
    world.is_quiet().await;
}

#[tokio::test]
async fn ctrl_c_ends_a_cell_and_leaves_nothing_running() {
    let (server, world) = with(vec![task("Wait."), code(LONG)]).await;
    let mut running = world.start_ask(&["Wait"]);
    running.until("stream", "started").await;
    running.signal(Signal::SIGINT);
    let ended = running.end().await;
    assert_interrupted(&world, &ended).await;
    assert_eq!(ended.one("executed")["status"], "interrupted");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_a_model() {
    let (server, world) = with(vec![Answer::stall_after("{\"plan\": \"1.")]).await;
    let mut running = world.start_ask(&["Wait"]);
    running.until("delta", "1.").await;
    running.signal(Signal::SIGINT);
    assert_interrupted(&world, &running.end().await).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_a_kernel() {
    let (_server, world) = with(vec![short("1"), answer("Never.")]).await;
    let spec = json!({
        "argv": ["sh", "-c", "exec sleep 600", "{connection_file}"], "display_name": "Slow", "language": "python",
    });
    world.file("jupyter/kernels/slow/kernel.json", &spec.to_string());
    let path = world.desk().join("jupyter");
    let world = world.with("JUPYTER_PATH", path.display());
    let mut running = world.start_ask(&["Wait", "--kernel", "slow"]);
    running.until("usage", "").await;
    running.signal(Signal::SIGINT);
    let ended = running.end().await;
    assert_eq!(ended.code(), Some(130), "{ended:?}");
    assert_eq!(ended.one("done")["status"], "interrupted");
    world.is_quiet().await;
}

#[tokio::test]
async fn a_heddle_killed_by_signal_9_leaves_nothing_running() {
    let children =
        format!("import subprocess\nsubprocess.Popen(['setsid', 'sleep', '600'])\n{LONG}");
    let (_server, world) = with(vec![task("Wait."), code(&children)]).await;
    let mut running = world.start_ask(&["Wait"]);
    running.until("stream", "started").await;
    assert!(world.processes().len() >= 3, "supervisor, kernel, sleep");
    running.signal(Signal::SIGKILL);
    world.is_quiet().await;
}

#[tokio::test]
async fn a_session_that_is_in_use_is_refused_with_the_pid_of_its_user() {
    let (_server, world) = with(vec![task("Wait."), code(LONG)]).await;
    let mut first = world.start_ask(&["Wait"]);
    first.until("stream", "started").await;
    let second = world.ask(&["And me?", "--session", "last"]).await;
    assert_eq!(second.code(), Some(2), "{second:?}");
    assert_eq!(second.events, [Value::Null; 0]);
    let holder = format!("in use by process {}", first.pid());
    assert!(second.stderr.contains(&holder), "{}", second.stderr);
    first.signal(Signal::SIGINT);
    assert_interrupted(&world, &first.end().await).await;
}

#[tokio::test]
async fn a_session_goes_on_in_a_new_kernel_and_says_so() {
    let (server, world) = with(vec![
        short("x = 41"),
        answer("Kept."),
        short("print('x' in globals())"),
        answer_with_figure("still there: "),
    ])
    .await;
    assert_done(&world, &world.ask(&["Keep 41"]).await).await;
    let ended = world.ask(&["Is it there?", "--session", "last"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "still there: False");
    assert_eq!(ended.one("kernel")["state"], "lost");
    let told = server.requests()[2].last().to_owned();
    assert!(told.contains("earlier variables are lost"), "{told}");
    let before = server.requests()[2].messages()[1].1.to_owned();
    assert!(before.contains("Keep 41"), "{before}");
    assert_eq!(world.log().matches(r#""event":"user""#).count(), 2);
}

#[tokio::test]
async fn a_session_is_rebuilt_on_request_and_its_cells_are_logged_once() {
    let (server, world) = with(vec![
        short("x = 41"),
        answer("Kept."),
        short("print(x + 1)"),
        answer_with_figure("one more: "),
    ])
    .await;
    assert_done(&world, &world.ask(&["Keep 41"]).await).await;
    let ended = world
        .ask(&["One more", "--session", "last", "--rebuild"])
        .await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "one more: 42");
    assert_eq!(ended.one("kernel")["state"], "rebuilt");
    let told = server.requests()[2].last().to_owned();
    assert!(told.contains("1 cells were run again"), "{told}");
    assert_eq!(world.log().matches(r#""event":"code""#).count(), 2);
    assert_eq!(world.log().matches(r#""event":"executed""#).count(), 2);
}

#[tokio::test]
async fn a_log_with_a_torn_last_line_is_gone_on_with() {
    let (_server, world) = with(vec![answer("One."), answer("Two.")]).await;
    assert_done(&world, &world.ask(&["One"]).await).await;
    let log = world.state().join("events.jsonl");
    let whole = world.log();
    std::fs::write(
        &log,
        format!("{whole}{{\"ts\":\"2026-01-01T00:00:00Z\",\"event\":\"str"),
    )
    .unwrap();
    let ended = world.ask(&["Two", "--session", "last"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "Two.");
    let notice = ended.one("notice")["message"].as_str().unwrap();
    assert!(notice.contains("written only in part"), "{notice}");
    assert!(world.log().starts_with(&whole));
    for line in world.log().lines() {
        serde_json::from_str::<Value>(line).expect(line);
    }
}

#[tokio::test]
async fn the_key_reaches_neither_kernel_nor_workspace() {
    let spy = "\
import os
print(sorted(name for name, value in os.environ.items() if 'SEC' + 'RET' in value or 'LLM' in name))";
    let (_server, world) = with(vec![short(spy), answer_with_figure("")]).await;
    let ended = world.ask(&["Spy"]).await;
    assert_done(&world, &ended).await;
    assert_eq!(ended.answer(), "[]");
    assert_eq!(
        world.files_with("SECRET"),
        [""; 0].map(std::path::PathBuf::from)
    );
}

#[tokio::test]
async fn a_models_code_runs_unprotected_only_by_name() {
    let (server, world) = with(vec![answer("Hello."); 3]).await;
    let world = world.with("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let ended = world.run(&["ask", "Hello", "--mode", "container"]).await;
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    for way_out in ["--mode sandbox", "--mode local"] {
        assert!(ended.stderr.contains(way_out), "{}", ended.stderr);
    }
    assert_eq!(server.requests().len(), 0);

    let ended = world.run(&["ask", "Hello"]).await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.contains("sandbox mode"), "{}", ended.stderr);

    world.file(
        "heddle.toml",
        "[execution_service]\nkernel_mode = \"local\"\n",
    );
    let project = world.desk();
    let ended = world
        .run(&["ask", "Hello", "--trust", "-p", project.to_str().unwrap()])
        .await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout.trim(), "Hello.");
    assert_eq!(ended.stderr.trim().lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("Local mode:"), "{}", ended.stderr);
}

/// Plugins read `../../../../sample_data`.
#[tokio::test]
async fn a_named_project_is_shown_to_its_sessions_without_settings_and_other_sessions() {
    let other = "20260101-120000-0123abcd";
    let look = format!(
        "\
import os
def attempt(how):
    try: return how()
    except OSError: return 'refused'
up = '../../../../'
print('data', attempt(lambda: open(up + 'sample_data/a.csv').read()))
print('settings', attempt(lambda: open(up + 'heddle.toml').read()) in ('', 'refused'))
print('written', attempt(lambda: open(up + 'sample_data/b.csv', 'w')))
print('planted', attempt(lambda: open('../../planted', 'w')))
own = [os.path.basename(os.path.dirname(os.getcwd()))]
print('alone', attempt(lambda: os.listdir('../..')) in ('refused', own))
print('other', attempt(lambda: open('../../{other}/cwd/kept.txt').read()))
print('outputs', attempt(lambda: os.listdir('../outputs')))
open('kept.txt', 'w').write('mine')
print(open('kept.txt').read())"
    );
    // Root has no lower level.
    let levels: &[&str] = match nix::unistd::geteuid().is_root() {
        true => &["namespaces"],
        false => &["namespaces", "landlock"],
    };
    for level in levels {
        let replies = [short(&look), answer("Done."), short(&look), answer("Done.")];
        let (server, world) = with(replies.into()).await;
        let world = world
            .without("HEDDLE_WORKSPACE_WORKSPACE_PATH")
            .with("HEDDLE_SANDBOX_LEVEL", level);
        world.file("heddle.toml", "# a key may be here\n");
        world.file("sample_data/a.csv", "1,2");
        world.file(
            &format!("workspace/sessions/{other}/cwd/kept.txt"),
            "theirs",
        );
        let project = world.desk();
        let ask = ["ask", "--json", "--mode", "sandbox", "Look"];
        let named = [&ask[..], &["-p", project.to_str().unwrap()]].concat();
        for (args, data) in [(&named[..], "1,2"), (&ask[..], "refused")] {
            let ended = world.run(args).await;
            assert_eq!(ended.code(), Some(0), "{ended:?}");
            let streams = ended.of("stream").into_iter();
            let printed: String = streams.filter_map(|it| it["text"].as_str()).collect();
            let expected = format!(
                "data {data}\nsettings True\nwritten refused\nplanted refused\nalone True\nother refused\noutputs []\nmine\n"
            );
            assert_eq!(printed, expected, "{level} {args:?}: {ended:?}");
        }
        let told = format!("{:?}", server.requests()[0].messages());
        let told_of = format!("{} (to read)", project.display());
        assert!(told.contains(&told_of), "{told}");
    }
}

#[tokio::test]
async fn a_workspace_that_cannot_be_made_is_named() {
    let (_server, world) = with(vec![answer("Hello.")]).await;
    let file = world.file("file", "");
    let world = world.with(
        "HEDDLE_WORKSPACE_WORKSPACE_PATH",
        file.join("workspace").display(),
    );
    let ended = world.ask(&["Hello"]).await;
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("desk/file/workspace"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("Choose a workspace"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        ended.stderr.matches("error:").count(),
        1,
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_disk_that_fills_up_costs_the_log_and_not_the_answer_and_the_list_says_so() {
    let fill = "print('x' * 500_000)";
    let (_server, world) = with(vec![short(fill), answer("Done.")]).await;
    let state = world.path("state");
    std::fs::create_dir(&state).unwrap();
    let Some(_mounted) = Mounted::small(&state) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    let ended = world.ask(&["Fill"]).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert_eq!(ended.answer(), "Done.");
    assert!(
        ended.stderr.contains("cannot write the session log"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("Free some space"), "{}", ended.stderr);
    let listed = world.run(&["session", "list"]).await;
    assert!(listed.stdout.contains("  not logged  "), "{listed:?}");
    let listed = world.run(&["session", "list", "--json"]).await;
    assert_eq!(listed.events[0]["log"], "incomplete");
    assert_eq!(listed.events[0]["status"], Value::Null);
    world.is_quiet().await;
}

/// A filesystem of 256 KiB; gone when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    /// Only root can mount.
    fn small(folder: &std::path::Path) -> Option<Mounted> {
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder);
        let done = mount.stderr(std::process::Stdio::null()).status();
        done.is_ok_and(|status| status.success())
            .then(|| Mounted(folder.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[tokio::test]
async fn a_chat_at_a_terminal() {
    let (server, world) = with(vec![
        task("Sum."),
        code("total = sum(range(1, 101))\nprint(total)"),
        answer_with_figure("The sum is "),
        short(LONG),
        short(
            "for i in range(3):\n    print(f'\\r{i}/2', end='', flush=True)\nprint('', total + 1)",
        ),
        Answer::text(&planner(json!({
            "stop": "Completed", "send_to": "User",
            "message": "| 月份 | 销售额 |\n|---|---:|\n| 一月 | 1200 |\n| 十二月 | 2 * 3 |",
        }))),
    ])
    .await;
    let mut terminal = Terminal::start(&world, &["chat", "--mode", "local"]);
    let greeting = terminal.until("heddle> ").await;
    assert!(
        greeting.contains("model mock · kernel python3 (local) · /help"),
        "{greeting}"
    );

    terminal.line("求和 1 到 100");
    let round = terminal.until("The sum is ").await;
    for part in [
        "◆ Plan",
        "1. compute and tell",
        "◆ Code",
        "total = sum(",
        "│ 5050",
    ] {
        assert!(round.contains(part), "no {part:?} in {round}");
    }
    terminal.until("heddle> ").await;

    terminal.line("/vars");
    let variables = terminal.until("heddle> ").await;
    assert!(variables.contains("total  int   5050"), "{variables}");
    terminal.line("/info");
    let info = terminal.until("heddle> ").await;
    let folder = world.session();
    assert!(info.contains(folder.to_str().unwrap()), "{info}");
    terminal.line("/vasr");
    terminal
        .until("no command /vasr. Did you mean /vars?")
        .await;
    terminal.until("heddle> ").await;

    terminal.line("wait");
    terminal.until("│ started").await;
    terminal.press("\x03");
    terminal.until("KeyboardInterrupt").await;
    terminal.until("heddle> ").await;

    terminal.line("go on");
    terminal.until("│ 2/2 5051").await;
    let answer = terminal.until("heddle> ").await;
    assert!(answer.contains("│一月  │  1200│"), "{answer}");
    assert!(answer.contains("│十二月│ 2 * 3│"), "{answer}");
    let told = server.requests()[4].last().to_owned();
    assert!(told.contains("The User interrupted this."), "{told}");

    terminal.press("\x04");
    terminal
        .until("To go on later: heddle session resume")
        .await;
    assert_eq!(terminal.end().await.code(), Some(0));
    world.is_quiet().await;
    assert!(!terminal.all().contains(KEY));
    assert_eq!(world.log().matches(r#""event":"done""#).count(), 3);
}

#[tokio::test]
async fn a_person_is_asked_before_risky_code_and_the_model_is_told_of_a_no() {
    let (server, world) = with(vec![
        Answer::text(&planner(
            json!({"send_to": "CodeInterpreter", "message": "tidy up"}),
        )),
        Answer::text("```python\nimport shutil\nshutil.rmtree('old', ignore_errors=True)\n```"),
        Answer::text("```python\nkept = 1\nkept\n```"),
        answer("Nothing was deleted."),
    ])
    .await;
    let mut terminal = Terminal::start(
        &world,
        &["ask", "Tidy up", "--mode", "local", "--approve", "risky"],
    );
    let question = terminal.until("Allow it?").await;
    assert!(question.contains("line 2: deletes files"), "{question}");
    terminal.line("n, keep everything");
    terminal.until("Nothing was deleted.").await;
    assert!(terminal.end().await.success());
    let told = server.requests()[2].last().to_owned();
    assert!(
        told.contains("It was not allowed: keep everything"),
        "{told}"
    );
}

#[tokio::test]
async fn without_a_terminal_risky_code_is_refused_and_harmless_code_runs() {
    let (server, world) = with(vec![
        Answer::text(&planner(
            json!({"send_to": "CodeInterpreter", "message": "fetch"}),
        )),
        Answer::text("```python\nimport os\nos.system('true')\n```"),
        Answer::text("```python\n6 * 7\n```"),
        answer("42"),
    ])
    .await;
    let ended = world
        .run(&["ask", "Fetch", "--mode", "local", "--approve", "risky"])
        .await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let told = server.requests()[2].last().to_owned();
    assert!(told.contains("nobody is at a terminal"), "{told}");
}

/// What steers a terminal, hides text or reorders it, one of each kind.
const HOSTILE: &[&str] = &[
    "\x1b[8m",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]52;c;aGk=\x07",
    "\x1b[6n",
    "\x1bP$q\"p\x1b\\",
    "\x1bc",
    "\x05",
    "\x07",
    "\x7f",
    "\u{9b}2J",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{2028}",
    "\u{e0041}",
];

/// Which of them the terminal got.
fn steered(terminal: &Terminal) -> Vec<&'static str> {
    let raw = terminal.raw();
    let got = HOSTILE.iter().copied().filter(|it| raw.contains(*it));
    got.collect()
}

#[tokio::test]
async fn nothing_of_code_steers_the_terminal_or_asks_as_heddle_does() {
    let hostile = HOSTILE.concat();
    let prompt = "\n? Run this code?\nAllow it? [y] once: ";
    let cell = format!(
        "note = '''{hostile}'''\nprint(note + '\\x1b[31mred\\x1b[0m')\nprint('one\\ntwo\\x1b[1A\\rONE')\n\
         open('f' + note.replace('/', ''), 'w').close()\nnote + input(note + {prompt:?})\nraise ValueError(note)"
    );
    let (_server, world) = with(vec![
        Answer::text(&planner(json!({
            "init_plan": format!("1. {hostile}"), "plan": format!("1. {hostile}"),
            "send_to": "CodeInterpreter", "message": "do it",
        }))),
        Answer::text(&format!("```python\n{cell}\n```")),
        Answer::text("```python\n1\n```"),
        answer(&format!("Done {hostile} with 👩\u{200d}🔬.")),
    ])
    .await;
    let mut terminal = Terminal::start(&world, &["chat", "--mode", "local", "--approve", "always"]);
    terminal.until("heddle> ").await;
    terminal.line("go");
    let question = terminal.until("Allow it?").await;
    for shown in ["\\x1b[8m", "\\x9b2J", "\\u202e", "\\U000e0041"] {
        assert!(question.contains(shown), "no {shown} in {question}");
    }
    terminal.line("y");
    terminal.until("\nThe code asks: ? Run this code?").await;
    terminal
        .until("\nThe code asks: Allow it? [y] once: ")
        .await;
    terminal.line("y");
    terminal.until("ValueError").await;
    terminal.until("Allow it?").await;
    terminal.line("y");
    let answer = terminal.until("👩\u{200d}🔬").await;
    assert!(answer.contains("Done \\x1b[8m"), "{answer}");
    terminal.until("heddle> ").await;
    assert_eq!(steered(&terminal), [""; 0]);
    // Colours, and movement within the lines of the cell, are as they were.
    let raw = terminal.raw();
    assert!(
        raw.contains("\x1b[31m") && raw.contains("\x1b[1A"),
        "{raw:?}"
    );
    terminal.press("\x04");
    terminal.end().await;
    // Nor does the session when it is shown again.
    let mut shown = Terminal::start(&world, &["session", "show"]);
    shown.until("\\x1b[8m").await;
    shown.end().await;
    assert_eq!(steered(&shown), [""; 0]);
    let mut list = Terminal::start(&world, &["--json", "session", "show"]);
    list.until("\\u009b2J").await;
    list.end().await;
    assert_eq!(steered(&list), [""; 0]);
}

#[tokio::test]
async fn an_isolated_kernel_steers_the_terminal_only_where_the_person_lets_it() {
    let (_server, world) = with(Vec::new()).await;
    let code = "import sys\nprint('one\\x1b[2Jtwo')\nprint('three\\x1b[2Jfour', file=sys.stderr)\nprint('ready')";
    let shown = |arguments: &'static [&'static str]| {
        let arguments = [&["run", "-c", code], arguments].concat();
        let mut terminal = Terminal::start(&world, &arguments);
        async move {
            terminal.until("ready").await;
            terminal.end().await;
            terminal.raw()
        }
    };
    let filtered = shown(&["--mode", "sandbox"]).await;
    assert!(filtered.contains("one\\x1b[2Jtwo"), "{filtered:?}");
    assert!(filtered.contains("three\\x1b[2Jfour"), "{filtered:?}");
    for raw in [
        shown(&["--mode", "sandbox", "--raw"]).await,
        shown(&["--mode", "local"]).await,
    ] {
        assert!(raw.contains("one\x1b[2Jtwo"), "{raw:?}");
        assert!(raw.contains("three\x1b[2Jfour"), "{raw:?}");
    }
    // What is no terminal gets the bytes.
    let ended = world.run(&["run", "-c", code, "--mode", "sandbox"]).await;
    assert!(ended.text().contains("one\x1b[2Jtwo"), "{ended:?}");
}
