//! `heddle config`: the settings.

use clap::Subcommand;

use super::error::{CliError, Exit};
use super::output::print;
use super::table::table;
use super::trust::{self, Uses};
use super::{Global, setup};
use crate::config::{self, Loaded, Waiting};

/// Marks a key for which the project file has a value that does not count.
const WAITS: &str = " *";

#[derive(Subcommand)]
pub enum Config {
    /// Each setting with its value and where that came from
    Show,
}

impl Config {
    pub fn run(self, global: &Global) -> Result<Exit, CliError> {
        let Config::Show = self;
        let mut loaded = setup::load(global, Uses::NOTHING, &[])?;
        if global.trust {
            let all = loaded.waiting.clone();
            loaded.accept(&all);
        }
        let rows: Vec<[String; 3]> = loaded.rows().collect();
        if global.json {
            let line = |[key, value, source]: [String; 3]| {
                let mut row = serde_json::json!({"key": key, "value": value, "source": source});
                let waiting: Vec<_> = of_key(&loaded, &key).map(json).collect();
                if !waiting.is_empty() {
                    row["waiting"] = waiting.into();
                }
                format!("{row}\n")
            };
            print(&rows.into_iter().map(line).collect::<String>())?;
            return Ok(Exit::Done);
        }
        let marked = rows.into_iter().map(|[key, value, source]| {
            let waits = of_key(&loaded, &key).next().map_or("", |_| WAITS);
            [key, value, source + waits]
        });
        let mut text = table(["KEY", "VALUE", "FROM"], &marked.collect::<Vec<_>>());
        if !loaded.waiting.is_empty() {
            let command = trust::command(&loaded);
            text.push_str(&format!(
                "\n{WAITS} These need your trust, and do not count before: {command}\n"
            ));
        }
        for waiting in &loaded.waiting {
            text.push_str(&format!(
                "  {} ({})\n",
                trust::line(waiting),
                waiting.source
            ));
        }
        for file in &loaded.files {
            text.push_str(&format!("\nRead: {}\n", file.display()));
        }
        print(&text)?;
        Ok(Exit::Done)
    }
}

/// The values of the project file for a key that do not count.
fn of_key<'a>(loaded: &'a Loaded, key: &'a str) -> impl Iterator<Item = &'a Waiting> {
    let is = move |name: &str| config::lookup(name).is_some_and(|found| found.name == key);
    loaded.waiting.iter().filter(move |it| is(&it.name))
}

fn json(waiting: &Waiting) -> serde_json::Value {
    serde_json::json!({
        "name": waiting.name, "value": waiting.shown, "source": waiting.source.to_string(),
    })
}
