//! `%%ask` and `%fix` as jupyter_client sees them, with a scripted model. The cells are in `cells.py`.

use std::time::{Duration, Instant};

use crate::jupyter::Jupyter;
use crate::support::model_server::{Answer, Request};
use crate::support::roles::{answer, answer_with_figure, code, ending, short, task};

/// Runs a scenario to its end; gives what the model was asked, and leaves nothing running.
async fn scenario(name: &str, answers: Vec<Answer>) -> Vec<Request> {
    let jupyter = Jupyter::with(answers).await;
    jupyter.python("cells.py", &[name, "heddle"]).await;
    jupyter.is_quiet().await;
    jupyter.model.requests()
}

/// Waits on the model's side until the person has made a file.
pub fn once(file: std::path::PathBuf, then: Answer) -> Answer {
    Answer::made_of(move |_| {
        let begun = Instant::now();
        while !file.exists() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        then.clone()
    })
}

#[tokio::test]
async fn a_cell_of_the_agents_is_one_cell_with_one_reply() {
    let plot = "import matplotlib.pyplot as plt\ny = 2 * x\nprint(y)\nplt.plot([x, y])\nplt.show()";
    let requests = scenario(
        "one_cell",
        vec![
            task("Double x, plot it."),
            code(plot),
            answer_with_figure("the model says "),
            answer("as before"),
        ],
    )
    .await;
    assert_eq!(requests.len(), 4);
    let first = requests[0].last();
    assert!(first.contains("double x and plot it"), "{first}");
    let asked = requests[1]
        .messages()
        .iter()
        .any(|(_, text)| text.contains("x"));
    assert!(asked, "the variables that are there: {:?}", requests[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_cells_wait_for_the_agent_and_are_aborted_when_it_fails() {
    let jupyter = Jupyter::with(Vec::new()).await;
    let file = |name: &str| jupyter.world.desk().join(name);
    jupyter.model.then(vec![
        once(file("go-1"), ending("TaskFailure", "it cannot be done")),
        once(file("go-2"), answer("done")),
    ]);
    jupyter.python("cells.py", &["others_wait", "heddle"]).await;
    jupyter.is_quiet().await;
}

#[tokio::test]
async fn where_nobody_can_be_asked_an_approval_is_refused_in_words() {
    let requests = scenario(
        "nobody_to_ask",
        vec![
            short("ran = True"),
            Answer::text("It may not be run here."),
            answer("It may not be run."),
        ],
    )
    .await;
    let told = requests[1].last();
    assert!(told.contains("cannot ask the User"), "{told}");
}

#[tokio::test]
async fn approvals_and_input_are_asked_of_the_person_whose_cell_it_is() {
    scenario(
        "approval",
        vec![
            short("ran = True"),
            answer("It has run."),
            short("name = input('name? ')"),
            answer("Thank you."),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_interrupt_stops_the_model_and_the_code() {
    scenario(
        "interrupt",
        vec![
            Answer::silence(),
            short("turns = 1\nprint('begun', flush=True)\nwhile True:\n    turns += 1"),
            short("turns = 0"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_cell_that_failed_is_mended() {
    let requests = scenario(
        "fix",
        vec![short("total = 1\nprint(total)"), answer("A typo.")],
    )
    .await;
    assert_eq!(
        requests.len(),
        2,
        "without a failure the model is not asked"
    );
    let told = requests[0].last();
    for part in [
        "totel = 1\nprint(total)",
        "NameError: name 'total' is not defined",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn options_bound_what_the_agent_does() {
    let requests = scenario(
        "options",
        vec![
            task("Make a = 1."),
            task("Make a = 1."),
            code("a = 1"),
            answer("hello"),
        ],
    )
    .await;
    let models: Vec<&str> = requests
        .iter()
        .map(|request| request.body["model"].as_str().unwrap())
        .collect();
    assert_eq!(models, ["mock", "mock", "mock", "other"]);
}

#[tokio::test]
async fn nothing_that_the_kernel_prints_or_runs_asks_the_agent() {
    let requests = scenario("nothing_starts", Vec::new()).await;
    assert!(requests.is_empty(), "{requests:?}");
}

#[tokio::test]
async fn after_a_restart_the_variables_are_gone_and_the_conversation_is_not() {
    let requests = scenario(
        "remembers",
        vec![
            answer("I will remember heather."),
            short("print('secret' in globals())"),
            answer("It was heather."),
            answer("Heather."),
        ],
    )
    .await;
    let messages = requests[1].messages();
    let remembered = |word: &str| messages.iter().any(|(_, text)| text.contains(word));
    assert!(remembered("remember the word heather"), "{messages:?}");
    assert!(remembered("I will remember heather."), "{messages:?}");
    assert!(remembered("all variables are lost"), "{messages:?}");
}

#[tokio::test]
async fn the_agent_goes_on_when_its_code_ends_the_kernel() {
    scenario(
        "kernel_dies",
        vec![
            short("import os\nos._exit(3)"),
            code("y = 2\nprint('x' in globals())"),
            answer("There is no x any more."),
        ],
    )
    .await;
}
