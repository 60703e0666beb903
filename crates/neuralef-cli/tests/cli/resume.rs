//! Interrupted runs: killed, stopped by Ctrl-C, resumed to the same bits; checkpoints that are not.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use neuralef::fit::Checkpoint;

use crate::common::{Folder, Ran, TINY, points};

/// A run long enough to be stopped in the middle.
const LONG: &str = "fit two_moons(n=300,noise=0.1) -k 3 --steps 3000 --batch-size 32 --plot none \
                    --network mlp(hidden=[8],activation=tanh) --standardize --seed 3";

/// A child that does not outlive a failing test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(dir: &Folder, line: &str) -> Self {
        let mut command = dir.command(line);
        Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn wait_for(&mut self, dir: &Folder, file: &str) {
        let started = Instant::now();
        while !dir.path(file).exists() {
            assert!(self.0.try_wait().unwrap().is_none(), "ended before {file} was there");
            assert!(started.elapsed() < Duration::from_secs(60), "no {file} after a minute");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    #[cfg(unix)]
    fn interrupt(&self) {
        let kill = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    fn end(mut self) -> (ExitStatus, String) {
        let text = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        (self.0.wait().unwrap(), text)
    }
}

fn steps_done(dir: &Folder, checkpoint: &str) -> u64 {
    Checkpoint::read(&dir.path(checkpoint)).unwrap().header.step
}

/// Kills `line` with SIGKILL once it has a checkpoint, resumes it, and compares the models.
fn kill_and_resume(dir: &Folder, line: &str, most: u64) {
    dir.ok(&format!("{line} -o whole"));
    let mut run =
        Running::start(dir, &format!("{line} -o killed --checkpoint c --checkpoint-every 10"));
    run.wait_for(dir, "c");
    run.0.kill().unwrap();
    let (status, _) = run.end();
    assert!(!status.success() && !dir.path("killed").exists(), "it was done before it was killed");
    let done = steps_done(dir, "c");
    assert!(done.is_multiple_of(10) && done < most, "{done}");
    let resumed = dir.ok("fit --resume c -o resumed --plot none --progress json");
    let first = resumed.stderr.lines().find(|l| l.contains("\"training\"")).unwrap();
    assert!(first.contains(&format!("\"from\":{done}")), "{first}");
    assert!(dir.bytes("resumed") == dir.bytes("whole"), "resumed after {done} steps: other bits");
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    kill_and_resume(&Folder::new(), LONG, 3000);
}

#[test]
fn a_killed_automatic_run_with_validation_points_resumes_to_the_same_bits() {
    // Four tanh units and a short length scale: training pays, so there are several checks.
    let line = "fit uniform(n=300,d=2) -k 6 --steps auto --max-steps 2000 --batch-size 32 \
                --kernel rbf(lengthscale=0.3) --network shared_mlp(hidden=[4],activation=tanh) \
                --readout ritz --validation uniform(n=100,d=2) --plot none --seed 1";
    let dir = Folder::new();
    kill_and_resume(&dir, line, 2000);
    let record = dir.json("inspect whole")["record"].clone();
    assert!(record["auto_checks"].as_array().unwrap().len() > 2, "{record}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_checkpoint_that_resumes_to_the_same_bits() {
    let dir = Folder::new();
    dir.ok(&format!("{LONG} -o whole"));
    let line = format!("{LONG} -o stopped --checkpoint c --checkpoint-every 0 --progress json");
    let mut run = Running::start(&dir, &line);
    let mut lines = BufReader::new(run.0.stderr.take().unwrap()).lines();
    lines.find(|l| l.as_ref().unwrap().contains("\"step\"")).unwrap().unwrap();
    run.interrupt();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(run.0.wait().unwrap().code(), Some(130), "{rest:?}");
    let done = steps_done(&dir, "c");
    let message = format!("neuralef: interrupted at step {done}; continue with --resume c");
    assert_eq!(rest.last(), Some(&message));
    assert_eq!(dir.files(), ["c", "whole"]);
    dir.ok("fit --resume c -o resumed --plot none");
    assert!(dir.bytes("resumed") == dir.bytes("whole"), "resumed after {done} steps: other bits");
}

#[cfg(unix)]
#[test]
fn ctrl_c_without_a_checkpoint_leaves_one_beside_the_model() {
    let dir = Folder::new();
    dir.ok(&format!("{LONG} -o whole"));
    let mut run = Running::start(&dir, &format!("{LONG} -o m.safetensors --progress json"));
    let mut lines = BufReader::new(run.0.stderr.take().unwrap()).lines();
    lines.find(|l| l.as_ref().unwrap().contains("\"step\"")).unwrap().unwrap();
    run.interrupt();
    let last = lines.map(Result::unwrap).last().unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(130), "{last}");
    assert!(last.ends_with("; continue with --resume m.ckpt"), "{last}");
    assert_eq!(dir.files(), ["m.ckpt", "whole"]);
    dir.ok("fit --resume m.ckpt -o resumed --plot none");
    assert!(dir.bytes("resumed") == dir.bytes("whole"));
}

#[test]
fn other_values_of_the_same_shape_are_not_resumed() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(100, 2));
    dir.ok(&format!("fit x.npy {TINY} --checkpoint c --checkpoint-every 10"));
    let mut other = points(100, 2);
    other[[50, 1]] += 0.5;
    dir.npy("x.npy", &other);
    dir.refused("fit --resume c -o m2", &["data of the resumed run", "other values"]);
}

#[test]
fn outputs_do_not_replace_inputs_or_one_another() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(100, 2));
    let refuse = |line: &str| dir.refused(line, &["would replace another file of this run"]);
    refuse(&format!("fit x.npy {TINY} -o x.npy"));
    refuse("fit x.npy -k 3 --steps 0 -o ./m.svg --plot m.svg");
    refuse(&format!("fit x.npy {TINY} -o m --checkpoint ./m"));
    dir.ok(&format!("fit x.npy {TINY} -o m"));
    dir.ok(&format!("fit x.npy {TINY} -o m2 --checkpoint c --checkpoint-every 10"));
    refuse("fit --resume c -o x.npy");
    refuse("transform m x.npy -o m");
    refuse("transform m x.npy -o ./x.npy");
}

#[test]
fn a_run_with_a_large_seed_resumes() {
    let dir = Folder::new();
    let line = format!("fit two_moons(n=100) {TINY} --seed {}", u64::MAX);
    dir.ok(&format!("{line} -o whole --checkpoint c --checkpoint-every 7"));
    assert_eq!(steps_done(&dir, "c"), 14);
    dir.ok("fit --resume c -o resumed --plot none");
    assert!(dir.bytes("resumed") == dir.bytes("whole"));
}

#[test]
fn what_is_not_a_checkpoint_is_refused() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(100, 2));
    dir.ok(&format!("fit x.npy {TINY} --checkpoint c --checkpoint-every 10"));
    dir.refused("fit --resume model.safetensors", &["model.safetensors", "this is a `model`"]);
    dir.refused("fit --resume missing", &["missing", "No such file"]);
    dir.refused("fit --resume x.npy", &["x.npy", "not a usable neuralef file"]);
    let whole = dir.bytes("c");
    for length in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        dir.put("cut", &whole[..length]);
        dir.refused("fit --resume cut", &["cut: not a usable neuralef file"]);
    }
    // The data are those of the checkpoint, and must be the same.
    dir.misused("fit x.npy --resume c", &["--resume"]);
    dir.misused("fit --resume c -k 4", &["--resume"]);
    dir.npy("x.npy", &points(101, 2));
    dir.refused("fit --resume c", &["data of the resumed run", "100 × 2", "101 × 2"]);
    std::fs::remove_file(dir.path("x.npy")).unwrap();
    dir.refused("fit --resume c", &["x.npy", "No such file"]);
}

#[test]
fn hostile_checkpoints_are_refused() {
    let dir = Folder::new();
    dir.npy("x.npy", &points(100, 2));
    dir.ok(&format!("fit x.npy {TINY} --checkpoint c --checkpoint-every 10"));
    let edited = |pointer: &str, value: serde_json::Value| {
        let mut archive = dir.archive("c");
        *archive.header.pointer_mut(pointer).unwrap() = value;
        archive.write(dir.path("bad")).unwrap();
    };
    edited("/spec/n_components", 4.into());
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file", "network.3"]);
    edited("/spec/n_components", (1u64 << 30).into());
    dir.refused("fit --resume bad", &["n_components"]);
    edited("/spec/network", "mlp(hidden=[9], activation=tanh)".into());
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file", "network.0"]);
    edited("/spec/optimizer", "sgd".into());
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file", "optimizer.velocity.0"]);
    edited("/spec/network", "mlp(hidden=[9".into());
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file"]);
    edited("/step", "ten".into());
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file", "header"]);
    edited("/data", "".into());
    dir.refused("fit --resume bad", &["No such file"]);
    edited("/step", (-1).into());
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file"]);
    // More steps than the run has: the file is not from this run.
    edited("/step", u64::MAX.into());
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file", "step"]);
    edited("/spec/method", "nystrom".into());
    dir.refused("fit --resume bad", &["resuming method = nystrom"]);
    edited("/auto", serde_json::json!({"checks": [[u64::MAX, 0.5]]}));
    dir.refused("fit --resume bad", &["bad: not a usable neuralef file"]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_noticed_before_the_work() {
    let dir = Folder::new();
    let line = format!("fit two_moons(n=100) {TINY}");
    dir.refused(&format!("{line} --checkpoint missing/c"), &["missing/c"]);
    std::fs::create_dir(dir.path("folder")).unwrap();
    dir.refused(&format!("{line} --checkpoint folder"), &["folder"]);
    let ran: Ran = dir.ok(&format!("{line} --checkpoint c --checkpoint-every 0"));
    assert!(!dir.path("c").exists(), "{ran:?}");
}
