//! Features from the command line: sampled, killed, continued, and fitted to.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Folder, TINY, points};

/// Some seconds of work in a dozen blocks: 1 MiB holds the features of 25 points.
const LONG: &str = "sample nngp uniform(n=300,d=2) --network mlp(hidden=[24],activation=erf) \
                    --weight-var 2 --bias-var 1 -S 20000 --dtype f16 --memory-budget 1 --seed 3";

/// A child that does not outlive a failing test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Number of rows that the record beside `file` says are there.
fn done(dir: &Folder, file: &str) -> u64 {
    let Ok(text) = std::fs::read_to_string(dir.path(&format!("{file}.json"))) else { return 0 };
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["done"].as_u64().unwrap()
}

/// Starts `line` and waits until some rows of `file` are there.
fn started(dir: &Folder, line: &str, file: &str) -> Running {
    let mut command = dir.command(line);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut run, began) = (Running(child), Instant::now());
    while done(dir, file) == 0 {
        assert!(run.0.try_wait().unwrap().is_none(), "ended before any rows were there");
        assert!(began.elapsed() < Duration::from_secs(60), "no rows after a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    run
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let dir = Folder::new();
    dir.ok(&format!("{LONG} -o whole.npy"));
    let mut run = started(&dir, &format!("{LONG} -o phi.npy"), "phi.npy");
    run.0.kill().unwrap();
    assert!(!run.0.wait().unwrap().success());
    let before = done(&dir, "phi.npy");
    assert!(before > 0 && before < 300 && !dir.path("phi.npy").exists(), "{before}");
    assert!(dir.path("phi.npy.partial").exists());
    let value = dir.json(&format!("{LONG} -o phi.npy"));
    assert_eq!(value["computed"].as_u64(), Some(300 - before), "{value}");
    assert!(dir.bytes("phi.npy") == dir.bytes("whole.npy"), "resumed after {before}: other bits");
    assert_eq!(dir.files(), ["phi.npy", "phi.npy.json", "whole.npy", "whole.npy.json"]);
    let again = dir.json(&format!("{LONG} -o phi.npy"));
    assert_eq!(again["computed"], 0, "{again}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_there() {
    let dir = Folder::new();
    let line = format!("{LONG} -o phi.npy --threads 1");
    let mut run = started(&dir, &line, "phi.npy");
    let kill = std::process::Command::new("kill").args(["-INT", &run.0.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let text = std::io::read_to_string(run.0.stderr.take().unwrap()).unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(130), "{text}");
    let rows = done(&dir, "phi.npy");
    let message = format!("interrupted after {rows} of 300 points; the same call goes on");
    assert!(text.contains(&message), "{text}");
    assert_eq!(dir.files(), ["phi.npy.json", "phi.npy.partial"]);
    let ran = dir.ok(&format!("{LONG} -o phi.npy"));
    assert!(ran.stdout.contains(&format!("; {rows} of 300 points were there")), "{ran:?}");
}

#[test]
fn features_of_both_kinds_serve_a_fit() {
    let dir = Folder::new();
    let network = "--network mlp(hidden=[16],activation=erf)";
    let nngp = format!("sample nngp two_moons(n=200) {network} --weight-var 2,1 --bias-var 1");
    let value = dir.json(&format!("{nngp} -S 400 --dtype f16 -o phi.npy"));
    for (key, want) in [("points", 200), ("outputs", 1), ("samples", 400), ("computed", 200)] {
        assert_eq!(value[key], want, "{value}");
    }
    assert_eq!((value["dtype"].as_str(), value["path"].as_str()), (Some("f16"), Some("phi.npy")));
    assert!(value["peak_mib"].as_f64().unwrap() > 0.0, "{value}");
    assert_eq!(dir.bytes("phi.npy").len(), 128 + 2 * 200 * 400);
    dir.ok(&format!("fit two_moons(n=200) --features phi.npy {TINY} -o a"));
    let ntk = "sample ntk two_moons(n=200) --network shared_mlp(hidden=[16],activation=erf)";
    dir.ok(&format!("{ntk} -S 400 -o exact.npy"));
    let difference = "finite_difference(epsilon=auto)";
    dir.ok(&format!("{ntk} -S 400 --derivative {difference} -o difference.npy"));
    let (exact, difference) = (dir.array("exact.npy"), dir.array("difference.npy"));
    let size = exact.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let off = (&exact - &difference).iter().fold(0.0f32, |a, b| a.max(b.abs()));
    assert!(off > 0.0 && off < 0.01 * size, "{off} of {size}");
    dir.ok(&format!("fit two_moons(n=200) --features exact.npy {TINY} -o b"));
    let ran = dir.ok(&format!("{ntk} -S 40 --outputs 3 --probes gaussian -o three.npy"));
    assert!(ran.stdout.starts_with("600 × 40 features (f32) in three.npy"), "{ran:?}");
    let line = format!("fit two_moons(n=200) --features three.npy --outputs 3 {TINY} -o c");
    assert_eq!(dir.json(&line)["info"]["spec"]["outputs"], 3);
}

/// 400 MB of features of ten outputs, within 16 MiB and what data and matrix products take besides.
#[test]
fn features_larger_than_the_memory_budget_are_streamed() {
    let dir = Folder::new();
    let line = "sample ntk uniform(n=10000,d=2) --network shared_mlp(hidden=[4],activation=tanh) \
                --outputs 10 -S 1000 --memory-budget 16";
    for derivative in ["exact", "reverse"] {
        let value = dir.json(&format!("{line} --derivative {derivative} -o {derivative}.npy"));
        let bytes = std::fs::metadata(dir.path(&format!("{derivative}.npy"))).unwrap().len();
        assert_eq!(bytes, 128 + 4 * 10_000 * 10 * 1000);
        let peak = value["peak_mib"].as_f64().unwrap();
        assert!(peak < 24.0, "{derivative}: {peak} MiB");
    }
}

#[test]
fn what_cannot_be_sampled_is_refused() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(20, 2));
    let nngp = "sample nngp x.npy --network mlp(hidden=[8]) -S 10";
    dir.ok(&format!("{nngp} -o phi.npy"));
    dir.refused(&format!("{nngp} -o phi.npy --seed 1"), &["seed", "phi.npy", "got 1"]);
    dir.refused(&format!("{nngp} -o phi.npy --dtype f16"), &["dtype", "phi.npy"]);
    dir.refused(&format!("{nngp} -o phi.npy --bias-var 1"), &["bias_var", "phi.npy"]);
    dir.refused(&format!("{nngp} -o x.npy"), &["would replace another file of this run"]);
    dir.refused(&format!("{nngp} -o missing/x.npy"), &["missing/x.npy"]);
    dir.refused(&format!("{nngp} -o y.npy --weight-var 0"), &["weight_var", "positive"]);
    dir.refused(&format!("{nngp} -o y.npy --weight-var 1,2,3"), &["weight_var", "2 layers"]);
    dir.refused(&format!("{nngp} -o y.npy --memory-budget 0"), &["memory budget is 0 MiB"]);
    dir.refused("sample nngp x.npy --network mlp(hidden=[8]) -S 0 -o y.npy", &["samples"]);
    dir.misused(&format!("{nngp} -o y.npy --dtype f8"), &["f32, f16"]);
    let ntk = "sample ntk x.npy -o y.npy -S 10 --network";
    dir.refused(&format!("{ntk} mlp --weights no.safetensors"), &["no.safetensors"]);
    dir.refused(&format!("{ntk} mlp --weights x.npy"), &["x.npy", "not a safetensors file"]);
    dir.refused(&format!("{ntk} mlq"), &["did you mean `mlp`"]);
    dir.refused(&format!("{ntk} mlp --outputs 0"), &["outputs"]);
    dir.misused(&format!("{ntk} mlp --derivative exactly"), &["did you mean `exact`"]);
    dir.misused(&format!("{ntk} mlp --probes gauss"), &["rademacher, gaussian"]);
}
