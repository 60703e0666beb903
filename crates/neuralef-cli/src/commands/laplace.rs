//! `neuralef laplace`: posteriors of a trained network from several sources, in one table.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use ndarray::{Axis, s};
use neuralef::bayes::{
    Criterion, Laplace, LaplaceSpec, Likelihood, Predictive, SourceSpec, Targets as Observed,
    Tuning, fit_laplace,
};
use neuralef::calibration::{Bins, Reliability, assess, detect, reliability};
use neuralef::data::Standardizer;
use neuralef::nn::TrainedNetwork;
use neuralef::train::{Control, Event};
use neuralef::{Dataset, Error, Mat64, Observer as _};
use serde_json::{Value, json};

use super::expect_columns;
use super::targets::Targets;
use crate::args::{InputArgs, LaplaceArgs, ProbeTask, TuneCriterion};
use crate::interrupt::Interrupt;
use crate::output::{distinct, drawable, file, say, writable};
use crate::progress::Display;
use crate::report::table;

/// Rows predicted at a time, at most, and numbers of their covariances.
const ROWS: usize = 1024;
const NUMBERS: usize = 1 << 24;
/// Options that name files of targets.
const OPTIONS: &str = "--train-targets, --eval-targets and --validation-targets";

pub(crate) fn run(args: &LaplaceArgs, json: bool) -> Result<()> {
    let sources = sources(args)?;
    let regression = args.task == ProbeTask::Regression;
    check(args, &sources, regression)?;
    let network = TrainedNetwork::open(&args.network, args.architecture.as_deref())?;
    let train =
        Sample::open(&args.train, args.train_targets.as_deref(), regression, args.seed, OPTIONS)?;
    let open = |location: &Option<String>, targets: &Option<String>, offset: u64| {
        let seed = args.seed.wrapping_add(offset);
        let sample = |at: &String| Sample::open(at, targets.as_deref(), regression, seed, OPTIONS);
        location.as_ref().map(sample).transpose()
    };
    let eval = open(&args.eval, &args.eval_targets, 1)?;
    let validation = open(&args.validation, &args.validation_targets, 2)?;
    let ood =
        args.ood.as_ref().map(|at| Dataset::open(at, args.seed.wrapping_add(3))).transpose()?;
    let preprocessing = preprocessing(&args.input, train.data.width())?;
    // What does not fit the network is found before anything is fitted.
    let outputs = outputs_of(&network, train.data.width())?;
    for sample in [Some(&train), eval.as_ref(), validation.as_ref()].into_iter().flatten() {
        sample.check(train.data.width(), outputs)?;
    }
    if let Some(data) = &ood {
        expect_columns(data, train.data.width())?;
    }
    let mut display = Display::new(args.progress, Interrupt::install()?);
    let spec = |source: &SourceSpec| LaplaceSpec {
        source: source.clone(),
        prior_precision: args.prior_precision,
        noise_variance: args.noise_variance,
        temperature: args.temperature.unwrap_or(1.0),
        preprocessing: preprocessing.clone(),
        seed: args.seed,
        memory_budget: args.memory_budget,
    };
    // Gradients, which most sources need, are computed once for all of them.
    let specs: Vec<LaplaceSpec> = sources.iter().map(spec).collect();
    let mut posteriors = fit_laplace(&specs, &network, &train.data, &train.targets, &mut display)?;
    let mut found = Vec::new();
    for posterior in &mut posteriors {
        let tuning = match (&validation, args.tune) {
            (Some(validation), Some(criterion)) => {
                Some(tune(args, posterior, validation, criterion)?)
            }
            _ => None,
        };
        found.push(describe(posterior, tuning));
    }
    let mut diagrams = Vec::new();
    if let Some(eval) = &eval {
        let all: Vec<&Laplace> = posteriors.iter().collect();
        let kind = (!regression).then(|| predictive(args));
        let mut of = |data: &Dataset| Predicted::of(&all, data, kind, args.seed, &mut display);
        let at_home = of(&eval.data)?;
        let elsewhere = ood.as_ref().map(&mut of).transpose()?.unwrap_or_default();
        let mut elsewhere = elsewhere.iter();
        for ((posterior, predicted), row) in all.iter().zip(&at_home).zip(&mut found) {
            evaluate(posterior, eval, predicted, elsewhere.next(), row, &mut diagrams)?;
        }
    }
    if let (Some(path), Some(posterior)) = (&args.output, posteriors.first()) {
        posterior.save(path)?;
    }
    display.finish();
    if let Some(path) = &args.figure {
        let title = format!("Reliability of {}", args.network.display());
        neuralef_figure::reliability(path, &title, &diagrams)?;
    }
    let report = json!({
        "network": network.to_string(), "train": train.data.name(), "points": train.data.len(),
        "eval": eval.as_ref().map(|e| e.data.name().to_string()),
        "ood": ood.as_ref().map(|d| d.name().to_string()),
        "predictive": (!regression).then(|| predictive(args).to_string()), "seed": args.seed,
        "sources": found,
    });
    if json { say(report) } else { say(text(&report, regression)) }
}

/// The sources, with dashes for underscores as users of the command line write them.
fn sources(args: &LaplaceArgs) -> Result<Vec<SourceSpec>> {
    let all = args.source.iter().map(|text| {
        let (name, rest) = text.split_at(text.find('(').unwrap_or(text.len()));
        format!("{}{rest}", name.replace('-', "_"))
            .parse()
            .with_context(|| format!("--source {text}"))
    });
    all.collect()
}

/// What clap cannot check, before anything is computed.
fn check(args: &LaplaceArgs, sources: &[SourceSpec], regression: bool) -> Result<()> {
    ensure!(
        args.output.is_none() || sources.len() == 1,
        "--output is for one --source, got {}",
        sources.len()
    );
    if regression {
        for (option, given) in [
            ("--ood", args.ood.is_some()),
            ("--figure", args.figure.is_some()),
            ("--temperature", args.temperature.is_some()),
            ("--predictive", args.predictive.is_some()),
        ] {
            ensure!(!given, "{option} is of no use with --task regression");
        }
    } else if args.noise_variance.is_some() {
        bail!("--noise-variance is of no use with --task classification");
    }
    if let Some(wide) = sources.iter().find(|s| args.tune.is_some() && s.is_wide()) {
        bail!(
            "--tune is not for {wide}, whose coordinates are as many as parameters; the prior \
               precision with the largest marginal likelihood is"
        );
    }
    args.output.as_deref().map_or(Ok(()), writable)?;
    args.figure.as_deref().map_or(Ok(()), drawable)?;
    let data = [
        Some(&args.train),
        args.train_targets.as_ref(),
        args.eval.as_ref(),
        args.eval_targets.as_ref(),
        args.validation.as_ref(),
        args.validation_targets.as_ref(),
        args.ood.as_ref(),
    ];
    let data = data.into_iter().flatten();
    let read = data.map(|at| file(at)).chain([args.network.as_path()]);
    let written = [("--output", args.output.as_deref()), ("--figure", args.figure.as_deref())];
    distinct(&written, read)
}

/// Points with what is known of them.
pub(super) struct Sample {
    pub(super) data: Dataset,
    pub(super) targets: Observed,
}

impl Sample {
    /// `options` are those that would name a file of targets.
    pub(super) fn open(
        location: &str,
        targets: Option<&str>,
        regression: bool,
        seed: u64,
        options: &str,
    ) -> Result<Self> {
        let data = Dataset::open(location, seed)?;
        let targets = match Targets::read(&data, targets, regression, options)? {
            Targets::Values(values) => Observed::Values(values),
            Targets::Labels(labels) => {
                let index = |label: &i64| {
                    usize::try_from(*label).with_context(|| {
                        format!(
                            "{location}: labels must be numbers of outputs, from 0, got {label}"
                        )
                    })
                };
                Observed::Labels(labels.iter().map(index).collect::<Result<_>>()?)
            }
        };
        Ok(Sample { data, targets })
    }

    /// Fails unless the points and their targets are those of a network of `outputs` outputs.
    fn check(&self, width: usize, outputs: usize) -> Result<()> {
        expect_columns(&self.data, width)?;
        let name = self.data.name();
        match &self.targets {
            Observed::Labels(labels) => match labels.iter().find(|y| **y >= outputs) {
                Some(bad) => {
                    let expected = format!("0 to {}", outputs.saturating_sub(1));
                    bail!("{name}: labels: expected outputs of the network, {expected}, got {bad}")
                }
                None => Ok(()),
            },
            Observed::Values(values) => {
                ensure!(
                    values.ncols() == outputs,
                    "{name}: expected {outputs} columns of targets, got {}",
                    values.ncols()
                );
                Ok(())
            }
        }
    }

    pub(super) fn labels(&self) -> &[usize] {
        match &self.targets {
            Observed::Labels(labels) => labels,
            Observed::Values(_) => &[],
        }
    }
}

/// x ↦ (x/divisor − mean)/std, as the options say; none when they say nothing.
pub(super) fn preprocessing(args: &InputArgs, width: usize) -> Result<Option<Standardizer>> {
    let InputArgs { input_divisor, input_mean, input_std } = args;
    if input_divisor.is_none() && input_mean.is_empty() && input_std.is_empty() {
        return Ok(None);
    }
    let divisor = input_divisor.unwrap_or(1.0);
    let channels = input_mean.len().max(input_std.len()).max(1);
    let or = |given: &[f64], value: f64| -> Vec<f64> {
        match given {
            [] => vec![value; channels],
            [one] => vec![*one; channels],
            all => all.to_vec(),
        }
    };
    let mean: Vec<f64> = or(input_mean, 0.0).iter().map(|m| m * divisor).collect();
    let scale: Vec<f64> = or(input_std, 1.0).iter().map(|s| s * divisor).collect();
    let standardizer = Standardizer::by_channel(width, &mean, &scale);
    Ok(Some(standardizer.context("--input-mean, --input-std and --input-divisor")?))
}

fn tune(
    args: &LaplaceArgs,
    posterior: &mut Laplace,
    validation: &Sample,
    criterion: TuneCriterion,
) -> Result<Tuning> {
    let x = validation.data.range(0..validation.data.len())?;
    let points = posterior.features(x.view())?;
    let criterion = match criterion {
        TuneCriterion::Nll => Criterion::Nll,
        TuneCriterion::Ece => Criterion::Ece,
    };
    let (targets, temperature) = (&validation.targets, args.tune_temperature);
    Ok(posterior.tune(&points, targets, criterion, temperature, predictive(args))?)
}

fn describe(posterior: &Laplace, tuning: Option<Tuning>) -> Value {
    let info = posterior.info();
    let certain = posterior.curvatures().is_empty();
    json!({
        "source": info.source.to_string(),
        "prior_precision": (!certain).then_some(posterior.prior_precision()),
        "temperature": posterior.temperature(), "noise_variance": posterior.noise_variance(),
        "coordinates": posterior.curvatures().len(),
        "effective_parameters": posterior.effective_parameters(),
        "log_marginal_likelihood": posterior.log_marginal_likelihood(),
        "tuning": tuning, "fit_seconds": posterior.seconds().total(),
    })
}

/// From Gaussian logits to probabilities.
fn predictive(args: &LaplaceArgs) -> Predictive {
    args.predictive.unwrap_or_default()
}

/// How many outputs the network has.
fn outputs_of(network: &TrainedNetwork, width: usize) -> Result<usize> {
    let built = network.build(width)?;
    Ok(built.functions() * built.outputs())
}

/// What is kept of the outputs at the points of a data set.
struct Predicted {
    /// Means of outputs, or probabilities of classes, n × C.
    values: Mat64,
    /// Variances of outputs, n × C.
    variances: Mat64,
    /// What the posterior would have taken alone.
    seconds: f64,
}

impl Predicted {
    /// Under each of the posteriors.
    fn of(
        posteriors: &[&Laplace],
        data: &Dataset,
        predictive: Option<Predictive>,
        seed: u64,
        display: &mut Display,
    ) -> Result<Vec<Self>> {
        let c = posteriors.first().map_or(1, |p| p.info().outputs);
        let none = || {
            let values = Mat64::zeros((data.len(), c));
            Predicted { variances: values.clone(), values, seconds: 0.0 }
        };
        let mut all: Vec<Predicted> = posteriors.iter().map(|_| none()).collect();
        let rows = rows_at_a_time(c, posteriors.len());
        for start in (0..data.len()).step_by(rows) {
            let event = Event::Progress { done: start, total: data.len() };
            if display.observe(&event) == Control::Stop {
                return Err(Error::Interrupted { step: 0, checkpoint: None }.into());
            }
            let at = start..(start + rows).min(data.len());
            let x = data.range(at.clone())?;
            let found = Laplace::outputs_of_all(posteriors, x.view());
            let found = found.with_context(|| data.name().to_string())?;
            for (to, (found, seconds)) in all.iter_mut().zip(found) {
                let started = Instant::now();
                to.variances.slice_mut(s![at.clone(), ..]).assign(&found.variances());
                let block = match predictive {
                    Some(predictive) => found.probabilities(predictive, seed)?,
                    None => found.mean,
                };
                to.values.slice_mut(s![at.clone(), ..]).assign(&block);
                to.seconds += seconds.total() + started.elapsed().as_secs_f64();
            }
        }
        Ok(all)
    }

    /// The trace of the covariance of each point.
    fn total_variance(&self) -> Vec<f64> {
        self.variances.sum_axis(Axis(1)).to_vec()
    }
}

/// Rows that are predicted at a time, with a C × C covariance of each under so many posteriors.
pub(super) fn rows_at_a_time(outputs: usize, posteriors: usize) -> usize {
    (NUMBERS / (outputs * outputs * posteriors).max(1)).clamp(1, ROWS)
}

/// Scores of what was predicted, into `row` of the report and a reliability diagram.
fn evaluate(
    posterior: &Laplace,
    eval: &Sample,
    at_home: &Predicted,
    elsewhere: Option<&Predicted>,
    row: &mut Value,
    diagrams: &mut Vec<(String, Reliability)>,
) -> Result<()> {
    row["predict_seconds"] = at_home.seconds.into();
    if posterior.info().likelihood == Likelihood::Regression {
        row["eval"] = regression_scores(posterior, at_home, &eval.targets)?;
        return Ok(());
    }
    let p = at_home.values.view();
    row["eval"] = serde_json::to_value(assess(p, eval.labels()).context("--eval")?)?;
    let name = posterior.info().source.to_string();
    diagrams.push((name, reliability(p, eval.labels(), Bins::default())?));
    if let Some(elsewhere) = elsewhere {
        let (inside, outside) = (at_home.total_variance(), elsewhere.total_variance());
        let found = detect((p, &inside), (elsewhere.values.view(), &outside))?;
        row["ood"] = serde_json::to_value(found)?;
        row["ood"]["best"] = found.best().0.into();
    }
    Ok(())
}

/// Root mean squared error, and the mean of −log N(y; mean, variance + noise) over points and outputs.
fn regression_scores(posterior: &Laplace, found: &Predicted, targets: &Observed) -> Result<Value> {
    let Observed::Values(y) = targets else { bail!("--eval: expected real targets") };
    let points = y.nrows();
    let noise = posterior.noise_variance().unwrap_or(0.0);
    let variances: Mat64 = &found.variances + noise;
    let errors = y - &found.values;
    let terms = errors
        .iter()
        .zip(&variances)
        .map(|(e, v)| 0.5 * (e * e / v + (std::f64::consts::TAU * v).ln()));
    let count = y.len() as f64;
    let squares: f64 = errors.iter().map(|e| e * e).sum();
    Ok(
        json!({"points": points, "rmse": (squares / count).sqrt(), "nll": terms.sum::<f64>() / count}),
    )
}

fn text(report: &Value, regression: bool) -> String {
    let number = |value: &Value, digits: usize| {
        value.as_f64().map_or_else(|| "–".into(), |v| format!("{v:.digits$}"))
    };
    let precision = |row: &Value| {
        row["prior_precision"].as_f64().map_or_else(|| "–".into(), |v| format!("{v:.3e}"))
    };
    let measures: &[(&str, &str)] = match regression {
        true => &[("RMSE", "rmse"), ("NLL", "nll")],
        false => &[
            ("accuracy", "accuracy"),
            ("NLL", "nll"),
            ("Brier", "brier"),
            ("ECE", "ece"),
            ("adaptive ECE", "adaptive_ece"),
        ],
    };
    let rows = report["sources"].as_array().cloned().unwrap_or_default();
    let name = |row: &Value| row["source"].as_str().unwrap_or_default().to_string();
    let mut header = vec!["source", "prior precision", "effective"];
    header.extend(measures.iter().map(|(title, _)| *title));
    header.extend(["fit s", "predict s"]);
    let lines = rows.iter().map(|row| {
        let start = [name(row), precision(row), number(&row["effective_parameters"], 1)];
        let scores = measures.iter().map(|(_, key)| number(&row["eval"][key], 4));
        let seconds = [number(&row["fit_seconds"], 1), number(&row["predict_seconds"], 1)];
        start.into_iter().chain(scores).chain(seconds).collect()
    });
    let mut out = vec![table(&header, lines).to_string()];
    if rows.iter().any(|row| row["ood"].is_object()) {
        let header = ["source", "score", "AUROC", "AUPR (out)", "AUPR (in)", "FPR95"];
        let lines = rows.iter().flat_map(|row| {
            let scores = ["entropy", "confidence", "variance"];
            let present = scores.into_iter().filter(|score| row["ood"][score].is_object());
            present.map(|score| {
                let panel = &row["ood"][score];
                let mark = if row["ood"]["best"] == score { " *" } else { "" };
                let values =
                    ["auroc", "aupr_out", "aupr_in", "fpr95"].map(|k| number(&panel[k], 4));
                [name(row), format!("{score}{mark}")].into_iter().chain(values).collect()
            })
        });
        out.push(format!(
            "\npoints from elsewhere; * marks the better score\n{}",
            table(&header, lines)
        ));
    }
    out.join("\n")
}
