//! Server-sent events, as far as chat completions use them: the data of each event.
//!
//! Bounded and linear: each byte is looked at once, and an event that does not end is refused rather than stored.
//! Source: HTML Living Standard, section 9.2.6 "Interpreting an event stream". Lines end in LF or CRLF.

/// The event being received is larger than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Oversized;

/// Cuts a stream of bytes into events, wherever the network has cut it.
pub struct Decoder {
    limit: usize,
    line: Vec<u8>,
    data: Vec<u8>,
}

impl Decoder {
    /// `limit` is the size in bytes of the largest event.
    pub fn new(limit: usize) -> Decoder {
        Decoder {
            limit,
            line: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Takes the next bytes; `events` gets the data of every event that they complete.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), Oversized> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + self.data.len() + piece.len() > self.limit {
                return Err(Oversized);
            }
            self.line.extend_from_slice(piece);
            if self.line.ends_with(b"\n") {
                events.extend(self.end_line());
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = self.line.trim_ascii_end();
        let event = if line.is_empty() && !self.data.is_empty() {
            self.data.pop();
            Some(std::mem::take(&mut self.data))
        } else {
            if let Some(value) = line.strip_prefix(b"data:") {
                self.data
                    .extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                self.data.push(b'\n');
            }
            None
        };
        self.line.clear();
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(stream: &[u8], step: usize) -> Vec<String> {
        let mut decoder = Decoder::new(100);
        let mut events = Vec::new();
        for bytes in stream.chunks(step) {
            decoder.push(bytes, &mut events).unwrap();
        }
        events
            .into_iter()
            .map(|data| String::from_utf8(data).unwrap())
            .collect()
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let stream = ": comment\n\nevent: x\r\ndata: 数据\r\n\r\ndata:a\ndata: b\nid: 1\n\n\ndata: [DONE]\n\n";
        for step in 1..=stream.len() {
            assert_eq!(
                decode(stream.as_bytes(), step),
                ["数据", "a\nb", "[DONE]"],
                "{step}"
            );
        }
    }

    #[test]
    fn an_event_that_does_not_end_is_refused() {
        let mut decoder = Decoder::new(100);
        let mut events = Vec::new();
        let flood = "data: x\n".repeat(100);
        assert_eq!(decoder.push(flood.as_bytes(), &mut events), Err(Oversized));
        assert_eq!(
            Decoder::new(100).push(&[b'x'; 101], &mut events),
            Err(Oversized)
        );
        assert!(events.is_empty());
    }
}
