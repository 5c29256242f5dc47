//! Jupyter messages: framing, signing, content types. Pure, no I/O.
