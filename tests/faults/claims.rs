//! What a test claims of the fault matrix: `/// Covers: 2p, 3p.`, the last line of its doc.

use crate::source::{Source, Token};

/// One row in one layer, claimed by one test.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// `file::function`, without `.rs`.
    pub test: String,
    /// Where the claim stands.
    pub at: String,
    pub row: u32,
    pub layer: char,
}

/// All claims of a file, or all that is wrong with them.
pub fn claims(source: &Source) -> Result<Vec<Claim>, Vec<String>> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut at = 0;
    let mut lines = Vec::new();
    while at < source.tokens.len() {
        let item = attributes(&source.tokens[at..]);
        if item.len == 0 {
            at += 1;
            continue;
        }
        at += item.len;
        for (place, (line, doc)) in item.docs.iter().enumerate().filter(|(_, (_, doc))| is_claim(doc)) {
            let here = format!("{}:{line}", source.name);
            lines.push(*line);
            let name = function(&source.tokens[at..]).filter(|_| item.is_test);
            match (name, place + 1 == item.docs.len(), parse(doc)) {
                (None, ..) => wrong.push(format!("{here}: `{doc}` stands on nothing that runs as a test")),
                (_, false, _) => wrong.push(format!("{here}: `{doc}` is not the last line of its doc")),
                (_, _, Err(error)) => wrong.push(format!("{here}: `{doc}` {error}")),
                (Some(name), true, Ok(cells)) => {
                    let test = format!("{}::{name}", source.name.trim_end_matches(".rs"));
                    let claim = |(row, layer)| Claim { test: test.clone(), at: here.clone(), row, layer };
                    found.extend(cells.into_iter().map(claim));
                }
            }
        }
    }
    // What only looks like a claim: in a comment that is no doc, or in the doc of a file.
    for (number, text) in (1..).zip(source.text.lines()) {
        let comment = text.trim_start();
        let is_like_one = comment.strip_prefix("//").is_some_and(|rest| is_claim(rest.trim_start_matches(['/', '!'])));
        if is_like_one && !lines.contains(&number) {
            wrong.push(format!(
                "{}:{number}: `{comment}` is no doc of a test: write `/// Covers: 2p, 3p.`",
                source.name
            ));
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

fn is_claim(doc: &str) -> bool {
    doc.trim_start().to_lowercase().starts_with("covers:")
}

/// ` Covers: 2p, 3p.`, to the letter.
fn parse(doc: &str) -> Result<Vec<(u32, char)>, String> {
    let form = || "is not of the form `Covers: 2p, 3p.`".to_owned();
    let list = doc.strip_prefix(" Covers: ").and_then(|rest| rest.strip_suffix('.')).ok_or_else(form)?;
    let mut cells = Vec::new();
    for cell in list.split(", ") {
        let layer = cell.chars().last().filter(|layer| "usp".contains(*layer)).ok_or_else(form)?;
        let row = cell.strip_suffix(layer).and_then(|row| row.parse().ok()).ok_or_else(form)?;
        if format!("{row}{layer}") != cell {
            return Err(form());
        }
        if cells.contains(&(row, layer)) {
            return Err(format!("names {row}{layer} twice"));
        }
        cells.push((row, layer));
    }
    Ok(cells)
}

/// The attributes that stand before one item.
#[derive(Default)]
struct Attributes {
    /// Tokens.
    len: usize,
    docs: Vec<(usize, String)>,
    is_test: bool,
}

fn attributes(tokens: &[Token]) -> Attributes {
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token| token.text.as_str());
    let mut all = Attributes::default();
    while text(all.len) == "#" && text(all.len + 1) == "[" {
        let begin = all.len + 2;
        let (mut end, mut depth) = (begin, 1);
        while depth > 0 && end < tokens.len() {
            depth += i32::from(text(end) == "[");
            depth -= i32::from(text(end) == "]");
            end += 1;
        }
        match [text(begin), text(begin + 1), text(begin + 2)] {
            ["doc", "=", doc] => all.docs.push((tokens[begin].line, said(doc))),
            ["test", "]", _] | ["tokio", "::", "test"] => all.is_test = true,
            _ => {}
        }
        all.len = end;
    }
    all
}

/// A text without its quotes.
fn said(literal: &str) -> String {
    literal.trim_start_matches('r').trim_matches('#').trim_matches('"').to_owned()
}

/// The name of the function that begins here.
fn function(tokens: &[Token]) -> Option<&str> {
    let texts: Vec<&str> = tokens.iter().take(8).map(|token| token.text.as_str()).collect();
    let at = texts.iter().position(|text| *text == "fn")?;
    let is_plain = texts[..at].iter().all(|text| ["pub", "async", "(", "crate", ")", "const"].contains(text));
    texts.get(at + 1).copied().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<Vec<(String, u32, char)>, String> {
        let claims = claims(&Source::new("tests/x.rs", text)).map_err(|errors| errors.join("; "))?;
        Ok(claims.into_iter().map(|claim| (claim.test, claim.row, claim.layer)).collect())
    }

    #[test]
    fn a_claim_is_read_from_each_kind_of_test() {
        let claim = |name: &str, row, layer| (format!("tests/x::{name}"), row, layer);
        let plain = "/// What it shows.\n/// Covers: 2p, 31u.\n#[test]\nfn a() {}";
        assert_eq!(judge(plain), Ok(vec![claim("a", 2, 'p'), claim("a", 31, 'u')]));
        let runtime = "#[tokio::test(start_paused = true)]\n/// Covers: 2s.\nasync fn b() {}";
        assert_eq!(judge(runtime), Ok(vec![claim("b", 2, 's')]));
        let property = "proptest! {\n #![config]\n /// Covers: 9u.\n #[test]\n fn c(x in 0..9) { f(x) }\n }";
        assert_eq!(judge(property), Ok(vec![claim("c", 9, 'u')]));
        assert_eq!(
            judge("#[cfg(test)] mod tests { /// Covers: 9u.\n #[test]\n fn d() {} }"),
            Ok(vec![claim("d", 9, 'u')])
        );
        assert_eq!(judge("/// Covers all.\nfn f() {}"), Ok(vec![]));
    }

    #[test]
    fn a_claim_that_is_none_is_told_with_its_line() {
        let rows = [
            ("/// Covers: 2p.\nfn helper() {}", "tests/x.rs:1: ` Covers: 2p.` stands on nothing that runs"),
            ("/// Covers: 2p.\n#[cfg(test)]\nfn helper() {}", "stands on nothing that runs"),
            ("/// Covers: 2p.\n#[test]\nmod m {}", "stands on nothing that runs"),
            ("/// Covers: 2p.\n/// More.\n#[test]\nfn a() {}", "not the last line"),
            ("/// Covers: 2p\n#[test]\nfn a() {}", "not of the form"),
            ("/// Covers: 2p,3p.\n#[test]\nfn a() {}", "not of the form"),
            ("/// Covers: p2.\n#[test]\nfn a() {}", "not of the form"),
            ("/// Covers: 02p.\n#[test]\nfn a() {}", "not of the form"),
            ("/// Covers: 2x.\n#[test]\nfn a() {}", "not of the form"),
            ("/// covers: 2p.\n#[test]\nfn a() {}", "not of the form"),
            ("/// Covers: 2p, 2p.\n#[test]\nfn a() {}", "names 2p twice"),
            ("// Covers: 2p.\n#[test]\nfn a() {}", "tests/x.rs:1: `// Covers: 2p.` is no doc of a test"),
            ("//! Covers: 2p.\n#[test]\nfn a() {}", "is no doc of a test"),
        ];
        for (text, expected) in rows {
            let told = judge(text).unwrap_err();
            assert!(told.contains(expected), "{text}\n{told}");
        }
    }
}
