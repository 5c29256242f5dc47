//! The Planner: reads the request, plans, directs the CodeInterpreter, answers the User.

use serde_json::{Value, json};

use super::code_interpreter::Step;
use super::reply::{self, Fault, PlannerReply, Recipient, Stop};
use super::stream::FieldStream;
use super::{Agent, AgentError, Extent, Scene};
use crate::event::{Event, Part, Status};
use crate::llm::{Reply, ResponseFormat};

const PROMPT: &str = include_str!("../../config/prompts/planner.md");

/// What the Planner is told when it has used up its turns.
const LAST_TURN: &str =
    "You have no more runs left. Answer the User now with what is known, and say what is missing.";

/// The system message, the same in every request of a session.
pub(super) fn prompt(environment: &str) -> String {
    PROMPT.replace("{environment}", environment)
}

/// The fields of a reply, for endpoints that can be held to a schema.
fn format() -> ResponseFormat {
    let text = json!({"type": "string"});
    let mut properties = serde_json::Map::new();
    for field in [
        "plan_reasoning",
        "init_plan",
        "plan",
        "current_plan_step",
        "code",
    ] {
        properties.insert(field.into(), text.clone());
    }
    let one_of = |names: &[&str]| json!({"type": "string", "enum": names});
    let stops = [
        "InProcess",
        "Completed",
        "Clarification",
        "AdditionalInformation",
        "SecurityRisks",
        "TaskFailure",
    ];
    properties.insert("stop".into(), one_of(&stops));
    properties.insert("send_to".into(), one_of(&["CodeInterpreter", "User"]));
    properties.insert("message".into(), text);
    let required: Vec<&String> = properties.keys().collect();
    let schema = json!({
        "type": "object",
        "required": Value::from(required.into_iter().cloned().collect::<Vec<_>>()),
        "properties": properties,
        "additionalProperties": false,
    });
    ResponseFormat::JsonSchema {
        name: "planner_reply".into(),
        schema,
    }
}

impl Agent {
    /// Takes turns until the Planner answers the User.
    pub(super) async fn plan(&mut self, scene: &mut Scene<'_>) -> Result<Status, AgentError> {
        let mut unreadable = 0;
        let mut runs = 0;
        // The fault of the last reply, if it had one.
        let mut before: Option<Fault> = None;
        loop {
            let last = runs >= self.limits.rounds;
            let said = self.ask_planner(scene, last).await?;
            let read = reply::planner(&said.text, said.is_cut());
            self.planner.said(said.text);
            let reply = match read {
                Ok(reply) => reply,
                // It was asked for the form, and still says it in words alone.
                Err(Fault::Prose(message)) if matches!(before, Some(Fault::Prose(_))) => {
                    scene.sink.emit(Event::Answer { message });
                    return Ok(Status::Ok);
                }
                Err(fault) => {
                    unreadable += 1;
                    // Small models that are held to JSON may find nothing else in it.
                    self.in_words |= fault == Fault::Empty && before == Some(Fault::Empty);
                    if unreadable > self.limits.retries {
                        return self.give_up(scene, &fault, runs);
                    }
                    self.planner
                        .told(format!("{fault} Reply with the JSON object alone."));
                    before = Some(fault);
                    continue;
                }
            };
            before = None;
            unreadable = 0;
            let only_plan = self.limits.extent == Extent::Plan;
            let planned = !reply.plan.trim().is_empty() || !reply.init_plan.trim().is_empty();
            if (planned || only_plan) && reply.send_to == Recipient::CodeInterpreter {
                scene.sink.emit(Event::Plan {
                    init_plan: reply.init_plan.clone(),
                    plan: match planned {
                        true => reply.plan.clone(),
                        // One step needs no list; its task is the plan.
                        false => reply.message.clone(),
                    },
                    current_plan_step: reply.current_plan_step.clone(),
                });
                if only_plan {
                    self.planner
                        .told("The User wanted the plan only: nothing was run.");
                    return Ok(Status::Ok);
                }
            }
            if reply.send_to == Recipient::User || last {
                return Ok(self.answer(scene, reply, last));
            }
            runs += 1;
            let task = if reply.message.trim().is_empty() {
                scene.request.clone()
            } else {
                reply.message
            };
            match self.interpret(scene, task, reply.code).await? {
                Step::Report(report) => self.planner.told(format!("CodeInterpreter: {report}")),
                Step::Written => {
                    self.planner
                        .told("CodeInterpreter: I wrote code. The User did not want it run.");
                    return Ok(Status::Ok);
                }
                Step::Interrupted => return Ok(Status::Interrupted),
            }
        }
    }

    async fn ask_planner(&self, scene: &mut Scene<'_>, last: bool) -> Result<Reply, AgentError> {
        let mut thread = self.planner.clone();
        if last {
            // Not remembered: the next request has turns of its own.
            thread.told(LAST_TURN);
        }
        let messages = thread.request(&self.planner_prompt);
        let mut fields = FieldStream::default();
        let mut to_user = String::new();
        let form = (!self.in_words).then(format);
        self.chat(scene, "planner", messages, form, |sink, piece| {
            let Some(piece) = piece else {
                fields = FieldStream::default();
                to_user.clear();
                return;
            };
            fields.push(piece, |field, text| {
                let part = match field {
                    "plan" => Some(Part::Plan),
                    "code" => Some(Part::Code),
                    "message" if to_user.eq_ignore_ascii_case("user") => Some(Part::Answer),
                    "send_to" => {
                        to_user.push_str(text);
                        None
                    }
                    _ => None,
                };
                if let Some(of) = part {
                    sink.emit(Event::Delta {
                        of,
                        text: text.to_owned(),
                    });
                }
            });
        })
        .await
    }

    fn answer(&self, scene: &mut Scene<'_>, reply: PlannerReply, last: bool) -> Status {
        let answered = reply.send_to == Recipient::User;
        scene.sink.emit(Event::Answer {
            message: match answered {
                true => reply.message,
                false => format!(
                    "I could not finish this in {} steps. Ask me to go on, or raise session.max_internal_chat_round_num.",
                    self.limits.rounds
                ),
            },
        });
        match reply.stop {
            Stop::TaskFailure | Stop::SecurityRisks => Status::Error,
            _ if last && !answered => Status::Error,
            _ => Status::Ok,
        }
    }

    /// A Planner that never finds the form may still have said something.
    fn give_up(
        &self,
        scene: &mut Scene<'_>,
        fault: &Fault,
        runs: u32,
    ) -> Result<Status, AgentError> {
        let ran = match runs {
            0 => "so nothing was run".to_owned(),
            1 => "after one task was done".to_owned(),
            runs => format!("after {runs} tasks were done"),
        };
        let message = match fault {
            Fault::Cut => format!(
                "The model's replies were cut off at the endpoint's limit on their length, {ran}, and what was cut was \
                 not used. Raise llm.max_tokens, ask for less at once, or choose another llm.model."
            ),
            fault => {
                let said = match fault {
                    Fault::Prose(text) => text,
                    fault => &fault.to_string(),
                };
                let said = crate::executor::clip::clip(said.trim(), self.limits.characters);
                format!(
                    "The model did not reply in the form that Heddle asks for, {ran}. The last reply:\n\n{said}"
                )
            }
        };
        scene.sink.emit(Event::Answer { message });
        Ok(Status::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_asks_for_every_field_in_the_order_of_the_prompt() {
        let ResponseFormat::JsonSchema { schema, .. } = format() else {
            panic!("no schema");
        };
        let fields: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let in_prompt: Vec<usize> = fields
            .iter()
            .map(|field| PROMPT.find(&format!("\"{field}\": ")).unwrap())
            .collect();
        assert!(in_prompt.is_sorted());
        assert_eq!(schema["required"].as_array().unwrap().len(), fields.len());
    }
}
