//! `neuralef trajectory`: a classifier, the states of its training, and the Gaussian process of these.

mod report;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use neuralef::bayes::trajectory::{
    MeanSoftmax, StatesWriter, Training, Trajectory, TrajectoryWeights, centred_features,
    covariances, logits,
};
use neuralef::calibration::{assess, softmax};
use neuralef::matrix::Mat64Ref;
use neuralef::nn::{read_weights, write_weights};
use neuralef::{Dataset, Error, Fit, FitSpec, Mat64, Model, NetworkSpec};

use super::expect_columns;
use super::supervised::{SupervisedData, preprocessing};
use crate::args::{TrainingArgs, TrajectoryArgs};
use crate::interrupt::Interrupt;
use crate::output::{distinct, file, print, writable};
use crate::progress::Display;
use report::{MethodRow, Predictions, TrainedNetworks, TrajectoryReport};

/// Share of the covariance of the weights that SWAG samples with (Maddox et al. 2019).
const SCALE: f64 = 0.5;

pub(crate) fn run(args: &TrajectoryArgs, json: bool) -> Result<()> {
    let places = Places::new(&args.output);
    check_files(args, &places)?;
    // Another seed: with the same one a synthetic set would be the training points again.
    let open = |location| labelled(args, location, args.eval_targets.as_deref(), 1);
    let points = args.eval.as_deref().map(open).transpose()?;
    let mut display = Display::new(args.progress, Interrupt::install()?);
    let report = match &args.states {
        Some(states) => learn_states(args, &places, states, points.as_ref(), &mut display),
        None => train(args, &places, points.as_ref(), &mut display),
    };
    display.finish();
    print(&report?, json, report::text)
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
fn labelled(
    args: &TrajectoryArgs,
    location: &str,
    targets: Option<&str>,
    offset: u64,
) -> Result<SupervisedData> {
    let (seed, options) = (args.seed.wrapping_add(offset), "--targets and --eval-targets");
    let mut points = SupervisedData::open(location, targets, false, seed, options)?;
    points.data = prepared(args, points.data)?;
    Ok(points)
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
fn train(
    args: &TrajectoryArgs,
    places: &Places,
    points: Option<&SupervisedData>,
    display: &mut Display,
) -> Result<TrajectoryReport> {
    let spec = training(&args.training, args.seed)?;
    let architecture: NetworkSpec = args.network.as_deref().unwrap_or_default().parse()?;
    let swa = places.swa.display();
    let eigen = args.eigen_network.clone();
    let eigen: NetworkSpec = eigen
        .unwrap_or_else(|| format!("heads(of=\"{swa}\", network={architecture}, hidden=[])"))
        .parse()
        .context("--eigen-network")?;
    let train = labelled(args, &args.data, args.targets.as_deref(), 0)?;
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
    write_weights(run.network_with(TrajectoryWeights::Base), &places.base)?;
    write_weights(run.network_with(TrajectoryWeights::Swa), &places.swa)?;
    remove_features(&places.phi)?;
    let states = Dataset::open(&states.to_string_lossy(), 0)?;
    let model = fit(args, places, data, &states, classes, eigen, display)?;
    let rows = match points {
        Some(points) => compare(args, &mut run, &spec, data, &model, points, display)?,
        None => Vec::new(),
    };
    let mut report = report(args, places, &model, points, rows);
    report.trained = Some(TrainedNetworks {
        base: places.base.to_string_lossy().into(),
        swa: places.swa.to_string_lossy().into(),
        network: architecture.to_string(),
        training: spec,
        record: run.record().clone(),
    });
    Ok(report)
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
fn learn_states(
    args: &TrajectoryArgs,
    places: &Places,
    states: &str,
    points: Option<&SupervisedData>,
    display: &mut Display,
) -> Result<TrajectoryReport> {
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
        operator: Some(neuralef::operator::OperatorSpec::features(&places.phi)),
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
    points: &SupervisedData,
    display: &mut Display,
) -> Result<Vec<MethodRow>> {
    let base = logits(run.network_with(TrajectoryWeights::Base), &points.data)?;
    let swa = logits(run.network_with(TrajectoryWeights::Swa), &points.data)?;
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
fn expect_like(points: &SupervisedData, width: usize, classes: usize) -> Result<()> {
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

fn measure(method: &'static str, p: Mat64Ref<'_>, points: &SupervisedData) -> Result<MethodRow> {
    Ok(MethodRow { method, scores: assess(p, points.labels())? })
}

fn report(
    args: &TrajectoryArgs,
    places: &Places,
    model: &Model,
    points: Option<&SupervisedData>,
    rows: Vec<MethodRow>,
) -> TrajectoryReport {
    let info = model.info();
    TrajectoryReport {
        model: places.model.to_string_lossy().into(),
        features: places.phi.to_string_lossy().into(),
        outputs: model.outputs(),
        eigenvalues: model.eigenvalues().to_vec(),
        captured_trace: info.certificate.captured_trace,
        predictive: args.predictive.to_string(),
        warnings: info.warnings.clone(),
        eval: points.map(|points| Predictions {
            data: points.data.name().to_string(),
            points: points.data.len(),
            rows,
        }),
        trained: None,
    }
}
