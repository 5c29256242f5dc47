//! What the models are shown of the past.
//!
//! Two threads of messages, one for each role, that only grow at their end, so that an endpoint's prompt cache serves
//! everything before it. When a thread outgrows its budget its older half is cut off at once, which costs one miss
//! instead of one a turn.

use crate::llm::{ChatMessage, Role};

/// What stands in for what was cut off.
const CUT: &str =
    "(Earlier parts of this conversation are left out. Variables and files made then still exist.)";

/// The past as one role sees it.
#[derive(Clone, Debug)]
pub struct Thread {
    messages: Vec<ChatMessage>,
    /// The most characters of it; half of them stay after a cut.
    budget: usize,
}

impl Thread {
    pub fn new(budget: usize) -> Thread {
        Thread {
            messages: Vec::new(),
            budget,
        }
    }

    /// From the next message on.
    pub fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// Adds what the role is told. Two messages of one side in a row become one: many endpoints want them to alternate.
    pub fn told(&mut self, content: impl Into<String>) {
        self.add(Role::User, content.into());
    }

    /// Adds what the role said.
    pub fn said(&mut self, content: impl Into<String>) {
        self.add(Role::Assistant, content.into());
    }

    fn add(&mut self, role: Role, content: String) {
        match self.messages.last_mut() {
            Some(last) if last.role == role => {
                last.content.push_str("\n\n");
                last.content.push_str(&content);
            }
            _ => self.messages.push(ChatMessage::new(role, content)),
        }
        self.fit();
    }

    /// The messages of a request: the role's instructions, then the past.
    pub fn request(&self, system: &str) -> Vec<ChatMessage> {
        std::iter::once(ChatMessage::new(Role::System, system))
            .chain(self.messages.iter().cloned())
            .collect()
    }

    fn fit(&mut self) {
        let size = |message: &ChatMessage| message.content.chars().count();
        let mut left: usize = self.messages.iter().map(size).sum();
        if left <= self.budget {
            return;
        }
        let mut cut = 0;
        while left > self.budget / 2 && cut + 2 < self.messages.len() {
            left -= size(&self.messages[cut]);
            cut += 1;
        }
        // The first message after the cut must be one that the role was told.
        if self.messages[cut].role == Role::Assistant {
            cut += 1;
        }
        self.messages.drain(..cut);
        if let Some(first) = self.messages.first_mut()
            && cut > 0
        {
            first.content = format!("{CUT}\n\n{}", first.content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: usize = 60_000;

    #[test]
    fn sides_alternate() {
        let mut thread = Thread::new(BUDGET);
        thread.told("a");
        thread.told("b");
        thread.said("c");
        let roles: Vec<Role> = thread.request("s").iter().map(|m| m.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant]);
        assert_eq!(thread.request("s")[1].content, "a\n\nb");
    }

    #[test]
    fn a_long_past_is_cut_to_half_and_says_so() {
        let mut thread = Thread::new(BUDGET);
        for _ in 0..40 {
            thread.told("x".repeat(1000));
            thread.said("y".repeat(1000));
        }
        let request = thread.request("s");
        let size: usize = request.iter().map(|m| m.content.len()).sum();
        assert!(size < BUDGET + 1000, "{size}");
        assert_eq!(request[1].role, Role::User);
        assert!(request[1].content.starts_with(CUT));
    }

    #[test]
    fn one_message_larger_than_all_is_kept() {
        let mut thread = Thread::new(BUDGET);
        thread.told("x".repeat(BUDGET * 2));
        assert_eq!(thread.request("s").len(), 2);
    }
}
