//! `results.md`: what was last said of each guard.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::guards::Guard;
use crate::trial::Verdict;

/// The page, and where it lies. It is read before each change: two runs with target folders of their own may share it.
pub struct Results {
    file: PathBuf,
}

/// What was last said of one guard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    verdict: String,
    seconds: String,
    commit: String,
    entry: String,
}

const HEAD: &str =
    "| guard | test that fails without it | verdict | seconds | commit | entry |\n|---|---|---|---|---|---|";
const KILLED: &str = "killed";

impl Results {
    /// The page of the repository in `root`.
    pub fn of(root: &Path) -> Self {
        Self { file: root.join("tests/mutations/results.md") }
    }

    /// Writes down what was said of one guard, and drops what fits no entry any more.
    pub fn keep(
        &self,
        guards: &[Guard],
        tried: &Guard,
        verdict: &Verdict,
        seconds: u64,
        commit: &str,
    ) -> Result<(), Failure> {
        let mut rows = self.read()?;
        let row = Row {
            verdict: word(verdict),
            seconds: seconds.to_string(),
            commit: commit.to_owned(),
            entry: tried.fingerprint(),
        };
        rows.insert(tried.name.clone(), row);
        Ok(fs::write(&self.file, page(guards, &rows))?)
    }

    /// Whether the guard, as its entry stands, was killed.
    pub fn is_killed(&self, guard: &Guard) -> Result<bool, Failure> {
        let is_killed = |row: &Row| row.verdict == KILLED && row.entry == guard.fingerprint();
        Ok(self.read()?.get(&guard.name).is_some_and(is_killed))
    }

    fn read(&self) -> Result<BTreeMap<String, Row>, Failure> {
        Ok(if self.file.exists() { rows(&fs::read_to_string(&self.file)?) } else { BTreeMap::new() })
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Killed => KILLED.to_owned(),
        Verdict::Survived => "**survived**".to_owned(),
        Verdict::Broken(why) => format!("not judged: {why}"),
    }
}

fn rows(page: &str) -> BTreeMap<String, Row> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [name, _, verdict, seconds, commit, entry] = cells.try_into().ok()?;
        let [verdict, seconds, commit, entry] = [verdict, seconds, commit, entry].map(str::to_owned);
        (name != "guard").then(|| (name.to_owned(), Row { verdict, seconds, commit, entry }))
    };
    page.lines().filter_map(row).collect()
}

/// All guards in their order.
fn page(guards: &[Guard], rows: &BTreeMap<String, Row>) -> String {
    let untried = Row { verdict: "not tried".into(), seconds: "-".into(), commit: "-".into(), entry: "-".into() };
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut table = vec![HEAD.to_owned()];
    for guard in guards {
        let row = rows.get(&guard.name).unwrap_or(&untried);
        let stale = row.entry != "-" && row.entry != guard.fingerprint();
        let verdict = if stale { "stale" } else { &row.verdict };
        *counts.entry(verdict.split(':').next().unwrap_or_default()).or_default() += 1;
        let Row { seconds, commit, entry, .. } = row;
        table.push(format!("| {} | `{}` | {verdict} | {seconds} | {commit} | {entry} |", guard.name, guard.test));
    }
    let counts: Vec<String> = counts.into_iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    format!(
        "# Mutation check\n\nWhat `cargo mutate` last said of each guard in [guards.toml](guards.toml): {} guards, {}. It writes this page\n\
         after each guard. A row's commit is the one it was tried on; its seconds hold a build and a test on a shared machine. `stale`: the\n\
         entry has changed since, as the last column tells. `not judged`: the test fails unchanged, too, or said nothing.\n\n{}\n",
        guards.len(),
        counts.join(", "),
        table.join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(name: &str, text: &str) -> Guard {
        Guard {
            name: name.to_owned(),
            why: "two leaders".to_owned(),
            file: "src/a.rs".to_owned(),
            text: text.to_owned(),
            replacement: "if true".to_owned(),
            test: "lib::a::tests::the_fence_holds".to_owned(),
        }
    }

    fn row(verdict: &Verdict, guard: &Guard) -> Row {
        Row {
            verdict: word(verdict),
            seconds: "7".to_owned(),
            commit: "abc1234".to_owned(),
            entry: guard.fingerprint(),
        }
    }

    fn lines(page: &str) -> Vec<(String, String)> {
        let cell =
            |line: &str, n: usize| line.split(" | ").nth(n).unwrap_or_default().trim_start_matches("| ").to_owned();
        page.lines().skip_while(|line| !line.starts_with("|---")).skip(1).map(|l| (cell(l, 0), cell(l, 2))).collect()
    }

    #[test]
    fn the_page_tells_each_guard_once_in_the_order_of_the_list() {
        let [fence, lease, token] = [guard("fence", "if a"), guard("lease", "if b"), guard("token", "if c")];
        let broken = Verdict::Broken("does not build".to_owned());
        let kept = BTreeMap::from([
            ("fence".to_owned(), row(&Verdict::Killed, &fence)),
            ("gone".to_owned(), row(&Verdict::Killed, &fence)),
            ("lease".to_owned(), row(&broken, &lease)),
        ]);
        let told = page(&[token.clone(), lease.clone(), fence.clone()], &kept);
        let expected = [("token", "not tried"), ("lease", "not judged: does not build"), ("fence", "killed")];
        assert_eq!(lines(&told), expected.map(|(name, verdict)| (name.to_owned(), verdict.to_owned())));
        assert!(told.contains("3 guards, 1 killed, 1 not judged, 1 not tried."), "{told}");
        let mut expected = kept;
        expected.remove("gone");
        let mut read = rows(&told);
        read.retain(|_, row| row.verdict != "not tried");
        assert_eq!(read, expected, "what is written is read again");
    }

    #[test]
    fn a_verdict_on_another_entry_is_stale_until_the_guard_is_tried_again() {
        let (before, after) = (guard("fence", "if holds"), guard("fence", "if holds(now)"));
        let kept = BTreeMap::from([("fence".to_owned(), row(&Verdict::Killed, &before))]);
        let stale = [("fence".to_owned(), "stale".to_owned())];
        let told = page(std::slice::from_ref(&after), &kept);
        assert_eq!(lines(&told), stale);
        assert_eq!(lines(&page(&[after], &rows(&told))), stale, "also when the page is written again");
    }
}
