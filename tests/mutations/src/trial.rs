//! Builds and runs tests in the copy, and reads what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::signal::ctrl_c;
use tokio::time::timeout;

use crate::Failure;
use crate::guards::Guard;
use crate::tree::Tree;

/// What became of a test while a guard was out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It failed: the guard is one.
    Killed,
    /// It passed: nobody would notice.
    Survived,
    /// It said nothing; why.
    Broken(String),
}

/// The copy and its builds.
pub struct Bench {
    tree: Tree,
    build: PathBuf,
    log: PathBuf,
}

impl Bench {
    /// Builds go to a folder below `folder`, and so does the output of the last run.
    pub fn new(tree: Tree, folder: &Path) -> Result<Self, Failure> {
        let folder = fs::canonicalize(folder)?;
        Ok(Self { tree, build: folder.join("build"), log: folder.join("last.log") })
    }

    /// The commit that is tried.
    pub async fn commit(&self) -> Result<String, Failure> {
        let name = git(&["rev-parse", "--short", "HEAD"]).await?;
        // The page of results changes with each guard.
        let changed = git(&["status", "--porcelain", "--", ".", ":(exclude)tests/mutations/results.md"]).await?;
        Ok(if changed.is_empty() { name } else { name + "-dirty" })
    }

    /// Why the tests of these guards cannot judge: those that do not pass on the sources as they are.
    pub async fn unable<'a>(
        &self,
        binary: &str,
        guards: &'a [Guard],
        limit: Duration,
    ) -> Result<BTreeMap<&'a str, String>, Failure> {
        let tests = guards.iter().map(|guard| guard.test().1).collect();
        let (log, in_time) = self.run(binary, &tests, limit).await?;
        let unable = tests.into_iter().filter_map(|test| match judge(&log, test, in_time) {
            Verdict::Survived => None,
            Verdict::Killed => Some((test, "the test fails on the unchanged sources".to_owned())),
            Verdict::Broken(why) => Some((test, format!("unchanged, {why}"))),
        });
        Ok(unable.collect())
    }

    /// The verdict without this guard, and how many seconds it took.
    #[expect(clippy::disallowed_methods, reason = "edge: real time of real builds")]
    pub async fn without(&self, guard: &Guard, limit: Duration) -> Result<(Verdict, u64), Failure> {
        let began = std::time::Instant::now();
        let _changed = self.tree.without(guard)?;
        let (binary, test) = guard.test();
        let (log, in_time) = self.run(binary, &[test].into(), limit).await?;
        Ok((judge(&log, test, in_time), began.elapsed().as_secs()))
    }

    /// The output of these tests, and whether they ended in time.
    async fn run(&self, binary: &str, tests: &BTreeSet<&str>, limit: Duration) -> Result<(String, bool), Failure> {
        let log = File::create(&self.log)?;
        let mut cargo = Command::new("cargo");
        let (package, binary) = binary.split_once('/').unwrap_or(("dijob-operator", binary));
        cargo.args(["test", "--locked", "--profile=mutants", "--package", package]);
        match binary {
            "lib" => cargo.arg("--lib"),
            _ => cargo.args(["--test", binary]),
        };
        // With one thread a test's name and its result may stand in two lines.
        cargo.args(["--", "--exact", "--test-threads=2"]).args(tests);
        cargo.current_dir(self.tree.folder()).env("CARGO_TARGET_DIR", &self.build);
        cargo.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut child = cargo.spawn()?;
        let group = child.id();
        let (in_time, interrupted) = tokio::select! {
            ended = timeout(limit, child.wait()) => (ended.is_ok(), false),
            _ = ctrl_c() => (false, true),
        };
        if let (false, Some(group)) = (in_time, group) {
            // The group is that of a child that nobody has waited for yet: its id is still its own.
            Command::new("kill").args(["-s", "KILL", "--", &format!("-{group}")]).status().await?;
            child.wait().await?;
        }
        if interrupted {
            return Err("interrupted".into());
        }
        Ok((String::from_utf8_lossy(&fs::read(&self.log)?).into_owned(), in_time))
    }
}

async fn git(args: &[&str]) -> Result<String, Failure> {
    let said = Command::new("git").arg("-C").arg(crate::root()).args(args).output().await?;
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

/// What a run says of one test.
fn judge(log: &str, test: &str, in_time: bool) -> Verdict {
    let result = log.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    match result.filter(|(name, _)| name.trim_end_matches(" - should panic") == test).map(|(_, word)| word).next() {
        _ if !in_time => Verdict::Broken("no end in time".to_owned()),
        Some("FAILED") => Verdict::Killed,
        Some("ok") => Verdict::Survived,
        Some(other) => Verdict::Broken(format!("the test says {other}")),
        None if log.contains("error: could not compile") => Verdict::Broken("does not build".to_owned()),
        None => Verdict::Broken("the test did not run to its end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tests_own_word_kills() {
        let of = |log: &str, in_time| judge(log, "a::b", in_time);
        let broken = |why: &str| Verdict::Broken(why.to_owned());
        assert_eq!(of("running 1 test\ntest a::b ... FAILED\n\nfailures:\n", true), Verdict::Killed);
        assert_eq!(of("running 1 test\ntest a::b ... ok\n", true), Verdict::Survived);
        assert_eq!(of("test a::b ... FAILED\n", false), broken("no end in time"));
        assert_eq!(
            of("error[E0425]: x\nerror: could not compile `dijob-operator` (lib)\n", true),
            broken("does not build")
        );
        let aborted = "running 1 test\nerror: test failed, to rerun pass `--lib`\n(signal: 6, SIGABRT)\n";
        assert_eq!(of(aborted, true), broken("the test did not run to its end"));
        assert_eq!(of("running 0 tests\n", true), broken("the test did not run to its end"));
        assert_eq!(of("test a::b::c ... FAILED\ntest z::a::b ... FAILED\ntest a::b ... ok\n", true), Verdict::Survived);
        assert_eq!(of("test a::b ... ignored\n", true), broken("the test says ignored"));
    }
}
