//! Signatures: an HMAC over the four dictionaries of a message, and the memory that refuses a repetition.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::{ProtocolError, RawMessage};

/// Signs and verifies with one key (messaging: The wire protocol, `signature_scheme`).
///
/// Holds the two hash states that the key leads to, never the key; they are zeroed when dropped.
#[derive(Clone)]
pub struct Signer(Scheme);

#[derive(Clone)]
enum Scheme {
    Unsigned,
    Sha224(Hmac<Sha224>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Signer {
    /// `scheme` as a connection file names it, `hmac-sha256` for instance. An empty `key` means that
    /// messages are not signed, whatever the scheme.
    ///
    /// # Errors
    /// [`ProtocolError::UnknownScheme`] for a digest other than those of SHA-2.
    pub fn new(scheme: &str, key: &[u8]) -> Result<Signer, ProtocolError> {
        fn keyed<M: KeyInit>(key: &[u8]) -> M {
            M::new_from_slice(key).expect("HMAC takes keys of any length")
        }
        Ok(Signer(match scheme {
            _ if key.is_empty() => Scheme::Unsigned,
            "hmac-sha224" => Scheme::Sha224(keyed(key)),
            "hmac-sha256" => Scheme::Sha256(keyed(key)),
            "hmac-sha384" => Scheme::Sha384(keyed(key)),
            "hmac-sha512" => Scheme::Sha512(keyed(key)),
            _ => {
                return Err(ProtocolError::UnknownScheme {
                    scheme: scheme.to_owned(),
                });
            }
        }))
    }

    /// Whether messages carry a signature at all.
    pub fn is_signing(&self) -> bool {
        !matches!(self.0, Scheme::Unsigned)
    }

    /// Sets the signature of `message` to the lower-case hex of its HMAC, or to nothing when unsigned.
    pub fn sign(&self, message: &mut RawMessage) {
        message.signature = match &self.0 {
            Scheme::Unsigned => Bytes::new(),
            Scheme::Sha224(mac) => hex(&over(mac, message).finalize().into_bytes()),
            Scheme::Sha256(mac) => hex(&over(mac, message).finalize().into_bytes()),
            Scheme::Sha384(mac) => hex(&over(mac, message).finalize().into_bytes()),
            Scheme::Sha512(mac) => hex(&over(mac, message).finalize().into_bytes()),
        };
    }

    /// Compares the signature, in constant time, with the HMAC of the frames as they were received.
    ///
    /// # Errors
    /// [`ProtocolError::BadSignature`]: drop the message, never answer it.
    pub fn verify(&self, message: &RawMessage) -> Result<(), ProtocolError> {
        match &self.0 {
            Scheme::Unsigned => Ok(()),
            Scheme::Sha224(mac) => check(mac, message),
            Scheme::Sha256(mac) => check(mac, message),
            Scheme::Sha384(mac) => check(mac, message),
            Scheme::Sha512(mac) => check(mac, message),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Scheme::Unsigned => "Signer(unsigned)",
            Scheme::Sha224(_) => "Signer(hmac-sha224)",
            Scheme::Sha256(_) => "Signer(hmac-sha256)",
            Scheme::Sha384(_) => "Signer(hmac-sha384)",
            Scheme::Sha512(_) => "Signer(hmac-sha512)",
        })
    }
}

fn over<M: Mac + Clone>(mac: &M, message: &RawMessage) -> M {
    let mut mac = mac.clone();
    for frame in message.signed_frames() {
        mac.update(frame);
    }
    mac
}

fn check<M: Mac + Clone>(mac: &M, message: &RawMessage) -> Result<(), ProtocolError> {
    let claimed = unhex(&message.signature).ok_or(ProtocolError::BadSignature)?;
    over(mac, message)
        .verify_slice(&claimed)
        .map_err(|_| ProtocolError::BadSignature)
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(bytes: &[u8]) -> Bytes {
    bytes
        .iter()
        .flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
        .collect()
}

/// Lower case only: an upper-case copy of a signature must not pass as a new one.
fn unhex(hex: &[u8]) -> Option<Vec<u8>> {
    let digit = |at: u8| HEX.iter().position(|hex| *hex == at).map(|n| n as u8);
    let (pairs, []) = hex.as_chunks::<2>() else {
        return None;
    };
    if hex.len() > 128 {
        return None; // longer than any digest here
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

/// How many signatures [`Replay`] remembers; as many as jupyter_client does.
pub const REPLAY_MEMORY: usize = 65_536;

/// Refuses a signature that was seen before, for one direction of one session.
///
/// Remembers the last [`REPLAY_MEMORY`] signatures, in at most 8 MiB. Check a message only after its
/// signature was verified: a forger could otherwise make a genuine message look repeated.
#[derive(Default)]
pub struct Replay {
    seen: HashSet<[u8; 32]>,
    oldest_first: VecDeque<[u8; 32]>,
}

impl Replay {
    pub fn new() -> Replay {
        Replay::default()
    }

    /// Remembers `signature`. An empty one says nothing about its message and always passes.
    ///
    /// # Errors
    /// [`ProtocolError::Replayed`] when it is remembered already.
    pub fn check(&mut self, signature: &[u8]) -> Result<(), ProtocolError> {
        if signature.is_empty() {
            return Ok(());
        }
        let digest: [u8; 32] = Sha256::digest(signature).into();
        if !self.seen.insert(digest) {
            return Err(ProtocolError::Replayed);
        }
        self.oldest_first.push_back(digest);
        if self.oldest_first.len() > REPLAY_MEMORY
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.seen.remove(&oldest);
        }
        Ok(())
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replay({} signatures)", self.seen.len())
    }
}

/// The check of every message that one end receives: signed by a holder of the key, and not before. Shared by its
/// channels; a large message on one of them holds up none on another.
#[derive(Debug)]
pub struct Verifier {
    signer: Signer,
    replay: Mutex<Replay>,
}

impl Verifier {
    pub fn new(signer: Signer) -> Verifier {
        Verifier {
            signer,
            replay: Mutex::default(),
        }
    }

    /// # Errors
    /// [`ProtocolError::BadSignature`] or [`ProtocolError::Replayed`]: drop the message, never answer it.
    pub fn verify(&self, message: &RawMessage) -> Result<(), ProtocolError> {
        self.signer.verify(message)?;
        if self.signer.is_signing() {
            // A signature is at most as long as a digest here, whatever it signs. One that was seen is remembered even
            // where another update was cut off by a panic.
            let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
            replay.check(&message.signature)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a0436f6c-1916-498b-8eb9-e81ab9368e84";

    fn message() -> RawMessage {
        RawMessage {
            header: Bytes::from_static(
                br#"{"msg_id":"m1","session":"s1","username":"u","date":"2024-01-01T00:00:00.000000Z","msg_type":"execute_request","version":"5.4"}"#,
            ),
            parent_header: Bytes::from_static(b"{}"),
            metadata: Bytes::from_static(b"{}"),
            content: Bytes::from_static("{\"code\":\"1 + 1 # é\"}".as_bytes()),
            buffers: vec![Bytes::from_static(b"not signed")],
            ..RawMessage::default()
        }
    }

    /// Computed with `hmac.new(key, digestmod=…)` of Python's standard library.
    #[test]
    fn signatures_are_those_of_pythons_hmac() {
        for (scheme, expected) in [
            (
                "hmac-sha224",
                "dbb93b84dcef5815163f6f81b80d1c37e382773d60eb080a43830550",
            ),
            (
                "hmac-sha256",
                "799533e7748953e3548e015d3c18591ad3d1e6c30d2c8fea07e715e16c262ad4",
            ),
            (
                "hmac-sha384",
                "52e16967d99c21934fce68cd637de1fca56d5a7d9b849c181f6d397361f71f8b922527f30ea819b798365871cc5b1d39",
            ),
            (
                "hmac-sha512",
                "89f25c41bac90c4c0754b0a7a8fa1527eb2a0fc0ed0dd6233550ffe2589eb18b1135f66237db4988cb22c604507205440fa27e2d238148cbe507b0f134ab6099",
            ),
        ] {
            let signer = Signer::new(scheme, KEY).unwrap();
            let mut signed = message();
            signer.sign(&mut signed);
            assert_eq!(signed.signature, expected, "{scheme}");
            signer.verify(&signed).unwrap();
        }
    }

    #[test]
    fn another_key_an_upper_case_digit_and_no_signature_are_refused() {
        let signer = Signer::new("hmac-sha256", KEY).unwrap();
        let mut signed = message();
        signer.sign(&mut signed);
        assert!(
            Signer::new("hmac-sha256", b"other")
                .unwrap()
                .verify(&signed)
                .is_err()
        );
        signed.signature = signed.signature.to_ascii_uppercase().into();
        assert!(matches!(
            signer.verify(&signed),
            Err(ProtocolError::BadSignature)
        ));
        signed.signature = Bytes::new();
        assert!(matches!(
            signer.verify(&signed),
            Err(ProtocolError::BadSignature)
        ));
        signed.signature = Bytes::from_static(b"799");
        assert!(signer.verify(&signed).is_err());
    }

    #[test]
    fn an_empty_key_means_unsigned() {
        let signer = Signer::new("", b"").unwrap();
        let mut sent = message();
        signer.sign(&mut sent);
        assert_eq!(sent.signature, "");
        let verifier = Verifier::new(signer);
        verifier.verify(&sent).unwrap();
        verifier.verify(&sent).unwrap();
    }

    #[test]
    fn an_unknown_scheme_names_itself_and_the_choices() {
        let error = Signer::new("hmac-md5", KEY).unwrap_err().to_string();
        assert!(
            error.contains("hmac-md5") && error.contains("hmac-sha256"),
            "{error}"
        );
    }

    #[test]
    fn a_repeated_message_is_refused_and_a_forged_one_is_not_remembered() {
        let signer = Signer::new("hmac-sha256", KEY).unwrap();
        let verifier = Verifier::new(signer.clone());
        let mut signed = message();
        signer.sign(&mut signed);

        let mut forged = signed.clone();
        forged.content = Bytes::from_static(b"{}");
        assert!(matches!(
            verifier.verify(&forged),
            Err(ProtocolError::BadSignature)
        ));
        verifier.verify(&signed).unwrap();
        assert!(matches!(
            verifier.verify(&signed),
            Err(ProtocolError::Replayed)
        ));
    }

    #[test]
    fn a_large_message_is_hashed_without_the_lock_that_all_channels_share() {
        let signer = Signer::new("hmac-sha256", KEY).unwrap();
        let verifier = Verifier::new(signer);
        let held = verifier.replay.lock().unwrap();
        // It is found out to be forged while another channel has the lock.
        assert!(matches!(
            verifier.verify(&message()),
            Err(ProtocolError::BadSignature)
        ));
        drop(held);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let mut replay = Replay::new();
        for n in 0..=REPLAY_MEMORY {
            replay.check(n.to_string().as_bytes()).unwrap();
        }
        assert_eq!(replay.seen.len(), REPLAY_MEMORY);
        assert!(matches!(replay.check(b"1"), Err(ProtocolError::Replayed)));
        replay.check(b"0").unwrap();
    }

    #[test]
    fn debug_output_has_no_key() {
        let signer = Signer::new("hmac-sha256", KEY).unwrap();
        assert_eq!(format!("{signer:?}"), "Signer(hmac-sha256)");
    }
}
