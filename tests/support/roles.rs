//! What a scripted model says in the roles that Heddle gives it.

use serde_json::{Value, json};

use super::model_server::{Answer, Request};

/// A Planner's reply.
pub fn planner(fields: Value) -> String {
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
pub fn task(message: &str) -> Answer {
    Answer::text(&planner(json!({
        "init_plan": "1. compute\n2. tell", "plan": "1. compute and tell",
        "current_plan_step": "1. compute and tell", "message": message,
    })))
}

/// A Planner that writes the code itself.
pub fn short(code: &str) -> Answer {
    let message = "Run this.";
    Answer::text(&planner(json!({"code": code, "message": message})))
}

/// A Planner that answers the User.
pub fn answer(message: &str) -> Answer {
    ending("Completed", message)
}

pub fn ending(stop: &str, message: &str) -> Answer {
    Answer::text(&planner(
        json!({"stop": stop, "send_to": "User", "message": message}),
    ))
}

/// A Planner that repeats the first line that the code printed.
pub fn answer_with_figure(before: &'static str) -> Answer {
    Answer::made_of(move |request| answer(&format!("{before}{}", printed(request))))
}

/// A CodeInterpreter's reply.
pub fn code(code: &str) -> Answer {
    Answer::text(&format!("I do it so.\n```python\n{code}\n```\n"))
}

/// The first line that the code printed, as the model is told it.
pub fn printed(request: &Request) -> String {
    let report = request.last().split("Printed:\n").nth(1);
    let line = report.and_then(|report| report.lines().next());
    line.unwrap_or("nothing was printed").to_owned()
}
