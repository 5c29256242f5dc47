//! Properties that hold for every input, checked on random ones.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::content::MSG_TYPES;
use super::frames::DELIMITER;
use super::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("ok")),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            object_of(inner).prop_map(Value::Object),
        ]
    })
}

/// Names that some content type has, so that its fields get values of every kind.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        proptest::sample::select(vec![
            "status",
            "code",
            "data",
            "metadata",
            "text",
            "name",
            "traceback",
            "ename",
            "execution_count",
            "user_expressions",
            "payload",
            "history",
            "matches",
            "cursor_pos",
            "transient",
            "display_id",
            "comm_id",
            "comms",
            "restart",
            "silent",
            "language_info",
            "help_links",
            "text/plain",
            "session",
        ])
        .prop_map(str::to_owned),
    ]
}

fn object_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    vec((field(), value), 0..6).prop_map(Map::from_iter)
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    object_of(json())
}

fn msg_type() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(MSG_TYPES).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// Content of a known type, and content that is none.
fn content() -> impl Strategy<Value = Content> {
    let raw = prop_oneof![
        3 => object().prop_map(|object| Bytes::from(Value::Object(object).to_string())),
        1 => json().prop_map(|value| Bytes::from(value.to_string())),
        1 => bytes(),
    ];
    (msg_type(), raw).prop_map(|(msg_type, raw)| Content::decode(&msg_type, &raw))
}

prop_compose! {
    fn header()(
        names in vec(any::<String>(), 4),
        subshell_id in any::<Option<String>>(),
        extra in object_of(json()),
    ) -> Header {
        let mut header = Header::new("status", &names[0], &names[1]);
        header.subshell_id = subshell_id;
        header.extra = extra;
        for known in ["session", "username", "msg_id", "msg_type", "date", "version", "subshell_id"] {
            header.extra.remove(known);
        }
        header
    }
}

prop_compose! {
    fn message()(
        content in content(),
        mut header in header(),
        parent_header in proptest::option::of(header()),
        metadata in object(),
        identities in vec(bytes().prop_filter("not the delimiter", |frame| frame != DELIMITER), 0..3),
        buffers in vec(bytes(), 0..3),
    ) -> Message {
        header.msg_type = content.msg_type().to_owned();
        Message { identities, header, parent_header, metadata, content, buffers }
    }
}

fn signer() -> impl Strategy<Value = Signer> {
    let schemes = vec!["hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"];
    (proptest::sample::select(schemes), vec(any::<u8>(), 1..200))
        .prop_map(|(scheme, key)| Signer::new(scheme, &key).unwrap())
}

proptest! {
    #[test]
    fn any_frames_are_parsed_or_refused_and_never_changed(
        mut frames in vec(bytes(), 0..12),
        delimiter in any::<proptest::sample::Index>(),
    ) {
        if !frames.is_empty() {
            let at = delimiter.index(frames.len());
            frames[at] = Bytes::from_static(DELIMITER);
        }
        if let Ok(raw) = RawMessage::parse(frames.clone()) {
            let _ = (raw.peek(), raw.parent_msg_id(), format!("{raw:?}"), Message::decode(raw.clone()));
            prop_assert_eq!(raw.into_frames(), frames);
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same(message in message()) {
        let frames = message.encode().into_frames();
        let again = Message::decode(RawMessage::parse(frames).unwrap()).unwrap();
        prop_assert_eq!(again, message);
    }

    #[test]
    fn a_peek_sees_what_decoding_sees(message in message()) {
        let raw = message.encode();
        let peek = raw.peek().unwrap();
        prop_assert_eq!(&*peek.msg_type, message.header.msg_type.as_str());
        prop_assert_eq!(&*peek.msg_id, message.header.msg_id.as_str());
        prop_assert_eq!(&*peek.session, message.header.session.as_str());
        prop_assert_eq!(peek.subshell_id.as_deref(), message.header.subshell_id.as_deref());
        let parent = message.parent_header.map(|parent| parent.msg_id);
        prop_assert_eq!(raw.parent_msg_id().map(String::from), parent);
    }

    #[test]
    fn a_signature_holds_until_one_bit_is_flipped(
        message in message(),
        signer in signer(),
        frame in 0..5_usize,
        at in any::<proptest::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut raw = message.encode();
        signer.sign(&mut raw);
        prop_assert!(signer.verify(&raw).is_ok());
        let altered = match frame {
            0 => &mut raw.signature,
            1 => &mut raw.header,
            2 => &mut raw.parent_header,
            3 => &mut raw.metadata,
            _ => &mut raw.content,
        };
        if !altered.is_empty() {
            let mut flipped = altered.to_vec();
            flipped[at.index(altered.len())] ^= 1 << bit;
            *altered = flipped.into();
            prop_assert!(signer.verify(&raw).is_err());
        }
    }

    #[test]
    fn mending_leaves_json_alone(value in json()) {
        let text = value.to_string();
        prop_assert_eq!(json::mend(&text), text);
    }

    #[test]
    fn any_file_is_read_or_refused(bytes in vec(any::<u8>(), 0..200), value in json(), text in any::<String>()) {
        let _ = ConnectionInfo::from_json(&bytes);
        let _ = ConnectionInfo::from_json(value.to_string().as_bytes());
        let _ = KernelSpec::from_json(&bytes);
        let spec = KernelSpec {
            argv: vec![text.clone()],
            env: [("A".to_owned(), format!("${{{text}"))].into(),
            ..KernelSpec::default()
        };
        let _ = (spec.command(&text, &text), spec.expand_env(|name| Some(name.to_owned())), json::mend(&text));
    }
}
