//! Who answers when running code calls `input()`.

use futures_util::future::BoxFuture;

/// A person, or whatever stands in for one.
pub trait Input: Send {
    /// Whether anybody is there. Where not, `input()` raises at once instead of waiting for ever.
    fn is_present(&self) -> bool;

    /// Reads one line; `None` at the end of input. With `password`, what is typed is not shown.
    fn read(&mut self, prompt: String, password: bool) -> BoxFuture<'_, Option<String>>;
}

/// Nobody.
pub struct NoInput;

impl Input for NoInput {
    fn is_present(&self) -> bool {
        false
    }

    fn read(&mut self, _: String, _: bool) -> BoxFuture<'_, Option<String>> {
        Box::pin(std::future::ready(None))
    }
}
