//! `crds/` is what the types say.

use dijob_operator::api;

#[test]
fn print() {
    for crd in api::crds() {
        println!("{}", serde_saphyr::to_string(&crd).expect("yaml"));
    }
}
