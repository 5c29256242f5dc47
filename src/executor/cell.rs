//! One cell from request to outcome.

use std::time::Duration;

use tokio::time::Instant;

use super::artifacts::{self, is_table, text_of};
use super::clip::Clip;
use super::outcome::{Outcome, Raised};
use super::{Executor, Input, Interrupts, runtime};
use crate::event::{Event, Level, MimeBundle, Sink, Status};
use crate::kernel::{Exchange, Incoming};
use crate::protocol::content::{ExecuteRequest, ReplyStatus};
use crate::protocol::{Channel, Content, Message};
use crate::transport::Popped;

/// How long an interrupted cell may take to stop before it is interrupted again.
const GRACE: Duration = Duration::from_secs(3);
/// Interrupts that a cell may swallow before its kernel is ended.
const PATIENCE: u32 = 3;
/// Longest text of one event, in bytes: kernels send what a fifth of a second printed at once, however much that is.
/// Between two of them it is looked whether the person wants to see more: a reader may be slow.
const LONGEST_TEXT: usize = 64 << 10;
/// Bytes of output that are still shown after an interrupt. What had been printed by then may be far more than whoever
/// reads it can take, and is not what they wait for.
const AFTERMATH: usize = 64 << 10;
/// Bytes of the end of stderr that are looked through for an error.
const LAST_WORDS: usize = 4096;

/// Rich outputs of one cell that are saved as files, and their size in bytes.
const MOST_SAVED: usize = 200;
const SAVED_BYTES: usize = 256 << 20;

/// What a terminal sends at the end of input; ipykernel turns it into an EOFError.
const END_OF_INPUT: &str = "\u{4}";

/// A cell that is running.
struct Cell<'a> {
    executor: &'a Executor,
    sink: &'a mut dyn Sink,
    stdout: Clip,
    stderr: Clip,
    values: Clip,
    /// The end of what went to stderr.
    last_words: String,
    table: bool,
    /// The rich outputs that were saved as files, and their bytes; no more are saved at `usize::MAX`.
    saved: (usize, usize),
    /// Presses that nobody has taken yet.
    interrupts: Interrupts,
    /// Bytes that may still be shown, once the cell was interrupted.
    aftermath: Option<usize>,
    /// Bytes that were not shown.
    left_out: usize,
    /// The error as the reply has it, which may come before the output that says the same.
    replied: Option<(String, String, Vec<String>)>,
    outcome: Outcome,
}

pub(super) async fn run(
    executor: &mut Executor,
    code: &str,
    sink: &mut dyn Sink,
    input: &mut dyn Input,
    interrupts: &mut Interrupts,
) -> Outcome {
    let kernel = &executor.kernel;
    let client = kernel.client().clone();
    let text = |name: &str| {
        let file = executor.places.texts.as_ref();
        let file = file.map(|folder| folder.join(format!("{}-{name}.txt", executor.cells)));
        Clip::new(executor.limits.characters, file)
    };
    let mut cell = Cell {
        stdout: text("stdout"),
        stderr: text("stderr"),
        values: text("value"),
        last_words: String::new(),
        table: false,
        saved: (0, 0),
        interrupts: interrupts.clone(),
        aftermath: None,
        left_out: 0,
        replied: None,
        outcome: Outcome::new(),
        executor,
        sink,
    };

    let started = Instant::now();
    let mut waited = Duration::ZERO;
    let mut interruptions = 0;
    let request = Content::ExecuteRequest(ExecuteRequest {
        code: code.to_owned(),
        allow_stdin: input.is_present(),
        // Other clients' cells may wait behind ours, and have nothing to do with its failure.
        stop_on_error: kernel.is_ours() && executor.acts_for.is_none(),
        ..ExecuteRequest::default()
    });
    let mut exchange = match &executor.acts_for {
        // Marked as no person's cell: a bridge looks for the agent's magics in none of ours.
        None => {
            let mark = serde_json::Map::from_iter([("heddle".to_owned(), true.into())]);
            client.request_with(Channel::Shell, request, mark, Vec::new())
        }
        Some(header) => client.request_as(header, Channel::Shell, request),
    };
    // In a kernel of our own nothing is waited for but what our cells have left behind.
    if !kernel.is_ours() && !cell.turn(&exchange, interrupts).await {
        drop(exchange);
        cell.outcome.seconds = started.elapsed().as_secs_f64();
        return cell.finish().await;
    }
    // When the cell is interrupted next: at its time limit first, then while it will not stop.
    let mut alarm = cell.alarm();
    loop {
        let next = tokio::select! {
            // In this order: output without end must not keep a person from ending it.
            biased;
            () = interrupts.pressed() => {
                interruptions += 1;
                match cell.interrupt(interruptions, &mut alarm) {
                    true => continue,
                    false => break,
                }
            }
            () = at(alarm) => {
                if interruptions == 0 {
                    cell.time_out();
                }
                interruptions += 1;
                match cell.interrupt(interruptions, &mut alarm) {
                    true => continue,
                    false => break,
                }
            }
            next = exchange.next() => next,
            Some(late) = client.unclaimed() => {
                cell.late(late);
                continue;
            }
        };
        match next {
            None => break,
            Some(Popped::Gap { messages, bytes }) => cell.gap(messages, bytes),
            Some(Popped::Item(Incoming::Output(message))) => cell.output(message),
            Some(Popped::Item(Incoming::Reply(message))) => cell.reply(message),
            Some(Popped::Item(Incoming::Died(reason))) => cell.died(reason),
            Some(Popped::Item(Incoming::Input(request))) => {
                let asked = Instant::now();
                answer(&client, &request, input, interrupts, executor).await;
                waited += asked.elapsed();
                alarm = alarm.map(|alarm| alarm + asked.elapsed());
            }
        }
    }
    drop(exchange);
    if let Some((ename, evalue, traceback)) = cell.replied.take()
        && cell.outcome.raised.is_none()
    {
        // Some kernels report an error in the reply alone, and IPython prints some that are for people.
        let printed = cell
            .last_words
            .trim_end()
            .ends_with(&format!("{ename}: {evalue}"));
        match printed {
            true => cell.outcome.raised = Some(raised(ename, evalue, &traceback)),
            false => cell.raised(ename, evalue, traceback),
        }
    }
    // A cell that had come to its end is cut short all the same where its output is.
    if interruptions > 0 && (cell.outcome.status == Status::Error || cell.left_out > 0) {
        cell.outcome.status = Status::Interrupted;
    }
    cell.outcome.seconds = (started.elapsed() - waited).as_secs_f64();
    cell.finish().await
}

async fn at(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

fn raised(ename: String, evalue: String, traceback: &[String]) -> Raised {
    Raised {
        ename,
        evalue,
        traceback: anstream::adapter::strip_str(&traceback.join("\n")).to_string(),
    }
}

/// Answers `input()`. An interrupt while waiting goes to the cell. Whoever is asked is not waited for when nobody is left
/// who asks: the exchange says how the kernel ended.
async fn answer(
    client: &crate::kernel::Client,
    request: &Message,
    input: &mut dyn Input,
    interrupts: &mut Interrupts,
    executor: &Executor,
) {
    let Content::InputRequest(asked) = &request.content else {
        return;
    };
    tokio::select! {
        line = input.read(asked.prompt.clone(), asked.password) => {
            client.answer_input(request, line.unwrap_or_else(|| END_OF_INPUT.to_owned()));
        }
        () = interrupts.pressed() => executor.kernel.interrupt(),
        _ = client.death() => {}
    }
}

impl Cell<'_> {
    /// When its time is up, if it starts to run out now.
    fn alarm(&self) -> Option<Instant> {
        let timeout = self.executor.limits.timeout?;
        Some(Instant::now() + timeout)
    }

    /// Waits until the kernel has begun with the cell. False: nobody waits any longer, and what the kernel runs is not
    /// ours to interrupt.
    async fn turn(&mut self, exchange: &Exchange, interrupts: &mut Interrupts) -> bool {
        tokio::select! {
            // In this order: a cell that has begun is never taken for one that waits.
            biased;
            () = exchange.begun() => return true,
            () = interrupts.pressed() => {}
            () = at(self.alarm()) => self.outcome.timed_out = true,
        }
        self.outcome.status = Status::Interrupted;
        self.outcome.queued = true;
        self.warn(
            "the kernel is busy with an earlier cell, such as another client's, and has not begun with this one. It is \
             not waited for any longer, but it is still queued there and runs when its turn comes"
                .into(),
        );
        false
    }

    /// Interrupts the cell for the `nth` time; one that swallows every interrupt loses its kernel, or if that is not
    /// ours, our attention: false.
    fn interrupt(&mut self, nth: u32, alarm: &mut Option<Instant>) -> bool {
        self.aftermath.get_or_insert(AFTERMATH);
        if nth <= PATIENCE {
            self.executor.kernel.interrupt();
            *alarm = Some(Instant::now() + GRACE);
            return true;
        }
        if !self.executor.kernel.is_ours() {
            let message = "the cell does not stop when it is interrupted; it is left to itself, and so is its kernel, \
                           which is not ours to end";
            self.raised("Unstoppable".into(), message.into(), Vec::new());
            return false;
        }
        if nth == PATIENCE + 1 {
            self.warn(
                "the cell does not stop when it is interrupted, so its kernel is ended".into(),
            );
        }
        self.executor.kernel.kill();
        *alarm = None;
        true
    }

    fn time_out(&mut self) {
        self.outcome.timed_out = true;
        let limit = self.executor.limits.timeout.unwrap_or_default();
        self.warn(format!(
            "the cell is interrupted: it ran for longer than its limit of {} s",
            limit.as_secs_f64()
        ));
    }

    fn warn(&mut self, message: String) {
        self.sink.emit(Event::Notice {
            level: Level::Warning,
            message,
        });
    }

    fn output(&mut self, message: Message) {
        match message.content {
            Content::Stream(stream) => self.print(stream.name, stream.text),
            Content::DisplayData(display) => self.display(
                display.data,
                display.metadata,
                display.transient.display_id,
                false,
            ),
            Content::UpdateDisplayData(display) => self.display(
                display.data,
                display.metadata,
                display.transient.display_id,
                true,
            ),
            Content::ExecuteResult(result) => {
                self.table = is_table(&result.data);
                self.keep_text(&result.data);
                self.save(&result.data);
                self.sink.emit(Event::Result {
                    data: result.data,
                    metadata: result.metadata,
                    execution_count: result.execution_count,
                });
            }
            Content::Error(error) => self.raised(error.ename, error.evalue, error.traceback),
            Content::ClearOutput(clear) => self.sink.emit(Event::ClearOutput { wait: clear.wait }),
            Content::ExecuteInput(input) => self.outcome.execution_count = input.execution_count,
            _ => {}
        }
    }

    fn print(&mut self, name: String, text: String) {
        match name.as_str() {
            "stderr" => {
                self.stderr.push(&text);
                let end = text.ceil_char_boundary(text.len().saturating_sub(LAST_WORDS));
                self.last_words.push_str(&text[end..]);
                let surplus = self.last_words.len().saturating_sub(LAST_WORDS);
                let surplus = self.last_words.ceil_char_boundary(surplus);
                self.last_words.drain(..surplus);
            }
            _ => self.stdout.push(&text),
        }
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(LONGEST_TEXT));
            self.show(&name, piece);
            rest = after;
        }
    }

    /// Shows a piece of text, unless the person has had enough.
    fn show(&mut self, name: &str, text: &str) {
        if self.interrupts.is_waiting() {
            self.aftermath.get_or_insert(AFTERMATH);
        }
        if let Some(left) = &mut self.aftermath {
            if *left < text.len() {
                self.left_out += text.len();
                return;
            }
            *left -= text.len();
        }
        self.sink.emit(Event::Stream {
            name: name.to_owned(),
            text: text.to_owned(),
        });
    }

    fn display(
        &mut self,
        data: MimeBundle,
        metadata: serde_json::Map<String, serde_json::Value>,
        display_id: Option<String>,
        update: bool,
    ) {
        // An update replaces what a person sees, many times a second for a progress bar; one file is enough.
        if !update {
            self.keep_text(&data);
            self.save(&data);
        }
        self.sink.emit(Event::Display {
            data,
            metadata,
            display_id,
            update,
        });
    }

    fn keep_text(&mut self, data: &MimeBundle) {
        let text = ["text/markdown", "text/plain"]
            .iter()
            .find_map(|mime| data.get(*mime))
            .map(text_of);
        if let Some(text) = text {
            self.values.push(&text);
            self.values.push("\n");
        }
    }

    fn save(&mut self, data: &MimeBundle) {
        let Some(folder) = &self.executor.artifacts else {
            return;
        };
        let size = data.values().map(artifacts::length_of).max().unwrap_or(0);
        let (saved, bytes) = &mut self.saved;
        if *saved >= MOST_SAVED || *bytes + size > SAVED_BYTES {
            if *saved != usize::MAX {
                *saved = usize::MAX;
                self.warn(format!(
                    "this cell has more rich outputs than are saved: {MOST_SAVED} files and {} MiB at most. The rest is \
                     only shown; save it as a file in the code",
                    SAVED_BYTES >> 20
                ));
            }
            return;
        }
        let count = self.outcome.execution_count.unwrap_or(self.executor.cells);
        match artifacts::save(folder, &format!("output-{count}"), data) {
            Ok(Some(artifact)) => {
                self.saved.0 += 1;
                self.saved.1 += size;
                self.sink.emit(Event::Artifact {
                    path: artifact.path.to_string_lossy().into_owned(),
                    mime: artifact.mime.clone(),
                });
                self.outcome.artifacts.push(artifact);
            }
            Ok(None) => {}
            Err(error) => self.sink.emit(Event::Notice {
                level: Level::Warning,
                message: format!(
                    "an output could not be saved in {}: {error}",
                    folder.path().display()
                ),
            }),
        }
    }

    fn raised(&mut self, ename: String, evalue: String, traceback: Vec<String>) {
        self.outcome.status = Status::Error;
        self.outcome.raised = Some(raised(ename.clone(), evalue.clone(), &traceback));
        self.sink.emit(Event::Error {
            ename,
            evalue,
            traceback,
        });
    }

    fn reply(&mut self, message: Message) {
        let Content::ExecuteReply(reply) = message.content else {
            return;
        };
        self.outcome.execution_count = reply.execution_count.or(self.outcome.execution_count);
        self.outcome.payload = reply.payload;
        match reply.status {
            ReplyStatus::Ok => {}
            ReplyStatus::Error => {
                self.outcome.status = Status::Error;
                self.replied = Some((reply.ename, reply.evalue, reply.traceback));
            }
            ReplyStatus::Aborted => self.raised(
                "Aborted".into(),
                "the cell did not run, because one before it failed".into(),
                Vec::new(),
            ),
        }
    }

    fn died(&mut self, reason: String) {
        let evalue = format!("the kernel {reason} while the cell was running");
        self.raised("KernelDied".into(), evalue, Vec::new());
        self.outcome.died = Some(reason);
    }

    fn gap(&mut self, messages: u64, bytes: u64) {
        let message = match bytes {
            // Lost in the kernel, which does not count.
            0 => {
                "the cell printed faster than its output could be taken; some of it is lost".into()
            }
            _ => format!(
                "{messages} outputs ({bytes} bytes) came faster than they could be shown and are left out"
            ),
        };
        let level = Level::Warning;
        self.sink.emit(Event::Notice { level, message });
    }

    /// Output of a thread that an earlier cell started.
    fn late(&mut self, late: Popped<Message>) {
        if let Popped::Item(message) = late
            && let Content::Stream(stream) = message.content
        {
            self.print(stream.name, stream.text);
        }
    }

    async fn finish(mut self) -> Outcome {
        if self.left_out > 0 {
            self.warn(format!(
                "{} bytes that the cell had printed when it was interrupted are left out",
                self.left_out
            ));
        }
        let mut outcome = self.outcome;
        let folder = self.executor.kernel.cwd();
        outcome.stdout = self.stdout.finish(folder);
        outcome.stderr = self.stderr.finish(folder);
        outcome.values = self.values.finish(folder);
        if self.table && outcome.died.is_none() {
            let client = self.executor.kernel.client();
            outcome.table = runtime::last_table(client).await.unwrap_or_default();
        }
        outcome
    }
}
