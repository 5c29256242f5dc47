//! Code in the languages of kernels, for the checks that must make one do something.

/// Code in one language; `None` where the language, or its kernel, has no simple way.
pub(super) struct Sample {
    /// An expression, and `text/plain` of its value.
    pub value: Option<(&'static str, &'static str)>,
    /// Prints `heddle out`.
    pub stdout: Option<&'static str>,
    /// Prints `heddle err` to standard error.
    pub stderr: Option<&'static str>,
    /// Prints the numbers below 1000, one a line.
    pub lines: Option<&'static str>,
    /// Prints [`BEYOND_ASCII`].
    pub beyond_ascii: Option<&'static str>,
    /// Sets a variable to 41; an expression of its successor, and `text/plain` of that.
    pub variable: Option<[&'static str; 3]>,
    /// An expression that cannot be evaluated.
    pub undefined: Option<&'static str>,
    /// Fails; the error's `ename`.
    pub error: Option<(&'static str, &'static str)>,
    /// Fails after a third of a second.
    pub late_error: Option<&'static str>,
    /// Prints `begun`, and is done after a second.
    pub nap: Option<&'static str>,
    /// Prints `begun`, and is done after 15 seconds.
    pub sleep: Option<&'static str>,
    /// Asks `name? ` and prints the answer.
    pub input: Option<&'static str>,
    /// Asks `secret? ` without an echo and prints the answer.
    pub password: Option<&'static str>,
    /// Displays `one` under the `display_id` `heddle-conform`; then updates that to `two`.
    pub display: Option<[&'static str; 2]>,
    /// Clears the output when the next comes.
    pub clear: Option<&'static str>,
    /// Defines a name; an unfinished form of it; the whole.
    pub completion: Option<[&'static str; 3]>,
    /// A name that is known, and what is said of it.
    pub known: Option<(&'static str, &'static str)>,
    /// Code that is complete, incomplete, invalid.
    pub completeness: Option<[&'static str; 3]>,
    /// Makes a target `heddle-conform` whose comms answer a message with its data under `got` and its buffers twice
    /// as long.
    pub comm_target: Option<&'static str>,
    /// Opens a comm to the target `heddle-front-end` with the data `{"n": 1}` and the buffer `\x00\xff`.
    pub comm_open: Option<&'static str>,
}

/// Of two bytes, three and four in UTF-8; the last two of two units in UTF-16.
pub(super) const BEYOND_ASCII: &str = "é中😀𝒳";

impl Sample {
    pub fn of(language: &str) -> &'static Sample {
        match language.to_ascii_lowercase().as_str() {
            "python" => &PYTHON,
            "typescript" => &DENO,
            "javascript" => &JAVASCRIPT,
            "bash" => &BASH,
            "r" => &R,
            "rust" => &RUST,
            _ => &NONE,
        }
    }

    pub fn is_none(&self) -> bool {
        std::ptr::eq(self, &raw const NONE)
    }
}

static NONE: Sample = EMPTY;

const EMPTY: Sample = Sample {
    value: None,
    stdout: None,
    stderr: None,
    lines: None,
    beyond_ascii: None,
    variable: None,
    undefined: None,
    error: None,
    late_error: None,
    nap: None,
    sleep: None,
    input: None,
    password: None,
    display: None,
    clear: None,
    completion: None,
    known: None,
    completeness: None,
    comm_target: None,
    comm_open: None,
};

static PYTHON: Sample = Sample {
    value: Some(("6 * 7", "42")),
    stdout: Some("print('heddle out')"),
    stderr: Some("import sys; print('heddle err', file=sys.stderr)"),
    lines: Some("for number in range(1000): print(number)"),
    beyond_ascii: Some("print('é中😀𝒳')"),
    variable: Some(["heddle_conform = 41", "heddle_conform + 1", "42"]),
    undefined: Some("heddle_conform_undefined"),
    error: Some(("raise ValueError('heddle')", "ValueError")),
    late_error: Some("import time; time.sleep(0.3); raise ValueError('heddle')"),
    nap: Some("print('begun', flush=True); import time; time.sleep(1)"),
    sleep: Some("print('begun', flush=True); import time; time.sleep(15)"),
    input: Some("print(input('name? '))"),
    password: Some("import getpass; print(getpass.getpass('secret? '))"),
    display: Some([
        "from IPython.display import display\n\
         display({'text/plain': 'one'}, raw=True, display_id='heddle-conform')",
        "from IPython.display import update_display\n\
         update_display({'text/plain': 'two'}, raw=True, display_id='heddle-conform')",
    ]),
    clear: Some("from IPython.display import clear_output; clear_output(wait=True)"),
    completion: Some([
        "heddle_conform_name = 1",
        "heddle_conform_na",
        "heddle_conform_name",
    ]),
    known: Some(("print", "Print")),
    completeness: Some(["6 * 7", "for number in range(3):", "6 *) 7"]),
    comm_target: Some(
        "def heddle_conform_opened(comm, message):\n    \
         @comm.on_msg\n    \
         def answer(message):\n        \
         doubled = [bytes(buffer) * 2 for buffer in message['buffers']]\n        \
         comm.send({'got': message['content']['data']}, buffers=doubled)\n\
         get_ipython().kernel.comm_manager.register_target('heddle-conform', heddle_conform_opened)",
    ),
    comm_open: Some(
        "from comm import create_comm\n\
         create_comm(target_name='heddle-front-end', data={'n': 1}, buffers=[b'\\x00\\xff'])",
    ),
};

static JAVASCRIPT: Sample = Sample {
    value: Some(("6 * 7", "42")),
    stdout: Some("console.log('heddle out')"),
    stderr: Some("console.error('heddle err')"),
    lines: Some("for (let number = 0; number < 1000; number++) console.log(number)"),
    beyond_ascii: Some("console.log('é中😀𝒳')"),
    variable: Some([
        "globalThis.heddleConform = 41",
        "globalThis.heddleConform + 1",
        "42",
    ]),
    undefined: Some("heddleConformUndefined"),
    error: Some(("throw new RangeError('heddle')", "RangeError")),
    late_error: Some(
        "await new Promise(done => setTimeout(done, 300)); throw new RangeError('heddle')",
    ),
    nap: Some("console.log('begun'); await new Promise(done => setTimeout(done, 1000))"),
    sleep: Some("console.log('begun'); await new Promise(done => setTimeout(done, 15000))"),
    completion: Some([
        "globalThis.heddleConformName = 1",
        "heddleConformNa",
        "heddleConformName",
    ]),
    known: Some(("parseInt", "parseInt")),
    completeness: Some(["6 * 7", "function heddle() {", "6 *) 7"]),
    ..EMPTY
};

/// TypeScript in a notebook is Deno.
static DENO: Sample = Sample {
    input: Some("console.log(prompt('name? '))"),
    display: Some([
        "await Deno.jupyter.broadcast('display_data', {data: {'text/plain': 'one'}, metadata: {}, \
         transient: {display_id: 'heddle-conform'}})",
        "await Deno.jupyter.broadcast('update_display_data', {data: {'text/plain': 'two'}, metadata: {}, \
         transient: {display_id: 'heddle-conform'}})",
    ]),
    clear: Some("await Deno.jupyter.broadcast('clear_output', {wait: true})"),
    comm_open: Some(
        "await Deno.jupyter.broadcast('comm_open', {comm_id: 'heddle', target_name: 'heddle-front-end', \
         data: {n: 1}}, {buffers: [new Uint8Array([0, 255])]})",
    ),
    ..JAVASCRIPT
};

static BASH: Sample = Sample {
    stdout: Some("echo heddle out"),
    stderr: Some("echo heddle err >&2"),
    lines: Some("seq 0 999"),
    beyond_ascii: Some("echo 'é中😀𝒳'"),
    error: Some(("(exit 3)", "")),
    late_error: Some("sleep 0.3; (exit 3)"),
    nap: Some("echo begun; sleep 1"),
    sleep: Some("echo begun; sleep 15"),
    completion: Some([
        "heddle_conform_name() { :; }",
        "heddle_conform_na",
        "heddle_conform_name",
    ]),
    ..EMPTY
};

static R: Sample = Sample {
    value: Some(("6 * 7", "[1] 42")),
    stdout: Some("cat('heddle out\\n')"),
    stderr: Some("message('heddle err')"),
    lines: Some("for (number in 0:999) cat(number, '\\n', sep = '')"),
    beyond_ascii: Some("cat('é中😀𝒳\\n')"),
    variable: Some(["heddle_conform <- 41", "heddle_conform + 1", "[1] 42"]),
    undefined: Some("heddle_conform_undefined"),
    error: Some(("stop('heddle')", "")),
    late_error: Some("Sys.sleep(0.3); stop('heddle')"),
    nap: Some("cat('begun\\n'); flush.console(); Sys.sleep(1)"),
    sleep: Some("cat('begun\\n'); flush.console(); Sys.sleep(15)"),
    input: Some("cat(readline('name? '))"),
    completion: Some([
        "heddle_conform_name <- 1",
        "heddle_conform_na",
        "heddle_conform_name",
    ]),
    known: Some(("print", "print")),
    completeness: Some(["6 * 7", "f <- function() {", "6 *) 7"]),
    ..EMPTY
};

static RUST: Sample = Sample {
    value: Some(("6 * 7", "42")),
    stdout: Some("println!(\"heddle out\");"),
    stderr: Some("eprintln!(\"heddle err\");"),
    lines: Some("for number in 0..1000 { println!(\"{number}\"); }"),
    beyond_ascii: Some("println!(\"é中😀𝒳\");"),
    variable: Some(["let heddle_conform = 41;", "heddle_conform + 1", "42"]),
    error: Some(("let heddle: u8 = \"\";", "")),
    nap: Some("println!(\"begun\"); std::thread::sleep(std::time::Duration::from_secs(1));"),
    sleep: Some("println!(\"begun\"); std::thread::sleep(std::time::Duration::from_secs(15));"),
    ..EMPTY
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_known_in_either_case_and_none_is_told() {
        assert!(Sample::of("Python").value.is_some());
        assert!(Sample::of("cobol").is_none());
        assert!(!Sample::of("bash").is_none());
    }

    #[test]
    fn what_is_printed_beyond_ascii_is_what_is_looked_for() {
        for sample in [&PYTHON, &JAVASCRIPT, &BASH, &R, &RUST] {
            assert!(sample.beyond_ascii.unwrap().contains(BEYOND_ASCII));
        }
    }
}
