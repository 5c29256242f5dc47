//! The console at a terminal, with other clients of the same kernel.

use heddle::protocol::content::ShutdownRequest;
use heddle::protocol::{Channel, Content};
use serde_json::json;

use crate::host::{Foreign, occupied, world};
use crate::support::kernels::{collect, run};
use crate::support::model_server::{Answer, ModelServer};
use crate::support::terminal::Terminal;
use crate::support::world::World;

fn no_model() -> World {
    world("http://127.0.0.1:9")
}

/// A console at its first prompt.
async fn attach(world: &World, kernel: &Foreign) -> Terminal {
    let mut terminal = Terminal::start(world, &["attach", kernel.path()]);
    let greeting = terminal.until("In [").await;
    assert!(greeting.contains("joined python 3."), "{greeting}");
    terminal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_dies_while_its_cell_asks_is_noticed_without_a_key() {
    let world = no_model();
    let kernel = Foreign::start_ipc(&world, "ipc").await;
    let mut terminal = attach(&world, &kernel).await;
    terminal.line(
        "import getpass, os, threading; threading.Timer(1, os._exit, [9]).start(); getpass.getpass('Word: ')",
    );
    terminal
        .until("\nThe code asks (typed text is hidden): Word: ")
        .await;
    // On a line of its own.
    terminal.until("\r\nKernelDied").await;
    assert!(!terminal.end().await.success());
    assert!(terminal.echoes());
}

#[tokio::test(flavor = "multi_thread")]
async fn code_is_typed_completed_interrupted_and_the_kernel_outlives_the_console() {
    let world = no_model();
    let kernel = Foreign::start_ipc(&world, "ipc").await;
    let client = kernel.client().await;
    run(&client, "earlier = '数据'").await;
    let mut terminal = attach(&world, &kernel).await;

    // The kernel's history, one line up.
    terminal.press("\u{1b}[A");
    terminal.until("earlier = '数据'").await;
    terminal.press("\u{15}");
    // A block, indented by the kernel, ends with an empty line.
    terminal.line("for i in range(2):");
    terminal.line("print('turn', i)");
    terminal.press("\r");
    terminal.until("turn 0").await;
    terminal.until("turn 1").await;
    terminal.until("In [").await;
    // Completion counts code points: what stands before is not ASCII.
    terminal.press("x = '😀数'; earl\t");
    terminal.until("earlier").await;
    terminal.line(" + '!'; x + earlier");
    terminal.until("😀数数据").await;
    terminal.until("In [").await;

    terminal.line("name = input('Who? '); print('hello', name)");
    // Not its echo in the code.
    terminal.until("\nThe code asks: Who? ").await;
    terminal.line("Ana");
    terminal.until("hello Ana").await;
    terminal.until("In [").await;
    terminal.line("import getpass; word = getpass.getpass('Word: '); print(len(word))");
    terminal
        .until("\nThe code asks (typed text is hidden): Word: ")
        .await;
    terminal.line("s3same");
    let shown = terminal.until("6\r\n").await;
    assert!(!shown.contains("s3same"), "{shown}");
    terminal.until("In [").await;

    terminal.line("import time; print('begun'); time.sleep(60)");
    terminal.until("begun\r\n").await;
    terminal.press("\u{3}");
    terminal.until("KeyboardInterrupt").await;
    terminal.until("In [").await;
    // Also while it asks; nobody is left behind who would take the next line.
    terminal.line("input('Again? ')");
    terminal.until("\nThe code asks: Again? ").await;
    terminal.press("\u{3}");
    terminal.until("KeyboardInterrupt").await;
    terminal.until("In [").await;
    terminal.line("'still ' + 'here'");
    terminal.until("'still here'").await;
    terminal.until("In [").await;

    terminal.line("len?");
    terminal.until("Return the number of items").await;
    terminal.until("In [").await;
    terminal.line("/vars");
    terminal.until("str   'Ana'").await;
    terminal.until("In [").await;
    terminal.line("/restart");
    terminal.until("started by somebody else").await;
    terminal.until("In [").await;
    terminal.press("\u{4}");
    terminal.until("The kernel goes on.").await;
    assert!(terminal.end().await.success());
    assert!(kernel.lives());
    assert_eq!(run(&client, "name").await.value.unwrap(), "'Ana'");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_clients_do_is_shown_as_theirs_and_cannot_steer_the_terminal() {
    let world = no_model();
    let kernel = Foreign::start(&world, "shared").await;
    let client = kernel.client().await;
    let mut terminal = attach(&world, &kernel).await;
    terminal.press("half typed");
    run(&client, "print('theirs\\x1b]0;title\\x07\\x1b[2J')\n6*7").await;
    let shown = terminal.until("Out[1]: 42").await;
    assert!(shown.contains("In [1]: print('theirs"), "{shown}");
    assert!(
        shown.contains("] theirs\\x1b]0;title\\x07\\x1b[2J"),
        "{shown}"
    );
    assert!(shown.contains("[heddle "), "{shown}");
    // What was typed is still there, and counts on.
    terminal.press("\u{15}");
    terminal.line("'mine'");
    terminal.until("Out[2]: 'mine'").await;
    terminal.until("In [3]").await;
    terminal.line("print('own\\x1b]0;title\\x07')");
    terminal.until("own\\x1b]0;title\\x07\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_kernel_is_told_at_the_prompt_and_ends_the_console() {
    let world = no_model();
    let mut killed = Foreign::start(&world, "killed").await;
    let mut terminal = attach(&world, &killed).await;
    killed.kill();
    terminal
        .until("the kernel died: it ended without a word")
        .await;
    assert_eq!(terminal.end().await.code(), Some(3));

    let ended = Foreign::start(&world, "ended").await;
    let client = ended.client().await;
    let mut terminal = attach(&world, &ended).await;
    let shutdown = Content::ShutdownRequest(ShutdownRequest { restart: false });
    let _asked = client.request(Channel::Control, shutdown);
    terminal
        .until("the kernel died: it was shut down by another client")
        .await;
    assert_eq!(terminal.end().await.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_sees_the_variables_and_works_in_the_same_namespace() {
    let planner = |fields: serde_json::Value| {
        let mut reply = json!({
            "plan_reasoning": "", "init_plan": "", "plan": "", "current_plan_step": "", "code": "",
            "stop": "InProcess", "send_to": "CodeInterpreter", "message": "",
        });
        reply
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        Answer::text(&reply.to_string())
    };
    let code = "total = sum(prices)\nprint('total', total)";
    let server = ModelServer::start(vec![
        planner(json!({"code": code, "message": "Sum them."})),
        planner(json!({"stop": "Completed", "send_to": "User", "message": "The sum is 60."})),
    ])
    .await;
    let world = world(server.url());
    let kernel = Foreign::start(&world, "agent").await;
    let client = kernel.client().await;
    run(&client, "prices = [10, 20, 30]").await;
    let args = ["attach", kernel.path(), "--approve", "always"];
    let mut terminal = Terminal::start(&world, &args);
    terminal.until("In [").await;
    terminal.line("/ask What do they sum to?");
    terminal.until("Allow it?").await;
    terminal.line("y");
    terminal.until("│ total 60").await;
    terminal.until("The sum is 60.").await;
    terminal.until("In [").await;
    terminal.line("total + 1");
    terminal.until(": 61").await;
    terminal.line("/exit");
    assert!(terminal.end().await.success());
    let asked = server.requests()[0].last().to_owned();
    assert!(asked.contains("prices: list"), "the Planner knows: {asked}");
    assert_eq!(run(&client, "total").await.value.unwrap(), "60");
    assert!(world.log().contains("\"kept\""), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_shown_where_the_terminal_can_and_saved_where_not() {
    const DOT: &str = "import base64\nfrom IPython.display import Image, display\n\
        display(Image(base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==')))";
    let world = no_model();
    let kernel = Foreign::start(&world, "pictures").await;
    let client = kernel.client().await;
    run(
        &client,
        &format!("def dot():\n    {}", DOT.replace('\n', "\n    ")),
    )
    .await;
    let mut terminal = attach(&world, &kernel).await;
    terminal.line("dot()");
    let shown = terminal.until("(image/png)").await;
    let saved = world.path("data/heddle/pictures/output-1.png");
    assert!(shown.contains(saved.to_str().unwrap()), "{shown}");
    assert!(std::fs::read(saved).unwrap().starts_with(b"\x89PNG"));

    let world = world.with("TERM", "xterm-kitty");
    let mut terminal = attach(&world, &kernel).await;
    terminal.line("dot()");
    terminal.raw_until("\x1b_Ga=T,f=100,q=2,m=0;iVBOR").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_gives_up_a_cell_that_waits_and_spares_the_one_that_runs() {
    let world = no_model();
    let kernel = Foreign::start(&world, "busy").await;
    let client = kernel.client().await;
    let (release, mut theirs) = occupied(&world, &client).await;
    let mut terminal = attach(&world, &kernel).await;
    terminal.line("later = 6 * 7");
    // The line is taken: from here on it is no key of the prompt's.
    terminal.raw_until("\x1b[?2004l").await;
    terminal.press("\u{3}");
    terminal.until("still queued").await;
    terminal.until("In [").await;
    std::fs::write(release, "").unwrap();
    assert_eq!(collect(&mut theirs).await.error, None);
    terminal.line("later + 1");
    terminal.until(": 43").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_word_people_leave_with_the_kernel_goes_on() {
    let world = no_model();
    let kernel = Foreign::start(&world, "left").await;
    for word in ["exit", "quit()", "%exit"] {
        let mut terminal = attach(&world, &kernel).await;
        terminal.line(word);
        terminal.until("The kernel goes on.").await;
        assert!(terminal.end().await.success());
    }
    let client = kernel.client().await;
    assert_eq!(run(&client, "6 * 7").await.value.unwrap(), "42");
    assert!(kernel.lives());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_the_kernel_prints_is_shown_once() {
    let world = no_model();
    let kernel = Foreign::start(&world, "once").await;
    let mut terminal = attach(&world, &kernel).await;
    terminal.line("%nosuch");
    let shown = terminal.until("In [").await;
    assert_eq!(shown.matches("UsageError").count(), 1, "{shown}");
    let ended = world.run(&["attach", kernel.path(), "-c", "%nosuch"]).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert_eq!(ended.stderr.matches("UsageError").count(), 1, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_of_an_output_are_shown_below_it() {
    let world = no_model();
    let kernel = Foreign::start(&world, "updates").await;
    let client = kernel.client().await;
    let mut terminal = attach(&world, &kernel).await;
    let update = |text: &str| {
        format!("handle = display('first', display_id=True); handle.update('{text}' + '.')")
    };
    terminal.line(&update("own"));
    terminal.until("'own.'\r\n").await;
    terminal.until("In [").await;
    run(&client, &update("theirs")).await;
    terminal.until("] 'theirs.'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_counts_as_the_kernel_does_also_anew() {
    let world = no_model();
    let kernel = Foreign::start(&world, "anew").await;
    let client = kernel.client().await;
    for _ in 0..7 {
        run(&client, "0").await;
    }
    let mut terminal = attach(&world, &kernel).await;
    terminal.until("8]: ").await;
    // As after another kernel has come up in its place.
    terminal.line("get_ipython().execution_count = 1");
    terminal.until("In [").await;
    terminal.line("'first'");
    terminal.until("Out[1]: 'first'").await;
    terminal.until("In [2]: ").await;
}
