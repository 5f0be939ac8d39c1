//! What was measured: gathered, then printed as a table or as JSON.
//!
//! **May touch:** its arguments.
//!
//! **Guarantees**
//! 1. Every number names its unit and where it was counted.
//! 2. Quantiles are by nearest rank: a value that was measured, never one in between.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Repeated measurements of one thing, in milliseconds.
pub struct Series {
    /// Name in JSON.
    pub key: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// In the order of measuring.
    pub values: Vec<f64>,
}

impl Series {
    /// The value of this rank, from 0 to 1; 0 if there is none.
    pub fn quantile(&self, rank: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of values, not negative"
        )]
        let place = ((rank * sorted.len() as f64).ceil() as usize).saturating_sub(1);
        sorted.get(place).copied().unwrap_or_default()
    }
}

/// One measurement.
struct Number {
    key: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
    from: &'static str,
}

/// The same numbers of several things that were measured.
pub struct Grid {
    /// Name in JSON.
    pub key: &'static str,
    /// What the rows are.
    pub title: &'static str,
    /// What the numbers of a row are.
    pub columns: Vec<String>,
    /// What was measured, of what, and its numbers; absent: not measured there.
    pub rows: Vec<(String, &'static str, Vec<Option<f64>>)>,
    /// What the columns mean.
    pub notes: Vec<String>,
}

impl Grid {
    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(what, of, values)| {
            let mut row = serde_json::Map::from_iter([("what".to_owned(), json!(what)), ("of".to_owned(), json!(of))]);
            row.extend(self.columns.iter().cloned().zip(values.iter().map(|value| json!(value))));
            Value::Object(row)
        });
        json!({"rows": rows.collect::<Vec<_>>(), "notes": self.notes})
    }

    fn table(&self) -> String {
        let line = |what: &str, of: &str, values: &[String]| {
            let cells: Vec<_> = values.iter().map(|value| format!("{value:>10}")).collect();
            format!("{what:<22} {of:<10} {}\n", cells.join(" "))
        };
        let mut out = format!("\n{}", line(self.title, "of", &self.columns));
        for (what, of, values) in &self.rows {
            let text = |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
            out += &line(what, of, &values.iter().map(text).collect::<Vec<_>>());
        }
        self.notes.iter().fold(out + "\n", |out, note| out + note + "\n")
    }
}

/// All of one run.
#[derive(Default)]
pub struct Report {
    grids: Vec<Grid>,
    about: Vec<(&'static str, String)>,
    series: Vec<Series>,
    numbers: Vec<Number>,
}

impl Report {
    /// States a circumstance of the run.
    pub fn about(&mut self, key: &'static str, value: impl Into<String>) {
        self.about.push((key, value.into()));
    }

    /// Adds repeated measurements.
    pub fn series(&mut self, series: Series) {
        self.series.push(series);
    }

    /// Adds numbers: name in JSON, what it is, its value and unit, and where it was counted.
    pub fn numbers<const N: usize>(&mut self, all: [(&'static str, &'static str, f64, &'static str, &'static str); N]) {
        let number = |(key, what, value, unit, from)| Number { key, what, value, unit, from };
        self.numbers.extend(all.map(number));
    }

    /// Adds a table of its own.
    pub fn grid(&mut self, grid: Grid) {
        self.grids.push(grid);
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let about: serde_json::Map<String, Value> =
            self.about.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let series = self.series.iter().map(|s| {
            let numbers = json!({
                "what": s.what, "unit": "ms", "n": s.values.len(), "min": s.quantile(0.0), "p50": s.quantile(0.5),
                "p90": s.quantile(0.9), "p99": s.quantile(0.99), "max": s.quantile(1.0),
            });
            (s.key.to_owned(), numbers)
        });
        let numbers = self
            .numbers
            .iter()
            .map(|n| (n.key.to_owned(), json!({"what": n.what, "value": n.value, "unit": n.unit, "from": n.from})));
        json!({
            "about": about,
            "series": series.collect::<serde_json::Map<_, _>>(),
            "numbers": numbers.collect::<serde_json::Map<_, _>>(),
            "grids": self.grids.iter().map(|grid| (grid.key.to_owned(), grid.json())).collect::<serde_json::Map<_, _>>(),
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}"); // writing to a String cannot fail
        };
        for (key, value) in &self.about {
            line(format_args!("{key:<16} {value}"));
        }
        let mut out = self.grids.iter().fold(out, |out, grid| out + &grid.table());
        if self.series.is_empty() && self.numbers.is_empty() {
            return out;
        }
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        let width = self.series.iter().map(|s| s.what.len()).chain(self.numbers.iter().map(|n| n.what.len())).max();
        let width = width.unwrap_or_default();
        line(format_args!(
            "\n{:<width$} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "milliseconds", "n", "min", "p50", "p90", "p99", "max"
        ));
        for s in &self.series {
            let [min, p50, p90, p99, max] = [0.0, 0.5, 0.9, 0.99, 1.0].map(|rank| s.quantile(rank));
            line(format_args!(
                "{:<width$} {:>6} {min:>8.1} {p50:>8.1} {p90:>8.1} {p99:>8.1} {max:>8.1}",
                s.what,
                s.values.len()
            ));
        }
        line(format_args!("\n{:<width$} {:>10} {:<6} counted from", "numbers", "value", "unit"));
        for n in &self.numbers {
            let digits = if n.value.fract() == 0.0 { 0 } else { 3 };
            line(format_args!("{:<width$} {:>10.digits$} {:<6} {}", n.what, n.value, n.unit, n.from));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, clippy::float_cmp, reason = "tests")]

    use super::*;

    #[test]
    fn a_quantile_is_the_measured_value_of_that_rank() {
        let values = (1..=300).rev().map(f64::from).collect();
        let series = Series { key: "k", what: "w", values };
        let ranks = [0.0, 0.5, 0.9, 0.99, 1.0].map(|rank| series.quantile(rank));
        assert_eq!(ranks, [1.0, 150.0, 270.0, 297.0, 300.0]);
    }

    #[test]
    fn both_forms_hold_every_number_with_its_unit_and_source() {
        let mut report = Report::default();
        report.about("commit", "abc");
        report.series(Series { key: "patch", what: "a patch", values: vec![2.0, 1.0] });
        report.numbers([("starts", "starts in all", 3.0, "calls", "ledger")]);
        assert_eq!(report.json()["series"]["patch"]["p50"], json!(1.0));
        assert_eq!(
            report.json()["numbers"]["starts"],
            json!({"what": "starts in all", "value": 3.0, "unit": "calls", "from": "ledger"})
        );
        let rows = vec![("a cell".to_owned(), "operator", vec![Some(0.5), None])];
        let columns = vec!["P1".to_owned(), "P3".to_owned()];
        report.grid(Grid { key: "grid", title: "cells", columns, rows, notes: vec!["a note".to_owned()] });
        let row = json!({"what": "a cell", "of": "operator", "P1": 0.5, "P3": null});
        assert_eq!(report.json()["grids"]["grid"]["rows"], json!([row]));
        let table = report.table();
        for text in ["0.500", "a note", "abc", "a patch", "starts in all", "3 calls", "ledger"] {
            assert!(table.contains(text), "{text} in {table}");
        }
    }
}
