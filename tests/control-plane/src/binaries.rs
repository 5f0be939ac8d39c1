//! Finds the binaries of the control plane, or builds them from the module beside this crate.
//!
//! **May touch:** the environment, once; the cache folder; the Go tool chain.
//!
//! **Guarantees**
//! 1. A file in the cache is whole: it was moved there after its build had ended well.
//! 2. Launchers that start at the same time build once; the others wait for a file lock, which the kernel lifts if its
//!    holder dies.
//! 3. Another `go.mod`, `go.sum` or way to build has another folder: nothing stale is ever used.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::Error;
use crate::watchdog::Watchdog;

const GO_MOD: &str = include_str!("../go.mod");
const GO_SUM: &str = include_str!("../go.sum");

/// Often enough to show that something goes on, and what.
const REPORT_EVERY: Duration = Duration::from_secs(15);

/// A binary: its file name, its Go package, and the name under which Go builds that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    package: &'static str,
    built_as: &'static str,
}

pub(crate) const ETCD: Tool = Tool { name: "etcd", package: "go.etcd.io/etcd/server/v3", built_as: "server" };
pub(crate) const API_SERVER: Tool =
    Tool { name: "kube-apiserver", package: "k8s.io/kubernetes/cmd/kube-apiserver", built_as: "kube-apiserver" };
pub(crate) const CONTROLLER_MANAGER: Tool = Tool {
    name: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    built_as: "kube-controller-manager",
};

/// Where to look, in this order, and what to build with.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The folder that the Go ecosystem's envtest uses too.
    assets: Option<PathBuf>,
    cache: PathBuf,
    go: OsString,
}

impl Places {
    /// `KUBEBUILDER_ASSETS`, then `$XDG_CACHE_HOME/dijob-operator/control-plane`, or the same under `~/.cache`.
    #[expect(clippy::disallowed_methods, reason = "edge: the one place of this crate that reads the environment")]
    pub(crate) fn of_environment() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
        Self {
            assets: set("KUBEBUILDER_ASSETS"),
            cache: cache.unwrap_or_else(std::env::temp_dir).join("dijob-operator/control-plane"),
            go: "go".into(),
        }
    }

    /// The path of a binary that is there already.
    fn path(&self, tool: Tool) -> Option<PathBuf> {
        let folders = self.assets.iter().cloned().chain([self.cached()]);
        folders.map(|folder| folder.join(tool.name)).find(|path| path.is_file())
    }

    fn cached(&self) -> PathBuf {
        self.cache.join(fingerprint(&[GO_MOD, GO_SUM, &link_flags()]))
    }

    /// Builds what is missing of `tools`, so that [`Self::path`] has all of them.
    pub(crate) fn provide(&self, tools: &[Tool], watchdog: &Watchdog) -> Result<Vec<PathBuf>, Error> {
        if self.missing(tools).is_empty() {
            return Ok(tools.iter().filter_map(|tool| self.path(*tool)).collect());
        }
        let folder = self.cached();
        let doing = |what: &str| format!("{what} {}", folder.display());
        fs::create_dir_all(&folder).map_err(Error::io(doing("making the cache folder")))?;
        let _lock = lock(&folder.join("lock")).map_err(Error::io(doing("locking the cache folder")))?;
        let missing = self.missing(tools); // another process may have built them while we waited
        if !missing.is_empty() {
            let partial = folder.join("partial");
            let move_in = |tool: &Tool| fs::rename(partial.join(tool.built_as), folder.join(tool.name));
            let built = self.build(&missing, &partial, watchdog).and_then(|()| {
                missing.iter().try_for_each(move_in).map_err(Error::io(doing("moving the binaries into")))
            });
            let _ = fs::remove_dir_all(&partial);
            built?;
        }
        Ok(tools.iter().filter_map(|tool| self.path(*tool)).collect())
    }

    fn missing(&self, tools: &[Tool]) -> Vec<Tool> {
        tools.iter().copied().filter(|tool| self.path(*tool).is_none()).collect()
    }

    fn build(&self, tools: &[Tool], into: &Path, watchdog: &Watchdog) -> Result<(), Error> {
        let names = tools.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ");
        let module = watchdog.directory().join("module");
        let written = fs::create_dir_all(&module)
            .and_then(|()| fs::write(module.join("go.mod"), GO_MOD))
            .and_then(|()| fs::write(module.join("go.sum"), GO_SUM));
        written.map_err(Error::io(format!("writing {}", module.display())))?;

        let mut go = Command::new(&self.go);
        go.args(["build", "-C"]).arg(&module);
        go.args(["-v", "-trimpath", "-buildvcs=false", "-ldflags", &link_flags(), "-o"]);
        // The slash makes it a folder for Go, even if there is one binary to build.
        go.arg(into.join("")).args(tools.iter().map(|tool| tool.package));
        // Go's own temporary folder goes with ours, however the build ends.
        go.env("CGO_ENABLED", "0").env("GOWORK", "off").env("GOTMPDIR", watchdog.directory()).stdout(Stdio::null());
        let mut child = match watchdog.bind(&mut go).stderr(Stdio::piped()).spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.nothing_found(&names)),
            started => started.map_err(Error::io("starting go build".to_owned()))?,
        };
        say(&format!(
            "building {names} into {}. No package registry ships them, so they are compiled from source, once: \
             5 to 10 minutes on 2 cores and 3 GB of Go build cache, less if Go has built them before. \
             To use others, set KUBEBUILDER_ASSETS to the folder that holds them.",
            self.cached().display()
        ));
        let last_lines = child.stderr.take().map(follow).unwrap_or_default();
        let status = child.wait().map_err(Error::io("waiting for go build".to_owned()))?;
        if status.success() { Ok(()) } else { Err(Error::Build { names, status, output: last_lines }) }
    }

    fn nothing_found(&self, names: &str) -> Error {
        let assets = self.assets.as_ref().map_or("not set".to_owned(), |folder| folder.display().to_string());
        Error::NoBinaries { names: names.to_owned(), assets, cache: self.cached() }
    }
}

/// Without these, `/version` lies, and clients that look at it misbehave.
fn link_flags() -> String {
    let version = GO_MOD.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes ")).unwrap_or_default();
    let version = version.split(' ').next().unwrap_or_default();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let package = "k8s.io/component-base/version";
    format!("-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
}

/// FNV-1a: it names a folder, and `DefaultHasher` may change with the compiler.
fn fingerprint(texts: &[&str]) -> String {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0]));
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// Takes the lock, which lasts as long as the file is open.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("waiting for another process that builds the same binaries"),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.lock()?;
    Ok(file)
}

/// Reports how far the build is until it ends, and returns its last lines.
#[expect(clippy::disallowed_methods, reason = "edge: how long a build takes, for its progress lines")]
fn follow(output: ChildStderr) -> String {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let started = Instant::now();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let ended = collect(&lines, started, &mut seen);
        let seconds = started.elapsed().as_secs();
        let last = seen.last().map_or("", String::as_str);
        if ended {
            say(&format!("go build ended after {seconds} s"));
            return seen.split_off(seen.len().saturating_sub(20)).join("\n");
        }
        say(&format!("{seconds} s: go build has fetched or compiled {} packages, the last was {last}", seen.len()));
    }
}

/// Reads lines until the next report is due (false) or there are no more (true).
#[expect(clippy::disallowed_methods, reason = "edge: how long a build takes, for its progress lines")]
fn collect(lines: &Receiver<String>, started: Instant, seen: &mut Vec<String>) -> bool {
    let reports = started.elapsed().as_secs() / REPORT_EVERY.as_secs();
    let due = started + Duration::from_secs((reports + 1) * REPORT_EVERY.as_secs());
    loop {
        match lines.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(line) => seen.push(line),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

/// Past `eprintln!`, whose text the test harness keeps until a test fails.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "control-plane: {line}");
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;

    use super::*;

    /// Places below the watchdog's own directory, with a script in the part of Go.
    fn places(watchdog: &Watchdog, go: &str) -> Places {
        let script = watchdog.directory().join("go");
        fs::write(&script, format!("#!/bin/sh\n{go}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Places { assets: None, cache: watchdog.directory().join("cache"), go: script.into() }
    }

    /// Notes that it ran, and makes each package of its command line a file in the folder after `-o`.
    const FAKE_GO: &str = r#"echo run >> "$3/../runs"
while [ "$1" != -o ]; do shift; done
mkdir -p "$2"
for package in "$@"; do case $package in
  */etcd/*) echo etcd > "$2/server" ;;
  k8s.io/*) echo "$package" > "$2/${package##*/}" ;;
esac; done"#;

    #[test]
    fn launchers_that_start_together_build_once() {
        let watchdog = Watchdog::start().unwrap();
        let places = places(&watchdog, FAKE_GO);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let found = places.provide(&[ETCD, API_SERVER], &watchdog).unwrap();
                    assert_eq!(found, [places.cached().join("etcd"), places.cached().join("kube-apiserver")]);
                    assert_eq!(fs::read_to_string(&found[0]).unwrap(), "etcd\n");
                });
            }
        });
        assert_eq!(fs::read_to_string(watchdog.directory().join("runs")).unwrap(), "run\n");
    }

    #[test]
    fn only_what_is_missing_is_built() {
        let watchdog = Watchdog::start().unwrap();
        let places = places(&watchdog, FAKE_GO);
        places.provide(&[ETCD], &watchdog).unwrap();
        fs::write(places.cached().join("etcd"), "kept").unwrap();
        let found = places.provide(&[ETCD, CONTROLLER_MANAGER], &watchdog).unwrap();
        let contents: Vec<_> = found.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(contents, ["kept", "k8s.io/kubernetes/cmd/kube-controller-manager\n"]);
    }

    #[test]
    fn the_assets_folder_comes_first() {
        let watchdog = Watchdog::start().unwrap();
        let assets = watchdog.directory().join("assets");
        fs::create_dir(&assets).unwrap();
        fs::write(assets.join("etcd"), "").unwrap();
        let places = Places { assets: Some(assets.clone()), ..places(&watchdog, "exit 1") };
        assert_eq!(places.provide(&[ETCD], &watchdog).unwrap(), [assets.join("etcd")]);
    }

    #[test]
    fn a_failed_build_shows_its_output_and_leaves_no_binary() {
        let watchdog = Watchdog::start().unwrap();
        let places = places(&watchdog, &format!("{FAKE_GO}\necho 'no space left on device' >&2\nexit 1"));
        let error = places.provide(&[ETCD], &watchdog).unwrap_err().to_string();
        assert!(error.contains("no space left on device"), "{error}");
        let left: Vec<_> = fs::read_dir(places.cached()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn without_go_the_error_names_both_ways_to_mend_it() {
        let watchdog = Watchdog::start().unwrap();
        let places = Places { go: "/nowhere/go".into(), ..places(&watchdog, "") };
        let error = places.provide(&[ETCD], &watchdog).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "no etcd: KUBEBUILDER_ASSETS is not set, {} does not have it, and go is not installed to build it. \
                 Install Go 1.26 or later, or set KUBEBUILDER_ASSETS to a folder that holds etcd and kube-apiserver",
                places.cached().display()
            )
        );
    }

    #[test]
    fn the_version_of_kubernetes_is_the_one_of_go_mod() {
        assert!(link_flags().ends_with(".gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"));
    }

    #[test]
    fn a_fingerprint_tells_texts_and_their_borders_apart() {
        // FNV-1a of the empty string is the published offset basis.
        assert_eq!(fingerprint(&[]), "cbf29ce484222325");
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
    }
}
