//! Which of two values of a key is the stricter one.

use super::value::Value;

/// The order of a key's values.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Groups of words, from the loosest to the strictest; those of one group cannot be compared.
    Words(&'static [&'static [&'static str]]),
    /// This truth value is the stricter one.
    Is(bool),
    /// The smaller number is the stricter one.
    Smaller,
    /// The same, but 0 stands for no limit.
    SmallerButZero,
    /// The larger number is the stricter one.
    Larger,
    /// A list within the other; this one stands where none is set.
    Within(&'static [&'static str]),
    /// A list that contains the other; this one stands where none is set. Without such a list the key replaces another
    /// one, with which it cannot be compared.
    Containing(Option<&'static [&'static str]>),
}

impl Order {
    /// Whether a value is at least as strict as another; `None` is a key that is not set.
    pub(super) fn holds(self, value: Option<&Value>, other: Option<&Value>) -> bool {
        if Value::same(value, other) {
            return true;
        }
        let numbers = || Some((number(value?)?, number(other?)?));
        match self {
            Order::Words(groups) => rank(groups, value) > rank(groups, other),
            Order::Is(truth) => matches!(value, Some(Value::Bool(it)) if *it == truth),
            Order::Smaller => numbers().is_some_and(|(value, other)| value <= other),
            Order::SmallerButZero => numbers().is_some_and(|(value, other)| {
                let limit = |number| if number == 0.0 { f64::INFINITY } else { number };
                limit(value) <= limit(other)
            }),
            Order::Larger => numbers().is_some_and(|(value, other)| value >= other),
            Order::Within(default) => contains(&items(other, default), &items(value, default)),
            Order::Containing(Some(default)) => {
                contains(&items(value, default), &items(other, default))
            }
            Order::Containing(None) => match (value, other) {
                (Some(_), Some(_)) => contains(&items(value, &[]), &items(other, &[])),
                _ => false,
            },
        }
    }
}

/// Higher is stricter; nothing is known of a word that is in no group.
fn rank(groups: &[&[&str]], value: Option<&Value>) -> Option<usize> {
    let Some(Value::Text(word)) = value else {
        return None;
    };
    groups.iter().position(|group| group.contains(&&**word))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        // Every bound of the table is far below where these are no longer exact.
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::Seconds(time) => Some(time.as_secs_f64()),
        _ => None,
    }
}

fn items<'a>(value: Option<&'a Value>, default: &'a [&'a str]) -> Vec<&'a str> {
    match value {
        Some(Value::List(items)) => items.iter().map(String::as_str).collect(),
        _ => default.to_vec(),
    }
}

fn contains(all: &[&str], some: &[&str]) -> bool {
    some.iter().all(|item| all.contains(item))
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Trust, lookup};
    use super::super::value;

    /// Whether `value` counts by itself where `other` would count, each in its text form; an empty one is not set.
    fn free(key: &str, value: &str, other: &str) -> bool {
        let key = lookup(key).unwrap();
        let Trust::Stricter(order, _) = key.trust else {
            panic!("{} has no order", key.name);
        };
        let read = |text: &str| {
            let set = (!text.is_empty()).then(|| value::from_table(key.kind, text));
            set.map(|value| value.unwrap())
        };
        order.holds(read(value).as_ref(), read(other).as_ref())
    }

    #[test]
    fn only_what_is_at_least_as_strict_counts_by_itself() {
        let mode = "execution_service.kernel_mode";
        for (key, value, other, expected) in [
            (mode, "auto", "local", true),
            (mode, "container", "local", true),
            (mode, "sandbox", "auto", true),
            (mode, "sandbox", "sandbox", true),
            (mode, "local", "auto", false),
            (mode, "auto", "container", false),
            (mode, "sandbox", "container", false),
            (mode, "container", "sandbox", false),
            ("execution_service.network", "false", "true", true),
            ("execution_service.network", "true", "false", false),
            ("execution_service.memory", "512", "0", true),
            ("execution_service.memory", "512", "1024", true),
            ("execution_service.memory", "0", "1024", false),
            ("execution_service.cpus", "0", "2", false),
            ("execution_service.cpus", "1.5", "0", true),
            ("execution_service.processes", "600", "512", false),
            ("execution_service.disk_free", "0", "1024", false),
            ("execution_service.disk_free", "2048", "1024", true),
            ("kernel.transport", "tcp", "ipc", false),
            ("kernel.transport", "ipc", "tcp", true),
            ("kernel.keep", "3601", "3600", false),
            ("kernel.keep", "10", "3600", true),
            ("llm.max_retries", "4", "3", false),
            (
                "code_interpreter.code_verification_on",
                "true",
                "false",
                true,
            ),
            (
                "code_interpreter.code_verification_on",
                "false",
                "true",
                false,
            ),
            ("code_interpreter.approve", "risky", "never", true),
            ("code_interpreter.approve", "risky", "always", false),
            ("code_interpreter.allowed_modules", "pandas", "", true),
            ("code_interpreter.allowed_modules", "pandas,os", "", false),
            ("code_interpreter.allowed_modules", "", "pandas", false),
            ("code_interpreter.blocked_modules", "os,sys", "os", true),
            ("code_interpreter.blocked_modules", "sys", "os", false),
            ("code_interpreter.blocked_modules", "os", "", false),
            ("code_interpreter.blocked_modules", "", "os", false),
            ("code_interpreter.blocked_functions", "eval", "", false),
            (
                "code_interpreter.blocked_functions",
                "eval,open",
                "open",
                true,
            ),
        ] {
            assert_eq!(
                free(key, value, other),
                expected,
                "{key}: {value} for {other}"
            );
        }
    }
}
