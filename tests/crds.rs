//! `crds/` is what the types say. `UPDATE=1 cargo test --test crds` writes it again.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use dijob_operator::api;

const MOST: usize = 30_000;

#[test]
fn the_crds_are_those_of_the_types_and_stay_small() {
    let update = std::env::var_os("UPDATE").is_some();
    for crd in api::crds() {
        let name = crd.metadata.name.clone().unwrap();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds").join(format!("{name}.yaml"));
        let made = serde_saphyr::to_string(&crd).unwrap();
        assert!(made.len() < MOST, "{name} has {} bytes", made.len());
        if update {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == made, "{} differs from the types: UPDATE=1 cargo test --test crds", path.display());
    }
}
