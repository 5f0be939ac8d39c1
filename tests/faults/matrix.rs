//! The rows that must be shown, and what is said of them.

use std::fmt::Write;

use serde::Deserialize;

use crate::claims::Claim;

const LAYERS: [char; 3] = ['u', 's', 'p'];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    row: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    number: u32,
    fault: String,
    promise: String,
    layers: String,
    waits_u: Option<String>,
    waits_s: Option<String>,
    waits_p: Option<String>,
    open_u: Option<String>,
    open_s: Option<String>,
    open_p: Option<String>,
}

impl Row {
    fn waits(&self, layer: char) -> Option<&str> {
        match layer {
            'u' => self.waits_u.as_deref(),
            's' => self.waits_s.as_deref(),
            _ => self.waits_p.as_deref(),
        }
    }

    /// What the tests that claim the cell leave open.
    fn open(&self, layer: char) -> Option<&str> {
        match layer {
            'u' => self.open_u.as_deref(),
            's' => self.open_s.as_deref(),
            _ => self.open_p.as_deref(),
        }
    }

    fn is_claimed<'a>(&'a self, layer: char, claims: &'a [Claim]) -> impl Iterator<Item = &'a Claim> {
        claims.iter().filter(move |claim| (claim.row, claim.layer) == (self.number, layer))
    }
}

impl Matrix {
    pub fn read(text: &str) -> Result<Self, String> {
        basic_toml::from_str(text).map_err(|error| error.to_string())
    }

    /// What is wrong between the matrix and the claims.
    pub fn judge(&self, claims: &[Claim]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (expected, row) in (1..).zip(&self.row) {
            let number = row.number;
            if number != expected {
                wrong.push(format!("row {number} stands where row {expected} should"));
            }
            if row.layers.is_empty() || row.layers.chars().any(|layer| !LAYERS.contains(&layer)) {
                wrong.push(format!("row {number}: layers are of u, s and p, not `{}`", row.layers));
            }
            for layer in LAYERS {
                let is_required = row.layers.contains(layer);
                let first = row.is_claimed(layer, claims).next();
                match (is_required, first, row.waits(layer)) {
                    (_, None, _) if row.open(layer).is_some() => {
                        wrong.push(format!("{number}{layer}: something is left open, and no test claims the rest"));
                    }
                    (_, Some(claim), Some(_)) => {
                        wrong.push(format!("{number}{layer}: {} claims it, and it waits too", claim.test));
                    }
                    (true, None, None) => {
                        wrong.push(format!("{number}{layer}: no test claims it and it waits for nothing"));
                    }
                    (false, None, Some(_)) => wrong.push(format!("{number}{layer}: it waits, and is not required")),
                    (_, _, Some("")) => wrong.push(format!("{number}{layer}: it waits for nothing that is said")),
                    _ => {}
                }
            }
        }
        let unknown = claims.iter().filter(|claim| self.row.iter().all(|row| row.number != claim.row));
        wrong.extend(unknown.map(|claim| format!("{}: there is no row {}", claim.at, claim.row)));
        wrong
    }

    /// The table, as Markdown.
    pub fn table(&self, claims: &[Claim]) -> String {
        let (mut rows, mut shown, mut partly, mut required, mut whole) = (String::new(), 0, 0, 0, 0);
        for row in &self.row {
            let mut cells = Vec::new();
            let mut waits: Vec<(String, &str)> = Vec::new();
            let mut is_whole = true;
            for layer in LAYERS {
                let mut tests: Vec<_> =
                    row.is_claimed(layer, claims).map(|claim| format!("`{}`", claim.test)).collect();
                tests.sort();
                tests.dedup();
                let is_required = row.layers.contains(layer);
                required += u32::from(is_required);
                let is_shown = !tests.is_empty() && row.open(layer).is_none();
                shown += u32::from(is_required && is_shown);
                partly += u32::from(is_required && row.open(layer).is_some());
                is_whole &= !is_required || is_shown;
                if let Some(open) = row.open(layer) {
                    cells.push(format!("{layer} {}; still open: {open}", tests.join(", ")));
                } else if is_shown {
                    cells.push(format!("**{layer}** {}", tests.join(", ")));
                } else if let Some(reason) = row.waits(layer) {
                    match waits.iter_mut().find(|(_, other)| *other == reason) {
                        Some((layers, _)) => *layers = format!("{layers}, {layer}"),
                        None => waits.push((layer.to_string(), reason)),
                    }
                }
            }
            cells.extend(waits.into_iter().map(|(layers, reason)| format!("{layers}: waits, {reason}")));
            whole += u32::from(is_whole);
            let Row { number, fault, promise, .. } = row;
            writeln!(rows, "| {number} | {fault} | {promise} | {} |", cells.join("<br>")).unwrap();
        }
        let tests: std::collections::BTreeSet<_> = claims.iter().map(|claim| &claim.test).collect();
        format!(
            "# Fault matrix\n\n\
             What goes wrong, what must hold then, and which tests show it. A test is named by its file and function, and claims\n\
             its rows in the last line of its doc. Made from [matrix.toml](matrix.toml) and the tests by\n\
             `UPDATE=1 cargo test --test faults`; do not edit.\n\n\
             Layers: **u** the pure core, **s** the whole process simulated under a paused clock, **p** real processes and a real\n\
             API server. What no test shows yet says what it waits for; what is shown in part says what is open.\n\n\
             **{whole} of {} rows are shown in each layer they need; of {required} cells {shown} are shown and {partly} in part, by {} tests.**\n\n\
             | # | fault | what must hold | shown by |\n|---|---|---|---|\n{rows}",
            self.row.len(),
            tests.len(),
        )
    }
}

/// The text of the matrix without the waits of cells that a test claims.
pub fn without_ended_waits(text: &str, claims: &[Claim]) -> String {
    let mut number = 0;
    let is_kept = |line: &&str| {
        if let Some(row) = line.strip_prefix("number = ") {
            number = row.trim().parse().unwrap_or(0);
        }
        let layer = line.strip_prefix("waits_").and_then(|rest| rest.chars().next());
        layer.is_none_or(|layer| claims.iter().all(|claim| (claim.row, claim.layer) != (number, layer)))
    };
    text.split_inclusive('\n').filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[[row]]\nnumber = 1\nfault = \"f\"\npromise = \"p\"\nlayers = \"us\"\nwaits_u = \"a\"\nwaits_s = \"b\"\n";

    fn claim(row: u32, layer: char) -> Claim {
        Claim { test: "tests/x::t".to_owned(), at: "tests/x.rs:7".to_owned(), row, layer }
    }

    fn judge(text: &str, claims: &[Claim]) -> String {
        Matrix::read(text).unwrap().judge(claims).join("; ")
    }

    #[test]
    fn each_required_layer_is_claimed_or_waits_and_never_both() {
        assert_eq!(judge(TEXT, &[]), "");
        assert_eq!(judge(TEXT, &[claim(1, 'u')]), "1u: tests/x::t claims it, and it waits too");
        let waits_less = TEXT.replace("waits_u = \"a\"\n", "");
        assert_eq!(judge(&waits_less, &[]), "1u: no test claims it and it waits for nothing");
        assert_eq!(judge(&waits_less, &[claim(1, 'u'), claim(1, 'p')]), "", "more than is required is welcome");
        assert_eq!(judge(TEXT, &[claim(46, 'u')]), "tests/x.rs:7: there is no row 46");
        assert_eq!(judge(&TEXT.replace("\"us\"", "\"s\""), &[]), "1u: it waits, and is not required");
        assert_eq!(judge(&TEXT.replace("\"a\"", "\"\""), &[]), "1u: it waits for nothing that is said");
        assert!(judge(&TEXT.replace("\"us\"", "\"uxs\""), &[]).contains("not `uxs`"));
        assert!(judge(&TEXT.replace("= 1", "= 2"), &[]).contains("row 2 stands where row 1 should"));
        assert!(Matrix::read(&TEXT.replace("waits_u", "wait_u")).is_err());
    }

    #[test]
    fn waits_that_are_over_are_taken_out_and_no_other_line() {
        let claims = [claim(1, 's'), claim(2, 'u')];
        assert_eq!(without_ended_waits(TEXT, &claims), TEXT.replace("waits_s = \"b\"\n", ""));
    }

    #[test]
    fn a_cell_that_leaves_something_open_is_shown_in_part() {
        let text = TEXT.replace("waits_u", "open_u").replace("waits_s = \"b\"\n", "");
        let claims = [claim(1, 'u'), claim(1, 's')];
        assert_eq!(judge(&text, &claims), "");
        let table = Matrix::read(&text).unwrap().table(&claims);
        assert!(table.contains("| u `tests/x::t`; still open: a<br>**s** `tests/x::t` |"), "{table}");
        assert!(table.contains("**0 of 1 rows") && table.contains("1 are shown and 1 in part"), "{table}");
        let unclaimed = judge(&text, &[claim(1, 's')]);
        assert!(unclaimed.contains("1u: something is left open, and no test claims the rest"), "{unclaimed}");
    }

    #[test]
    fn the_table_names_tests_waits_and_totals() {
        let same = Matrix::read(&TEXT.replace("\"b\"", "\"a\"")).unwrap().table(&[]);
        assert!(same.contains("| 1 | f | p | u, s: waits, a |\n"), "{same}");
        let matrix = Matrix::read(&without_ended_waits(TEXT, &[claim(1, 'u')])).unwrap();
        let table = matrix.table(&[claim(1, 'u')]);
        assert!(table.contains("| 1 | f | p | **u** `tests/x::t`<br>s: waits, b |\n"), "{table}");
        assert!(
            table.contains(
                "**0 of 1 rows are shown in each layer they need; of 2 cells 1 are shown and 0 in part, by 1 tests.**"
            ),
            "{table}"
        );
        let whole = matrix.table(&[claim(1, 'u'), claim(1, 's')]);
        assert!(whole.contains("**1 of 1 rows"), "{whole}");
    }
}
