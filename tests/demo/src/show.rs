//! What a person sees: narration, tables, events and progress.
//!
//! **May touch:** one output.
//!
//! **Guarantees**
//! 1. No escape code where the output is no terminal, or where `NO_COLOR` is set.
//! 2. A wait is one line that updates in a terminal, and elsewhere a line now and then.
//! 3. A row is printed when it says something new: an age that grows is nothing new.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Column;

/// Lines are broken here; narrower terminals break them again.
const WIDTH: usize = 110;
/// Where there is no line to update: a first sign of life, then rarely.
const SPARSE: [u64; 4] = [5, 15, 30, 60];
/// Wide enough for what this story shows, so that columns stay where they are.
const LEAST_WIDTHS: [(&str, usize); 4] = [("Name", 18), ("Reason", 14), ("Since", 5), ("State", 11)];

const BOLD: &str = "1";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const DIM: &str = "2";

/// Where and how to print.
pub struct Show {
    out: Box<dyn Write + Send>,
    terminal: bool,
    colors: bool,
    /// Length of the line that is being updated.
    pending: usize,
    /// Whole seconds that the current wait was last told for.
    told: u64,
    steps: usize,
    header_shown: bool,
    widths: BTreeMap<String, usize>,
    rows: BTreeMap<String, Vec<String>>,
}

impl Show {
    /// Standard output.
    #[expect(clippy::disallowed_methods, reason = "edge: the one place that asks for NO_COLOR")]
    pub fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self::new(Box::new(std::io::stdout()), terminal && !dumb, terminal && !dumb && !set("NO_COLOR"))
    }

    fn new(out: Box<dyn Write + Send>, terminal: bool, colors: bool) -> Self {
        let widths = LEAST_WIDTHS.iter().map(|(name, width)| ((*name).to_owned(), *width)).collect();
        Self {
            out,
            terminal,
            colors,
            pending: 0,
            told: 0,
            steps: 0,
            header_shown: false,
            widths,
            rows: BTreeMap::new(),
        }
    }

    /// The next chapter of the story.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        self.header_shown = false;
        let title = self.paint(BOLD, &format!("{}. {title}", self.steps));
        self.line("");
        self.line(&title);
    }

    /// A sentence or more.
    pub fn say(&mut self, text: &str) {
        for line in wrapped(text, WIDTH - 3) {
            self.line(&format!("   {line}"));
        }
    }

    /// What a person would type.
    pub fn command(&mut self, text: &str) {
        let text = self.paint(BOLD, &format!("$ {text}"));
        self.line(&format!("   {text}"));
        self.header_shown = false;
    }

    /// Something that was expected and is so.
    pub fn as_expected(&mut self, claim: &str) {
        let ok = self.paint(GREEN, "ok");
        for (at, line) in wrapped(claim, WIDTH - 7).iter().enumerate() {
            self.line(&format!("   {}  {line}", if at == 0 { &ok } else { "  " }));
        }
    }

    /// The end, well or not.
    pub fn verdict(&mut self, good: bool, text: &str) {
        let painted = self.paint(if good { GREEN } else { RED }, text);
        self.line("");
        self.line(&painted);
    }

    /// A row of `kubectl get dij --watch`, if it says something new.
    pub fn row(&mut self, name: &str, columns: &[Column], cells: &[Value]) {
        let texts: Vec<String> = shown(columns, cells).map(|(_, cell)| text_of(cell)).collect();
        let lasting =
            shown(columns, cells).filter(|(column, _)| column.type_ != "date").map(|(_, c)| text_of(c)).collect();
        if self.rows.get(name) == Some(&lasting) {
            return;
        }
        self.rows.insert(name.to_owned(), lasting);
        let names: Vec<String> = shown(columns, cells).map(|(column, _)| column.name.clone()).collect();
        let widths: Vec<usize> = names
            .iter()
            .zip(&texts)
            .map(|(name, text)| {
                let width = self.widths.entry(name.clone()).or_default();
                *width = (*width).max(name.chars().count()).max(text.chars().count());
                *width
            })
            .collect();
        if !self.header_shown {
            let header = aligned(&names.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>(), &widths);
            let header = self.paint(DIM, &header);
            self.line(&format!("     {header}"));
            self.header_shown = true;
        }
        self.line(&format!("     {}", aligned(&texts, &widths)));
    }

    /// `kubectl get dij`.
    pub fn all_rows(&mut self, columns: &[Column], rows: &[Vec<Value>]) {
        let header = columns.iter().filter(|column| column.priority == 0).map(|column| column.name.to_uppercase());
        let cells = rows.iter().map(|cells| shown(columns, cells).map(|(_, cell)| text_of(cell)).collect());
        self.table(&[header.collect()].into_iter().chain(cells).collect::<Vec<_>>());
    }

    /// A whole table of texts, the first row its header.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or_default()).collect();
        for (at, row) in rows.iter().enumerate() {
            let text = aligned(row, &widths);
            let text = if at == 0 { self.paint(DIM, &text) } else { text };
            self.line(&format!("     {text}"));
        }
    }

    /// An Event as it comes.
    pub fn event(&mut self, kind: &str, reason: &str, about: &str, note: &str) {
        let text = format!("{kind} {reason} {about}: {note}");
        let color = if kind == "Normal" { DIM } else { YELLOW };
        for (at, line) in wrapped(&text, WIDTH - 13).iter().enumerate() {
            let line = self.paint(color, &format!("{} {line}", if at == 0 { "Event" } else { "     " }));
            self.line(&format!("     {line}"));
        }
    }

    /// A wait goes on.
    pub fn progress(&mut self, what: &str, elapsed: Duration) {
        let seconds = elapsed.as_secs();
        if self.terminal {
            let text: String = format!("   … {what}, {seconds} s").chars().take(78).collect();
            self.clear();
            self.pending = text.chars().count();
            let _ = write!(self.out, "{text}");
            let _ = self.out.flush();
        } else if seconds != self.told && SPARSE.contains(&seconds) {
            self.told = seconds;
            self.line(&format!("   ... {what}, {seconds} s"));
        }
    }

    /// A wait is over.
    pub fn done(&mut self) {
        self.clear();
        self.told = 0;
    }

    /// One line as it is.
    pub fn line(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }

    /// Overwrites the line that is being updated: spaces do it without an escape code.
    fn clear(&mut self) {
        if self.pending > 0 {
            let _ = write!(self.out, "\r{}\r", " ".repeat(self.pending));
            self.pending = 0;
        }
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What is shown without `-o wide`.
fn shown<'a>(columns: &'a [Column], cells: &'a [Value]) -> impl Iterator<Item = (&'a Column, &'a Value)> {
    columns.iter().zip(cells).filter(|(column, _)| column.priority == 0)
}

/// A cell as kubectl prints it.
fn text_of(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => cell.to_string(),
    }
}

fn aligned(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    padded.collect::<Vec<_>>().join("   ").trim_end().to_owned()
}

/// Breaks at spaces; a word longer than a line stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;

    /// A screen that can be read.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn piped() -> (Show, Paper) {
        let paper = Paper::default();
        (Show::new(Box::new(paper.clone()), false, false), paper)
    }

    fn columns() -> Vec<Column> {
        let column =
            |name: &str, type_: &str, priority| Column { name: name.to_owned(), type_: type_.to_owned(), priority };
        vec![
            column("Name", "string", 0),
            column("Job-ID", "integer", 0),
            column("Reason", "string", 0),
            column("Age", "date", 0),
            column("Message", "string", 1),
        ]
    }

    #[test]
    fn rows_are_aligned_under_one_header_without_the_wide_columns() {
        let (mut show, paper) = piped();
        show.row("a", &columns(), &[json!("a"), json!(1), json!("StartDue"), json!("0s"), json!("long")]);
        show.row("b", &columns(), &[json!("b"), json!(11743), Value::Null, json!("12s"), json!("long")]);
        let wanted = [
            "     NAME                 JOB-ID   REASON           AGE",
            "     a                    1        StartDue         0s",
            "     b                    11743                     12s",
        ];
        assert_eq!(paper.text().lines().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_row_is_printed_again_only_if_more_than_its_age_changed() {
        let (mut show, paper) = piped();
        for (reason, age) in [("StartDue", "0s"), ("StartDue", "1s"), ("Starting", "2s"), ("Starting", "3s")] {
            show.row("a", &columns(), &[json!("a"), json!(1), json!(reason), json!(age), Value::Null]);
        }
        assert_eq!(paper.text().lines().count(), 3, "{}", paper.text());
        show.step("the next one has a header of its own");
        show.row("a", &columns(), &[json!("a"), json!(1), json!("Confirming"), json!("4s"), Value::Null]);
        assert_eq!(paper.text().matches("NAME").count(), 2);
    }

    #[test]
    fn piped_narration_has_no_escape_code_and_waits_are_told_sparsely() {
        let (mut show, paper) = piped();
        show.step("A job");
        show.command("kubectl apply");
        show.event("Warning", "AccessDenied", "refused", "the cloud says no");
        for quarter in 0..64 {
            show.progress("waiting for the job", Duration::from_millis(250 * quarter));
        }
        show.done();
        show.as_expected("it runs");
        show.verdict(true, "All as expected");
        let wanted = "\n1. A job\n   $ kubectl apply\n     Event Warning AccessDenied refused: the cloud says no\n   \
                      ... waiting for the job, 5 s\n   ... waiting for the job, 15 s\n   ok  it runs\n\nAll as expected\n";
        assert_eq!(paper.text(), wanted);
    }

    #[test]
    fn in_a_terminal_a_wait_is_one_line_that_leaves_nothing_behind() {
        let paper = Paper::default();
        let mut show = Show::new(Box::new(paper.clone()), true, false);
        show.progress("a wait with a long name", Duration::from_secs(1));
        show.progress("a wait", Duration::from_secs(2));
        show.line("x");
        let text = paper.text();
        assert!(!text.contains('\x1b'), "without colours there is no escape code: {text:?}");
        // What a terminal would show: each return to the left writes over what was there.
        let mut screen: Vec<char> = Vec::new();
        for part in text.trim_end_matches('\n').split('\r') {
            let over: Vec<char> = part.chars().collect();
            screen = over.iter().copied().chain(screen.into_iter().skip(over.len())).collect();
        }
        assert_eq!(screen.into_iter().collect::<String>().trim_end(), "x");
    }

    #[test]
    fn with_colours_they_end_where_their_text_ends() {
        let paper = Paper::default();
        Show::new(Box::new(paper.clone()), true, true).verdict(false, "DIFFERS");
        assert_eq!(paper.text(), "\n\x1b[31mDIFFERS\x1b[0m\n");
    }

    #[test]
    fn text_is_broken_at_spaces_and_long_words_stay_whole() {
        assert_eq!(wrapped("a bb  ccc dddddddd e", 5), ["a bb", "ccc", "dddddddd", "e"]);
        assert_eq!(wrapped("", 5), Vec::<String>::new());
    }
}
