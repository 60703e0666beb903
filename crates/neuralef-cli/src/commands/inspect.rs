//! `neuralef inspect`: what a model file holds.

use anyhow::Result;
use neuralef::Model;

use crate::args::InspectArgs;
use crate::output::say;
use crate::report;

pub(crate) fn run(args: &InspectArgs, json: bool) -> Result<()> {
    let model = Model::load(&args.model)?;
    if json { say(serde_json::to_string(model.info())?) } else { say(report::model(model.info())) }
}
