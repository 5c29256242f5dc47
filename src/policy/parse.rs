//! From text to a syntax tree, with bounds on what hostile text can make of it; places in the text.

use std::cell::Cell;
use std::sync::Once;

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{Expr, Mod, Stmt};
use ruff_python_parser::{Mode, ParseOptions, lexer, parse_unchecked};

/// Longer code is not checked, and so not passed.
const LONGEST: usize = 1 << 20;

/// Bound on how deep a tree may get, in tokens on the way down.
const DEEPEST: usize = 2000;

/// Brackets in brackets. Python refuses more.
const MOST_OPEN: usize = 200;

/// Stack for a tree of that depth, walked or dropped, in a debug build. It is address space: what is not used costs nothing.
const STACK: usize = 16 << 20;

/// Runs what walks or drops a tree where there is enough stack for it.
pub(super) fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK, STACK, work)
}

/// Why there is no tree: where (in bytes), and what.
pub(super) struct Fault {
    pub at: usize,
    pub what: String,
    pub suggestion: &'static str,
}

/// The statements of a cell. To be called, and its result dropped, inside [`with_stack`].
pub(super) fn statements(code: &str) -> Result<Vec<Stmt>, Fault> {
    match tree(code, Mode::Ipython)? {
        Mod::Module(module) => Ok(module.body.into_iter().collect()),
        Mod::Expression(_) => Ok(Vec::new()),
    }
}

/// An expression, such as the text of an annotation. To be called inside [`with_stack`].
pub(super) fn expression(code: &str) -> Result<Option<Box<Expr>>, Fault> {
    match tree(code, Mode::ParenthesizedExpression)? {
        Mod::Expression(expression) => Ok(Some(expression.body)),
        Mod::Module(_) => Ok(None),
    }
}

/// The parser gives up with a panic on some broken code, such as a stray bracket before a line of IPython's.
fn tree(code: &str, mode: Mode) -> Result<Mod, Fault> {
    quietly(|| tree_or_panic(code, mode)).unwrap_or_else(|| Err(invalid(0, "it cannot be parsed")))
}

thread_local! {
    /// Whether a panic of this thread is caught, and says nothing to anybody.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs what may panic; `None` where it did. The program's panic hook, which would tell of it on the terminal, is not
/// called for it.
fn quietly<T>(work: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A thread that ends has no such mark any more.
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                hook(panic);
            }
        }));
    });
    QUIET.set(true);
    let done = std::panic::catch_unwind(work);
    QUIET.set(false);
    done.ok()
}

fn tree_or_panic(code: &str, mode: Mode) -> Result<Mod, Fault> {
    let too = |what: &str, suggestion| Fault {
        at: 0,
        what: format!("The code is too {what} to be checked"),
        suggestion,
    };
    if code.len() > LONGEST {
        return Err(too("long", "Split it, and read large data from a file."));
    }
    if depth(code, mode) > DEEPEST {
        return Err(too("deeply nested", "Write it as several statements."));
    }
    let parsed = parse_unchecked(code, ParseOptions::from(mode));
    match parsed.errors().first() {
        Some(error) => Err(invalid(
            error.location.start().to_usize(),
            &error.error.to_string(),
        )),
        None => Ok(parsed.into_syntax()),
    }
}

fn invalid(at: usize, what: &str) -> Fault {
    Fault {
        at,
        what: format!("The code is not valid Python: {}", super::shortened(what)),
        suggestion: "Correct the syntax.",
    }
}

/// An upper bound of the tree's depth: the tokens since the last comma, summed over the brackets and blocks that are
/// open. It is known before there is a tree, which costs stack and memory.
fn depth(code: &str, mode: Mode) -> usize {
    use TokenKind::*;
    #[derive(Default)]
    struct Level {
        tokens: usize,
        /// A lambda's commas part parameters, not siblings.
        lambda: bool,
    }
    let (mut open, mut now) = (Vec::<Level>::new(), Level::default());
    let (mut sum, mut blocks, mut deepest) = (0, 0usize, 0);
    let mut lexer = lexer::lex(code, mode);
    loop {
        now.tokens += 1;
        match lexer.next_token() {
            EndOfFile => return deepest,
            Lpar | Lsqb | Lbrace | FStringStart | TStringStart => {
                sum += now.tokens;
                open.push(std::mem::take(&mut now));
                if open.len() > MOST_OPEN {
                    return usize::MAX;
                }
            }
            Rpar | Rsqb | Rbrace | FStringEnd | TStringEnd => {
                if let Some(outer) = open.pop() {
                    sum -= outer.tokens;
                    now = outer;
                }
            }
            Comma if !now.lambda => now.tokens = 0,
            Lambda => now.lambda = true,
            Newline | Semi if open.is_empty() => now = Level::default(),
            Indent => blocks += 1,
            Dedent => blocks = blocks.saturating_sub(1),
            _ => {}
        }
        // A block is a statement in a suite: two steps down.
        deepest = deepest.max(sum + now.tokens + 2 * blocks);
    }
}

/// Where the lines of a text begin.
pub(super) struct Lines<'a> {
    code: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(code: &'a str) -> Lines<'a> {
        let bytes = code.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(at, byte)| match byte {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        });
        let starts = std::iter::once(0)
            .chain(ends.map(|(at, _)| at + 1))
            .collect();
        Lines { code, starts }
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let at = self.code.floor_char_boundary(at);
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts[line - 1];
        (line, self.code[start..at].chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_characters_and_all_kinds_of_line_ends() {
        let lines = Lines::new("é=1\r\nß\rx\n");
        assert_eq!(lines.place(0), (1, 1));
        assert_eq!(lines.place(3), (1, 3));
        assert_eq!(lines.place(6), (2, 1));
        assert_eq!(lines.place(9), (3, 1));
        assert_eq!(lines.place(99), (4, 1));
    }

    #[test]
    fn depth_grows_with_nesting_and_not_with_length() {
        let list = format!("x = [{}]", "1, ".repeat(5000));
        assert!(depth(&list, Mode::Ipython) < 20);
        let lines = "x = f(1)\n".repeat(5000);
        assert!(depth(&lines, Mode::Ipython) < 20);
        for deep in [
            format!("x = {}1", "-".repeat(5000)),
            format!("x{}", ".y".repeat(5000)),
            format!("f{}", "(1,)".repeat(5000)),
            format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
            format!("x = {}1", "lambda a, b: ".repeat(3000)),
            format!("x = {}1", "1 if 1 else ".repeat(3000)),
        ] {
            assert!(depth(&deep, Mode::Ipython) > DEEPEST, "{}", &deep[..20]);
        }
    }
}
