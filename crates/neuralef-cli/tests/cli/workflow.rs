//! Fit, inspect, transform, eval, plot, synth, list, completions: what they print and write.

use ndarray::{Array2, Axis};
use serde_json::Value;

use crate::common::{Folder, TINY, numbers, points};

#[test]
fn digits_give_a_model_a_figure_and_one_json_object() {
    let dir = Folder::new();
    let line = "fit -k 3 --steps 20 --network mlp(hidden=[8],activation=tanh)";
    let fitted = dir.json(line);
    assert_eq!(dir.files(), ["model.safetensors", "model.svg"]);
    assert_eq!(
        (&fitted["model"], &fitted["figure"]),
        (&"model.safetensors".into(), &"model.svg".into())
    );
    assert!(String::from_utf8(dir.bytes("model.svg")).unwrap().trim_start().starts_with("<svg"));
    let info = &fitted["info"];
    assert_eq!((&info["n_samples"], &info["n_features"]), (&1797.into(), &64.into()));
    let eigenvalues = numbers(&info["eigenvalues"]);
    assert_eq!(eigenvalues.len(), 3);
    assert!(eigenvalues.is_sorted_by(|a, b| a >= b) && eigenvalues[2] > 0.0);
    // The trace of an rbf kernel is 1.
    assert!(eigenvalues.iter().sum::<f64>() < 1.0 && info["certificate"]["trace"] == 1.0);
    let seconds = |key: &str| fitted["timings"][key].as_f64().unwrap();
    assert!(seconds("training_seconds") > 0.0);
    assert!(seconds("total_seconds") >= seconds("training_seconds") + seconds("readout_seconds"));

    assert_eq!(&dir.json("inspect model.safetensors"), info);
    let text = dir.ok("inspect model.safetensors");
    let kernel = info["kernel"].as_str().unwrap();
    assert!(kernel.starts_with("rbf(lengthscale=") && !kernel.contains("median"));
    for part in ["digits (1797 × 64)", kernel, "20 steps", &format!("{:.6e}", eigenvalues[2])] {
        assert!(text.stdout.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(text.stderr, "");
}

#[test]
fn the_same_numbers_in_every_format_give_the_same_eigenvalues() {
    let dir = Folder::new();
    let x = points(150, 3);
    dir.npy("x.npy", &x);
    let table = |separator: &str| {
        let row = |r: ndarray::ArrayView1<'_, f32>| {
            r.iter().map(f32::to_string).collect::<Vec<_>>().join(separator) + "\n"
        };
        x.rows().into_iter().map(row).collect::<String>()
    };
    dir.text("x.csv", &format!("a,b,c\n{}", table(",")));
    dir.text("x.tsv", &table("\t"));
    let fit = |file: &str| dir.json(&format!("fit {file} {TINY}"))["info"]["eigenvalues"].clone();
    let expected = fit("x.npy");
    assert_eq!(fit("x.csv"), expected);
    assert_eq!(fit("x.tsv"), expected);
    let text = dir.ok(&format!("fit x.csv {TINY}"));
    assert!(text.stdout.contains("x.csv (150 × 3)") && text.stderr.is_empty(), "{text:?}");
    assert!(text.stdout.contains("model  model.safetensors") && !text.stdout.contains("figure"));
}

#[test]
fn transform_keeps_the_order_of_rows_bit_for_bit() {
    let dir = Folder::new();
    let x = points(700, 2);
    let order: Vec<usize> = (0..700).map(|i| (i * 277 + 13) % 700).collect();
    dir.npy("x.npy", &x);
    dir.npy("permuted.npy", &x.select(Axis(0), &order));
    dir.npy("one.npy", &x.select(Axis(0), &[699]));
    for method in ["neuralef", "nystrom(landmarks=60)"] {
        let fitted = dir.json(&format!("fit x.npy {TINY} --method {method}"));
        let mu = numbers(&fitted["info"]["eigenvalues"]);
        let transform = |data: &str, options: &str| -> Array2<f32> {
            let done =
                dir.json(&format!("transform model.safetensors {data} -o out.npy {options}"));
            let out = dir.array("out.npy");
            assert_eq!(
                (&done["n_samples"], &done["n_components"]),
                (&out.nrows().into(), &3.into())
            );
            out
        };
        let features = transform("x.npy", "");
        assert_eq!(features.dim(), (700, 3));
        assert_eq!(transform("permuted.npy", ""), features.select(Axis(0), &order), "{method}");
        assert_eq!(transform("one.npy", ""), features.select(Axis(0), &[699]), "{method}");
        assert_eq!(transform("x.npy", "--threads 1"), features, "{method}");
        // φ = √μ ψ, and E ψ² = 1 over the training points.
        let psi = transform("x.npy", "--eigenfunctions");
        assert_eq!(transform("permuted.npy", "--eigenfunctions"), psi.select(Axis(0), &order));
        for (j, mu) in mu.iter().enumerate() {
            let of = |a: &Array2<f32>| a.column(j).mapv(f64::from);
            let (phi, psi) = (of(&features), of(&psi));
            let off = (&phi - &(&psi * mu.sqrt())).mapv(f64::abs).fold(0.0, |m: f64, v| m.max(*v));
            assert!(off < 1e-5, "{method} {j}: {off}");
            assert!((psi.pow2().mean().unwrap() - 1.0).abs() < 0.1, "{method} {j}");
        }
    }
    assert_eq!(dir.files(), ["model.safetensors", "one.npy", "out.npy", "permuted.npy", "x.npy"]);
}

#[test]
fn eval_knows_the_exact_eigenpairs() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(200, 2));
    dir.npy("other.npy", &points(90, 2));
    // Nyström with all points as landmarks is the exact decomposition of their Gram matrix.
    let kernel = "--kernel matern(nu=2.5,lengthscale=0.7)";
    dir.ok(&format!("fit x.npy {TINY} {kernel} --method nystrom --validation other.npy"));
    let plain = dir.json("eval model.safetensors x.npy");
    assert_eq!((&plain["n_points"], &plain["exact"]), (&200.into(), &Value::Null));
    assert!(numbers(&plain["residuals"]).iter().all(|r| *r < 1e-9), "{plain}");
    let exact = &dir.json("eval model.safetensors x.npy --exact")["exact"];
    assert_eq!(exact["reference_points"], 200);
    let errors = numbers(&exact["eigenvalue_errors"]);
    assert!(errors.len() == 3 && errors.iter().all(|e| e.abs() < 1e-9), "{exact}");
    let cosines = numbers(&exact["eigenfunctions"]["subspace_cosines"]);
    assert!(cosines.iter().all(|c| *c > 1.0 - 1e-9), "{exact}");
    // Other reference points have other eigenvalues: 90 points differ from 200 by some percent.
    let line = "eval model.safetensors x.npy --exact --reference other.npy";
    let other = &dir.json(line)["exact"];
    assert_eq!(other["reference_points"], 90);
    assert!(numbers(&other["eigenvalue_errors"])[0].abs() > 1e-6, "{other}");
    let text = dir.ok(line);
    assert!(text.stdout.contains("eigenpairs of the Gram matrix on 90 points"), "{text:?}");
    assert!(!dir.ok("eval model.safetensors x.npy").stdout.contains("exact:"));
    dir.misused("eval model.safetensors x.npy --reference other.npy", &["--exact"]);
    let tight = ["the Gram matrix of 200 reference points", "the memory budget is 0 MiB"];
    dir.refused("eval model.safetensors x.npy --exact --memory-budget 0", &tight);
}

#[test]
fn a_learned_model_agrees_with_the_exact_eigenpairs() {
    let dir = Folder::new();
    let data = "uniform(n=400,low=-2,high=2)";
    dir.ok(&format!(
        "fit {data} -k 3 --steps 200 --plot none --batch-size 64 --kernel rbf(lengthscale=1) \
         --network mlp(hidden=[16,16],activation=sin_cos)"
    ));
    let exact = &dir.json(&format!("eval model.safetensors {data} --exact"))["exact"];
    // The model saw 9 of 10 of these points: eigenvalues differ by sampling, functions by less.
    assert!(numbers(&exact["eigenvalue_errors"]).iter().all(|e| e.abs() < 0.1), "{exact}");
    let cosines = numbers(&exact["eigenfunctions"]["subspace_cosines"]);
    assert!(cosines.iter().all(|c| *c > 0.995), "{exact}");
}

#[test]
fn figures_for_one_two_and_more_columns_and_the_spectrum() {
    let dir = Folder::new();
    let is_svg = |name: &str| dir.bytes(name).starts_with(b"<svg");
    let is_png = |name: &str| dir.bytes(name).starts_with(b"\x89PNG\r\n");
    for (name, data) in
        [("line", "uniform(n=120)"), ("plane", "two_moons(n=120)"), ("more", "swiss_roll(n=120)")]
    {
        let model = format!("{name}.safetensors");
        dir.ok(&format!("fit {data} {TINY} -o {model}"));
        // The training data are drawn again from their name; or given.
        let drawn = dir.json(&format!("plot {model} -o {name}.svg"));
        assert_eq!(drawn["figure"], format!("{name}.svg"));
        dir.ok(&format!("plot {model} {data} -o {name}.png"));
        dir.ok(&format!("plot {model} --spectrum -o {name}-spectrum.SVG"));
        assert!(is_svg(&format!("{name}.svg")) && is_png(&format!("{name}.png")));
        assert!(is_svg(&format!("{name}-spectrum.SVG")));
    }
    dir.refused("plot line.safetensors -o fig.jpg", &["fig.jpg", ".svg or .png"]);
    dir.refused("plot line.safetensors -o missing/fig.svg", &["missing/fig.svg"]);
    dir.refused(
        "plot line.safetensors two_moons(n=50) -o f.svg",
        &["two_moons", "n × 1", "50 × 2"],
    );
    // Data that have gone are asked for; the spectrum needs none.
    dir.npy("x.npy", &points(60, 5));
    dir.ok("fit x.npy -k 2 --steps 0 --network mlp(hidden=[8]) --plot x.png");
    assert!(is_png("x.png"));
    std::fs::remove_file(dir.path("x.npy")).unwrap();
    dir.refused("plot model.safetensors -o f.svg", &["DATA is needed", "x.npy"]);
    dir.ok("plot model.safetensors --spectrum -o f.svg");
}

#[test]
fn synthetic_sets_have_the_size_asked_for() {
    let dir = Folder::new();
    for (name, columns) in [
        ("two_moons", 2),
        ("circles", 2),
        ("swiss_roll", 3),
        ("uniform", 1),
        ("gaussian", 1),
        ("sphere", 3),
    ] {
        let made = dir.json(&format!("synth {name} -n 57 --seed 3 -o x.npy"));
        assert_eq!((&made["n_samples"], &made["n_features"]), (&57.into(), &columns.into()));
        assert_eq!(dir.array("x.npy").dim(), (57, columns), "{name}");
        let first = dir.bytes("x.npy");
        dir.ok(&format!("synth {name}(n=57) --seed 3 -o x.npy"));
        assert_eq!(dir.bytes("x.npy"), first, "{name}");
        dir.ok(&format!("synth {name}(n=57) --seed 4 -o x.npy"));
        assert_ne!(dir.bytes("x.npy"), first, "{name}");
    }
    dir.ok("synth uniform(low=-2,high=2) -n 300 -d 4 -o x.npy");
    let x = dir.array("x.npy");
    assert_eq!(x.dim(), (300, 4));
    assert!(x.iter().any(|v| *v < -1.5) && x.iter().all(|v| v.abs() <= 2.0));
    dir.ok("synth circles(n=100) --noise 0.3 -o x.npy");
    assert!(dir.array("x.npy").iter().any(|v| *v > 1.1));
    dir.refused("synth two_moon -o y.npy", &["`two_moon`", "did you mean `two_moons`"]);
    dir.refused("synth two_moons -d 3 -o y.npy", &["parameter of dataset two_moons `d`"]);
    dir.caret("synth x.npy -o y.npy", 1, &["expected the name of a dataset"]);
    dir.refused("synth uniform -n 5 -o missing/y.npy", &["missing/y.npy"]);
}

#[test]
fn lists_and_completions() {
    let dir = Folder::new();
    let all = dir.json("list");
    let kinds = [
        "kernels",
        "networks",
        "objectives",
        "optimizers",
        "schedules",
        "methods",
        "data",
        "augmentations",
        "contenders",
    ];
    for kind in kinds {
        let entries = all[kind].as_array().unwrap();
        let one = dir.ok(&format!("list {kind}"));
        for entry in entries {
            assert!(one.stdout.contains(entry["name"].as_str().unwrap()), "{one:?}");
        }
    }
    assert_eq!(all["kernels"].as_array().unwrap().len(), 15);
    assert!(dir.ok("list").stdout.contains("rational_quadratic"));
    dir.refused("list kernel", &["unknown list `kernel`", "did you mean `kernels`"]);
    for shell in ["bash", "zsh", "fish"] {
        let script = dir.ok(&format!("completions {shell}"));
        assert!(script.stdout.contains("neuralef") && script.stdout.contains("transform"));
    }
    dir.misused("completions klingon", &["klingon"]);
    let help = dir.ok("fit --help").stdout;
    for option in ["--kernel", "--resume", "--config", "--checkpoint-every"] {
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn options_override_the_config_file() {
    let dir = Folder::new();
    dir.text(
        "fit.toml",
        "kernel = 'laplacian(lengthscale=2)'\nn_components = 4\nsteps = 20\nseed = 5\n\
         network = 'shared_mlp(hidden=[8], activation=tanh)'\nreadout = 'ritz'\n\
         optimizer = 'sgd(lr=0.5)'\n",
    );
    let spec = |line: &str| dir.json(line)["info"]["spec"].clone();
    let file = spec("fit two_moons(n=200) --config fit.toml --plot none");
    assert_eq!((&file["n_components"], &file["seed"]), (&4.into(), &5.into()));
    assert_eq!((&file["steps"], &file["readout"]), (&20.into(), &"ritz".into()));
    assert_eq!(file["kernel"], "laplacian(lengthscale=2)");
    // The seed of the file draws the data too.
    let inspected = dir.json("inspect model.safetensors");
    assert_eq!(inspected["data"], "two_moons(n=200, noise=0, seed=5)");
    let both = spec(
        "fit two_moons(n=200) --config fit.toml --plot none -k 3 --kernel linear(coef0=1) --lr 0.1",
    );
    assert_eq!((&both["n_components"], &both["seed"]), (&3.into(), &5.into()));
    assert_eq!(both["kernel"], "linear(coef0=1)");
    assert!(both["optimizer"].as_str().unwrap().starts_with("sgd(lr=0.1, "), "{both}");
}

#[test]
fn validation_points_of_their_own_leave_all_data_for_training() {
    let dir = Folder::new();
    let certificate = |options: &str| {
        let fitted = dir.json(&format!("fit two_moons(n=200,noise=0.1) {TINY} {options}"));
        fitted["info"]["certificate"].clone()
    };
    let own = certificate("--validation two_moons(n=60,noise=0.1,seed=9)");
    assert_eq!((&own["training_points"], &own["held_out_points"]), (&200.into(), &30.into()));
    let share = certificate("--validation-fraction 0.2");
    assert_eq!((&share["training_points"], &share["held_out_points"]), (&160.into(), &20.into()));
    // A set of the same name is drawn anew, not the training points once more.
    let same = certificate("--validation two_moons(n=200,noise=0.1)");
    assert!(same["orthonormality_error"].as_f64().unwrap() > 0.01, "{same}");
    dir.misused(
        "fit --validation digits --validation-fraction 0.2",
        &["--validation", "--validation-fraction"],
    );
}

#[test]
fn progress_is_json_lines_on_request_and_silent_without_a_terminal() {
    let dir = Folder::new();
    let line = format!("fit two_moons(n=100) {TINY} --checkpoint c --checkpoint-every 10");
    let shown = dir.ok(&format!("{line} --progress json"));
    let events: Vec<Value> =
        shown.stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|e| e["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("training")[0]["total"], 20);
    assert_eq!(of("step")[0]["step"], 1);
    assert!(of("step")[0]["loss"].is_number());
    let steps: Vec<_> = of("checkpoint").iter().map(|e| e["step"].clone()).collect();
    assert_eq!(steps, [10, 20]);
    let names: Vec<_> = of("phase").iter().map(|e| e["name"].clone()).collect();
    assert_eq!(names, ["readout", "certificate"]);
    // A batch of 256 from 90 training points.
    assert!(of("warning")[0]["message"].as_str().unwrap().contains("batch_size"));
    for quiet in ["", "--progress none", "--progress auto"] {
        assert_eq!(dir.ok(&format!("{line} {quiet}")).stderr, "");
    }
}

#[test]
fn the_same_seed_gives_the_same_file_with_any_number_of_threads() {
    let dir = Folder::new();
    let fit = |options: &str| {
        dir.ok(&format!("fit swiss_roll(n=1500,seed=1) -k 3 --plot none {options}"));
        dir.bytes("model.safetensors")
    };
    for options in [
        "--network mlp(hidden=[16,16],activation=sin_cos) --steps 30 --standardize",
        "--network shared_mlp(hidden=[32]) --steps auto --max-steps 60 --readout ritz",
        "--method nystrom(landmarks=300,selection=kmeans)",
    ] {
        let first = fit(&format!("{options} --seed 7"));
        assert!(first == fit(&format!("{options} --seed 7 --threads 2")), "{options}: again");
        assert!(first == fit(&format!("{options} --seed 7 --threads 1")), "{options}: one thread");
        assert!(first != fit(&format!("{options} --seed 8")), "{options}: the seed has no effect");
    }
}

#[test]
fn certificates_can_be_left_out_and_made_later() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(400, 2));
    let measured = dir.json("fit x.npy -k 3 --method nystrom --plot none");
    let fitted = dir.json("fit x.npy -k 3 --method nystrom --plot none --certificate none");
    assert_eq!(fitted["info"]["eigenvalues"], measured["info"]["eigenvalues"]);
    assert_eq!(fitted["info"]["certificate"]["pairs"], Value::Array(Vec::new()));
    assert_eq!(measured["info"]["certificate"]["pairs"].as_array().unwrap().len(), 3);
    let text = dir.ok("inspect model.safetensors");
    assert!(text.stdout.contains("not measured"), "{text:?}");
    let evaluated = dir.json("eval model.safetensors x.npy");
    assert_eq!(numbers(&evaluated["residuals"]).len(), 3);
}

#[test]
fn landmarks_can_be_given_and_the_better_of_two_methods_kept() {
    let dir = Folder::new();
    let x = points(500, 2);
    dir.npy("x.npy", &x);
    dir.npy("l.npy", &x.slice(ndarray::s![..40, ..]).to_owned());
    let given = "fit x.npy -k 4 --plot none --kernel rbf(lengthscale=1) --method";
    let fitted = dir.json(&format!("{given} nystrom(given=./l.npy)"));
    let landmarks = fitted["info"]["record"]["landmarks"].as_u64().unwrap();
    assert!((20..=40).contains(&landmarks), "{landmarks}");
    assert!(fitted["info"]["record"]["remainder"].as_f64().unwrap() < 1e-3);
    dir.npy("wide.npy", &points(40, 3));
    let expected = "given: expected points of 2 columns";
    dir.refused(&format!("{given} nystrom(given=./wide.npy)"), &[expected]);

    let best = dir.json("fit x.npy -k 4 --plot none --kernel rbf(lengthscale=1) --best");
    let method = best["info"]["spec"]["method"].as_str().unwrap();
    assert!(["neuralef", "nystrom"].contains(&method), "{method}");
    let beside = &best["info"]["record"]["beside"];
    let (own, peer) = (beside["residual"].as_f64(), beside["nystrom_residual"].as_f64());
    assert_eq!(method == "nystrom", peer.unwrap() < own.unwrap());
    dir.ok("transform model.safetensors x.npy -o out.npy");
    let text = dir.ok("fit x.npy -k 4 --plot none --kernel rbf(lengthscale=1)");
    assert!(text.stdout.contains("beside nystrom of "), "{text:?}");
}
