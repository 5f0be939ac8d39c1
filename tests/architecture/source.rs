//! A source file as tokens: comments and the insides of texts never count, macros and groups of imports do.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// One token and the line on which it begins. A text or number is one token, so is `::`; other signs are one each.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A file, named from the root of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
    pub tokens: Vec<Token>,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub is_test: bool,
    pub line: usize,
    pub lines: usize,
}

/// A path with at least two names, or an import; each leaf of a group of imports is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub path: Vec<String>,
    pub line: usize,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        let mut tokens = Vec::new();
        flatten(text.parse().unwrap_or_else(|error| panic!("{name}: {error}")), &mut tokens);
        Self { name: name.to_owned(), text: text.to_owned(), tokens }
    }

    /// The first of each row of tokens that reads like `pattern`, whose tokens stand apart by spaces.
    pub fn find(&self, pattern: &str) -> Vec<&Token> {
        self.positions(pattern).into_iter().map(|at| &self.tokens[at]).collect()
    }

    fn positions(&self, pattern: &str) -> Vec<usize> {
        let pattern: Vec<&str> = pattern.split(' ').collect();
        (0..self.tokens.len()).filter(|at| starts(&self.tokens[*at..], &pattern)).collect()
    }

    /// The file without the items under `#[cfg(test)]`.
    pub fn without_tests(&self) -> Self {
        Self { tokens: self.split().0, ..self.clone() }
    }

    /// The items under `#[cfg(test)]` alone.
    pub fn only_tests(&self) -> Self {
        Self { tokens: self.split().1, ..self.clone() }
    }

    fn split(&self) -> (Vec<Token>, Vec<Token>) {
        let (mut code, mut tests) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            if starts(&self.tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
                let end = end_of_item(&self.tokens, at + 7);
                tests.extend_from_slice(&self.tokens[at..end]);
                at = end;
            } else {
                code.push(token.clone());
                at += 1;
            }
        }
        (code, tests)
    }

    /// The lines that stand before the module of tests or the first test.
    pub fn lines_before_tests(&self) -> usize {
        let is_module = |at: &usize| self.text_at(end_of_attributes(&self.tokens, *at)) == "mod";
        let modules = self.positions("# [ cfg ( test ) ]").into_iter().filter(is_module);
        let tests = ["# [ test ]", "# [ tokio :: test"].map(|pattern| self.positions(pattern));
        let first = modules.chain(tests.concat()).map(|at| self.tokens[at].line).min();
        first.map_or(self.text.lines().count(), |line| line - 1)
    }

    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        let mut is_test = false;
        for at in 0..self.tokens.len() {
            if self.text_at(at) == "#" {
                let attribute = &self.tokens[at..end_of_attributes(&self.tokens, at)];
                is_test |= has(attribute, "test") && !has(attribute, "cfg");
            } else if self.text_at(at) == "fn" && is_identifier(self.text_at(at + 1)) {
                let end = &self.tokens[end_of_item(&self.tokens, at) - 1];
                let (line, name) = (self.tokens[at].line, self.text_at(at + 1).to_owned());
                if end.text == "}" {
                    found.push(Function { name, is_test, line, lines: end.line - line + 1 });
                }
                is_test = false;
            }
        }
        found
    }

    /// All paths, those in macros too. A path begins where no other goes on.
    pub fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let name = is_identifier(self.text_at(at));
            let import = at > 0 && self.text_at(at - 1) == "use" && (name || ["{", "::"].contains(&self.text_at(at)));
            if import || name && self.text_at(at + 1) == "::" {
                at = self.path(at, &mut Vec::new(), import, &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    fn text_at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Reads one path or one branch of an import, and returns where it ends.
    fn path(&self, mut at: usize, names: &mut Vec<String>, import: bool, found: &mut Vec<Named>) -> usize {
        let (depth, line) = (names.len(), self.tokens[at].line);
        if self.text_at(at) == "::" {
            at += 1;
        }
        while is_identifier(self.text_at(at)) {
            names.push(self.text_at(at).to_owned());
            at += 1;
            if self.text_at(at) != "::" {
                break;
            }
            at += 1;
        }
        if import && self.text_at(at) == "{" {
            at += 1;
            while self.text_at(at) != "}" {
                at = self.path(at, names, import, found);
                while self.text_at(at) != "," && self.text_at(at) != "}" {
                    at += 1; // `as` and the new name
                }
                at += usize::from(self.text_at(at) == ",");
            }
            at += 1;
        } else {
            at += usize::from(import && self.text_at(at) == "*");
            found.push(Named { path: names.clone(), line });
        }
        names.truncate(depth);
        at
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn starts(tokens: &[Token], pattern: &[&str]) -> bool {
    tokens.len() >= pattern.len() && tokens.iter().zip(pattern).all(|(token, text)| token.text == *text)
}

fn has(tokens: &[Token], text: &str) -> bool {
    tokens.iter().any(|token| token.text == text)
}

/// Just behind the attributes at `at`.
fn end_of_attributes(tokens: &[Token], mut at: usize) -> usize {
    while starts(&tokens[at..], &["#", "["]) {
        let mut depth = 0_usize;
        at += 1;
        while let Some(token) = tokens.get(at) {
            at += 1;
            depth += usize::from(token.text == "[");
            depth -= usize::from(token.text == "]");
            if depth == 0 {
                break;
            }
        }
    }
    at
}

/// Just behind the body of the item at `at`, or its semicolon.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" if depth == 1 => break,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    at
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    let mut add = |text: &str, line: usize| into.push(Token { text: text.to_owned(), line });
    let mut half = false; // whether the first half of `::` came just now
    for tree in stream {
        let line = tree.span().start().line;
        let second = half;
        half = !second
            && matches!(&tree, TokenTree::Punct(sign) if sign.as_char() == ':' && sign.spacing() == Spacing::Joint);
        match tree {
            TokenTree::Punct(_) if half => {}
            TokenTree::Punct(_) if second => add("::", line),
            TokenTree::Group(group) => {
                let (open, close) = brackets(&group);
                add(open, line);
                let mut inside = Vec::new();
                flatten(group.stream(), &mut inside);
                for token in inside {
                    add(&token.text, token.line);
                }
                add(close, group.span_close().start().line);
            }
            TokenTree::Punct(_) | TokenTree::Ident(_) | TokenTree::Literal(_) => add(&tree.to_string(), line),
        }
    }
}

fn brackets(group: &Group) -> (&'static str, &'static str) {
    match group.delimiter() {
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::None => ("", ""),
    }
}
