//! The name of a session, `<YYYYMMDD-HHMMSS-8hex>`: sorts by time, and is safe as the name of a folder.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::SessionError;

/// A session's name: local date and time of its start, and 8 random hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// A new name for a session that starts now.
    pub fn generate() -> SessionId {
        let now = jiff::ZonedDateTime::now().strftime("%Y%m%d-%H%M%S");
        let random = Uuid::new_v4().simple().to_string();
        SessionId(format!("{now}-{}", &random[..8]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = SessionError;

    /// Takes the exact form alone, so that no other text can reach a path.
    fn from_str(text: &str) -> Result<SessionId, SessionError> {
        const FORM: &[u8; 24] = b"dddddddd-dddddd-xxxxxxxx";
        let fits = |(byte, form): (u8, &u8)| match form {
            b'd' => byte.is_ascii_digit(),
            b'x' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            _ => byte == *form,
        };
        if text.len() == FORM.len() && text.bytes().zip(FORM).all(fits) {
            Ok(SessionId(text.to_owned()))
        } else {
            Err(SessionError::BadId {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_is_a_valid_one_and_never_the_same() {
        let id = SessionId::generate();
        assert_eq!(id.as_str().parse::<SessionId>().unwrap(), id);
        assert_ne!(id, SessionId::generate());
    }

    #[test]
    fn any_other_form_is_refused() {
        for text in [
            "",
            "../x",
            "20261124-233159-0123abc",
            "20261124-233159-0123abcdE",
            "20261124-233159-0123ABCD",
            "20261124/233159-0123abcd",
            "20261124-233159-0123abc/",
            "２0261124-233159-0123ab",
            "20261124-233159-0123abcd\n",
        ] {
            let message = text.parse::<SessionId>().unwrap_err().to_string();
            assert!(message.contains("YYYYMMDD-HHMMSS"), "{message}");
        }
    }
}
