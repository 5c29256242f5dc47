//! Any bytes, cut into frames: nothing panics, frames are never changed, and what was decoded once is
//! encoded and decoded to the same.
//!
//! The input is a list of frames, each led by its length in one byte. `255` stands for the delimiter, so that
//! messages are found at once. Run with `cargo +nightly fuzz run frames`.

#![no_main]

use bytes::Bytes;
use heddle::protocol::frames::DELIMITER;
use heddle::protocol::{Message, RawMessage, Signer, Verifier};
use libfuzzer_sys::fuzz_target;

fn frames(mut input: &[u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let Some((&length, rest)) = input.split_first() {
        if length == 255 {
            frames.push(Bytes::from_static(DELIMITER));
            input = rest;
        } else {
            let (frame, rest) = rest.split_at(rest.len().min(length.into()));
            frames.push(Bytes::copy_from_slice(frame));
            input = rest;
        }
    }
    frames
}

fuzz_target!(|input: &[u8]| {
    let received = frames(input);
    let Ok(mut raw) = RawMessage::parse(received.clone()) else {
        return;
    };
    assert_eq!(raw.clone().into_frames(), received);
    let _ = (raw.peek().is_ok(), raw.parent_msg_id(), format!("{raw:?}"));

    let signer = Signer::new("hmac-sha256", b"key").expect("a known scheme");
    let verifier = Verifier::new(signer.clone());
    assert!(verifier.verify(&raw).is_err());
    signer.sign(&mut raw);
    assert!(verifier.verify(&raw).is_ok());
    assert!(verifier.verify(&raw).is_err());

    if let Ok(message) = Message::decode(raw) {
        let again = Message::decode(message.encode()).expect("what we write, we read");
        assert_eq!(again, message);
    }
});
