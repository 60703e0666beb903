//! Bad data, bad names and bad numbers: refused in one line that says what and where, with nothing
//! left behind; and hard but valid input, which succeeds and says what is special about it.

use ndarray::{Array2, Axis};
use ndarray_npy::write_npy;

use crate::common::{Folder, TINY, points};

/// A fit of `data` with TINY options and `options`.
fn fit(data: &str, options: &str) -> String {
    format!("fit {data} {TINY} {options}")
}

/// TINY without the option `name`, for those that give it themselves.
fn tiny_without(name: &str) -> String {
    let words: Vec<&str> = TINY.split_whitespace().collect();
    let pairs = words.chunks(2).filter(|pair| pair[0] != name);
    pairs.map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" ")
}

#[test]
fn programs_get_an_object_for_a_failure_too() {
    let dir = Folder::new();
    let ran = dir.run("fit missing.npy --json");
    let object: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let message = object["error"].as_str().unwrap();
    assert!(message.contains("missing.npy"), "{ran:?}");
    assert_eq!((ran.code, ran.stderr.trim_end()), (Some(1), &*format!("neuralef: {message}")));
}

#[test]
fn non_finite_values_are_found() {
    let dir = Folder::new();
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut x = points(40, 3);
        x[[17, 2]] = value;
        dir.npy("x.npy", &x);
        dir.refused(&fit("x.npy", ""), &["x.npy", shown, "row 17, column 2"]);
        let mut csv = "a,b\n1,2\n".to_string();
        csv.push_str(&format!("{value},3\n"));
        dir.text("x.csv", &csv);
        dir.refused(&fit("x.csv", ""), &["x.csv", "line 3", "column 1", shown]);
    }
    // Finite in the file, infinite in single precision.
    write_npy(dir.path("big.npy"), &Array2::from_elem((40, 1), 1e39f64)).unwrap();
    dir.refused(&fit("big.npy", ""), &["big.npy", "inf", "row 0"]);
}

#[test]
fn files_that_are_no_tables_are_refused() {
    let dir = Folder::new();
    for (name, text, parts) in [
        ("ragged.csv", "1,2\n3,4\n5\n", ["line 3", "1 cells"]),
        ("long.csv", "a,b\n1,2\n3,4,5\n", ["line 3", "3 cells"]),
        ("words.csv", "a,b\n1,2\n3,four\n", ["line 3", "`four` is not a number"]),
        ("hole.csv", "1,2\n3,\n", ["line 2", "empty cell"]),
        ("header.csv", "a,b\n", ["line 1", "no data"]),
        ("empty.csv", "", ["empty.csv", "the file is empty"]),
        ("empty.npy", "", ["empty.npy", "the file is empty"]),
        ("blank.csv", "\n\n", ["blank.csv", "the file is empty"]),
        ("text.npy", "hello, world, this is text", ["text.npy", "not a .npy file"]),
        ("notes.txt", "some notes of mine", ["notes.txt", "not recognised"]),
        ("zip.npz", "PK\u{3}\u{4}rubbish", ["zip.npz", "not a usable .npz file"]),
        ("x.parquet", "PAR1rubbishPAR1", ["x.parquet", "not a usable parquet file"]),
    ] {
        dir.text(name, text);
        dir.refused(&fit(name, ""), &[&[name], &parts[..]].concat());
    }
    dir.npy("x.npy", &points(50, 2));
    let whole = dir.bytes("x.npy");
    for length in [1, 6, 20, 127, 128, whole.len() - 1] {
        dir.put("cut.npy", &whole[..length]);
        dir.refused(&fit("cut.npy", ""), &["cut.npy"]);
    }
    let ran = dir.refused(&fit("missing.npy", ""), &["missing.npy", "No such file"]);
    assert_eq!(ran.stderr.matches("No such file").count(), 1, "{ran:?}");
    std::fs::create_dir(dir.path("folder")).unwrap();
    dir.refused(&fit("folder", ""), &["folder", "a directory"]);
    dir.refused(&fit("folder/", "--validation folder"), &["folder", "a directory"]);
    dir.refused(&fit("/dev/null", ""), &["/dev/null", "not a regular file"]);
    dir.refused(&fit("two_mons", ""), &["`two_mons`", "did you mean `two_moons`"]);
    dir.caret(&fit("two_moons(n=0)", ""), 13, &["`n` must be a whole number from 1"]);
    dir.refused(&fit("two_moons(m=30)", ""), &["parameter of dataset two_moons `m`"]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let dir = Folder::new();
    let k = |k: &str| format!("fit two_moons(n=100) {} -k {k}", tiny_without("-k"));
    dir.refused(&k("0"), &["n_components", "≥ 1", "got 0"]);
    dir.refused(&k("101"), &["n_components", "number of points, 100", "got 101"]);
    dir.refused(&k("91"), &["n_components", "number of training points, 90", "got 91"]);
    dir.misused(&k("-1"), &["-1", "<K>"]);
    dir.misused(&k("3.5"), &["3.5", "<K>"]);
    dir.refused(&fit("two_moons(n=3)", ""), &["data", "at least 4 points", "3"]);
    dir.ok(&fit("two_moons(n=16)", "-o smallest"));
    dir.refused(&fit("two_moons(n=100)", "--batch-size 1"), &["batch_size", "≥ 2", "got 1"]);
    dir.refused(&fit("two_moons(n=100)", "--batch-size 0"), &["batch_size", "got 0"]);
    dir.refused(&fit("two_moons(n=100)", "--readout-points 1"), &["readout_points", "got 1"]);
    let line = fit("two_moons(n=100)", "--validation two_moons(n=7)");
    dir.refused(&line, &["validation", "at least 8 points", "7"]);
    let line = fit("two_moons(n=100)", "--validation swiss_roll(n=50)");
    dir.refused(&line, &["swiss_roll", "n × 2", "50 × 3"]);
    for share in ["0", "1", "-0.5", "nan", "inf"] {
        let line = fit("two_moons(n=100)", &format!("--validation-fraction {share}"));
        dir.refused(&line, &["validation_fraction", "a number"]);
    }
}

#[test]
fn a_batch_larger_than_the_data_is_reduced_on_the_record() {
    let dir = Folder::new();
    let ran = dir.ok(&fit("two_moons(n=100)", "--batch-size 500"));
    let warning = "batch_size reduced from 500 to the number of training points, 90";
    assert!(ran.stdout.contains(warning), "{ran:?}");
    assert!(dir.ok("inspect model.safetensors").stdout.contains(warning));
    let info = dir.json("inspect model.safetensors");
    assert_eq!((&info["warnings"][0], &info["spec"]["batch_size"]), (&warning.into(), &90.into()));
}

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    let dir = Folder::new();
    let moons = |options: &str| fit("two_moons(n=100)", options);
    for (options, parts) in [
        ("--kernel rbff", ["unknown kernel `rbff`", "did you mean `rbf`"]),
        ("--kernel rbf+0.5*matren", ["unknown kernel `matren`", "did you mean `matern`"]),
        ("--kernel rbf(lengthscal=1)", ["kernel rbf `lengthscal`", "did you mean `lengthscale`"]),
        ("--kernel linear(foo=1)", ["kernel linear `foo`", "known: coef0"]),
        ("--method nystrm", ["unknown method `nystrm`", "did you mean `nystrom`"]),
        ("--method nystrom(landmark=3)", ["method nystrom `landmark`", "`landmarks`"]),
        ("--method nystrom(selection=kmean)", ["selection `kmean`", "`kmeans`"]),
        ("--objective neuralf", ["unknown objective `neuralf`", "did you mean `neuralef`"]),
        ("--objective neuralef(estimater=paper)", ["`estimater`", "did you mean `estimator`"]),
        ("--optimizer adm", ["unknown optimizer `adm`", "did you mean `adam`"]),
        ("--optimizer adam(beta=0.5)", ["optimizer adam `beta`", "did you mean `beta"]),
        ("--schedule cosin", ["unknown schedule `cosin`", "did you mean `cosine`"]),
        ("--method nystrom --objective foo", ["unknown objective `foo`", "known: neuralef"]),
    ] {
        dir.refused(&moons(options), &parts);
    }
    let network =
        |text: &str| format!("fit two_moons(n=100) {} --network {text}", tiny_without("--network"));
    dir.refused(&network("mlpp"), &["unknown network `mlpp`", "did you mean `mlp`"]);
    dir.refused(&network("mlp(hiden=[3])"), &["network mlp `hiden`", "did you mean `hidden`"]);
    dir.refused(&network("mlp(activation=tahn)"), &["`tahn`", "did you mean `tanh`"]);
    dir.misused(&moons("--readout galerkn"), &["unknown readout `galerkn`", "`galerkin`"]);
    dir.misused(&moons("--kernle rbf"), &["--kernle", "--kernel"]);
    dir.misused("fitt", &["fitt", "fit"]);
    assert_eq!(dir.run("").code, Some(2));
}

#[test]
fn faults_in_text_forms_are_pointed_at() {
    let dir = Folder::new();
    let moons = |options: &str| fit("two_moons(n=100)", options);
    for (kernel, column, part) in [
        ("rbf(lengthscale=)", 17, "expected a name or a number"),
        ("rbf(lengthscale=1", 18, "expected `,`"),
        ("rbf+", 5, "found the end"),
        ("rbf-linear", 4, "unexpected `-`"),
        ("rbf(lengthscale=1e999)", 17, "not a finite number"),
        ("rbf(lengthscale=nan)", 17, "`lengthscale` must be"),
        ("rbf(lengthscale=-1)", 17, "`lengthscale` must be greater than 0"),
        ("rbf(lengthscale=0)", 17, "`lengthscale` must be greater than 0"),
        ("rbf(0.5)", 5, "expected name=value"),
        ("rbf(lengthscale=1,lengthscale=2)", 19, "given twice"),
        ("linear+-2*rbf", 8, "negative"),
        ("polynomial(degree=0)", 19, "`degree`"),
        ("matern(nu=2)", 11, "`nu`"),
    ] {
        dir.caret(&moons(&format!("--kernel {kernel}")), column, &[part]);
    }
    dir.caret(&moons("--optimizer adam(lr=0)"), 9, &["`lr` must be greater than 0"]);
    dir.caret(&moons("--optimizer adam(lr=-1)"), 9, &["`lr` must be greater than 0"]);
    dir.caret(&moons("--method nystrom(landmarks=0)"), 19, &["`landmarks` must be a whole"]);
    let brackets = "(".repeat(5000);
    let ran = dir.run(&moons(&format!("--kernel {brackets}")));
    assert!(ran.code == Some(1) && ran.stderr.len() < 1000, "{ran:?}");
    let long = "rbf+".repeat(3000) + "rbf";
    let ran = dir.run(&moons(&format!("--kernel {long}")));
    assert!(ran.code == Some(1) && ran.stderr.len() < 1000, "{ran:?}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    let dir = Folder::new();
    let moons = |options: &str| fit("two_moons(n=100)", options);
    for lr in ["-0.1", "0", "inf", "-inf", "nan", "1e999"] {
        dir.refused(&moons(&format!("--lr {lr}")), &["lr", "expected a number > 0"]);
        dir.refused(&moons(&format!("--lr={lr}")), &["lr", "expected a number > 0"]);
    }
    dir.misused(&moons("--lr fast"), &["fast", "--lr"]);
    for norm in ["-1", "nan", "inf"] {
        dir.refused(&moons(&format!("--clip-norm {norm}")), &["clip_norm", "a number ≥ 0"]);
    }
    let steps =
        |steps: &str| format!("fit two_moons(n=100) {} --steps{steps}", tiny_without("--steps"));
    dir.misused(&steps("=-1"), &["--steps", "`auto` or a whole number", "-1"]);
    dir.misused(&steps(" -1"), &["--steps", "-1"]);
    dir.misused(&steps(" 2.5"), &["--steps", "`auto` or a whole number", "2.5"]);
    dir.misused(&steps(" many"), &["--steps", "`auto` or a whole number", "many"]);
    dir.misused(&moons("--seed -1"), &["-1", "--seed"]);
    dir.misused(&moons("--seed 18446744073709551616"), &["--seed"]);
    dir.misused(&moons("--threads 0"), &["--threads"]);
    dir.misused(&moons("--threads 4000000000"), &["--threads"]);
    // A learning rate that is valid and far too high.
    let parts = ["training diverged at step", "learning rate"];
    let wild = format!(
        "fit gaussian(n=100,d=2) {} --network mlp(hidden=[8],activation=relu) \
         --optimizer sgd(lr=1e30) --kernel linear",
        tiny_without("--network")
    );
    dir.refused(&wild, &parts);
    // Before the first update it cannot be the learning rate.
    let parts = ["training diverged at step 0", "scale the kernel or the data down"];
    dir.refused(&moons("--kernel 1e38*rbf"), &parts);
}

#[test]
fn config_files_are_checked_by_name() {
    let dir = Folder::new();
    let line = "fit two_moons(n=100) --config fit.toml";
    dir.refused(line, &["fit.toml", "No such file"]);
    for (text, part) in [
        ("n_component = 3\n", "n_component"),
        ("kernel = 'rbff'\n", "did you mean `rbf`"),
        ("kernel = 'rbf(lengthscale=)'\n", "expected a name or a number"),
        ("steps = -1\n", "steps"),
        ("steps = 'many'\n", "many"),
        ("readout = 'galerkn'\n", "galerkn"),
        ("n_components = 'three'\n", "three"),
        ("kernel 'rbf'\n", "fit.toml"),
        ("seed = -3\n", "seed"),
    ] {
        dir.text("fit.toml", text);
        let before = dir.files();
        let ran = dir.run(line);
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.starts_with("neuralef: fit.toml: "), "{ran:?}");
        assert!(ran.stderr.contains(part), "{part:?} is not in {ran:?}");
        assert_eq!(dir.files(), before);
    }
    dir.text("fit.toml", "kernel = 'rbf'\ngram = 'g.npy'\n");
    dir.refused(line, &["kernel", "exactly one of kernel, gram and features"]);
    dir.put("fit.toml", b"kernel = '\xff'");
    dir.refused(line, &["fit.toml"]);
}

#[test]
fn outputs_that_cannot_be_written_are_noticed_before_the_work() {
    let dir = Folder::new();
    std::fs::create_dir(dir.path("folder")).unwrap();
    dir.text("file", "some text");
    dir.text("readonly", "some text");
    let mut permissions = std::fs::metadata(dir.path("readonly")).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(dir.path("readonly"), permissions).unwrap();
    let moons = |options: &str| format!("fit two_moons(n=100) -k 3 --steps 0 {options}");
    for bad in ["missing/m", "folder", "file/m", "readonly", "/dev/null"] {
        dir.refused(&moons(&format!("--plot none -o {bad}")), &[bad]);
        dir.refused(&moons(&format!("--plot none --checkpoint {bad}")), &[bad]);
    }
    for bad in ["missing/m.svg", "folder", "file/m.svg", "fig.jpg", "fig"] {
        dir.refused(&moons(&format!("--plot {bad}")), &[bad]);
    }
    // The figure must not take the model's place.
    dir.refused(&moons("-o m.svg"), &["m.svg", "--plot"]);
    dir.refused(&moons("-o m.svg --plot m.svg"), &["m.svg", "--plot"]);
    dir.ok(&moons("-o m.svg --plot none"));
    for bad in ["missing/o", "folder", "file/o", "readonly", "/dev/null"] {
        dir.refused(&format!("transform m.svg two_moons(n=20) -o {bad}"), &[bad]);
        dir.refused(&format!("synth two_moons(n=20) -o {bad}"), &[bad]);
    }
}

#[test]
fn points_of_the_wrong_width_are_refused() {
    let dir = Folder::new();
    dir.ok(&fit("two_moons(n=100)", ""));
    dir.npy("wide.npy", &points(20, 3));
    for command in ["transform", "eval", "plot"] {
        let output = if command == "eval" { "" } else { "-o out.svg" };
        let line = format!("{command} model.safetensors wide.npy {output}");
        dir.refused(&line, &["wide.npy: expected shape n × 2", "20 × 3"]);
    }
    let mut x = points(20, 2);
    x[[19, 0]] = f32::NAN;
    dir.npy("nan.npy", &x);
    dir.refused("transform model.safetensors nan.npy -o out.npy", &["nan.npy", "row 19, column 0"]);
    dir.refused("transform model.safetensors missing.npy -o out.npy", &["missing.npy"]);
    dir.refused("transform missing two_moons -o out.npy", &["missing", "No such file"]);
    dir.refused("eval model.safetensors two_moons --cluster-gap 1", &["cluster_gap", "below 1"]);
    let line = "eval model.safetensors two_moons --exact --reference wide.npy";
    dir.refused(line, &["wide.npy: expected shape n × 2", "20 × 3"]);
}

#[test]
fn brownian_motion_has_no_negative_times() {
    let dir = Folder::new();
    let line = fit("uniform(n=100,low=-1)", "--kernel brownian");
    dir.refused(&line, &["brownian", "not negative"]);
    dir.ok(&fit("uniform(n=100)", "--kernel brownian"));
    dir.npy("x.npy", &(points(30, 1) - 2.0));
    // The learned functions can be evaluated anywhere, the kernel cannot.
    dir.refused("eval model.safetensors x.npy", &["brownian", "row ", "not negative"]);
    dir.ok(&fit("uniform(n=100)", "--kernel brownian --method nystrom"));
    dir.refused("transform model.safetensors x.npy -o y.npy", &["brownian", "not negative"]);
}

#[test]
fn a_kernel_of_low_rank_keeps_the_usable_directions_and_says_so() {
    let dir = Folder::new();
    for method in ["neuralef", "nystrom"] {
        let line = format!(
            "fit uniform(n=200,low=-1) {} -k 7 --kernel polynomial(degree=2,gamma=1,coef0=1) \
             --method {method}",
            tiny_without("-k")
        );
        let ran = dir.ok(&line);
        assert!(ran.stdout.contains("warning: only 3 of 7 directions are usable"), "{ran:?}");
        let info = dir.json("inspect model.safetensors");
        assert_eq!(info["eigenvalues"].as_array().unwrap().len(), 3, "{method}");
        dir.ok("transform model.safetensors uniform(n=20) -o y.npy");
        assert_eq!(dir.array("y.npy").dim(), (20, 3), "{method}");
        // With all of the kernel's rank, the features give the kernel back.
        let eval = dir.json("eval model.safetensors uniform(n=200,low=-1) --exact");
        assert!(eval["gram_error"].as_f64().unwrap() < 1e-3, "{method}: {eval}");
        dir.ok("plot model.safetensors -o f.svg");
    }
}

#[test]
fn points_that_coincide_are_no_reason_to_fail() {
    let dir = Folder::new();
    dir.npy("same.npy", &Array2::from_elem((60, 2), 0.7));
    let ran = dir.refused(&fit("same.npy", "--kernel rbf(lengthscale=median)"), &["lengthscale"]);
    assert!(ran.stderr.contains("two different points"), "{ran:?}");
    // With a length scale the kernel is 1 everywhere: one eigenvalue, 1, and a constant.
    for method in ["neuralef", "nystrom"] {
        let options = format!("--kernel rbf(lengthscale=1) --method {method}");
        let info = dir.json(&fit("same.npy", &options))["info"].clone();
        let eigenvalues = info["eigenvalues"].as_array().unwrap();
        assert_eq!(eigenvalues.len(), 1, "{info}");
        assert!((eigenvalues[0].as_f64().unwrap() - 1.0).abs() < 1e-6, "{info}");
        assert!(info["warnings"].to_string().contains("only 1 of 3 directions"), "{info}");
    }
    dir.ok(&fit("same.npy", "--kernel rbf(lengthscale=1) --standardize"));
    // Every point ten times: the rank is that of the twelve points.
    let few = points(12, 2);
    dir.npy("copies.npy", &few.select(Axis(0), &(0..120).map(|i| i % 12).collect::<Vec<_>>()));
    for method in ["neuralef", "nystrom"] {
        let fitted = dir.json(&fit("copies.npy", &format!("--method {method}")));
        assert_eq!(fitted["info"]["eigenvalues"].as_array().unwrap().len(), 3);
        dir.ok("eval model.safetensors copies.npy --exact");
    }
    // A constant column.
    let mut x = points(80, 3);
    x.column_mut(1).fill(5.0);
    dir.npy("column.npy", &x);
    dir.ok(&fit("column.npy", "--standardize"));
    dir.npy("zero.npy", &Array2::zeros((60, 2)));
    dir.refused(&fit("zero.npy", "--kernel linear"), &["no positive eigenvalue"]);
    dir.refused(&fit("zero.npy", "--kernel linear --method nystrom"), &["largest eigenvalue"]);
    dir.refused(&fit("zero.npy", "--kernel cosine"), &["no positive eigenvalue"]);
}

#[test]
fn extreme_magnitudes_are_learned_or_refused() {
    let dir = Folder::new();
    for scale in [1e-30f32, 1e15, 1e30] {
        dir.npy("x.npy", &(points(100, 2) * scale));
        let info = dir.json(&fit("x.npy", ""))["info"].clone();
        let sum: f64 = crate::common::numbers(&info["eigenvalues"]).iter().sum();
        assert!(sum > 0.1 && sum <= 1.0, "{scale}: {info}");
    }
    let ran = dir.run(&fit("x.npy", "--kernel polynomial(degree=3)"));
    assert!(ran.code == Some(1) && ran.stderr.lines().count() == 1, "{ran:?}");
}

#[test]
fn requests_beyond_the_memory_budget_are_refused_before_the_memory_is_taken() {
    let dir = Folder::new();
    let network = |k: u64, n: u64, text: &str| {
        let rest = tiny_without("--network").replace("-k 3", &format!("-k {k}"));
        format!("fit uniform(n={n}) {rest} --network {text}")
    };
    let budget = ["needs ", " MiB", "the memory budget is 768 MiB"];
    dir.refused(&network(3, 100, "mlp(hidden=[65536])"), &budget);
    dir.refused(&network(3, 100, "mlp(hidden=[16384,16384])"), &budget);
    dir.refused(&network(1, 100, "shared_mlp(hidden=[30000,30000])"), &budget);
    dir.refused(&network(100_000, 200_000, "mlp(hidden=[64,64])"), &budget);
    dir.refused(&network(100_000, 200_000, "mlp(hidden=[])"), &budget);
    let most = ["hidden", "at most", "parameters"];
    let large = network(3, 100, "mlp(hidden=[65536,65536]) --memory-budget 10000000");
    dir.refused(&large, &most);
    dir.refused("fit uniform(n=1000000000,d=1000000)", &["MiB of memory, which are not there"]);
    let nystrom = fit("uniform(n=30000)", "--method nystrom(landmarks=20000)");
    dir.refused(&nystrom, &["Gram matrix of 20000 landmarks", "the memory budget is 768 MiB"]);
    dir.refused(&fit("uniform(n=100)", "--memory-budget 0"), &["the memory budget is 0 MiB"]);
    dir.ok(&fit("uniform(n=100)", "--memory-budget 18446744073709551615"));
}

#[test]
fn an_indefinite_kernel_comes_with_a_warning() {
    let dir = Folder::new();
    let kernel = "--kernel sigmoid(gamma=1,coef0=-1)";
    for options in ["", "--readout none", "--readout ritz", "--method nystrom"] {
        let ran = dir.ok(&fit("gaussian(n=200,d=2)", &format!("{kernel} {options}")));
        assert!(ran.stdout.contains("warning: the kernel is indefinite"), "{options}: {ran:?}");
        let info = dir.json("inspect model.safetensors");
        for pair in info["certificate"]["pairs"].as_array().unwrap() {
            assert!(pair["standard_error"].as_f64().unwrap() >= 0.0, "{options}: {pair}");
        }
        dir.ok("transform model.safetensors gaussian(n=200,d=2) -o y.npy");
        let eval = dir.json("eval model.safetensors gaussian(n=200,d=2) --exact");
        assert!(eval["gram_error"].is_number(), "{options}: {eval}");
    }
}

#[test]
fn gram_matrices_and_features_must_fit_the_data() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(60, 2));
    let phi = points(60, 5);
    let gram = phi.dot(&phi.t()) / 5.0;
    dir.npy("phi.npy", &phi);
    dir.npy("gram.npy", &gram);
    // The same operator twice: the same eigenvalues up to the rounding of the Gram matrix.
    let eigenvalues = |options: &str| {
        let fitted = dir.json(&fit("x.npy", options));
        crate::common::numbers(&fitted["info"]["eigenvalues"])
    };
    let (a, b) = (eigenvalues("--gram gram.npy"), eigenvalues("--features phi.npy"));
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
    dir.ok("transform model.safetensors x.npy -o y.npy");
    dir.refused("eval model.safetensors x.npy", &["not supported", "Gram matrix, features"]);
    let nystrom = fit("x.npy", "--gram gram.npy --method nystrom");
    dir.refused(&nystrom, &["nystrom with a Gram matrix", "neuralef serves here"]);

    dir.npy("small.npy", &points(59, 59));
    dir.refused(&fit("x.npy", "--gram small.npy"), &["gram", "60 points", "59"]);
    dir.refused(&fit("x.npy", "--features small.npy"), &["features", "60 points", "59"]);
    dir.refused(&fit("x.npy", "--gram phi.npy"), &["gram", "N × N", "60 × 5"]);
    let mut lopsided = gram.clone();
    lopsided[[3, 40]] += 0.5;
    dir.npy("lopsided.npy", &lopsided);
    dir.refused(&fit("x.npy", "--gram lopsided.npy"), &["gram", "symmetric", "(3, 40)"]);
    let mut hole = gram.clone();
    hole[[59, 1]] = f32::NAN;
    dir.npy("hole.npy", &hole);
    dir.refused(&fit("x.npy", "--gram hole.npy"), &["hole.npy", "row 59, column 1"]);
    dir.refused(&fit("x.npy", "--gram missing.npy"), &["missing.npy", "No such file"]);
    dir.misused(&fit("x.npy", "--gram gram.npy --kernel rbf"), &["--gram", "--kernel"]);
    dir.npy("negative.npy", &-gram);
    dir.refused(&fit("x.npy", "--gram negative.npy"), &["no positive eigenvalue"]);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    use std::process::Stdio;
    let dir = Folder::new();
    dir.ok(&fit("two_moons(n=100)", ""));
    for line in ["list", "completions zsh", "inspect model.safetensors", "synth uniform -o u.npy"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = dir.command(line);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.is_empty() && output.status.code().is_some(), "{line}: {text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_not_text_are_no_panic() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let dir = Folder::new();
    let odd = OsStr::from_bytes(b"m\xff");
    let mut command = dir.command(&fit("two_moons(n=100)", "--json"));
    let output = command.arg("-o").arg(odd).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["model"], "m\u{fffd}");
    let mut command = dir.command("inspect");
    assert!(command.arg(odd).output().unwrap().status.success());
    let mut command = dir.command(&fit("two_moons(n=100)", "--progress json --checkpoint"));
    let output = command.arg(OsStr::from_bytes(b"c\xff")).args(["--checkpoint-every", "10"]);
    let output = output.output().unwrap();
    assert!(output.status.success() && !output.stderr.is_empty(), "{output:?}");
    let mut command = dir.command(&fit("two_moons(n=100)", "--gram"));
    let output = command.arg(odd).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.starts_with("neuralef: "), "{text}");
}
