//! The frames between here and the first process in a container, as `kernelspec/init.py` describes them.
//!
//! What comes from there is hostile: a body's length is two bytes and a connection's number one, so that nothing can
//! claim more than it sends, and there is room for all that can be claimed.

/// Bytes of one connection that may be on the way in one direction.
pub(super) const WINDOW: usize = 256 << 10;
const HEADER: usize = 4;
/// The longest body.
pub(super) const BODY: usize = u16::MAX as usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello,
    Ready,
    Open,
    Data,
    Credit,
    Close,
    Output,
    Beat,
}

const KINDS: [Kind; 8] = [
    Kind::Hello,
    Kind::Ready,
    Kind::Open,
    Kind::Data,
    Kind::Credit,
    Kind::Close,
    Kind::Output,
    Kind::Beat,
];

/// A frame on the wire. `body` has [`BODY`] bytes at most; of a longer one the rest is cut off.
pub(super) fn encode(kind: Kind, connection: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend([kind as u8, connection]);
    frame.extend(length.to_be_bytes());
    frame.extend(&body[..length.into()]);
    frame
}

/// A frame that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) connection: u8,
    pub(super) body: &'a [u8],
}

/// Finds the frames in a stream of bytes.
#[derive(Default)]
pub(super) struct Decoder {
    /// Less than one frame.
    rest: Vec<u8>,
}

impl Decoder {
    /// Passes on the frames that are whole now. An error is the first that there cannot be, or of `take`.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Frame<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        self.rest.extend(bytes);
        let mut at = 0;
        while let Some((header, behind)) = self.rest[at..].split_first_chunk::<HEADER>() {
            let [kind, connection, high, low] = *header;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some(kind) = KINDS.get(usize::from(kind)) else {
                return Err(format!("it sent a frame of no known kind, {kind}"));
            };
            let Some(body) = behind.get(..length) else {
                break;
            };
            take(Frame {
                kind: *kind,
                connection,
                body,
            })?;
            at += HEADER + length;
        }
        self.rest.drain(..at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Kind, u8, Vec<u8>);

    fn decode(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<Vec<Owned>, String> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece.as_ref(), |frame| {
                frames.push((frame.kind, frame.connection, frame.body.to_vec()));
                Ok(())
            })?;
            assert!(decoder.rest.len() < HEADER + BODY + 1);
        }
        Ok(frames)
    }

    #[test]
    fn an_unknown_kind_is_refused_before_its_body_comes() {
        assert!(decode([[8, 0, 0xff, 0xff]].iter()).is_err());
    }

    #[test]
    fn a_body_that_is_too_long_for_a_frame_is_cut_and_harms_no_other() {
        let mut bytes = encode(Kind::Data, 1, &[9; BODY + 1]);
        bytes.extend(encode(Kind::Close, 1, b""));
        let frames = decode([bytes].iter()).unwrap();
        assert_eq!(frames[0].2.len(), BODY);
        assert_eq!(frames[1], (Kind::Close, 1, Vec::new()));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            sent in prop::collection::vec((0usize..8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 1..8),
            cut in 1usize..50,
        ) {
            let sent: Vec<Owned> = sent.into_iter().map(|(kind, number, body)| (KINDS[kind], number, body)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|(kind, number, body)| encode(*kind, *number, body)).collect();
            prop_assert_eq!(decode(bytes.chunks(cut)).unwrap(), sent);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in 1usize..50) {
            let _ = decode(bytes.chunks(cut));
        }
    }
}
