//! What a session's events amount to: rounds of request, steps and answer; the code that worked.

use crate::event::{Event, KernelState, Status};
use crate::notebook::{Output, OutputCollector};

/// One request of the person and what came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// What was asked. Empty for steps that no request came before.
    pub message: String,
    /// Names, in the working directory, of the files that were handed over.
    pub files: Vec<String>,
    pub steps: Vec<Step>,
    pub answer: Option<String>,
    /// How it ended; none if it was cut off.
    pub status: Option<Status>,
}

impl Round {
    /// The cells among the steps.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.steps.iter().filter_map(|step| match step {
            Step::Cell(cell) => Some(cell),
            _ => None,
        })
    }
}

/// A step on the way to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Plan {
        init_plan: String,
        plan: String,
        current_plan_step: String,
    },
    Cell(Cell),
    /// A kernel was started within the round.
    Kernel {
        state: KernelState,
        reason: String,
    },
}

/// Code and its outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    pub code: String,
    pub thought: String,
    /// Counts from 1 and grows when an earlier try failed.
    pub attempt: u32,
    /// As they stand at the end of the session: later updates of a display are in them.
    pub outputs: Vec<Output>,
    /// Paths of the files it left.
    pub artifacts: Vec<String>,
    /// How it ended; none if it never ran to an end.
    pub status: Option<Status>,
    pub execution_count: Option<u64>,
}

/// The rounds of a session, in order.
pub fn conversation<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Round> {
    let mut rounds = Vec::new();
    let mut outputs = OutputCollector::default();
    for event in events {
        match event {
            Event::User { message, files } => rounds.push(Round {
                message: message.clone(),
                files: files.clone(),
                ..Round::default()
            }),
            Event::Plan {
                init_plan,
                plan,
                current_plan_step,
            } => current(&mut rounds).steps.push(Step::Plan {
                init_plan: init_plan.clone(),
                plan: plan.clone(),
                current_plan_step: current_plan_step.clone(),
            }),
            Event::Code {
                code,
                thought,
                attempt,
            } => {
                outputs.start_cell();
                current(&mut rounds).steps.push(Step::Cell(Cell {
                    code: code.clone(),
                    thought: thought.clone(),
                    attempt: *attempt,
                    ..Cell::default()
                }));
            }
            Event::Artifact { path, .. } => {
                if let Some(cell) = cells(&mut rounds).next_back() {
                    cell.artifacts.push(path.clone());
                }
            }
            Event::Executed {
                status,
                execution_count,
                ..
            } => {
                if let Some(cell) = cells(&mut rounds).next_back() {
                    cell.status = Some(*status);
                    cell.execution_count = *execution_count;
                }
            }
            // Between two rounds it is said to the next one's model by whoever started it.
            Event::Kernel { state, reason } => {
                if let Some(round) = rounds.last_mut().filter(|round| round.status.is_none()) {
                    round.steps.push(Step::Kernel {
                        state: *state,
                        reason: reason.clone(),
                    });
                }
            }
            Event::Answer { message } => match &mut current(&mut rounds).answer {
                Some(answer) => *answer = format!("{answer}\n\n{message}"),
                answer => *answer = Some(message.clone()),
            },
            Event::Done { status, .. } => current(&mut rounds).status = Some(*status),
            output => outputs.add(output),
        }
    }
    for (cell, outputs) in cells(&mut rounds).zip(outputs.into_cells()) {
        cell.outputs = outputs;
    }
    rounds
}

/// The code of the cells that ended well, in order: run again in a new kernel, they give back the variables. Cells
/// from before a loss of the kernel are among them, since later ones may have been written with them in mind.
pub fn successful_cells<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let mut cells = Vec::new();
    let mut running = None;
    for event in events {
        match event {
            Event::Code { code, .. } => running = Some(code),
            Event::Executed { status, .. } => {
                let code = running.take().filter(|_| *status == Status::Ok);
                cells.extend(code.cloned());
            }
            _ => {}
        }
    }
    cells
}

/// The round that events belong to.
fn current(rounds: &mut Vec<Round>) -> &mut Round {
    if rounds.is_empty() {
        rounds.push(Round::default());
    }
    let last = rounds.len() - 1;
    &mut rounds[last]
}

fn cells(rounds: &mut [Round]) -> impl DoubleEndedIterator<Item = &mut Cell> {
    let steps = rounds.iter_mut().flat_map(|round| &mut round.steps);
    steps.filter_map(|step| match step {
        Step::Cell(cell) => Some(cell),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(lines: serde_json::Value) -> Vec<Event> {
        serde_json::from_value(lines).unwrap()
    }

    fn session() -> Vec<Event> {
        events(json!([
            {"event": "session", "id": "", "workspace": "", "mode": "", "kernel": "", "version": ""},
            {"event": "kernel", "state": "fresh", "reason": "start"},
            {"event": "user", "message": "sum", "files": ["a.csv"]},
            {"event": "plan", "init_plan": "i", "plan": "p", "current_plan_step": "c"},
            {"event": "code", "code": "bad", "thought": "t", "attempt": 1},
            {"event": "error", "ename": "E", "evalue": "", "traceback": []},
            {"event": "executed", "status": "error", "execution_count": 1, "seconds": 0.1},
            {"event": "code", "code": "good", "attempt": 2},
            {"event": "display", "data": {"text/plain": "old"}, "display_id": "d"},
            {"event": "artifact", "path": "p.png", "mime": "image/png"},
            {"event": "executed", "status": "ok", "execution_count": 2, "seconds": 0.1},
            {"event": "answer", "message": "one"},
            {"event": "done", "status": "ok", "execution_count": 2, "seconds": 1},
            {"event": "kernel", "state": "kept", "reason": ""},
            {"event": "user", "message": "again"},
            {"event": "code", "code": "cut off", "attempt": 1},
            {"event": "stream", "name": "stdout", "text": "a"},
            {"event": "stream", "name": "stdout", "text": "b"},
            {"event": "display", "data": {"text/plain": "new"}, "display_id": "d", "update": true},
            {"event": "kernel", "state": "lost", "reason": "signal 9"}
        ]))
    }

    #[test]
    fn a_conversation_is_rounds_with_their_steps() {
        let rounds = conversation(&session());
        assert_eq!(rounds.len(), 2);
        let first = &rounds[0];
        assert_eq!(
            (first.message.as_str(), &first.files[..]),
            ("sum", &["a.csv".to_owned()][..])
        );
        assert_eq!(first.answer.as_deref(), Some("one"));
        assert_eq!(first.status, Some(Status::Ok));
        assert_eq!(first.steps.len(), 3);
        assert!(matches!(&first.steps[0], Step::Plan { plan, .. } if plan == "p"));
        let cells: Vec<&Cell> = first.cells().collect();
        assert_eq!(
            (cells[0].attempt, cells[0].status),
            (1, Some(Status::Error))
        );
        assert!(matches!(&cells[0].outputs[..], [Output::Error { .. }]));
        assert_eq!(cells[1].execution_count, Some(2));
        assert_eq!(cells[1].artifacts, ["p.png"]);
        let [Output::DisplayData { data, .. }] = &cells[1].outputs[..] else {
            panic!("{:?}", cells[1].outputs)
        };
        assert_eq!(data["text/plain"], "new", "updated by a later cell");
        let second = &rounds[1];
        assert_eq!((second.status, &second.answer), (None, &None));
        let cell = second.cells().next().unwrap();
        assert_eq!(cell.status, None);
        assert!(matches!(&cell.outputs[..], [Output::Stream { text, .. }] if text == "ab"));
        assert!(matches!(
            second.steps[1],
            Step::Kernel {
                state: KernelState::Lost,
                ..
            }
        ));
    }

    #[test]
    fn only_cells_that_ended_well_are_for_rebuilding() {
        assert_eq!(successful_cells(&session()), ["good"]);
        let stray = events(json!([
            {"event": "code", "code": "never ran", "attempt": 1},
            {"event": "code", "code": "ran", "attempt": 2},
            {"event": "executed", "status": "ok", "execution_count": 1, "seconds": 0},
            {"event": "executed", "status": "ok", "execution_count": 1, "seconds": 0}
        ]));
        assert_eq!(successful_cells(&stray), ["ran"]);
    }

    #[test]
    fn steps_without_a_request_make_a_round_of_their_own() {
        let rounds = conversation(&events(json!([
            {"event": "stream", "name": "stdout", "text": "lost"},
            {"event": "executed", "status": "ok", "execution_count": 1, "seconds": 0},
            {"event": "code", "code": "1", "attempt": 1},
            {"event": "stream", "name": "stdout", "text": "kept"}
        ])));
        assert_eq!(rounds.len(), 1);
        let cell = rounds[0].cells().next().unwrap();
        assert!(matches!(&cell.outputs[..], [Output::Stream { text, .. }] if text == "kept"));
    }
}
