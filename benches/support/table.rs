//! The printed table: medians, ratios, targets.

use std::time::Duration;

/// The middle one of these.
pub fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied()
}

/// What one contender needed, round after round.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, times: impl IntoIterator<Item = Duration>) {
        self.0.extend(times);
    }

    pub fn median(&self) -> Option<Duration> {
        median(&self.0)
    }
}

/// One row: Heddle beside what it is compared with.
pub struct Row {
    pub name: &'static str,
    pub heddle: Times,
    /// The raw sockets, or the kernel without anything around it.
    pub floor: Times,
    pub jupyter: Times,
    pub targets: Vec<Target>,
}

/// What a row should show.
pub enum Target {
    /// At most so many times the floor.
    OfFloor(f64),
    /// At most so many times what Jupyter needs.
    OfJupyter(f64),
    /// At most this.
    Within(Duration),
    /// At most this above the floor.
    AboveFloor(Duration),
}

impl Row {
    pub fn new(name: &'static str, targets: Vec<Target>) -> Row {
        Row {
            name,
            heddle: Times::default(),
            floor: Times::default(),
            jupyter: Times::default(),
            targets,
        }
    }

    fn verdict(&self, target: &Target) -> String {
        let heddle = self.heddle.median().unwrap_or(Duration::MAX);
        let floor = self.floor.median().unwrap_or_default();
        let jupyter = self.jupyter.median().unwrap_or_default();
        let (what, met) = match target {
            Target::OfFloor(most) => (format!("<= {most} x raw"), heddle <= floor.mul_f64(*most)),
            Target::OfJupyter(most) => {
                let what = format!("<= {most} x Jupyter");
                (what, heddle <= jupyter.mul_f64(*most))
            }
            Target::Within(most) => (format!("<= {}", show(*most)), heddle <= *most),
            Target::AboveFloor(most) => {
                let above = heddle.saturating_sub(floor);
                let what = format!("raw + {} <= raw + {}", show(above), show(*most));
                (what, above <= *most)
            }
        };
        format!("{what}: {}", if met { "met" } else { "NOT MET" })
    }
}

/// Prints a row a line, and every target with its verdict.
pub fn print(rows: &[Row]) {
    let widths = [38, 10, 10, 10, 8, 11];
    let head = [
        "medians",
        "heddle",
        "raw",
        "Jupyter",
        "h / raw",
        "h / Jupyter",
    ];
    print_line(&widths, &head.map(str::to_owned), "target");
    for row in rows {
        let heddle = row.heddle.median();
        let ratio = |other: &Times| match (heddle, other.median()) {
            (Some(heddle), Some(other)) => {
                format!("{:.2}", heddle.as_secs_f64() / other.as_secs_f64())
            }
            _ => String::new(),
        };
        let time = |times: &Times| times.median().map(show).unwrap_or_default();
        let cells = [
            row.name.to_owned(),
            time(&row.heddle),
            time(&row.floor),
            time(&row.jupyter),
            ratio(&row.floor),
            ratio(&row.jupyter),
        ];
        let verdicts: Vec<String> = row
            .targets
            .iter()
            .map(|target| row.verdict(target))
            .collect();
        print_line(&widths, &cells, &verdicts.join("; "));
    }
}

fn print_line(widths: &[usize; 6], cells: &[String; 6], last: &str) {
    print!("{:<width$}", cells[0], width = widths[0]);
    for (cell, width) in cells.iter().zip(widths).skip(1) {
        print!("  {cell:>width$}");
    }
    println!("  {last}");
}

fn show(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.01 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.2} ms", s * 1e3),
    }
}
