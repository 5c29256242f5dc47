//! The line editor of the commands that converse, with a history of its own.

use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::{DefaultHistory, History};
use rustyline::{Editor, Helper};

use super::error::CliError;

/// Reads what a person types.
pub struct Prompt<H: Helper> {
    editor: Editor<H, DefaultHistory>,
    /// What was typed here, now and earlier; the editor may know more.
    own: DefaultHistory,
    file: Option<PathBuf>,
}

impl<H: Helper> Prompt<H> {
    /// Keeps its history under this name in Heddle's data folder. `earlier` are lines that come before it.
    pub fn new(helper: H, name: &str, earlier: &[String]) -> Result<Prompt<H>, CliError> {
        let config = rustyline::Config::builder().bracketed_paste(true).build();
        let unusable = |error| CliError::Missing(format!("the terminal cannot be used: {error}"));
        let mut own = DefaultHistory::with_config(&config);
        let mut editor = Editor::with_config(config).map_err(unusable)?;
        editor.set_helper(Some(helper));
        let file = data_folder().map(|folder| folder.join(name));
        if let Some(file) = &file {
            // There is none the first time.
            let _ = own.load(file);
        }
        for line in earlier.iter().chain(own.iter()) {
            let _ = editor.add_history_entry(line.as_str());
        }
        Ok(Prompt { editor, own, file })
    }

    pub fn editor(&mut self) -> &mut Editor<H, DefaultHistory> {
        &mut self.editor
    }

    /// Reads a text, `initial` being there already; `None` when the person leaves. Ctrl-C clears the line.
    pub fn read(
        mut self,
        prompt: &(impl rustyline::Prompt + ?Sized),
        initial: &str,
    ) -> (Prompt<H>, Option<String>) {
        let mut initial = initial;
        loop {
            match self.editor.readline_with_initial(prompt, (initial, "")) {
                Ok(text) => {
                    if !text.trim().is_empty() {
                        self.remember(&text);
                    }
                    return (self, Some(text));
                }
                Err(ReadlineError::Interrupted) => initial = "",
                Err(_) => return (self, None),
            }
        }
    }

    /// A history that cannot be kept is no reason to stop.
    fn remember(&mut self, text: &str) {
        let _ = self.editor.add_history_entry(text);
        let _ = self.own.add(text);
        if let Some(file) = &self.file {
            let folder = file.parent().map(std::fs::create_dir_all);
            let _ = folder.map(|made| made.map(|()| self.own.append(file)));
        }
    }
}

/// Where Heddle keeps what is the user's.
pub fn data_folder() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.data_dir().join("heddle"))
}
