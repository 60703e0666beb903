//! `neuralef laplace`: posteriors of a trained network from several sources, in one table.

mod evaluation;
mod report;

use anyhow::{Context as _, Result, bail, ensure};
use neuralef::Dataset;
use neuralef::bayes::{
    Criterion, Laplace, LaplaceSpec, Predictive, SourceSpec, Tuning, fit_laplace,
};
use neuralef::calibration::Reliability;
use neuralef::data::Standardizer;
use neuralef::nn::TrainedNetwork;

use super::expect_columns;
use super::supervised::{SupervisedData, preprocessing};
use crate::args::{LaplaceArgs, ProbeTask, TuneCriterion};
use crate::interrupt::Interrupt;
use crate::output::{distinct, drawable, file, print, writable};
use crate::progress::Display;
use evaluation::{Predicted, evaluate};
use report::{LaplaceReport, SourceRow};

pub(super) use evaluation::rows_at_a_time;

/// Options that name files of targets.
const OPTIONS: &str = "--train-targets, --eval-targets and --validation-targets";

pub(crate) fn run(args: &LaplaceArgs, json: bool) -> Result<()> {
    let inputs = Inputs::resolve(args)?;
    let mut display = Display::new(args.progress, Interrupt::install()?);
    let mut posteriors = inputs.fit(args, &mut display)?;
    let mut sources = Vec::new();
    for posterior in &mut posteriors {
        let tuning = match (&inputs.validation, args.tune) {
            (Some(validation), Some(criterion)) => {
                Some(tune(args, posterior, validation, criterion)?)
            }
            _ => None,
        };
        sources.push(SourceRow::of(posterior, tuning));
    }
    let diagrams = inputs.evaluate(args, &posteriors, &mut sources, &mut display)?;
    if let (Some(path), Some(posterior)) = (&args.output, posteriors.first()) {
        posterior.save(path)?;
    }
    display.finish();
    if let Some(path) = &args.figure {
        let title = format!("Reliability of {}", args.network.display());
        neuralef_figure::reliability(path, &title, &diagrams)?;
    }
    let report = LaplaceReport {
        network: inputs.network.to_string(),
        train: inputs.train.data.name().to_string(),
        points: inputs.train.data.len(),
        eval: inputs.eval.as_ref().map(|e| e.data.name().to_string()),
        ood: inputs.ood.as_ref().map(|d| d.name().to_string()),
        predictive: (!regression(args)).then(|| predictive(args).to_string()),
        seed: args.seed,
        sources,
    };
    print(&report, json, |report| report::text(report, regression(args)))
}

/// What the arguments name, opened and checked against the network.
struct Inputs {
    sources: Vec<SourceSpec>,
    network: TrainedNetwork,
    train: SupervisedData,
    eval: Option<SupervisedData>,
    validation: Option<SupervisedData>,
    ood: Option<Dataset>,
    preprocessing: Option<Standardizer>,
}

impl Inputs {
    fn resolve(args: &LaplaceArgs) -> Result<Self> {
        let sources = sources(args)?;
        check(args, &sources)?;
        let network = TrainedNetwork::open(&args.network, args.architecture.as_deref())?;
        // Each with another seed: with the same one synthetic sets would be the training points again.
        let open = |location: &str, targets: &Option<String>, offset: u64| {
            let seed = args.seed.wrapping_add(offset);
            SupervisedData::open(location, targets.as_deref(), regression(args), seed, OPTIONS)
        };
        let train = open(&args.train, &args.train_targets, 0)?;
        let eval = args.eval.as_ref().map(|at| open(at, &args.eval_targets, 1)).transpose()?;
        let validation =
            args.validation.as_ref().map(|at| open(at, &args.validation_targets, 2)).transpose()?;
        let ood =
            args.ood.as_ref().map(|at| Dataset::open(at, args.seed.wrapping_add(3))).transpose()?;
        let width = train.data.width();
        let preprocessing = preprocessing(&args.input, width)?;
        // What does not fit the network is found before anything is fitted.
        let outputs = outputs_of(&network, width)?;
        for data in [Some(&train), eval.as_ref(), validation.as_ref()].into_iter().flatten() {
            data.check(width, outputs)?;
        }
        if let Some(data) = &ood {
            expect_columns(data, width)?;
        }
        Ok(Inputs { sources, network, train, eval, validation, ood, preprocessing })
    }

    /// A posterior of each source. Gradients, which most sources need, are computed once for all.
    fn fit(&self, args: &LaplaceArgs, display: &mut Display) -> Result<Vec<Laplace>> {
        let spec = |source: &SourceSpec| LaplaceSpec {
            source: source.clone(),
            prior_precision: args.prior_precision,
            noise_variance: args.noise_variance,
            temperature: args.temperature.unwrap_or(1.0),
            preprocessing: self.preprocessing.clone(),
            seed: args.seed,
            memory_budget: args.memory_budget,
        };
        let specs: Vec<LaplaceSpec> = self.sources.iter().map(spec).collect();
        let SupervisedData { data, targets } = &self.train;
        Ok(fit_laplace(&specs, &self.network, data, targets, display)?)
    }

    /// Scores of the posteriors in their rows, if there are points to measure on, and reliability
    /// diagrams of classifiers.
    fn evaluate(
        &self,
        args: &LaplaceArgs,
        posteriors: &[Laplace],
        rows: &mut [SourceRow],
        display: &mut Display,
    ) -> Result<Vec<(String, Reliability)>> {
        let mut diagrams = Vec::new();
        let Some(eval) = &self.eval else { return Ok(diagrams) };
        let all: Vec<&Laplace> = posteriors.iter().collect();
        let kind = (!regression(args)).then(|| predictive(args));
        let mut predict = |data: &Dataset| Predicted::of(&all, data, kind, args.seed, display);
        let at_home = predict(&eval.data)?;
        let elsewhere = self.ood.as_ref().map(predict).transpose()?.unwrap_or_default();
        let mut elsewhere = elsewhere.iter();
        for ((posterior, predicted), row) in all.iter().zip(&at_home).zip(rows) {
            evaluate(posterior, eval, predicted, elsewhere.next(), row, &mut diagrams)?;
        }
        Ok(diagrams)
    }
}

fn regression(args: &LaplaceArgs) -> bool {
    args.task == ProbeTask::Regression
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
fn check(args: &LaplaceArgs, sources: &[SourceSpec]) -> Result<()> {
    ensure!(
        args.output.is_none() || sources.len() == 1,
        "--output is for one --source, got {}",
        sources.len()
    );
    if regression(args) {
        for (option, is_there) in [
            ("--ood", args.ood.is_some()),
            ("--figure", args.figure.is_some()),
            ("--temperature", args.temperature.is_some()),
            ("--predictive", args.predictive.is_some()),
        ] {
            ensure!(!is_there, "{option} is of no use with --task regression");
        }
    } else if args.noise_variance.is_some() {
        bail!("--noise-variance is of no use with --task classification");
    }
    if let Some(source) = sources.iter().find(|s| args.tune.is_some() && s.spans_all_parameters()) {
        bail!(
            "--tune is not for {source}, whose coordinates are as many as parameters; the prior \
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

fn tune(
    args: &LaplaceArgs,
    posterior: &mut Laplace,
    validation: &SupervisedData,
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

/// From Gaussian logits to probabilities.
fn predictive(args: &LaplaceArgs) -> Predictive {
    args.predictive.unwrap_or_default()
}

/// How many outputs the network has.
fn outputs_of(network: &TrainedNetwork, width: usize) -> Result<usize> {
    let built = network.build(width)?;
    Ok(built.functions() * built.outputs())
}
