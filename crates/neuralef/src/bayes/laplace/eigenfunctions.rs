//! NeuralEF: the eigenfunctions of the network's tangent kernel, F = ψ√μ.

use std::sync::Arc;

use super::curvature::{Block, Curvature, FeatureSpace, GaussNewton, InFeatures, Sums, Task};
use super::directions::{self, COMPONENTS, Directions};
use super::source::Source;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::{Fit, Model};
use crate::fit::{FitSpec, OutputForm, Steps};
use crate::matrix::Mat64;
use crate::method::landmarks;
use crate::nn::{Network, OptimizerSpec, Schedule};
use crate::observer::Observer;
use crate::persist::Archive;
use crate::sample::{Derivative, Sampling, Tangents, ntk};
use crate::spec::text::{self, Expr};
use crate::spec::{Args, Domain, Entry, Parameter};

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "neuralef",
    summary: "eigenfunctions of the network's tangent kernel (Deng, Shi & Zhu 2022)",
    parameters: &[
        COMPONENTS.with_help("k, the number of eigenfunctions"),
        Parameter::new(
            "network",
            Domain::Text("network"),
            "tangents",
            "what they are: tangents, heads(..), shared_heads(..) of the trained network, or others",
        ),
        Parameter::new(
            "samples",
            Domain::Integer(1, 1 << 24),
            "1000",
            "S, random directions that estimate the tangent kernel",
        ),
        Parameter::new(
            "points",
            Domain::Integer(16, 1 << 30),
            "2000",
            "points of the training data that the eigenfunctions are learned on",
        ),
        Parameter::new(
            "steps",
            Domain::Integer(0, u64::MAX >> 1),
            "auto",
            "training steps; auto: none for tangents, which start at their best",
        )
        .or(&["auto"]),
        Parameter::new("lr", Domain::POSITIVE, "0.001", "learning rate"),
        Parameter::optional(
            "model",
            Domain::Path,
            "none",
            "file of eigenfunctions that are fitted already, instead of all these",
        ),
    ],
    build: |args| Ok(Arc::new(NeuralEf::read(args)?)),
};

#[derive(Debug)]
enum NeuralEf {
    /// Eigenfunctions in a model file, at this path.
    Model(String),
    Learn {
        components: usize,
        /// With the text that it is part of, for messages.
        network: (String, Expr),
        samples: usize,
        points: usize,
        steps: Option<u64>,
        lr: f64,
    },
}

impl NeuralEf {
    fn read(args: &Args<'_>) -> Result<Self> {
        if args.has("model") {
            let others = ["components", "network", "samples", "points", "steps", "lr"];
            if let Some(other) = others.iter().find(|key| args.has(key)) {
                return Err(args.fault(other, format!("`{other}` is of no use with `model`")));
            }
            return Ok(NeuralEf::Model(args.path("model")?.to_string()));
        }
        let network = args.get("network").ok_or_else(|| args.fault("network", "none"))?;
        let steps = match args.is("steps", "auto") {
            true => None,
            false => Some(args.integer("steps")?),
        };
        Ok(NeuralEf::Learn {
            components: args.size("components")?,
            network: (args.text().to_string(), network.clone()),
            samples: args.size("samples")?,
            points: args.size("points")?,
            steps,
            lr: args.number("lr")?,
        })
    }

    /// Samples the tangent kernel and learns its eigenfunctions.
    fn model(&self, task: &Task<'_>, observer: &mut dyn Observer) -> Result<Model> {
        let (components, network, samples, points, steps, lr) = match self {
            NeuralEf::Model(path) => return Model::load(path),
            NeuralEf::Learn { components, network, samples, points, steps, lr } => {
                (components, network, samples, points, steps, lr)
            }
        };
        let network = task.trained.derived(&network.0, &network.1)?;
        let count = (*points).min(task.points.len());
        let rows = landmarks::uniform(task.points.len(), count, task.seed)?.indices;
        let data = Dataset::from_array("points of the tangent kernel", task.points.rows(&rows)?)?;
        let folder = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
        let path = folder.path().join("features.npy");
        let mut trained = task.trained.build(data.width())?;
        let sampling = Sampling {
            samples: *samples,
            seed: task.seed,
            memory_budget: task.memory_budget,
            ..Sampling::default()
        };
        let tangents = Tangents { derivative: Derivative::Reverse, ..Tangents::default() };
        ntk(&mut *trained, &data, &tangents, &sampling, &path, observer)?;
        let steps = match steps {
            Some(steps) => Steps::Exactly(*steps),
            None if network.starts_from_data() => Steps::Exactly(0),
            None => Steps::Auto,
        };
        let spec = FitSpec {
            features: Some(path),
            outputs: task.outputs,
            output_form: OutputForm::Joint,
            n_components: *components,
            network,
            optimizer: OptimizerSpec::default().with_lr(*lr)?,
            schedule: Schedule::default(),
            steps,
            memory_budget: task.memory_budget,
            seed: task.seed,
            ..FitSpec::default()
        };
        Ok(Fit::new(spec).observer(observer).run(&data)?.0)
    }
}

impl Source for NeuralEf {
    fn text(&self) -> String {
        match self {
            NeuralEf::Model(path) => ENTRY.text(&[("model", &text::path(path))]),
            NeuralEf::Learn { components, network, samples, points, steps, lr } => ENTRY.text(&[
                ("components", components),
                ("network", &network.1),
                ("samples", samples),
                ("points", points),
                ("steps", &steps.map_or_else(|| "auto".into(), |steps| steps.to_string())),
                ("lr", lr),
            ]),
        }
    }

    fn begin(&self, task: &Task<'_>, observer: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        let model = self.model(task, observer)?;
        let (inputs, outputs) = (model.info().n_features, model.outputs());
        if (inputs, outputs) != (task.network.inputs(), task.outputs) {
            let expected = format!("{} inputs, {} outputs", task.network.inputs(), task.outputs);
            let got = format!("{inputs} inputs, {outputs} outputs");
            return Err(Error::parameter("model", expected, got));
        }
        // Derivatives of the same network along directions share the gradients of other sources.
        let same = model.info().spec.network.is_made_of(task.trained);
        Ok(match model.tangent_directions()?.filter(|_| same) {
            Some((v, constants)) => GaussNewton::of(Box::new(Directions::new(v, constants))),
            None => GaussNewton::of(Box::new(Eigenfeatures(model))),
        })
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        if let Some(&[components, _]) = archive.shape("directions") {
            return directions::load(archive, network, components);
        }
        let model = Model::from_bytes(&archive.bytes("eigenfunctions")?)?;
        if (model.info().n_features, model.outputs()) != (network.inputs(), network.outputs()) {
            return Err(archive.fault("eigenfunctions of another network"));
        }
        Ok(Box::new(InFeatures::load(Box::new(Eigenfeatures(model)), archive)?))
    }
}

/// F = ψ√μ, whatever the eigenfunctions are.
struct Eigenfeatures(Model);

impl FeatureSpace for Eigenfeatures {
    fn width(&self) -> usize {
        self.0.n_components()
    }

    fn at(&self, block: &Block<'_>) -> Result<Mat64> {
        Ok(self.0.transform(block.x)?.mapv(f64::from))
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        archive.put_bytes("eigenfunctions", &self.0.to_bytes()?)
    }
}
