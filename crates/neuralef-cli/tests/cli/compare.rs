//! `neuralef compare`: tables for people, an object for programs, a CSV, figures, honest refusals.

use crate::common::Folder;

#[test]
fn a_preset_gives_tables_an_object_a_csv_and_figures() {
    let dir = Folder::new();
    let line = "compare --preset rbf-uniform -n 64,128 --methods nystrom,untrained,neuralef_raw \
                --steps 20 --seeds 2";
    let ran = dir.ok(line);
    for part in [
        "rbf-uniform, N = 128, 2 seeds",
        "relative difference",
        "nystrom",
        "Gram error",
        "≥ 0.999 of the true",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {ran:?}");
    }
    let brief = dir.ok(&format!("{line} --brief"));
    assert!(!brief.stdout.contains("relative difference"), "{brief:?}");

    let object = dir.json(&format!("{line} --csv out.csv --plot out.svg"));
    let trials = object["trials"].as_array().unwrap();
    assert_eq!((trials.len(), object["summaries"].as_array().unwrap().len()), (12, 6));
    let exact = &object["summaries"][0];
    assert_eq!((&exact["contender"], &exact["n"]), (&"nystrom".into(), &64.into()));
    assert!(exact["sample"]["least_cosine"].as_f64().unwrap() > 0.999);
    assert!(exact["peak_mib"]["mean"].as_f64().unwrap() > 0.01, "{exact}");
    let csv = std::fs::read_to_string(dir.path("out.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 12 * 10);
    assert!(csv.starts_with("case,n,contender,seed,steps,j,eigenvalue,cosine,"), "{csv}");
    let functions = std::fs::read_to_string(dir.path("out-functions.svg")).unwrap();
    assert!(functions.contains("NeuralEF") && functions.contains("Nyström"));
    assert!(std::fs::read_to_string(dir.path("out.svg")).unwrap().contains("start to model"));
}

#[test]
fn times_to_a_target_are_a_table() {
    let dir = Folder::new();
    let ran = dir.ok(
        "compare --preset polynomial -n 64 --methods nystrom --target 0.9 --first 1 --plot t.png",
    );
    assert!(ran.stdout.contains("seconds to target") && ran.stdout.contains("1 of 1"), "{ran:?}");
    assert!(dir.path("t.png").exists());
}

#[test]
fn bad_comparisons_are_refused() {
    let dir = Folder::new();
    dir.refused("compare --preset rbf-uniforms", &["did you mean `rbf-uniform`"]);
    dir.refused("compare --methods nystorm", &["did you mean `nystrom`"]);
    dir.refused("compare digits --preset polynomial", &["digits", "--preset exclude"]);
    dir.refused("compare --preset polynomial -k 3", &["-k belong to DATA"]);
    dir.refused("compare --preset brownian --methods nystrom,nystrom", &["nystrom twice"]);
    dir.refused(
        "compare --preset brownian --plot a.svg --csv a-functions.svg",
        &["a-functions.svg", "replace another file"],
    );
    // Nothing to draw of the functions is no reason to lose the rest.
    dir.ok("compare --preset brownian -n 64 --methods untrained --plot a.svg --brief");
    dir.refused("compare --seeds 0", &["seeds", "got 0"]);
    dir.refused("compare --target 2", &["target", "got 2"]);
    dir.refused("compare missing.npy", &["missing.npy"]);
    dir.misused("compare --steps 5 --seconds 1", &["--seconds"]);
}
