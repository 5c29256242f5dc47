//! `jupyter console` in a terminal, as a person uses it.

use std::time::{Duration, Instant};

use crate::jupyter::{Jupyter, front_ends};
use crate::support::model_server::Answer;
use crate::support::roles::{answer_with_figure, short};
use crate::support::terminal::Terminal;

async fn console(answers: Vec<Answer>) -> (Jupyter, Terminal) {
    let mut jupyter = Jupyter::with(answers).await;
    // Nobody answers questions about the cursor's place here.
    jupyter.world = jupyter.world.with("PROMPT_TOOLKIT_NO_CPR", "1");
    let program = front_ends().join("bin/jupyter");
    let arguments = [
        "console",
        "--kernel",
        "heddle",
        "--ZMQTerminalInteractiveShell.true_color=False",
    ];
    let mut terminal = Terminal::start_program(&jupyter.world, &program, &arguments);
    terminal.until("In [1]:").await;
    (jupyter, terminal)
}

#[tokio::test]
async fn a_person_at_jupyter_console_completes_answers_interrupts_asks_and_leaves() {
    let (jupyter, mut terminal) = console(vec![
        short("print(21 * 2)"),
        answer_with_figure("The agent says "),
    ])
    .await;

    terminal.line("a_long_name = 41");
    terminal.until("In [2]:").await;
    // There is one name that begins so, and Tab writes it.
    terminal.press("a_lon\t");
    terminal.until("a_long_name").await;
    terminal.line(" + 1");
    terminal.until("Out[2]: 42").await;

    terminal.until("In [3]:").await;
    terminal.line("'you are ' + input('who are you? ')");
    // Not its echo in the code: what is typed before the question is lost.
    terminal.until("\nwho are you? ").await;
    terminal.line("Ada");
    terminal.until("'you are Ada'").await;

    terminal.until("In [4]:").await;
    terminal.line("import time; print('be' + 'gun'); time.sleep(100)");
    terminal.until("begun").await;
    let pressed = Instant::now();
    terminal.press("\x03");
    terminal.until("KeyboardInterrupt").await;
    terminal.until("In [5]:").await;
    assert!(pressed.elapsed() < Duration::from_secs(10));

    terminal.line("%ask what is 21 * 2?");
    terminal.until("print(21 * 2)").await;
    terminal.until("42").await;
    terminal.until("The agent says 42").await;

    // The code that ran is offered: it stands at the next prompt, and can be run or removed.
    terminal.until("In [6]:").await;
    terminal.until("print(21 * 2)").await;
    terminal.press("\x15");
    terminal.line("exit");
    terminal.end().await;
    jupyter.is_quiet().await;
}
