//! The walk over a cell's syntax tree that finds what a policy forbids and what is risky.

mod backend;
mod call;
mod mention;
mod reach;
mod target;

use ruff_python_ast::visitor::{
    Visitor, walk_arguments, walk_expr, walk_parameters, walk_pattern_keyword, walk_stmt,
};
use ruff_python_ast::{Comprehension, Expr, ExprContext, IpyEscapeKind, PatternKeyword, Stmt};
use ruff_text_size::{Ranged, TextRange};

use super::binding::{Chain, Kind, Scopes};
use super::commands::{self, Verdict};
use super::parse::{self, Fault, Lines};
use super::tables;
use super::{Finding, MOST_TOLD, Namespace, Policy, Risk, RiskKind, Rule, paths, shortened};

/// Memory is bounded before all is put in order.
const MOST_KEPT: usize = 10 * MOST_TOLD;

/// Code in texts in code: deeper is not looked at.
const MOST_EMBEDDED: usize = 3;

/// What was found in a cell, in its order.
pub(super) struct Inspected {
    pub findings: Vec<Finding>,
    pub risks: Vec<Risk>,
}

/// Inspects one cell, which is run after those that the namespace knows; without a policy only for risks.
pub(super) fn inspect(policy: Option<&Policy>, code: &str, namespace: &mut Namespace) -> Inspected {
    let mut walk = Walk {
        policy,
        scopes: Scopes::of(std::mem::take(namespace)),
        pinned: None,
        query: None,
        embedded: 0,
        found: Vec::new(),
        risky: Vec::new(),
    };
    parse::with_stack(|| walk.cell(code, 0));
    *namespace = walk.scopes.into_namespace();
    let lines = Lines::new(code);
    let mut found = walk.found;
    found.sort_by_key(|it| (it.at, it.rule));
    found.dedup_by_key(|it| (it.at, it.rule));
    let findings = found.into_iter().take(MOST_TOLD).map(|it| {
        let (line, column) = lines.place(it.at);
        Finding {
            line,
            column,
            rule: it.rule,
            message: it.message,
            suggestion: it.suggestion,
        }
    });
    let mut risky = walk.risky;
    risky.sort_by_key(|it| (it.0, it.1));
    risky.dedup_by_key(|it| (it.0, it.1));
    let risks = risky
        .into_iter()
        .take(MOST_TOLD)
        .map(|(at, kind, what)| Risk {
            line: lines.place(at).0,
            kind,
            what,
        });
    Inspected {
        findings: findings.collect(),
        risks: risks.collect(),
    }
}

struct Found {
    at: usize,
    rule: Rule,
    message: String,
    suggestion: String,
}

struct Walk<'p> {
    policy: Option<&'p Policy>,
    scopes: Scopes,
    /// Where everything is that is found now, for code that is a text in the code.
    pinned: Option<usize>,
    /// The text of the expression of `df.query` that is looked at.
    query: Option<String>,
    embedded: usize,
    found: Vec<Found>,
    risky: Vec<(usize, RiskKind, String)>,
}

impl Walk<'_> {
    fn at(&self, range: TextRange) -> usize {
        self.pinned
            .unwrap_or(self.scopes.base + range.start().to_usize())
    }

    fn find(
        &mut self,
        at: usize,
        rule: Rule,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        if self.policy.is_some() && self.found.len() < MOST_KEPT {
            self.found.push(Found {
                at,
                rule,
                message: message.into(),
                suggestion: suggestion.into(),
            });
        }
    }

    fn risk(&mut self, at: usize, kind: RiskKind, what: impl Into<String>) {
        if self.risky.len() < MOST_KEPT {
            self.risky.push((at, kind, shortened(&what.into())));
        }
    }

    fn fault(&mut self, base: usize, fault: Fault) {
        self.find(base + fault.at, Rule::Syntax, fault.what, fault.suggestion);
    }

    fn cell(&mut self, code: &str, base: usize) {
        if let Some(fault) = commands::hidden_line(code) {
            return self.fault(base, fault);
        }
        if let Some(magic) = commands::cell_magic(code) {
            let at = base + magic.at;
            if !magic.runs_body() {
                self.cell_command(at, magic.name, magic.line);
                return;
            }
            if !magic.code().is_empty() {
                self.embed(magic.code(), at);
            }
            self.cell(magic.body, base + magic.body_at);
            return;
        }
        if let Some(name) = commands::without_sign(code) {
            let at = base + (code.len() - code.trim_start().len());
            self.shell_line(at, code.trim(), name);
            return;
        }
        match parse::statements(code) {
            Err(fault) => self.fault(base, fault),
            Ok(body) => {
                self.scopes.base = base;
                self.scopes.collect(&body);
                self.visit_body(&body);
            }
        }
    }

    fn cell_command(&mut self, at: usize, name: &str, line: &str) {
        let shell = matches!(
            name,
            "bash" | "sh" | "script" | "sx" | "system" | "!" | "perl" | "ruby" | "cmd"
        );
        if shell {
            return self.shell_line(at, &format!("%%{name} {line}"), name);
        }
        if matches!(name, "writefile" | "file")
            && paths::is_outside(line.trim_start_matches("-a").trim())
        {
            self.risk(at, RiskKind::WriteOutside, format!("%%{name} {line}"));
        }
        self.find(
            at,
            Rule::Magic,
            format!("The cell magic %%{} is not allowed", shortened(name)),
            "Write Python.",
        );
    }

    fn shell_line(&mut self, at: usize, line: &str, name: &str) {
        self.risk(at, RiskKind::Shell, line);
        self.find(
            at,
            Rule::Shell,
            format!("`{}` is a command for the shell", shortened(name)),
            "Do it in Python with the allowed libraries; packages are installed by a line with no more than %pip install NAME.",
        );
    }

    fn escape(&mut self, range: TextRange, kind: IpyEscapeKind, value: &str) {
        let at = self.at(range);
        let verdict = match kind {
            IpyEscapeKind::Shell | IpyEscapeKind::ShCap => commands::shell(value),
            IpyEscapeKind::Magic => commands::magic(value),
            // Help shows documentation. What else stands in such a line is run if it is not an object's name.
            IpyEscapeKind::Help | IpyEscapeKind::Help2
                if value
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_.*%[]".contains(c)) =>
            {
                Verdict::Harmless
            }
            _ => Verdict::Magic(value),
        };
        match verdict {
            Verdict::Harmless => {}
            Verdict::Install => self.risk(at, RiskKind::PackageInstall, value),
            Verdict::Code(code) => self.embed(code, at),
            Verdict::Shell => self.shell_line(at, value, value),
            Verdict::Magic(name) => {
                self.find(
                    at,
                    Rule::Magic,
                    format!(
                        "The magic {}{} is not allowed",
                        kind.as_str(),
                        shortened(name)
                    ),
                    "Write Python.",
                );
            }
        }
    }

    /// Looks at code that is a text in the code. All that is in it is found at `at`.
    fn embedded(&mut self, at: usize, query: Option<String>, look: impl FnOnce(&mut Self)) {
        if self.embedded == MOST_EMBEDDED {
            let (what, suggestion) = ("Code in texts within texts", "Write the code itself.");
            return self.find(at, Rule::Execution, what, suggestion);
        }
        let pinned = self.pinned.replace(at);
        let query = std::mem::replace(&mut self.query, query);
        self.embedded += 1;
        look(self);
        self.embedded -= 1;
        self.query = query;
        self.pinned = pinned;
    }

    /// Looks at a text that is run as a cell.
    fn embed(&mut self, code: &str, at: usize) {
        self.embedded(at, None, |walk| match parse::statements(code) {
            Err(fault) => walk.find(at, Rule::Syntax, fault.what, fault.suggestion),
            Ok(body) => {
                walk.scopes.collect_text(&body);
                walk.visit_body(&body);
            }
        });
    }

    /// Looks at a text that is evaluated as an expression if it is one; it is no fault if it is not.
    fn embed_expression(&mut self, text: &str, at: usize) {
        self.embedded(at, None, |walk| match parse::expression(text) {
            Ok(Some(expression)) => walk.visit_expr(&expression),
            _ => walk.embed_dunder(text, at),
        });
    }

    /// Looks at an expression of pandas: a name is a column, in backticks too, and `@name` is a variable.
    fn embed_query(&mut self, text: &str, at: usize) {
        // Every byte keeps its place.
        let parts = text.split('`').enumerate();
        let parts = parts.map(|(index, part)| match index % 2 {
            0 => part.replace('@', " "),
            _ => "c".repeat(part.len()),
        });
        let python = parts.collect::<Vec<_>>().join(" ");
        self.embedded(at, Some(text.to_owned()), |walk| {
            if let Ok(Some(expression)) = parse::expression(&python) {
                walk.visit_expr(&expression);
            } else if let Ok(body) = parse::statements(&python) {
                walk.visit_body(&body);
            } else {
                walk.embed_dunder(&python, at);
            }
        });
    }

    fn embed_dunder(&mut self, text: &str, at: usize) {
        if let Some(name) = tables::dunder_in(text) {
            self.dunder(at, name);
        }
    }

    fn comprehension<'a>(&mut self, generators: &'a [Comprehension], parts: &[&'a Expr]) {
        // The first source is looked up outside.
        if let Some(first) = generators.first() {
            self.visit_expr(&first.iter);
        }
        self.scopes.push(Kind::Function);
        for generator in generators {
            self.scopes.bind_target(generator);
        }
        for (index, generator) in generators.iter().enumerate() {
            if index > 0 {
                self.visit_expr(&generator.iter);
            }
            self.visit_expr(&generator.target);
            generator.ifs.iter().for_each(|it| self.visit_expr(it));
        }
        parts.iter().for_each(|part| self.visit_expr(part));
        self.scopes.pop();
    }
}

impl<'a> Visitor<'a> for Walk<'_> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        if self.found.len() == MOST_KEPT {
            return;
        }
        match stmt {
            Stmt::Import(import) => self.import(import),
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::IpyEscapeCommand(it) => self.escape(it.range, it.kind, &it.value),
            Stmt::Assign(assign) => {
                for target in &assign.targets {
                    self.sets_backend(target, &assign.value);
                }
                walk_stmt(self, stmt);
            }
            Stmt::FunctionDef(function) => {
                function
                    .decorator_list
                    .iter()
                    .for_each(|it| self.visit_decorator(it));
                if let Some(parameters) = &function.type_params {
                    self.visit_type_params(parameters);
                }
                self.visit_parameters(&function.parameters);
                if let Some(returns) = &function.returns {
                    self.visit_annotation(returns);
                }
                self.scopes.push(Kind::Function);
                self.scopes.bind_parameters(&function.parameters);
                self.scopes.collect(&function.body);
                self.visit_body(&function.body);
                self.scopes.pop();
            }
            Stmt::ClassDef(class) => {
                class
                    .decorator_list
                    .iter()
                    .for_each(|it| self.visit_decorator(it));
                if let Some(parameters) = &class.type_params {
                    self.visit_type_params(parameters);
                }
                if let Some(arguments) = &class.arguments {
                    walk_arguments(self, arguments);
                }
                self.scopes.push(Kind::Class);
                self.scopes.collect(&class.body);
                self.visit_body(&class.body);
                self.scopes.pop();
            }
            stmt => walk_stmt(self, stmt),
        }
    }

    fn visit_annotation(&mut self, annotation: &'a Expr) {
        if let Some(text) = paths::constant(annotation) {
            let at = self.at(annotation.range());
            self.embed_expression(&text, at);
        }
        self.visit_expr(annotation);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        self.names_backend(expr);
        match expr {
            Expr::Name(name) => {
                if name.ctx == ExprContext::Load {
                    self.mention(&Chain::of(expr), name.range);
                }
            }
            Expr::Attribute(attribute) => {
                let chain = Chain::of(expr);
                self.mention(&chain, attribute.range);
                let mut inner = &*attribute.value;
                while let Expr::Attribute(attribute) = inner {
                    inner = &attribute.value;
                }
                if !inner.is_name_expr() {
                    self.visit_expr(inner);
                }
            }
            Expr::Call(call) => {
                if self.is_line(call) {
                    return;
                }
                self.call(call);
                let chain = Chain::of(expr);
                if !chain.names.is_empty() {
                    self.mention(&chain, call.range());
                }
                walk_expr(self, expr);
            }
            Expr::Subscript(subscript) => {
                let name = self.scopes.beginning(&subscript.slice);
                if let Some(name) = name.filter(|name| tables::is_dunder(name)) {
                    let at = self.at(subscript.range);
                    self.dunder(at, &name);
                }
                walk_expr(self, expr);
            }
            Expr::IpyEscapeCommand(it) => self.escape(it.range, it.kind, &it.value),
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    walk_parameters(self, parameters);
                }
                self.scopes.push(Kind::Function);
                if let Some(parameters) = &lambda.parameters {
                    self.scopes.bind_parameters(parameters);
                }
                self.scopes.collect_expr(&lambda.body);
                self.visit_expr(&lambda.body);
                self.scopes.pop();
            }
            Expr::ListComp(it) => self.comprehension(&it.generators, &[&it.elt]),
            Expr::SetComp(it) => self.comprehension(&it.generators, &[&it.elt]),
            Expr::Generator(it) => self.comprehension(&it.generators, &[&it.elt]),
            Expr::DictComp(it) => {
                let key = it.key.as_deref();
                let parts: Vec<&Expr> = key.into_iter().chain([&*it.value]).collect();
                self.comprehension(&it.generators, &parts);
            }
            expr => walk_expr(self, expr),
        }
    }

    fn visit_pattern_keyword(&mut self, keyword: &'a PatternKeyword) {
        if tables::is_dunder(&keyword.attr) {
            let at = self.at(keyword.range);
            self.dunder(at, &keyword.attr);
        }
        walk_pattern_keyword(self, keyword);
    }
}
