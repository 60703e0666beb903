//! `neuralef trajectory`: a classifier, the states of its training, and the Gaussian process of these.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use neuralef::bayes::trajectory::{
    MeanSoftmax, StatesWriter, Training, Trajectory, centred_features, covariances, logits,
};
use neuralef::calibration::{assess, softmax};
use neuralef::matrix::Mat64Ref;
use neuralef::nn::{read_weights, write_weights};
use neuralef::{Dataset, Error, Fit, FitSpec, Mat64, Model, NetworkSpec};
use serde_json::{Value, json};

use super::expect_columns;
use super::laplace::{Sample, preprocessing};
use crate::args::{TrainingArgs, TrajectoryArgs};
use crate::interrupt::Interrupt;
use crate::output::{distinct, file, say, writable};
use crate::progress::Display;
use crate::report::table;

/// Share of the covariance of the weights that SWAG samples with (Maddox et al. 2019).
const SCALE: f64 = 0.5;

pub(crate) fn run(args: &TrajectoryArgs, json: bool) -> Result<()> {
    let places = Places::new(&args.output);
    check_files(args, &places)?;
    // Another seed: with the same one a synthetic set would be the training points again.
    let open = |location| sample(args, location, args.eval_targets.as_deref(), 1);
    let points = args.eval.as_deref().map(open).transpose()?;
    let mut display = Display::new(args.progress, Interrupt::install()?);
    let found = match &args.states {
        Some(states) => given(args, &places, states, points.as_ref(), &mut display),
        None => trained(args, &places, points.as_ref(), &mut display),
    };
    display.finish();
    let found = found?;
    if json { say(found) } else { say(text(&found)) }
}

/// Where results go.
struct Places {
    model: PathBuf,
    phi: PathBuf,
    base: PathBuf,
    swa: PathBuf,
}

impl Places {
    fn new(model: &Path) -> Self {
        let beside = |extension: &str| model.with_extension(extension);
        let (base, swa) = (beside("base.safetensors"), beside("swa.safetensors"));
        Places { model: model.into(), phi: beside("phi.npy"), base, swa }
    }
}

/// Refuses before the work what could not be written after it, or would replace what is read.
fn check_files(args: &TrajectoryArgs, places: &Places) -> Result<()> {
    let mut results = vec![("--output", Some(places.model.as_path())), ("Φ", Some(&places.phi))];
    if args.states.is_none() {
        results.extend([("the base", Some(places.base.as_path())), ("SWA", Some(&places.swa))]);
    }
    for path in results.iter().filter_map(|(_, path)| *path) {
        writable(path)?;
    }
    let named = [&args.targets, &args.eval, &args.eval_targets, &args.states, &args.eval_outputs];
    let read = named.into_iter().flatten().chain([&args.data]).map(|location| file(location));
    distinct(&results, read.chain(args.weights.as_deref()))
}

/// Labelled points as the network sees them.
fn sample(
    args: &TrajectoryArgs,
    location: &str,
    targets: Option<&str>,
    offset: u64,
) -> Result<Sample> {
    let (seed, options) = (args.seed.wrapping_add(offset), "--targets and --eval-targets");
    let mut sample = Sample::open(location, targets, false, seed, options)?;
    sample.data = prepared(args, sample.data)?;
    Ok(sample)
}

fn prepared(args: &TrajectoryArgs, data: Dataset) -> Result<Dataset> {
    let Some(standardizer) = preprocessing(&args.input, data.width())? else { return Ok(data) };
    let x = standardizer.apply(data.range(0..data.len())?.view())?;
    Ok(Dataset::from_array(data.name(), x)?)
}

fn training(args: &TrainingArgs, seed: u64) -> Result<Training> {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    let mut spec = Training { seed, ..Training::default() };
    set(&mut spec.optimizer, args.optimizer.as_deref().map(str::parse).transpose()?);
    set(&mut spec.schedule, args.schedule.as_deref().map(str::parse).transpose()?);
    set(&mut spec.steps, args.steps);
    set(&mut spec.tail_steps, args.tail_steps);
    set(&mut spec.tail_lr, args.tail_lr);
    set(&mut spec.tail_schedule, args.tail_schedule.as_deref().map(str::parse).transpose()?);
    set(&mut spec.every, args.every);
    set(&mut spec.batch_size, args.batch_size);
    set(&mut spec.augmentation, args.augment.as_deref().map(str::parse).transpose()?);
    set(&mut spec.rank, args.rank);
    spec.check()?;
    Ok(spec)
}

/// Trains, and learns the eigenfunctions of the trajectory.
fn trained(
    args: &TrajectoryArgs,
    places: &Places,
    points: Option<&Sample>,
    display: &mut Display,
) -> Result<Value> {
    let spec = training(&args.training, args.seed)?;
    let architecture: NetworkSpec = args.network.as_deref().unwrap_or_default().parse()?;
    let swa = places.swa.display();
    let eigen = args.eigen_network.clone();
    let eigen: NetworkSpec = eigen
        .unwrap_or_else(|| format!("heads(of=\"{swa}\", network={architecture}, hidden=[])"))
        .parse()
        .context("--eigen-network")?;
    let train = sample(args, &args.data, args.targets.as_deref(), 0)?;
    let (data, classes) = (&train.data, 1 + train.labels().iter().max().copied().unwrap_or(0));
    if let Some(points) = points {
        expect_like(points, data.width(), classes)?;
    }
    let mut network = architecture.build(data.width(), 1, classes, args.seed)?;
    if let Some(path) = &args.weights {
        read_weights(&mut *network, path)?;
    }
    let parent = places.phi.parent().filter(|p| !p.as_os_str().is_empty());
    let scratch = tempfile::tempdir_in(parent.unwrap_or(Path::new(".")))?;
    let states = scratch.path().join("states.npy");
    let mut writers = [StatesWriter::create(&states, data.clone(), classes)?];
    let mut run = spec.run(network, data, &train.targets, &mut writers, display)?;
    writers.into_iter().try_for_each(|writer| writer.finish().map(|_| ()))?;
    write_weights(run.base(), &places.base)?;
    write_weights(run.swa(), &places.swa)?;
    remove_features(&places.phi)?;
    let states = Dataset::open(&states.to_string_lossy(), 0)?;
    let model = fit(args, places, data, &states, classes, eigen, display)?;
    let rows = match points {
        Some(points) => compare(args, &mut run, &spec, data, &model, points, display)?,
        None => Vec::new(),
    };
    let mut found = report(args, places, &model, points, rows);
    found["base"] = places.base.to_string_lossy().into();
    found["swa"] = places.swa.to_string_lossy().into();
    found["network"] = architecture.to_string().into();
    found["training"] = serde_json::to_value(&spec)?;
    found["record"] = serde_json::to_value(run.record())?;
    Ok(found)
}

/// Features of an earlier run are replaced as its other files are.
fn remove_features(phi: &Path) -> Result<()> {
    for ending in ["", ".json", ".partial"] {
        let mut name = phi.as_os_str().to_os_string();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(name, e).into()),
            _ => {}
        }
    }
    Ok(())
}

/// Learns the eigenfunctions of states that the user has.
fn given(
    args: &TrajectoryArgs,
    places: &Places,
    states: &str,
    points: Option<&Sample>,
    display: &mut Display,
) -> Result<Value> {
    let classes = args.outputs.unwrap_or_default();
    let data = &prepared(args, Dataset::open(&args.data, args.seed)?)?;
    let eigen = args.eigen_network.as_deref().map(str::parse).transpose();
    let eigen: NetworkSpec = eigen.context("--eigen-network")?.unwrap_or_default();
    let around = match (points, &args.eval_outputs) {
        (Some(points), Some(location)) => {
            expect_like(points, data.width(), classes)?;
            let (rows, n) = (Dataset::open(location, 0)?, points.data.len());
            if (rows.len(), rows.width()) != (n, classes) {
                let got = format!("{} × {}", rows.len(), rows.width());
                return Err(Error::shape(location, format!("{n} × {classes}"), got).into());
            }
            Some((points, rows.range(0..n)?.mapv(f64::from)))
        }
        (Some(_), None) => {
            bail!("--eval: with --states it needs --eval-outputs, logits to predict around")
        }
        _ => None,
    };
    let states = Dataset::open(states, 0)?;
    let model = fit(args, places, data, &states, classes, eigen, display)?;
    let rows = match around {
        None => Vec::new(),
        Some((points, logits)) => {
            let covariance = covariances(&model, &points.data)?;
            let p = args.predictive.probabilities(logits.view(), covariance.view(), args.seed)?;
            vec![
                measure("given", softmax(logits.view())?.view(), points)?,
                measure("given + NeuralEF", p.view(), points)?,
            ]
        }
    };
    Ok(report(args, places, &model, points, rows))
}

/// Centres the states and learns the eigenfunctions of their kernel.
fn fit(
    args: &TrajectoryArgs,
    places: &Places,
    data: &Dataset,
    states: &Dataset,
    outputs: usize,
    network: NetworkSpec,
    display: &mut Display,
) -> Result<Model> {
    centred_features(states, data.len(), outputs, &places.phi, args.memory_budget, display)?;
    let spec = FitSpec {
        features: Some(places.phi.clone()),
        outputs,
        output_form: args.output_form,
        n_components: args.n_components,
        network,
        steps: args.eigen_steps,
        memory_budget: args.memory_budget,
        seed: args.seed,
        ..FitSpec::default()
    };
    let (model, _) = Fit::new(spec).observer(display).run(data)?;
    model.save(&places.model)?;
    Ok(model)
}

/// Every way to predict with a trajectory.
fn compare(
    args: &TrajectoryArgs,
    run: &mut Trajectory,
    spec: &Training,
    data: &Dataset,
    model: &Model,
    points: &Sample,
    display: &mut Display,
) -> Result<Vec<Value>> {
    let base = logits(run.base(), &points.data)?;
    let swa = logits(run.swa(), &points.data)?;
    let mut rows = vec![
        measure("base", softmax(base.view())?.view(), points)?,
        measure("SWA", softmax(swa.view())?.view(), points)?,
    ];
    if args.training.swag_samples > 0 && run.moments().deviations() >= 2 {
        let mut mean = MeanSoftmax::default();
        run.swag(args.training.swag_samples, SCALE, data, display, |network| {
            mean.add(logits(network, &points.data)?.view())
        })?;
        rows.push(measure("SWAG", mean.probabilities().view(), points)?);
    }
    let covariance = covariances(model, &points.data)?;
    let predict =
        |mean: &Mat64| args.predictive.probabilities(mean.view(), covariance.view(), spec.seed);
    rows.push(measure("base + NeuralEF", predict(&base)?.view(), points)?);
    rows.push(measure("SWA + NeuralEF", predict(&swa)?.view(), points)?);
    Ok(rows)
}

/// Fails unless points are as wide as those of the training, and their labels among its classes.
fn expect_like(points: &Sample, width: usize, classes: usize) -> Result<()> {
    expect_columns(&points.data, width)?;
    let name = points.data.name();
    match points.labels().iter().find(|label| **label >= classes) {
        Some(bad) => {
            let expected = format!("one of the {classes} classes of the training");
            Err(Error::parameter(format!("{name}: labels"), expected, bad).into())
        }
        None => Ok(()),
    }
}

fn measure(name: &str, p: Mat64Ref<'_>, points: &Sample) -> Result<Value> {
    let mut row = serde_json::to_value(assess(p, points.labels())?)?;
    row["method"] = name.into();
    Ok(row)
}

fn report(
    args: &TrajectoryArgs,
    places: &Places,
    model: &Model,
    points: Option<&Sample>,
    rows: Vec<Value>,
) -> Value {
    let info = model.info();
    json!({
        "model": places.model.to_string_lossy(),
        "features": places.phi.to_string_lossy(),
        "outputs": model.outputs(),
        "eigenvalues": model.eigenvalues(),
        "captured_trace": info.certificate.captured_trace,
        "predictive": args.predictive.to_string(),
        "warnings": info.warnings,
        "eval": points.map(|points| json!({
            "data": points.data.name(), "points": points.data.len(), "rows": rows,
        })),
    })
}

fn text(found: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or_else(|| "–".into(), |v| format!("{v:.4}"));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut lines = Vec::new();
    if found["record"].is_object() {
        let record = &found["record"];
        lines.push(format!(
            "{} steps to the base (loss {}), {} states in the tail (loss {})",
            record["steps"],
            number(&record["base_loss"]),
            record["states"],
            number(&record["tail_loss"])
        ));
    }
    lines.push(format!(
        "{} eigenfunctions of {} outputs: captured trace {:.2} % on held-out points",
        found["eigenvalues"].as_array().map_or(0, Vec::len),
        found["outputs"],
        100.0 * found["captured_trace"].as_f64().unwrap_or(f64::NAN)
    ));
    if let Some(rows) = found["eval"]["rows"].as_array() {
        let (points, data) = (&found["eval"]["points"], word(&found["eval"]["data"]));
        lines.push(format!("{points} points of {data}, {}", word(&found["predictive"])));
        let header = ["", "accuracy", "NLL", "Brier", "ECE", "adaptive ECE"];
        let rows = rows.iter().map(|row| {
            let values =
                header[1..].iter().map(|name| number(&row[name.to_lowercase().replace(' ', "_")]));
            [word(&row["method"])].into_iter().chain(values).collect()
        });
        lines.push(table(&header, rows).to_string());
    }
    for warning in found["warnings"].as_array().into_iter().flatten() {
        lines.push(format!("warning: {}", word(warning)));
    }
    for key in ["model", "features", "base", "swa"] {
        if found[key].is_string() {
            lines.push(format!("{key:<8} {}", word(&found[key])));
        }
    }
    lines.join("\n")
}
