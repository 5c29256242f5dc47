//! `heddle config`: the settings.

use clap::Subcommand;

use super::error::{CliError, Exit};
use super::output::print;
use super::table::table;
use super::{Global, setup};

#[derive(Subcommand)]
pub enum Config {
    /// Each setting with its value and where that came from
    Show,
}

impl Config {
    pub fn run(self, global: &Global) -> Result<Exit, CliError> {
        let Config::Show = self;
        let loaded = setup::load(global, &[])?;
        let rows: Vec<[String; 3]> = loaded.rows().collect();
        if global.json {
            let line = |[key, value, source]: [String; 3]| {
                format!(
                    "{}\n",
                    serde_json::json!({"key": key, "value": value, "source": source})
                )
            };
            print(&rows.into_iter().map(line).collect::<String>())?;
            return Ok(Exit::Done);
        }
        let mut text = table(["KEY", "VALUE", "FROM"], &rows);
        for file in &loaded.files {
            text.push_str(&format!("\nRead: {}\n", file.display()));
        }
        print(&text)?;
        Ok(Exit::Done)
    }
}
