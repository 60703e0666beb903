//! `neuralef sample`: streams Monte-Carlo features of a kernel that networks define to a .npy file.

use std::time::Instant;

use anyhow::Result;
use neuralef::nn::read_weights;
use neuralef::sample::{Sampled, Sampling, Tangents, WeightLaw, nngp, ntk};
use neuralef::{Dataset, Network, NetworkSpec};

use crate::MEMORY;
use crate::args::{SampleCommand, SampleNngpArgs, SampleNtkArgs, SamplingArgs};
use crate::interrupt::Interrupt;
use crate::output::{distinct, file, say, writable};
use crate::progress::Display;

pub(crate) fn run(command: &SampleCommand, json: bool) -> Result<()> {
    match command {
        SampleCommand::Nngp(args) => sample(&args.data, &args.sampling, json, |data, display| {
            random_networks(args, data, display)
        }),
        SampleCommand::Ntk(args) => {
            sample(&args.data, &args.sampling, json, |data, display| tangents(args, data, display))
        }
    }
}

fn random_networks(
    args: &SampleNngpArgs,
    data: &Dataset,
    display: &mut Display,
) -> neuralef::Result<Sampled> {
    let spec: NetworkSpec = args.network.parse()?;
    let law = WeightLaw { weight_var: args.weight_var.clone(), bias_var: args.bias_var.clone() };
    nngp(&spec, data, &law, &settings(&args.sampling), &args.sampling.output, display)
}

fn tangents(
    args: &SampleNtkArgs,
    data: &Dataset,
    display: &mut Display,
) -> neuralef::Result<Sampled> {
    let mut network = network(args, data.width())?;
    let tangents =
        Tangents { probes: args.probes, derivative: args.derivative, parameterization: None };
    let sampling = settings(&args.sampling);
    ntk(&mut *network, data, &tangents, &sampling, &args.sampling.output, display)
}

/// The network whose tangents are sampled, with weights from a file or drawn from the seed.
fn network(args: &SampleNtkArgs, inputs: usize) -> neuralef::Result<Box<dyn Network>> {
    let spec = args.network.parse::<NetworkSpec>()?;
    let mut network = spec.build(inputs, 1, args.outputs, args.sampling.seed)?;
    if let Some(path) = &args.weights {
        read_weights(&mut *network, path)?;
    }
    network.freeze(true);
    Ok(network)
}

fn settings(args: &SamplingArgs) -> Sampling {
    Sampling {
        samples: args.samples,
        seed: args.seed,
        dtype: args.dtype,
        memory_budget: args.memory_budget,
    }
}

/// Opens the data, samples, and tells what is there now.
fn sample(
    location: &str,
    args: &SamplingArgs,
    json: bool,
    run: impl FnOnce(&Dataset, &mut Display) -> neuralef::Result<Sampled>,
) -> Result<()> {
    writable(&args.output)?;
    distinct(&[("--output", Some(&args.output))], [file(location)].into_iter())?;
    let data = Dataset::open(location, args.seed)?;
    let mut display = Display::new(args.progress, Interrupt::install()?);
    let started = Instant::now();
    let sampled = run(&data, &mut display);
    display.finish();
    let (sampled, seconds) = (sampled?, started.elapsed().as_secs_f64());
    let peak = MEMORY.peak_usage() as f64 / f64::from(1 << 20);
    if json {
        let mut object = serde_json::to_value(&sampled)?;
        object["seconds"] = seconds.into();
        object["peak_mib"] = peak.into();
        return say(object);
    }
    let Sampled { points, outputs, samples, dtype, computed, .. } = sampled;
    let reused = match points - computed {
        0 => String::new(),
        n if computed == 0 => format!("; all {n} points were there"),
        n => format!("; {n} of {points} points were there"),
    };
    say(format_args!(
        "{} × {samples} features ({dtype}) in {}: {seconds:.2} s, at most {peak:.0} MiB{reused}",
        points * outputs,
        args.output.display()
    ))
}
