//! Asks again where a failure may pass by itself.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::{BoxFuture, ChatRequest, LlmError, Provider, Reply, Sink, StreamEvent};

/// How often, and after what time, a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first one.
    pub max_retries: u32,
    /// Wait before the second try; each later one waits twice as long. Shortened by up to half at random, so that
    /// clients which failed together do not come back together.
    pub first_delay: Duration,
    /// Longest wait of our own making.
    pub max_delay: Duration,
    /// Longest wait on the endpoint's word. If it asks for more, there is no further try: that is for a person to
    /// decide.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_retries: 3,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(8),
            max_retry_after: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The wait after `error`, which ended try number `tried` (from 0), or `None` for no further try. `random` is
    /// any number.
    fn delay(&self, error: &LlmError, tried: u32, random: u64) -> Option<Duration> {
        if !error.is_transient() || tried >= self.max_retries {
            return None;
        }
        let full = self
            .first_delay
            .saturating_mul(2u32.saturating_pow(tried))
            .min(self.max_delay);
        let half = full / 2;
        let own = half + half * (random % 1024) as u32 / 1023;
        match error.retry_after() {
            Some(asked) => (asked <= self.max_retry_after).then(|| asked.max(own)),
            None => Some(own),
        }
    }
}

/// A provider that asks another one again after a failure that may pass (see [`LlmError::is_transient`]).
///
/// Where text was passed on before the failure, [`StreamEvent::Restart`] makes it void.
#[derive(Debug)]
pub struct Retry<P> {
    inner: P,
    policy: RetryPolicy,
}

impl<P: Provider> Retry<P> {
    pub fn new(inner: P, policy: RetryPolicy) -> Retry<P> {
        Retry { inner, policy }
    }

    async fn insist(&self, request: &ChatRequest, sink: &mut Sink<'_>) -> Result<Reply, LlmError> {
        let mut tried = 0;
        loop {
            let mut passed_on = false;
            let mut watch = |event: StreamEvent<'_>| {
                passed_on |= matches!(event, StreamEvent::Text(_));
                sink(event);
            };
            let error = match self.inner.chat(request, &mut watch).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            // Hashing with fresh keys gives a random number.
            let random = RandomState::new().hash_one(tried);
            let Some(delay) = self.policy.delay(&error, tried, random) else {
                return Err(error);
            };
            tried += 1;
            let reason = format!(
                "{error}. Try {tried} of {} follows in {:.1} s.",
                self.policy.max_retries,
                delay.as_secs_f64()
            );
            // A person is told once.
            sink(match passed_on {
                true => StreamEvent::Restart { reason: &reason },
                false => StreamEvent::Notice(&reason),
            });
            tokio::time::sleep(delay).await;
        }
    }
}

impl<P: Provider> Provider for Retry<P> {
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        sink: &'a mut Sink<'a>,
    ) -> BoxFuture<'a, Result<Reply, LlmError>> {
        Box::pin(self.insist(request, sink))
    }

    fn model(&self) -> &str {
        self.inner.model()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(retry_after: Option<u64>) -> LlmError {
        LlmError::Server {
            host: "h".to_owned(),
            status: Some(503),
            retry_after: retry_after.map(Duration::from_secs),
            detail: String::new(),
        }
    }

    #[test]
    fn waits_double_up_to_a_limit_and_vary_by_half() {
        let policy = RetryPolicy {
            max_retries: 40,
            ..RetryPolicy::default()
        };
        for (tried, millis) in [
            (0, 500),
            (1, 1000),
            (2, 2000),
            (4, 8000),
            (5, 8000),
            (39, 8000),
        ] {
            let delay = |random| policy.delay(&server(None), tried, random).unwrap();
            assert_eq!(delay(1023), Duration::from_millis(millis));
            assert_eq!(delay(1024), Duration::from_millis(millis / 2));
            assert!(delay(u64::MAX) <= Duration::from_millis(millis));
        }
        assert_eq!(policy.delay(&server(None), 40, 0), None);
    }

    #[test]
    fn an_endpoint_is_left_alone_as_long_as_it_asks_within_reason() {
        let policy = RetryPolicy::default();
        let delay = |seconds| policy.delay(&server(Some(seconds)), 0, 1023);
        assert_eq!(delay(0), Some(Duration::from_millis(500)));
        assert_eq!(delay(60), Some(Duration::from_secs(60)));
        assert_eq!(delay(61), None);
    }
}
