//! Scopes: which names a piece of code binds itself, and to what, as far as that can be read.

use std::collections::{HashMap, HashSet};

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{
    AnyParameterRef, Comprehension, ExceptHandler, Expr, ExprContext, ExprName, Parameters,
    Pattern, Stmt,
};
use ruff_text_size::{Ranged, TextSize};

use super::{Namespace, paths, tables};

/// What is known of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The dotted name of a module, or of something in one.
    Module(String),
    /// A text, or how one begins.
    Text(String),
    /// A list, tuple or dictionary that is written out.
    Table,
    /// A function or class that is defined in the code.
    Own,
    Other,
}

/// The values that are kept of a name that is bound often.
const MOST_VALUES: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Binding {
    pub values: Vec<Value>,
    /// From where on, in bytes, the name is surely bound. In a function it is all the same: a name that is bound
    /// anywhere in it is never looked up outside.
    from: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Module,
    Class,
    /// Also a lambda and a comprehension.
    Function,
}

#[derive(Debug)]
struct Scope {
    kind: Kind,
    names: HashMap<String, Binding>,
    /// Names that a `global` (true) or `nonlocal` (false) statement takes out of it.
    outer: HashMap<String, bool>,
    /// Names that are deleted in it.
    lost: HashSet<String>,
}

/// The scopes around a place in the code, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    stack: Vec<Scope>,
    /// Names that a function may change in the module: never sure there.
    global: HashSet<String>,
    /// Where the tree's text starts in the cell, in bytes.
    pub base: usize,
    earlier: Namespace,
}

impl Scopes {
    /// The scope of a cell, that has the names of earlier ones.
    pub(super) fn of(earlier: Namespace) -> Scopes {
        let mut scopes = Scopes {
            earlier,
            ..Scopes::default()
        };
        scopes.push(Kind::Module);
        scopes
    }

    /// The earlier names and those of this cell.
    pub(super) fn into_namespace(mut self) -> Namespace {
        let names = self.stack.iter().take(1).flat_map(|scope| &scope.names);
        for (name, binding) in names {
            for value in &binding.values {
                if let Value::Module(path) = value {
                    self.earlier.keep(name, path);
                }
            }
        }
        self.earlier
    }

    pub(super) fn push(&mut self, kind: Kind) {
        self.stack.push(Scope {
            kind,
            names: HashMap::new(),
            outer: HashMap::new(),
            lost: HashSet::new(),
        });
    }

    pub(super) fn pop(&mut self) {
        self.stack.pop();
    }

    fn offset(&self, at: TextSize) -> usize {
        self.base + at.to_usize()
    }

    /// Reads the names that a body binds into the innermost scope.
    pub(super) fn collect(&mut self, body: &[Stmt]) {
        let module = self.stack.len() == 1;
        if module {
            let mut globals = Globals(&mut self.global);
            globals.visit_body(body);
        }
        if let Some(scope) = self.stack.last_mut() {
            let mut declared = Declared(&mut scope.outer);
            declared.visit_body(body);
        }
        self.collector().visit_body(body);
    }

    /// Reads the names that an expression binds (`:=`) into the innermost scope.
    pub(super) fn collect_expr(&mut self, expr: &Expr) {
        self.collector().visit_expr(expr);
    }

    /// Reads the names that code in a text binds, which has places of its own.
    pub(super) fn collect_text(&mut self, body: &[Stmt]) {
        let mut collector = self.collector();
        collector.sure = false;
        collector.visit_body(body);
    }

    fn collector(&mut self) -> Collector<'_> {
        Collector {
            scopes: self,
            sure: true,
            comprehension: false,
        }
    }

    pub(super) fn bind_parameters(&mut self, parameters: &Parameters) {
        for parameter in parameters.iter().map(AnyParameterRef::as_parameter) {
            self.bind(&parameter.name, Value::Other, None);
        }
    }

    pub(super) fn bind_target(&mut self, comprehension: &Comprehension) {
        self.collector().target(&comprehension.target, None, None);
    }

    fn bind(&mut self, name: &str, value: Value, from: Option<usize>) {
        let depth = match self.stack.last().and_then(|scope| scope.outer.get(name)) {
            Some(true) => 0,
            Some(false) => return,
            None => self.stack.len().saturating_sub(1),
        };
        let Some(scope) = self.stack.get_mut(depth) else {
            return;
        };
        let binding = scope.names.entry(name.to_owned()).or_default();
        if binding.values.len() < MOST_VALUES && !binding.values.contains(&value) {
            binding.values.push(value);
        }
        binding.from = match (binding.from, from) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }

    /// What a name is bound to, by the innermost scope that has it.
    pub(super) fn lookup(&self, name: &str) -> Option<&Binding> {
        self.visible(name).find_map(|scope| scope.names.get(name))
    }

    /// The scopes in which Python looks for a name, in its order.
    fn visible(&self, name: &str) -> impl Iterator<Item = &Scope> {
        let innermost = self.stack.len().saturating_sub(1);
        let global = self
            .stack
            .iter()
            .rev()
            .find_map(|scope| scope.outer.get(name))
            == Some(&true);
        let scopes = self.stack.iter().enumerate().rev();
        scopes
            .filter(move |(depth, scope)| match global {
                true => *depth == 0,
                false => *depth == innermost || scope.kind != Kind::Class,
            })
            .map(|(_, scope)| scope)
    }

    /// Whether the name, used at this byte of the cell, is surely the code's own and not the builtin.
    pub(super) fn is_own(&self, name: &str, at: usize) -> bool {
        self.visible(name).any(|scope| match scope.names.get(name) {
            None => false,
            Some(_) if scope.kind == Kind::Function => true,
            Some(binding) => {
                let kept = !scope.lost.contains(name) && !self.global.contains(name);
                kept && binding.from.is_some_and(|from| from <= at)
            }
        })
    }

    /// What an expression is.
    fn value(&self, expr: &Expr) -> Value {
        if let Some(text) = self.beginning(expr) {
            return Value::Text(text);
        }
        match expr {
            Expr::Lambda(_) => Value::Own,
            Expr::Dict(_)
            | Expr::List(_)
            | Expr::Tuple(_)
            | Expr::DictComp(_)
            | Expr::ListComp(_) => Value::Table,
            Expr::Named(named) => self.value(&named.value),
            Expr::Name(_) | Expr::Attribute(_) => {
                let chain = Chain::of(expr);
                let traced = self.trace(&chain).into_iter();
                // Of several, one that tells more than the others.
                let module = traced
                    .filter(|it| it.is_known() || tables::is_carried(it.parts[0]))
                    .max_by_key(|it| tables::carrier(&it.parts).is_some());
                match module {
                    Some(it) => module_value(&it.parts),
                    None => match (expr, chain.names.is_empty()) {
                        (Expr::Name(name), true) => self.only_value(&name.id),
                        _ => Value::Other,
                    },
                }
            }
            _ => Value::Other,
        }
    }

    fn only_value(&self, name: &str) -> Value {
        match self.lookup(name).map(|binding| binding.values.as_slice()) {
            Some([value]) => value.clone(),
            _ => Value::Other,
        }
    }

    /// The text, or the beginning of the text or path, that an expression certainly is.
    pub(super) fn beginning(&self, expr: &Expr) -> Option<String> {
        if let Some(text) = paths::constant(expr) {
            return Some(text);
        }
        let outside = |text: &String| paths::is_outside(text);
        match expr {
            Expr::Name(name) => {
                let texts = self
                    .lookup(&name.id)?
                    .values
                    .iter()
                    .filter_map(|value| match value {
                        Value::Text(text) => Some(text.clone()),
                        _ => None,
                    });
                let texts: Vec<String> = texts.collect();
                texts
                    .iter()
                    .find(|text| outside(text))
                    .or(texts.first())
                    .cloned()
            }
            Expr::BinOp(it) => match it.op {
                ruff_python_ast::Operator::Add => self.beginning(&it.left),
                // A path: an absolute right side takes the place of the left one.
                ruff_python_ast::Operator::Div => self
                    .beginning(&it.right)
                    .filter(outside)
                    .or_else(|| self.beginning(&it.left)),
                _ => None,
            },
            Expr::FString(text) => match text.value.elements().next()? {
                ruff_python_ast::InterpolatedStringElement::Literal(literal) => {
                    Some(literal.value.to_string())
                }
                ruff_python_ast::InterpolatedStringElement::Interpolation(it) => {
                    self.beginning(&it.expression)
                }
            },
            Expr::Call(call) => {
                let first = || {
                    call.arguments
                        .args
                        .first()
                        .and_then(|it| self.beginning(it))
                };
                let (receiver, name) = match &*call.func {
                    Expr::Name(name) => (None, name.id.as_str()),
                    Expr::Attribute(it) => (Some(&*it.value), it.attr.as_str()),
                    _ => return None,
                };
                match name {
                    "Path" | "PurePath" | "PosixPath" | "str" | "fspath" | "abspath"
                    | "expandvars" => first(),
                    "expanduser" | "resolve" | "absolute" | "with_suffix" | "with_name"
                    | "as_posix" | "format" => first()
                        .filter(outside)
                        .or_else(|| self.beginning(receiver?)),
                    "home" => Some("~".into()),
                    "join" | "joinpath" => {
                        let mut all = call
                            .arguments
                            .args
                            .iter()
                            .filter_map(|it| self.beginning(it));
                        all.find(outside)
                            .or_else(|| self.beginning(receiver?))
                            .or_else(first)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The text, or its end, that an expression certainly is.
    pub(super) fn end(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::BinOp(it) if it.op == ruff_python_ast::Operator::Add => self.end(&it.right),
            Expr::FString(text) => match text.value.elements().last()? {
                ruff_python_ast::InterpolatedStringElement::Literal(literal) => {
                    Some(literal.value.to_string())
                }
                ruff_python_ast::InterpolatedStringElement::Interpolation(it) => {
                    self.end(&it.expression)
                }
            },
            Expr::Name(_) => self.beginning(expr),
            expr => paths::constant(expr),
        }
    }

    /// The dotted names, from a module on, that a chain may stand for. None where it starts in anything else.
    pub(super) fn trace<'a>(&'a self, chain: &Chain<'a>) -> Vec<Traced<'a>> {
        let Expr::Name(root) = chain.root else {
            return Vec::new();
        };
        let traced = |path: &'a str, origin| Traced {
            parts: path.split('.').chain(chain.names.iter().copied()).collect(),
            origin,
        };
        let earlier = self.earlier(root);
        let earlier = earlier.map(|path| traced(path, Origin::Earlier));
        let mut all: Vec<Traced<'a>> = earlier.collect();
        match self.lookup(&root.id) {
            None => {
                let usual = tables::usual(&root.id);
                let known = usual != root.id.as_str() || super::ALLOWED_MODULES.contains(&usual);
                let origin = if known { Origin::Here } else { Origin::Unbound };
                all.push(traced(usual, origin));
            }
            Some(binding) => {
                all.extend(binding.values.iter().filter_map(|value| match value {
                    Value::Module(path) => Some(traced(path, Origin::Here)),
                    _ => None,
                }));
            }
        }
        all
    }

    /// What a name may stand for because of an earlier cell: none if this one has surely bound it before.
    fn earlier<'a>(&'a self, name: &'a ExprName) -> impl Iterator<Item = &'a str> {
        let at = self.offset(name.range.start());
        let scope = self
            .visible(&name.id)
            .find(|it| it.names.contains_key(name.id.as_str()));
        let anew = scope.is_some_and(|scope| {
            let from = scope.names.get(name.id.as_str()).and_then(|it| it.from);
            scope.kind == Kind::Function || from.is_some_and(|from| from <= at)
        });
        let paths = (!anew).then(|| self.earlier.paths(&name.id));
        paths.into_iter().flatten()
    }
}

/// A dotted name as a value. Modules lead to one another in circles, so that a name can be made as long as one likes:
/// of a long one the beginning and the end are kept.
fn module_value(parts: &[&str]) -> Value {
    const LONGEST: usize = 256;
    const LAST: usize = 8;
    let path = match parts {
        [first, ..] if parts.len() > 2 * LAST => {
            let last = &parts[parts.len() - LAST..];
            format!("{first}.{}", last.join("."))
        }
        parts => parts.join("."),
    };
    match path.len() <= LONGEST {
        true => Value::Module(path),
        false => Value::Other,
    }
}

/// Where a dotted name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The cell imports it, or the kernel's namespace has it from the start.
    Here,
    /// An earlier cell bound it, as far as is known.
    Earlier,
    /// It is a name that nothing binds.
    Unbound,
}

/// A dotted name from a module on.
#[derive(Debug)]
pub(super) struct Traced<'a> {
    pub parts: Vec<&'a str>,
    pub origin: Origin,
}

impl Traced<'_> {
    /// Whether it surely starts in a module.
    pub(super) fn is_known(&self) -> bool {
        self.origin != Origin::Unbound
    }
}

/// Attributes on attributes, and what they start at. `getattr(x, "y")` is `x.y`.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    pub root: &'a Expr,
    pub names: Vec<&'a str>,
}

impl<'a> Chain<'a> {
    pub(super) fn of(mut expr: &'a Expr) -> Chain<'a> {
        let mut names = Vec::new();
        loop {
            match expr {
                Expr::Attribute(attribute) => {
                    names.push(attribute.attr.as_str());
                    expr = &attribute.value;
                }
                Expr::Named(named) if !names.is_empty() => expr = &named.value,
                Expr::Call(call) => match (&*call.func, &*call.arguments.args) {
                    (Expr::Name(name), [object, Expr::StringLiteral(attribute), ..])
                        if name.id == "getattr" =>
                    {
                        names.push(attribute.value.to_str());
                        expr = object;
                    }
                    _ => break,
                },
                _ => break,
            }
        }
        names.reverse();
        Chain { root: expr, names }
    }
}

/// The names that `global` statements name, anywhere.
struct Globals<'s>(&'s mut HashSet<String>);

impl Visitor<'_> for Globals<'_> {
    fn visit_stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Global(global) => self
                .0
                .extend(global.names.iter().map(|name| name.to_string())),
            stmt => walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, _: &Expr) {}
}

/// The names that `global` and `nonlocal` take out of one scope.
struct Declared<'s>(&'s mut HashMap<String, bool>);

impl Visitor<'_> for Declared<'_> {
    fn visit_stmt(&mut self, stmt: &Stmt) {
        let (names, global) = match stmt {
            Stmt::Global(it) => (&it.names, true),
            Stmt::Nonlocal(it) => (&it.names, false),
            Stmt::FunctionDef(_) | Stmt::ClassDef(_) => return,
            stmt => return walk_stmt(self, stmt),
        };
        self.0
            .extend(names.iter().map(|name| (name.to_string(), global)));
    }

    fn visit_expr(&mut self, _: &Expr) {}
}

/// Reads the bindings of one scope; bodies of functions and classes in it are scopes of their own.
struct Collector<'s> {
    scopes: &'s mut Scopes,
    /// Whether what comes is run in any case.
    sure: bool,
    /// In a comprehension only `:=` binds out here.
    comprehension: bool,
}

impl Collector<'_> {
    fn from(&self, at: TextSize) -> Option<usize> {
        self.sure.then(|| self.scopes.offset(at))
    }

    fn unsure(&mut self, visit: impl FnOnce(&mut Self)) {
        let sure = std::mem::replace(&mut self.sure, false);
        visit(self);
        self.sure = sure;
    }

    /// Binds the names of a target; `value` is what is assigned, where that is known.
    fn target(&mut self, target: &Expr, value: Option<&Expr>, from: Option<usize>) {
        match (target, value) {
            (Expr::Name(name), value) => {
                let value = value.map_or(Value::Other, |value| self.scopes.value(value));
                self.scopes.bind(&name.id, value, from);
            }
            (Expr::Tuple(_) | Expr::List(_), value) => {
                let targets = elements(target).unwrap_or_default();
                let values = value
                    .and_then(elements)
                    .filter(|it| it.len() == targets.len());
                for (index, target) in targets.iter().enumerate() {
                    self.target(target, values.map(|values| &values[index]), from);
                }
            }
            (Expr::Starred(starred), _) => self.target(&starred.value, None, from),
            _ => {}
        }
    }
}

fn elements(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Tuple(tuple) => Some(&tuple.elts),
        Expr::List(list) => Some(&list.elts),
        _ => None,
    }
}

impl<'a> Visitor<'a> for Collector<'_> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        let end = self.from(stmt.end());
        match stmt {
            Stmt::FunctionDef(function) => {
                // Its own body may use it.
                let from = function
                    .body
                    .first()
                    .and_then(|first| self.from(first.start()));
                self.scopes.bind(&function.name, Value::Own, from);
                function
                    .decorator_list
                    .iter()
                    .for_each(|it| self.visit_decorator(it));
                self.visit_parameters(&function.parameters);
            }
            Stmt::ClassDef(class) => {
                self.scopes.bind(&class.name, Value::Own, end);
                class
                    .decorator_list
                    .iter()
                    .for_each(|it| self.visit_decorator(it));
                if let Some(arguments) = &class.arguments {
                    self.visit_arguments(arguments);
                }
            }
            Stmt::Assign(assign) => {
                self.visit_expr(&assign.value);
                for target in &assign.targets {
                    self.target(target, Some(&assign.value), end);
                }
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    self.visit_expr(value);
                    self.target(&assign.target, Some(value), end);
                }
            }
            Stmt::Import(import) => {
                for alias in &import.names {
                    let top = alias.name.split('.').next().unwrap_or_default();
                    let (name, path) = match &alias.asname {
                        Some(name) => (name.as_str(), alias.name.as_str()),
                        None => (top, top),
                    };
                    let parts: Vec<&str> = path.split('.').collect();
                    self.scopes.bind(name, module_value(&parts), end);
                }
            }
            Stmt::ImportFrom(import) => {
                let module = import.module.as_deref().unwrap_or_default();
                let module: Vec<&str> = module.split('.').collect();
                for alias in &import.names {
                    let name = alias.asname.as_ref().unwrap_or(&alias.name);
                    let value = match import.level {
                        0 => module_value(&[&module[..], &[alias.name.as_str()]].concat()),
                        _ => Value::Other,
                    };
                    self.scopes.bind(name, value, end);
                }
            }
            Stmt::With(with) => {
                for item in &with.items {
                    self.visit_expr(&item.context_expr);
                    if let Some(target) = &item.optional_vars {
                        let from = with.body.first().and_then(|first| self.from(first.start()));
                        self.target(target, None, from);
                    }
                }
                self.unsure(|it| it.visit_body(&with.body));
            }
            Stmt::Delete(delete) => {
                for target in &delete.targets {
                    self.forget(target);
                }
            }
            Stmt::Try(it) => {
                for ExceptHandler::ExceptHandler(handler) in &it.handlers {
                    if let Some(name) = &handler.name {
                        self.scopes.bind(name, Value::Other, None);
                        // The name is deleted at the handler's end.
                        self.lose(name);
                    }
                }
                self.unsure(|it| walk_stmt(it, stmt));
            }
            Stmt::For(_) | Stmt::While(_) | Stmt::If(_) | Stmt::Match(_) => {
                self.unsure(|it| walk_stmt(it, stmt));
            }
            stmt => walk_stmt(self, stmt),
        }
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Named(named) => {
                self.visit_expr(&named.value);
                self.target(&named.target, Some(&named.value), None);
            }
            Expr::Name(name) if name.ctx == ExprContext::Store && !self.comprehension => {
                self.scopes.bind(&name.id, Value::Other, None);
            }
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    self.visit_parameters(parameters);
                }
            }
            Expr::ListComp(_) | Expr::SetComp(_) | Expr::DictComp(_) | Expr::Generator(_) => {
                let outer = std::mem::replace(&mut self.comprehension, true);
                walk_expr(self, expr);
                self.comprehension = outer;
            }
            expr => walk_expr(self, expr),
        }
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        let name = match pattern {
            Pattern::MatchAs(it) => it.name.as_ref(),
            Pattern::MatchStar(it) => it.name.as_ref(),
            Pattern::MatchMapping(it) => it.rest.as_ref(),
            _ => None,
        };
        if let Some(name) = name {
            self.scopes.bind(name, Value::Other, None);
        }
        ruff_python_ast::visitor::walk_pattern(self, pattern);
    }
}

impl Collector<'_> {
    fn forget(&mut self, target: &Expr) {
        match target {
            Expr::Name(name) => {
                // To Python it is a name of this scope even where nothing else binds it.
                self.scopes.bind(&name.id, Value::Other, None);
                self.lose(&name.id);
            }
            target => elements(target)
                .unwrap_or_default()
                .iter()
                .for_each(|it| self.forget(it)),
        }
    }

    fn lose(&mut self, name: &str) {
        if let Some(scope) = self.scopes.stack.last_mut() {
            scope.lost.insert(name.to_owned());
        }
    }
}
