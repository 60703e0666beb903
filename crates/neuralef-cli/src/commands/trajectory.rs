//! `neuralef trajectory`: a classifier, the states of its training, and the Gaussian process of these.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ndarray::ArrayView2;
use neuralef::bayes::trajectory::{
    MeanSoftmax, StatesWriter, Targets, Training, Trajectory, centred_features, covariances,
    outputs,
};
use neuralef::calibration::{self, Bins, reliability, softmax};
use neuralef::{
    Dataset, Error, Fit, FitSpec, Mat64, Model, NetworkSpec, read_weights, write_weights,
};
use serde_json::{Value, json};

use super::{labels, rows_for_points};
use crate::args::TrajectoryArgs;
use crate::interrupt::Interrupt;
use crate::output::{distinct, file, say, writable};
use crate::progress::Display;
use crate::report::table;

/// Share of the covariance of the weights that SWAG samples with (Maddox et al. 2019).
const SCALE: f64 = 0.5;

pub(crate) fn run(args: &TrajectoryArgs, json: bool) -> Result<()> {
    let places = Places::new(&args.output);
    check_files(args, &places)?;
    let data = Dataset::open(&args.data, args.seed)?;
    let evaluation = Evaluation::open(args, data.width())?;
    let mut display = Display::new(args.progress, Interrupt::install()?);
    let found = match &args.states {
        Some(states) => given(args, &places, &data, states, evaluation.as_ref(), &mut display),
        None => trained(args, &places, &data, evaluation.as_ref(), &mut display),
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

/// Points to measure on, with their labels.
struct Evaluation {
    data: Dataset,
    labels: Vec<i64>,
}

impl Evaluation {
    fn open(args: &TrajectoryArgs, width: usize) -> Result<Option<Self>> {
        let Some(location) = &args.eval else { return Ok(None) };
        // Another seed: with the same one a synthetic set would be the training points again.
        let data = Dataset::open(location, args.seed.wrapping_add(1))?;
        if data.width() != width {
            let got = format!("{} × {}", data.len(), data.width());
            return Err(Error::shape(data.name(), format!("n × {width}"), got).into());
        }
        let labels = labels_of(&data, args.eval_targets.as_deref(), "--eval-targets")?;
        Ok(Some(Evaluation { data, labels }))
    }
}

fn labels_of(data: &Dataset, targets: Option<&str>, option: &str) -> Result<Vec<i64>> {
    match targets {
        Some(location) => Ok(labels(location, rows_for_points(location, data.len())?.view())?),
        None => match data.labels() {
            Some(labels) => Ok(labels.to_vec()),
            None => bail!("{}: comes without labels; give them with {option}", data.name()),
        },
    }
}

fn training(args: &TrajectoryArgs) -> Result<Training> {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    let mut spec = Training { seed: args.seed, ..Training::default() };
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
    data: &Dataset,
    evaluation: Option<&Evaluation>,
    display: &mut Display,
) -> Result<Value> {
    let spec = training(args)?;
    let architecture: NetworkSpec = args.network.as_deref().unwrap_or_default().parse()?;
    let known = labels_of(data, args.targets.as_deref(), "--targets")?;
    let (targets, classes) = Targets::of_labels(&known)?;
    let eigen = match &args.eigen_network {
        Some(text) => text.clone(),
        None => format!("heads(of={:?}, network={architecture}, hidden=[])", places.swa),
    };
    let eigen: NetworkSpec = eigen.parse().context("--eigen-network")?;
    let eval = evaluation.map(|e| indices(e, &classes)).transpose()?;
    let mut network = architecture.build(data.width(), 1, classes.len(), args.seed)?;
    if let Some(path) = &args.weights {
        read_weights(&mut *network, path)?;
    }
    let parent = places.phi.parent().filter(|p| !p.as_os_str().is_empty());
    let scratch = tempfile::tempdir_in(parent.unwrap_or(Path::new(".")))?;
    let states = scratch.path().join("states.npy");
    let mut writers = [StatesWriter::create(&states, data.clone(), classes.len())?];
    let mut run = spec.run(network, data, &targets, &mut writers, display)?;
    writers.into_iter().try_for_each(|writer| writer.finish().map(|_| ()))?;
    write_weights(run.base(), &places.base)?;
    write_weights(run.swa(), &places.swa)?;
    // Features of an earlier run are replaced as the other files are.
    for ending in ["", ".json", ".partial"] {
        let mut name = places.phi.clone().into_os_string();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(name, e).into());
            }
            _ => {}
        }
    }
    let states = Dataset::open(&states.to_string_lossy(), 0)?;
    let model = fit(args, places, data, &states, classes.len(), eigen, display)?;
    drop(scratch);
    let rows = match evaluation.zip(eval.as_deref()) {
        Some((points, truth)) => {
            compare(args, &mut run, &spec, data, &model, points, truth, display)?
        }
        None => Vec::new(),
    };
    let mut found = report(args, places, &model, evaluation, rows);
    found["base"] = places.base.to_string_lossy().into();
    found["swa"] = places.swa.to_string_lossy().into();
    found["network"] = architecture.to_string().into();
    found["classes"] = classes.into();
    found["training"] = serde_json::to_value(&spec)?;
    found["record"] = serde_json::to_value(run.record())?;
    Ok(found)
}

/// Learns the eigenfunctions of states that the user has.
fn given(
    args: &TrajectoryArgs,
    places: &Places,
    data: &Dataset,
    states: &str,
    evaluation: Option<&Evaluation>,
    display: &mut Display,
) -> Result<Value> {
    let classes = args.outputs.unwrap_or_default();
    let eigen = match &args.eigen_network {
        Some(text) => text.parse().context("--eigen-network")?,
        None => NetworkSpec::default(),
    };
    let around = match (evaluation, &args.eval_outputs) {
        (Some(points), Some(location)) => {
            let logits = rows_for_points(location, points.data.len())?.mapv(f64::from);
            if logits.ncols() != classes {
                let expected = format!("{} × {classes}", points.data.len());
                return Err(Error::shape(location, expected, logits.ncols()).into());
            }
            let truth = indices(points, &(0..classes as i64).collect::<Vec<_>>())?;
            Some((points, logits, truth))
        }
        (Some(_), None) => {
            bail!("--eval: --states need --eval-outputs too, logits to predict around")
        }
        _ => None,
    };
    let states = Dataset::open(states, 0)?;
    let model = fit(args, places, data, &states, classes, eigen, display)?;
    let rows = match around {
        None => Vec::new(),
        Some((points, logits, truth)) => {
            let covariance = covariances(&model, &points.data)?;
            let p = args.predictive.probabilities(logits.view(), covariance.view(), args.seed)?;
            vec![
                measure("given", softmax(logits.view())?.view(), &truth)?,
                measure("given + NeuralEF", p.view(), &truth)?,
            ]
        }
    };
    Ok(report(args, places, &model, evaluation, rows))
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
#[expect(clippy::too_many_arguments, reason = "one table of everything there is")]
fn compare(
    args: &TrajectoryArgs,
    run: &mut Trajectory,
    spec: &Training,
    data: &Dataset,
    model: &Model,
    points: &Evaluation,
    truth: &[usize],
    display: &mut Display,
) -> Result<Vec<Value>> {
    let base = outputs(run.base(), &points.data)?;
    let swa = outputs(run.swa(), &points.data)?;
    let mut rows = vec![
        measure("base", softmax(base.view())?.view(), truth)?,
        measure("SWA", softmax(swa.view())?.view(), truth)?,
    ];
    if args.swag_samples > 0 && spec.rank >= 2 {
        let mut mean = MeanSoftmax::default();
        run.swag(args.swag_samples, SCALE, data, display, |network| {
            mean.add(outputs(network, &points.data)?.view())
        })?;
        rows.push(measure("SWAG", mean.probabilities().view(), truth)?);
    }
    let covariance = covariances(model, &points.data)?;
    let predict =
        |logits: &Mat64| args.predictive.probabilities(logits.view(), covariance.view(), args.seed);
    rows.push(measure("base + NeuralEF", predict(&base)?.view(), truth)?);
    rows.push(measure("SWA + NeuralEF", predict(&swa)?.view(), truth)?);
    Ok(rows)
}

/// Places of the labels among the classes of the training.
fn indices(points: &Evaluation, classes: &[i64]) -> Result<Vec<usize>> {
    let find = |label: &i64| {
        classes.binary_search(label).map_err(|_| {
            let expected = format!("one of the {} classes of the training", classes.len());
            Error::parameter(format!("{}: labels", points.data.name()), expected, label)
        })
    };
    Ok(points.labels.iter().map(find).collect::<neuralef::Result<_>>()?)
}

fn measure(name: &str, p: ArrayView2<'_, f64>, truth: &[usize]) -> Result<Value> {
    Ok(json!({
        "method": name,
        "accuracy": calibration::accuracy(p, truth)?,
        "nll": calibration::nll(p, truth)?,
        "brier": calibration::brier(p, truth)?,
        "ece": reliability(p, truth, Bins::default())?.ece,
    }))
}

fn report(
    args: &TrajectoryArgs,
    places: &Places,
    model: &Model,
    evaluation: Option<&Evaluation>,
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
        "eval": evaluation.map(|points| json!({
            "data": points.data.name(), "points": points.data.len(), "rows": rows,
        })),
    })
}

fn text(found: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or_else(|| "–".into(), |v| format!("{v:.4}"));
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
        let header = ["", "accuracy", "NLL", "Brier", "ECE (15 bins)"];
        let rows = rows.iter().map(|row| {
            let name = row["method"].as_str().unwrap_or_default().to_string();
            let values = ["accuracy", "nll", "brier", "ece"].map(|key| number(&row[key]));
            [name].into_iter().chain(values).collect()
        });
        lines.push(format!(
            "{} points of {}, {}",
            found["eval"]["points"],
            found["eval"]["data"].as_str().unwrap_or_default(),
            found["predictive"].as_str().unwrap_or_default()
        ));
        lines.push(table(&header, rows).to_string());
    }
    for warning in found["warnings"].as_array().into_iter().flatten() {
        lines.push(format!("warning: {}", warning.as_str().unwrap_or_default()));
    }
    for key in ["model", "features", "base", "swa"] {
        if let Some(path) = found[key].as_str() {
            lines.push(format!("{key:<8} {path}"));
        }
    }
    lines.join("\n")
}
