//! `heddle config`: the settings.

use clap::Subcommand;

use super::error::{CliError, Exit};
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
            for [key, value, source] in rows {
                println!(
                    "{}",
                    serde_json::json!({"key": key, "value": value, "source": source})
                );
            }
            return Ok(Exit::Done);
        }
        print!("{}", table(["KEY", "VALUE", "FROM"], &rows));
        for file in &loaded.files {
            println!("\nRead: {}", file.display());
        }
        Ok(Exit::Done)
    }
}
