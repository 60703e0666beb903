//! `neuralef inspect`: what a model file holds.

use anyhow::Result;
use neuralef::Model;

use crate::args::InspectArgs;
use crate::report;

pub(crate) fn run(args: &InspectArgs, json: bool) -> Result<()> {
    let model = Model::load(&args.model)?;
    if json {
        println!("{}", serde_json::to_string(model.info())?);
    } else {
        println!("{}", report::model(model.info()));
    }
    Ok(())
}
