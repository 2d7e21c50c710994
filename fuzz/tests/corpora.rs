//! Every seed and every kept input goes through its target, on any compiler: what once was found stays found.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fulcrum_fuzz::{TARGETS, seeds};

#[test]
fn every_seed_and_every_kept_input_is_held() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in TARGETS {
        let seeds = seeds::of(name);
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let seeds =
            seeds.into_iter().enumerate().map(|(number, seed)| (format!("seed {number}"), seed));
        let inputs = seeds.chain(inputs(&corpus.join(name)));
        let mut count = 0;
        for (called, input) in inputs {
            let held = catch_unwind(AssertUnwindSafe(|| run(&input))).is_ok();
            assert!(held, "{name} does not hold for {called} of it");
            count += 1;
        }
        println!("{name}: {count} inputs");
    }
}

#[test]
fn every_corpus_has_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpus).expect("the corpora are in the repository") {
        let name = entry.expect("a readable folder").file_name();
        assert!(
            TARGETS.iter().any(|(target, _)| *target == name),
            "corpus/{} has no target",
            name.display()
        );
    }
}

/// The inputs of a target with their names, in the order of these.
fn inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("a readable folder");
            let bytes = fs::read(entry.path()).expect("a readable file");
            (entry.file_name().display().to_string(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}
