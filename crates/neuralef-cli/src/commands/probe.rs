//! `neuralef probe`: a linear model on a model's features, measured on points of its own.

use anyhow::{Context as _, Result, bail};
use neuralef::calibration::{Bins, nll_of_logits, reliability, softmax};
use neuralef::probe::{GpModel, GpRegression, LogisticRegression, unit_norm_rows};
use neuralef::{Dataset, Error, Mat, Mat64, Model};
use serde_json::{Value, json};

use super::expect_width;
use super::targets::Targets;
use crate::args::{ProbeArgs, ProbeTask};
use crate::output::say;
use crate::report::table;

/// Rows transformed at a time.
const ROWS: usize = 4096;

pub(crate) fn run(args: &ProbeArgs, json: bool) -> Result<()> {
    let regression = args.task == ProbeTask::Regression;
    for (option, given, wanted) in [
        ("--c", args.c.is_some(), !regression),
        ("--no-intercept", args.no_intercept, !regression),
        ("--tol", args.tol.is_some(), !regression),
        ("--max-iter", args.max_iter.is_some(), !regression),
        ("--noise-variance", args.noise_variance.is_some(), regression),
        ("--prior-variance", args.prior_variance.is_some(), regression),
    ] {
        if given && !wanted {
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
    let found = match args.task {
        ProbeTask::Classification => classification(args, &train, test.as_ref())?,
        ProbeTask::Regression => regression_report(args, &train, test.as_ref())?,
    };
    if json { say(found) } else { say(text(&found)) }
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

fn classification(args: &ProbeArgs, train: &Sample, test: Option<&Sample>) -> Result<Value> {
    let default = LogisticRegression::default();
    let spec = LogisticRegression {
        c: args.c.unwrap_or(default.c),
        intercept: !args.no_intercept,
        tol: args.tol.unwrap_or(default.tol),
        max_iter: args.max_iter.unwrap_or(default.max_iter),
    };
    let fitted = spec.fit(train.features.view(), train.labels())?;
    let measure = |sample: &Sample| -> Result<Value> {
        let (x, labels) = (sample.features.view(), sample.labels());
        let indices = fitted.indices(labels).with_context(|| sample.name.clone())?;
        let logits = fitted.logits(x)?;
        let found = reliability(softmax(logits.view())?.view(), &indices, Bins::default())?;
        Ok(json!({
            "data": sample.name, "points": labels.len(), "accuracy": fitted.accuracy(x, labels)?,
            "nll": nll_of_logits(logits.view(), &indices)?, "ece": found.ece,
        }))
    };
    Ok(json!({
        "task": args.task.name(), "features": train.features.ncols(), "unit_norm": args.unit_norm,
        "classes": fitted.classes(), "c": spec.c, "intercept": spec.intercept,
        "fit": fitted.record(), "train": measure(train)?,
        "test": test.map(measure).transpose()?,
    }))
}

fn regression_report(args: &ProbeArgs, train: &Sample, test: Option<&Sample>) -> Result<Value> {
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
    let measure = |sample: &Sample| -> Result<Value> { measure_regression(&fitted, sample) };
    let marginal: f64 = fitted.log_marginal_likelihood().iter().sum();
    Ok(json!({
        "task": args.task.name(), "features": x.ncols(), "unit_norm": args.unit_norm,
        "outputs": y.ncols(), "prior_variance": spec.prior_variance,
        "noise_variance": spec.noise_variance, "log_marginal_likelihood": marginal,
        "train": measure(train)?, "test": test.map(measure).transpose()?,
    }))
}

/// Errors over all outputs; R² against the means of the sample.
fn measure_regression(fitted: &GpModel, sample: &Sample) -> Result<Value> {
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
    Ok(json!({
        "data": sample.name, "points": y.nrows(), "rmse": (errors / y.len() as f64).sqrt(),
        "r2": (centred > 0.0).then(|| 1.0 - errors / centred),
        "nll": -fitted.log_likelihood(x, y.view())?,
    }))
}

fn text(found: &Value) -> String {
    let measures: &[(&str, &str)] = match found["task"].as_str() {
        Some("classification") => {
            &[("accuracy", "accuracy"), ("NLL", "nll"), ("ECE (15 bins)", "ece")]
        }
        _ => &[("RMSE", "rmse"), ("R²", "r2"), ("NLL", "nll")],
    };
    let header: Vec<&str> =
        ["", "points"].into_iter().chain(measures.iter().map(|(name, _)| *name)).collect();
    let rows = ["train", "test"].into_iter().filter(|part| found[*part].is_object()).map(|part| {
        let values = measures.iter().map(|(_, key)| {
            found[part][*key].as_f64().map_or_else(|| "–".into(), |v| format!("{v:.4}"))
        });
        [part.to_string(), found[part]["points"].to_string()].into_iter().chain(values).collect()
    });
    let mut lines = vec![table(&header, rows).to_string()];
    let k = &found["features"];
    if let Some(classes) = found["classes"].as_array() {
        let fit = &found["fit"];
        lines.push(format!(
            "logistic regression on {k} features, {} classes, C = {}: {} steps",
            classes.len(),
            found["c"],
            fit["iterations"]
        ));
        if fit["converged"] == false {
            lines.push(format!(
                "warning: not converged, the gradient is {:.1e}; raise --max-iter",
                fit["gradient_norm"].as_f64().unwrap_or(f64::NAN)
            ));
        }
    } else {
        let number = |key: &str| found[key].as_f64().unwrap_or(f64::NAN);
        lines.push(format!(
            "Gaussian-process regression on {k} features: prior variance {:.4e}, noise variance \
             {:.4e}, log marginal likelihood {:.2}",
            number("prior_variance"),
            number("noise_variance"),
            number("log_marginal_likelihood")
        ));
    }
    lines.join("\n")
}
