//! Heddle beside jupyter_client and beside the least that any client could do, in one run: `cargo bench`.
//!
//! The contenders of a row take turns, so that what else the machine does falls on all of them alike. The first run
//! prepares the environments: a kernel's Python as `heddle run` would, Jupyter's below `target/`. Nothing is
//! asserted: the figures are printed with their targets. `cargo bench -- WORD…` runs the rows whose names have a word.

#[path = "../tests/support/model_server.rs"]
#[allow(
    dead_code,
    reason = "only its answers are needed here, not its misbehaviour"
)]
mod model_server;
mod support;

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use heddle::kernel::{Client, Incoming, python};
use heddle::protocol::content::ExecuteRequest;
use heddle::protocol::{Channel, Content};
use heddle::transport::Popped;
use model_server::{Answer, ModelServer};
use support::bare::BareKernel;
use support::jupyter::Jupyter;
use support::raw::{self, Raw};
use support::table::{self, Row, Target};
use support::{time_command, time_to_line};
use tokio::runtime::Runtime;

/// The release binary.
const HEDDLE: &str = env!("CARGO_BIN_EXE_heddle");

/// How long a kernel may take to start.
const START: Duration = Duration::from_secs(60);

const SUM: &str = "print(sum(range(1, 101)))";
/// 100 MiB in large pieces.
const LARGE: &str = "\
import sys
for _ in range(100):
    sys.stdout.write('x' * (1 << 20)); sys.stdout.flush()";
/// Half a megabyte in small ones.
const SMALL: &str = "\
for n in range(5_000):
    print('a line of output that is a hundred characters long'.ljust(99, '.'), flush=True)";

struct Bench {
    runtime: Runtime,
    python: python::Python,
    jupyter: Jupyter,
    folder: tempfile::TempDir,
}

type Measure = fn(&Bench, &mut Row) -> io::Result<()>;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let bench = Bench::prepare()?;
    let ms = Duration::from_millis;
    let rows: [(&str, Vec<Target>, Measure); 9] = [
        (
            "1+1, warm kernel",
            vec![Target::OfFloor(1.1), Target::OfJupyter(1.0)],
            round_trip,
        ),
        (
            "100 MiB printed, 1 MiB at a time",
            vec![Target::OfJupyter(1.0)],
            large_output,
        ),
        (
            "5,000 lines printed one by one",
            vec![Target::OfJupyter(1.0)],
            small_output,
        ),
        (
            "heddle run -c 1+1, to the result",
            vec![Target::OfFloor(1.25)],
            first_result,
        ),
        (
            "notebook of 20 cells",
            vec![Target::OfJupyter(0.5)],
            notebook,
        ),
        (
            "heddle ask, to the end of the turn",
            vec![Target::AboveFloor(ms(30))],
            ask,
        ),
        (
            "1+1 through the bridge",
            vec![Target::OfFloor(1.12)],
            bridged_round_trip,
        ),
        (
            "1 GiB printed through the bridge",
            // Nine tenths of the speed.
            vec![Target::OfFloor(1.11)],
            bridged_output,
        ),
        ("heddle --version", vec![Target::Within(ms(10))], version),
    ];
    let mut done = Vec::new();
    for (name, targets, measure) in rows {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            eprintln!("measuring: {name}");
            let mut row = Row::new(name, targets);
            match measure(&bench, &mut row) {
                Ok(()) => done.push(row),
                Err(error) => eprintln!("  not measured: {error}"),
            }
        }
    }
    table::print(&done);
    Ok(())
}

impl Bench {
    fn prepare() -> io::Result<Bench> {
        let python = python::find_or_make(
            &heddle::kernel::python::Precautions {
                isolated: false,
                ..heddle::kernel::python::Precautions::default()
            },
            &mut |progress| eprintln!("{progress}"),
        )
        .map_err(io::Error::other)?;
        let bench = Bench {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?,
            jupyter: Jupyter::prepare(&python.executable)?,
            folder: tempfile::tempdir()?,
            python,
        };
        // Byte code and disk caches, for everyone alike.
        raw::wait_for_info(&bench.kernel()?.info)?;
        Ok(bench)
    }

    fn kernel(&self) -> io::Result<BareKernel> {
        BareKernel::spawn(&self.python.executable)
    }

    /// The heddle command, away from the user's settings.
    fn heddle(&self) -> Command {
        let mut command = Command::new(HEDDLE);
        command.current_dir(self.folder.path());
        command.env("XDG_CONFIG_HOME", self.folder.path());
        command
    }

    fn connect(&self, kernel: &BareKernel) -> io::Result<Client> {
        let deadline = tokio::time::Instant::now() + START;
        self.runtime
            .block_on(Client::connect(&kernel.info, deadline))
            .map_err(io::Error::other)
    }

    /// Runs `code` in one warm kernel by each client in turn, `times` times a turn. Only the client whose turn it is
    /// is connected, since a kernel publishes to all.
    fn by_client(&self, row: &mut Row, code: &str, rounds: usize, times: usize) -> io::Result<()> {
        let kernel = self.kernel()?;
        let mut jupyter = self.jupyter.client()?;
        let warm = times / 10;
        let mut printed = Vec::new();
        for _ in 0..rounds {
            let client = self.connect(&kernel)?;
            for n in 0..warm + times {
                let started = Instant::now();
                printed.push(self.runtime.block_on(run(&client, code))?);
                row.heddle.add((n >= warm).then(|| started.elapsed()));
            }
            drop(client);

            let mut client = Raw::connect(&kernel.info)?;
            for n in 0..warm + times {
                let request = client.request(code);
                let started = Instant::now();
                client.run(&request)?;
                row.floor.add((n >= warm).then(|| started.elapsed()));
            }
            drop(client);

            let answer = jupyter.run(&kernel.connection_file(), code, warm, times)?;
            printed.push(answer.characters);
            row.jupyter.add(answer.times());
        }
        if let (Some(least), Some(most)) = (printed.iter().min(), printed.iter().max())
            && least != most
        {
            eprintln!("  the kernel dropped output: {least} to {most} characters came");
        }
        Ok(())
    }
}

/// The same client at a kernel behind the bridge, and at one without it, in turns.
fn bridged(
    bench: &Bench,
    row: &mut Row,
    code: &str,
    rounds: usize,
    times: usize,
) -> io::Result<()> {
    let direct = bench.kernel()?;
    let bridge = BareKernel::bridged(bench.heddle())?;
    let mut clients = [Raw::connect(&bridge.info)?, Raw::connect(&direct.info)?];
    let warm = times / 10;
    for _ in 0..rounds {
        let mut bytes = [0; 2];
        for (at, client) in clients.iter_mut().enumerate() {
            let times_of = if at == 0 {
                &mut row.heddle
            } else {
                &mut row.floor
            };
            for n in 0..warm + times {
                let request = client.request(code);
                let started = Instant::now();
                bytes[at] += client.run(&request)?;
                times_of.add((n >= warm).then(|| started.elapsed()));
            }
        }
        let [through, straight] = bytes;
        if through.abs_diff(straight) > straight / 100 {
            eprintln!(
                "  output is missing: {through} bytes came through the bridge, {straight} without it"
            );
        }
    }
    Ok(())
}

fn bridged_round_trip(bench: &Bench, row: &mut Row) -> io::Result<()> {
    bridged(bench, row, "1+1", 5, 200)
}

fn bridged_output(bench: &Bench, row: &mut Row) -> io::Result<()> {
    bridged(
        bench,
        row,
        &LARGE.replace("range(100)", "range(1024)"),
        5,
        1,
    )
}

/// One execution by Heddle's client; gives the characters printed.
async fn run(client: &Client, code: &str) -> io::Result<u64> {
    let mut characters = 0;
    let mut exchange = client.request(
        Channel::Shell,
        Content::ExecuteRequest(ExecuteRequest {
            code: code.to_owned(),
            ..ExecuteRequest::default()
        }),
    );
    while let Some(popped) = exchange.next().await {
        match popped {
            Popped::Item(Incoming::Output(message)) => {
                if let Content::Stream(stream) = message.content {
                    characters += stream.text.len() as u64;
                }
            }
            Popped::Item(Incoming::Died(reason)) => return Err(io::Error::other(reason)),
            Popped::Item(_) | Popped::Gap { .. } => {}
        }
    }
    Ok(characters)
}

fn round_trip(bench: &Bench, row: &mut Row) -> io::Result<()> {
    // Below 1000 executions in all: there IPython warns about its cache.
    bench.by_client(row, "1+1", 5, 50)
}

fn large_output(bench: &Bench, row: &mut Row) -> io::Result<()> {
    bench.by_client(row, LARGE, 11, 1)
}

fn small_output(bench: &Bench, row: &mut Row) -> io::Result<()> {
    bench.by_client(row, SMALL, 3, 1)
}

/// Heddle: from the start of its process to the line with the result. Raw: from the start of the kernel's process to
/// its `kernel_info_reply`. Jupyter: `start_new_kernel` to the result, without its own imports.
fn first_result(bench: &Bench, row: &mut Row) -> io::Result<()> {
    let mut jupyter = bench.jupyter.client()?;
    for _ in 0..9 {
        let mut command = bench.heddle();
        command.args(["run", "-c", "1+1"]);
        row.heddle
            .add([time_to_line(&mut command, |line| line.contains('2'))?]);

        let started = Instant::now();
        let kernel = bench.kernel()?;
        raw::wait_for_info(&kernel.info)?;
        row.floor.add([started.elapsed()]);
        drop(kernel);

        row.jupyter.add(jupyter.start()?.times());
    }
    Ok(())
}

/// Whole commands, from start to end. Raw: the same cells in a bare kernel, from the start of its process.
fn notebook(bench: &Bench, row: &mut Row) -> io::Result<()> {
    let cells: Vec<String> = (1..=20)
        .map(|n| format!("x{n} = sum(range({n}00))\nprint('cell {n}', x{n})\nx{n}"))
        .collect();
    let json: Vec<_> = cells
        .iter()
        .enumerate()
        .map(|(n, source)| {
            serde_json::json!({"cell_type": "code", "id": format!("cell-{n}"), "source": source, "metadata": {},
                "outputs": [], "execution_count": null})
        })
        .collect();
    let kernelspec =
        serde_json::json!({"name": "python3", "display_name": "Python 3", "language": "python"});
    let json = serde_json::json!({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernelspec}, "cells": json});
    let path = bench.folder.path().join("nb.ipynb");
    let out = bench.folder.path().join("out.ipynb");
    std::fs::write(&path, json.to_string())?;

    for _ in 0..5 {
        let mut command = bench.heddle();
        command.arg("run").arg(&path).arg("-o").arg(&out);
        row.heddle.add([time_command(&mut command)?]);

        let started = Instant::now();
        let kernel = bench.kernel()?;
        let mut client = Raw::connect(&kernel.info)?;
        for cell in &cells {
            let request = client.request(cell);
            client.run(&request)?;
        }
        row.floor.add([started.elapsed()]);
        drop(kernel);

        let mut command = bench.jupyter.execute(&path, &out);
        row.jupyter.add([time_command(&mut command)?]);
    }
    Ok(())
}

/// Heddle: from the start of its process to the event that ends the turn; Planner, code and Planner answer at once.
/// Raw: from the start of a bare kernel's process until the same cell has run. The difference is Heddle's own time.
fn ask(bench: &Bench, row: &mut Row) -> io::Result<()> {
    let planner = |send_to: &str, stop: &str, message: &str| {
        let plan = if send_to == "User" {
            ""
        } else {
            "1. compute the sum"
        };
        let reply = serde_json::json!({"plan_reasoning": "It is computed.", "init_plan": plan, "plan": plan,
            "current_plan_step": plan, "code": "", "stop": stop, "send_to": send_to, "message": message});
        Answer::text(&reply.to_string())
    };
    for _ in 0..9 {
        let answers = vec![
            planner(
                "CodeInterpreter",
                "InProcess",
                "compute the sum of 1 to 100",
            ),
            Answer::text(&format!("The sum, computed.\n```python\n{SUM}\n```")),
            planner("User", "Completed", "The sum is 5050."),
        ];
        let server = bench.runtime.block_on(ModelServer::start(answers));
        let mut command = bench.heddle();
        command.args([
            "ask",
            "--mode",
            "local",
            "--json",
            "What is the sum of 1 to 100?",
        ]);
        command.env("LLM_API_BASE", server.url());
        command
            .env("LLM_API_KEY", "none")
            .env("LLM_MODEL", "scripted");
        row.heddle.add([time_to_line(&mut command, |line| {
            line.starts_with(r#"{"event":"done""#)
        })?]);

        let started = Instant::now();
        let kernel = bench.kernel()?;
        let mut client = Raw::connect(&kernel.info)?;
        let request = client.request(SUM);
        client.run(&request)?;
        row.floor.add([started.elapsed()]);
    }
    Ok(())
}

fn version(bench: &Bench, row: &mut Row) -> io::Result<()> {
    for _ in 0..50 {
        row.heddle
            .add([time_command(bench.heddle().arg("--version"))?]);
    }
    Ok(())
}
