//! `neuralef inspect`: what a model file holds.

use anyhow::Result;
use neuralef::Model;
use neuralef::bayes::{Laplace, LaplaceInfo, Likelihood};
use neuralef::persist::Archive;

use crate::args::InspectArgs;
use crate::output::say;
use crate::report;

pub(crate) fn run(args: &InspectArgs, json: bool) -> Result<()> {
    if Archive::read(&args.model)?.kind == Laplace::KIND {
        let posterior = Laplace::load(&args.model)?;
        let info = posterior.info();
        return if json { say(serde_json::to_string(info)?) } else { say(text(info, &posterior)) };
    }
    let model = Model::load(&args.model)?;
    if json { say(serde_json::to_string(model.info())?) } else { say(report::model(model.info())) }
}

/// What a posterior is.
fn text(info: &LaplaceInfo, posterior: &Laplace) -> String {
    let scale = match info.likelihood {
        Likelihood::Classification => "temperature",
        Likelihood::Regression => "noise var.",
    };
    let lines = [
        ("network", info.network.clone()),
        ("source", info.source.to_string()),
        ("data", format!("{} ({} × {})", info.data, info.n_samples, info.n_features)),
        ("outputs", info.outputs.to_string()),
        ("precision", format!("{:.4e} of the prior", info.prior_precision)),
        (scale, format!("{:.4e}", info.scale)),
        ("effective", format!("{:.2} parameters", posterior.effective_parameters())),
        ("evidence", format!("{:.2}", posterior.log_marginal_likelihood())),
    ];
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    lines.join("\n")
}
