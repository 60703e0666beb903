//! `neuralef probe`: a linear model on a model's features, measured on points of its own.

use anyhow::{Context as _, Result, bail};
use neuralef::calibration::{Bins, nll_of_logits, reliability, softmax};
use neuralef::probe::{GpModel, GpRegression, LogisticRecord, LogisticRegression, unit_norm_rows};
use neuralef::{Dataset, Error, Mat, Mat64, Model};
use serde::Serialize;

use super::expect_width;
use super::targets::Targets;
use crate::args::{ProbeArgs, ProbeTask};
use crate::output::print;
use crate::report::{Column, cells, number, table, titles};

/// Rows transformed at a time.
const ROWS: usize = 4096;

pub(crate) fn run(args: &ProbeArgs, json: bool) -> Result<()> {
    let is_regression = args.task == ProbeTask::Regression;
    for (option, is_there, belongs) in [
        ("--c", args.c.is_some(), !is_regression),
        ("--no-intercept", args.no_intercept, !is_regression),
        ("--tol", args.tol.is_some(), !is_regression),
        ("--max-iter", args.max_iter.is_some(), !is_regression),
        ("--noise-variance", args.noise_variance.is_some(), is_regression),
        ("--prior-variance", args.prior_variance.is_some(), is_regression),
    ] {
        if is_there && !belongs {
            bail!("{option} is of no use with --task {}", args.task.name());
        }
    }
    let model = Model::load(&args.model)?;
    let train = Sample::open(args, &model, &args.data, args.targets.as_deref(), args.seed)?;
    // Another seed: with the same one a synthetic set would be the training points again.
    let test = args.test.as_ref().map(|location| {
        Sample::open(
            args,
            &model,
            location,
            args.test_targets.as_deref(),
            args.seed.wrapping_add(1),
        )
    });
    let test = test.transpose()?;
    match args.task {
        ProbeTask::Classification => {
            print(&classification(args, &train, test.as_ref())?, json, classification_text)
        }
        ProbeTask::Regression => {
            print(&regression(args, &train, test.as_ref())?, json, regression_text)
        }
    }
}

/// Features of the points of a data set, with what is to be predicted.
struct Sample {
    name: String,
    features: Mat,
    targets: Targets,
}

impl Sample {
    fn open(
        args: &ProbeArgs,
        model: &Model,
        location: &str,
        targets: Option<&str>,
        seed: u64,
    ) -> Result<Self> {
        let data = Dataset::open(location, seed)?;
        expect_width(model, &data)?;
        let regression = args.task == ProbeTask::Regression;
        let targets = Targets::read(&data, targets, regression, "--targets and --test-targets")?;
        Ok(Sample { name: data.name().into(), features: features(args, model, &data)?, targets })
    }

    fn labels(&self) -> &[i64] {
        match &self.targets {
            Targets::Labels(labels) => labels,
            Targets::Values(_) => &[],
        }
    }

    fn values(&self) -> Mat64 {
        match &self.targets {
            Targets::Values(values) => values.clone(),
            Targets::Labels(_) => Mat64::zeros((0, 0)),
        }
    }
}

/// n × k features; with C outputs, the C rows of a point side by side.
fn features(args: &ProbeArgs, model: &Model, data: &Dataset) -> Result<Mat> {
    let width = model.n_components() * model.outputs();
    let mut all = Vec::with_capacity(data.len() * width);
    for start in (0..data.len()).step_by(ROWS) {
        let x = data.range(start..(start + ROWS).min(data.len()))?;
        if args.eigenfunctions {
            all.extend(model.eigenfunctions(x.view())?.iter().map(|v| *v as f32));
        } else {
            all.extend(model.transform(x.view())?);
        }
    }
    let features = Mat::from_shape_vec((data.len(), width), all).context("features")?;
    Ok(if args.unit_norm { unit_norm_rows(features.view())? } else { features })
}

/// How a classifier was fitted, and how good it is.
#[derive(Serialize)]
struct ClassificationReport {
    task: &'static str,
    features: usize,
    unit_norm: bool,
    classes: Vec<i64>,
    c: f64,
    intercept: bool,
    fit: LogisticRecord,
    train: ClassificationScores,
    test: Option<ClassificationScores>,
}

#[derive(Serialize)]
struct ClassificationScores {
    data: String,
    points: usize,
    accuracy: f64,
    nll: f64,
    ece: f64,
}

const CLASSIFICATION: &[Column<ClassificationScores>] = &[
    Column::new("points", |scores| scores.points.to_string()),
    Column::new("accuracy", |scores| number(scores.accuracy, 4)),
    Column::new("NLL", |scores| number(scores.nll, 4)),
    Column::new("ECE (15 bins)", |scores| number(scores.ece, 4)),
];

/// How a regression was fitted, and how good it is.
#[derive(Serialize)]
struct RegressionReport {
    task: &'static str,
    features: usize,
    unit_norm: bool,
    outputs: usize,
    prior_variance: f64,
    noise_variance: f64,
    log_marginal_likelihood: f64,
    train: RegressionScores,
    test: Option<RegressionScores>,
}

#[derive(Serialize)]
struct RegressionScores {
    data: String,
    points: usize,
    rmse: f64,
    /// None where the targets do not vary.
    r2: Option<f64>,
    nll: f64,
}

const REGRESSION: &[Column<RegressionScores>] = &[
    Column::new("points", |scores| scores.points.to_string()),
    Column::new("RMSE", |scores| number(scores.rmse, 4)),
    Column::new("R²", |scores| number(scores.r2, 4)),
    Column::new("NLL", |scores| number(scores.nll, 4)),
];

fn classification(
    args: &ProbeArgs,
    train: &Sample,
    test: Option<&Sample>,
) -> Result<ClassificationReport> {
    let default = LogisticRegression::default();
    let spec = LogisticRegression {
        c: args.c.unwrap_or(default.c),
        intercept: !args.no_intercept,
        tol: args.tol.unwrap_or(default.tol),
        max_iter: args.max_iter.unwrap_or(default.max_iter),
    };
    let fitted = spec.fit(train.features.view(), train.labels())?;
    let measure = |sample: &Sample| -> Result<ClassificationScores> {
        let (x, labels) = (sample.features.view(), sample.labels());
        let indices = fitted.indices(labels).with_context(|| sample.name.clone())?;
        let logits = fitted.logits(x)?;
        let diagram = reliability(softmax(logits.view())?.view(), &indices, Bins::default())?;
        Ok(ClassificationScores {
            data: sample.name.clone(),
            points: labels.len(),
            accuracy: fitted.accuracy(x, labels)?,
            nll: nll_of_logits(logits.view(), &indices)?,
            ece: diagram.ece,
        })
    };
    Ok(ClassificationReport {
        task: args.task.name(),
        features: train.features.ncols(),
        unit_norm: args.unit_norm,
        classes: fitted.classes().to_vec(),
        c: spec.c,
        intercept: spec.intercept,
        fit: *fitted.record(),
        train: measure(train)?,
        test: test.map(measure).transpose()?,
    })
}

fn regression(args: &ProbeArgs, train: &Sample, test: Option<&Sample>) -> Result<RegressionReport> {
    let targets = train.values();
    let (x, y) = (train.features.view(), targets.view());
    let spec = match (args.noise_variance, args.prior_variance) {
        (None, None) => GpRegression::by_marginal_likelihood(x, y, true)?,
        (noise, prior) => GpRegression {
            prior_variance: prior.unwrap_or(1.0),
            noise_variance: noise.context("--prior-variance needs --noise-variance too")?,
            centre: true,
        },
    };
    let fitted = spec.fit(x, y)?;
    Ok(RegressionReport {
        task: args.task.name(),
        features: x.ncols(),
        unit_norm: args.unit_norm,
        outputs: y.ncols(),
        prior_variance: spec.prior_variance,
        noise_variance: spec.noise_variance,
        log_marginal_likelihood: fitted.log_marginal_likelihood().iter().sum(),
        train: measure_regression(&fitted, train)?,
        test: test.map(|sample| measure_regression(&fitted, sample)).transpose()?,
    })
}

/// Errors over all outputs; R² against the means of the sample.
fn measure_regression(fitted: &GpModel, sample: &Sample) -> Result<RegressionScores> {
    let (x, y) = (sample.features.view(), sample.values());
    if y.ncols() != fitted.weights().ncols() {
        let expected = format!("{} columns of targets", fitted.weights().ncols());
        return Err(Error::shape(sample.name.as_str(), expected, y.ncols()).into());
    }
    let errors: f64 = (&y - &fitted.predict(x)?).iter().map(|e| e * e).sum();
    let centred: f64 = y
        .columns()
        .into_iter()
        .map(|c| {
            let mean = c.sum() / c.len() as f64;
            c.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        })
        .sum();
    Ok(RegressionScores {
        data: sample.name.clone(),
        points: y.nrows(),
        rmse: (errors / y.len() as f64).sqrt(),
        r2: (centred > 0.0).then(|| 1.0 - errors / centred),
        nll: -fitted.log_likelihood(x, y.view())?,
    })
}

/// Scores on the training points, and on the test points if there are any.
fn score_table<S>(columns: &[Column<S>], train: &S, test: Option<&S>) -> String {
    let header: Vec<&str> = std::iter::once("").chain(titles(columns)).collect();
    let rows = [("train", Some(train)), ("test", test)].into_iter();
    let rows = rows.filter(|(_, scores)| scores.is_some()).map(|(part, scores)| {
        std::iter::once(part.to_string()).chain(cells(columns, scores)).collect()
    });
    table(&header, rows).to_string()
}

fn classification_text(report: &ClassificationReport) -> String {
    let mut lines = vec![score_table(CLASSIFICATION, &report.train, report.test.as_ref())];
    lines.push(format!(
        "logistic regression on {} features, {} classes, C = {}: {} steps",
        report.features,
        report.classes.len(),
        // As JSON has it: 1.0, not 1.
        serde_json::Value::from(report.c),
        report.fit.iterations
    ));
    if !report.fit.converged {
        lines.push(format!(
            "warning: not converged, the gradient is {:.1e}; raise --max-iter",
            report.fit.gradient_norm
        ));
    }
    lines.join("\n")
}

fn regression_text(report: &RegressionReport) -> String {
    let scores = score_table(REGRESSION, &report.train, report.test.as_ref());
    format!(
        "{scores}\nGaussian-process regression on {} features: prior variance {:.4e}, noise \
         variance {:.4e}, log marginal likelihood {:.2}",
        report.features,
        report.prior_variance,
        report.noise_variance,
        report.log_marginal_likelihood
    )
}
