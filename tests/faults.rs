//! Which fault is shown to be survived, in which layer, and by which test: `tests/faults/README.md`, made from the tests.
//!
//! A test claims rows of `tests/faults/matrix.toml` by the last line of its doc. `UPDATE=1 cargo test --test faults` makes
//! the table again and takes out the waits that are over.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "faults/claims.rs"]
mod claims;
#[path = "faults/matrix.rs"]
mod matrix;
#[path = "architecture/source.rs"]
#[expect(dead_code, reason = "the architecture test asks a source for more")]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use claims::{Claim, claims};
use matrix::{Matrix, without_ended_waits};
use source::Source;

const MATRIX: &str = "tests/faults/matrix.toml";
const TABLE: &str = "tests/faults/README.md";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn sources_in(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(sources_in(&name));
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            found.push(Source::new(&name, &fs::read_to_string(entry.path()).unwrap()));
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

#[test]
fn the_table_of_faults_is_what_the_tests_claim() {
    let sources = [sources_in("src"), sources_in("tests")].concat();
    let (mut claimed, mut wrong): (Vec<Claim>, Vec<String>) = (Vec::new(), Vec::new());
    for source in &sources {
        match claims(source) {
            Ok(claims) => claimed.extend(claims),
            Err(errors) => wrong.extend(errors),
        }
    }
    assert!(wrong.is_empty(), "claims that are none:\n{}", wrong.join("\n"));
    let mut text = fs::read_to_string(path(MATRIX)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "edge: asked for by hand")]
    let update = std::env::var_os("UPDATE").is_some();
    if update {
        text = without_ended_waits(&text, &claimed);
        fs::write(path(MATRIX), &text).unwrap();
    }
    let matrix = Matrix::read(&text).unwrap_or_else(|error| panic!("{MATRIX}: {error}"));
    let wrong = matrix.judge(&claimed);
    assert!(wrong.is_empty(), "{MATRIX} and the tests disagree:\n{}", wrong.join("\n"));
    let table = matrix.table(&claimed);
    if update {
        fs::write(path(TABLE), &table).unwrap();
    }
    let kept = fs::read_to_string(path(TABLE)).unwrap_or_default();
    assert!(kept == table, "{TABLE} differs from the tests: UPDATE=1 cargo test --test faults");
}
