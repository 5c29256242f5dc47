//! `heddle init`: a project's `heddle.toml` from a template.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::error::{CliError, Exit};
use super::{Global, setup, trust};
use crate::config;

/// The file that makes a folder a project.
const FILE: &str = "heddle.toml";

#[derive(Clone, Copy, ValueEnum)]
enum Template {
    /// The safest mode that the machine has, three more tries
    Development,
    /// Containers only, code checked before it runs, limits set
    Production,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Template::Development => include_str!("../../config/templates/development.toml"),
            Template::Production => include_str!("../../config/templates/production.toml"),
        }
    }
}

#[derive(Args)]
pub struct Init {
    /// The project's folder; it is made where there is none
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    #[arg(long, value_enum, default_value = "development")]
    template: Template,
}

impl Init {
    pub fn run(self, global: &Global) -> Result<Exit, CliError> {
        let path = self.folder.join(FILE);
        std::fs::create_dir_all(&self.folder).map_err(CliError::io(format!(
            "cannot make the folder {}",
            self.folder.display()
        )))?;
        let written = std::fs::File::create_new(&path).and_then(|mut file| {
            use std::io::Write;
            file.write_all(self.template.text().as_bytes())
        });
        match written {
            Ok(()) => {
                self.trust(global)?;
                println!("{}", path.display());
                eprintln!("Set LLM_API_KEY and LLM_MODEL, then: heddle doctor, heddle chat");
                Ok(Exit::Done)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(CliError::Usage(format!(
                    "{} is there already and is left as it is. Remove it first, or name another folder",
                    path.display()
                )))
            }
            Err(error) => Err(CliError::io(format!("cannot write {}", path.display()))(
                error,
            )),
        }
    }

    /// Trusts the values of the template, whatever is in the file by now.
    fn trust(&self, global: &Global) -> Result<(), CliError> {
        let request = setup::request(global, &[])?;
        let survey = config::survey_written(&request, &self.folder, self.template.text());
        let values = &survey.loaded.waiting;
        if !values.is_empty() {
            trust::remember(&survey.loaded, values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_template_can_be_read_and_holds_no_key() {
        for template in [Template::Development, Template::Production] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(FILE), template.text()).unwrap();
            let loaded = config::load(&config::Request {
                project: Some(folder.path().to_path_buf()),
                cwd: folder.path().to_path_buf(),
                home: None,
                user_file: None,
                state: None,
                flags: Vec::new(),
                env: &|_| None,
            })
            .unwrap();
            assert_eq!(loaded.warnings, Vec::<String>::new());
            assert!(loaded.settings.llm.api_key.is_none());
        }
    }
}
