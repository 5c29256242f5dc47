//! Pictures in terminals that can show them: the protocols of kitty and of iTerm2.

use std::io::IsTerminal;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::event::MimeBundle;
use crate::executor::artifacts::text_of;

/// The largest picture that is shown, in bytes; a larger one becomes a file.
const LARGEST: usize = 8 << 20;
/// Characters of one piece of a picture, at most (kitty: Transferring pixel data).
const PIECE: usize = 4096;

/// How a terminal wants its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Kitty,
    Iterm,
}

impl Protocol {
    /// Of this process's terminal.
    pub fn here() -> Option<Protocol> {
        let terminal = std::io::stdout().is_terminal();
        terminal
            .then(|| Protocol::of(|name| std::env::var(name).ok()))
            .flatten()
    }

    /// By what terminals say of themselves. What stands between, tmux or screen, would show the bytes.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Protocol> {
        let is = |name, values: &[&str]| {
            variable(name).is_some_and(|value: String| values.contains(&value.as_str()))
        };
        if variable("TMUX").is_some() || variable("STY").is_some() {
            return None;
        }
        if variable("KITTY_WINDOW_ID").is_some()
            || is("TERM", &["xterm-kitty", "xterm-ghostty"])
            || is("TERM_PROGRAM", &["ghostty"])
        {
            return Some(Protocol::Kitty);
        }
        let iterm = is("TERM_PROGRAM", &["iTerm.app", "WezTerm"]) || is("LC_TERMINAL", &["iTerm2"]);
        iterm.then_some(Protocol::Iterm)
    }

    /// What shows the picture of this output, where it has one that the terminal can show. The data are taken apart
    /// and put together again, so that nothing else reaches the terminal.
    pub fn sequence(self, data: &MimeBundle) -> Option<String> {
        let types: &[(&str, &[u8])] = match self {
            Protocol::Kitty => &[("image/png", b"\x89PNG")],
            Protocol::Iterm => &[
                ("image/png", b"\x89PNG"),
                ("image/jpeg", b"\xff\xd8\xff"),
                ("image/gif", b"GIF8"),
            ],
        };
        let bytes = types.iter().find_map(|(mime, beginning)| {
            let text: String = text_of(data.get(*mime)?).split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(text).ok()?;
            (bytes.starts_with(beginning) && bytes.len() <= LARGEST).then_some(bytes)
        })?;
        let text = STANDARD.encode(&bytes);
        Some(match self {
            Protocol::Kitty => kitty(&text),
            Protocol::Iterm => format!(
                "\x1b]1337;File=inline=1;size={};preserveAspectRatio=1:{text}\x07\n",
                bytes.len()
            ),
        })
    }
}

/// In pieces, and without an answer (`q=2`), which would be read as keys.
fn kitty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 64);
    let mut rest = text;
    let mut control = "a=T,f=100,q=2,";
    while !rest.is_empty() {
        // Base64 is ASCII.
        let (piece, after) = rest.split_at(PIECE.min(rest.len()));
        let more = u8::from(!after.is_empty());
        out.push_str(&format!("\x1b_G{control}m={more};{piece}\x1b\\"));
        (rest, control) = (after, "");
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn terminal(variables: &[(&str, &str)]) -> Option<Protocol> {
        Protocol::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_terminal_is_known_by_its_variables_and_never_through_tmux() {
        assert_eq!(terminal(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        let iterm = ("TERM_PROGRAM", "iTerm.app");
        assert_eq!(terminal(&[iterm]), Some(Protocol::Iterm));
        assert_eq!(terminal(&[iterm, ("TMUX", "/tmp/tmux")]), None);
        assert_eq!(terminal(&[("TERM", "xterm-256color")]), None);
    }

    #[test]
    fn a_picture_goes_in_pieces_and_nothing_but_pictures_goes() {
        let png = [b"\x89PNG".as_slice(), &[7; 4000]].concat();
        let data = json!({"image/png": STANDARD.encode(&png)});
        let shown = Protocol::Kitty.sequence(data.as_object().unwrap()).unwrap();
        assert!(
            shown.starts_with("\x1b_Ga=T,f=100,q=2,m=1;iVBOR"),
            "{shown}"
        );
        assert_eq!(shown.matches("\x1b_G").count(), 2);
        assert!(shown.contains("\x1b\\\x1b_Gm=0;"));
        for hostile in ["\x1b]52;c;aGk=\x07", "aGk=", ""] {
            let data = json!({"image/png": hostile});
            assert_eq!(Protocol::Iterm.sequence(data.as_object().unwrap()), None);
        }
    }
}
