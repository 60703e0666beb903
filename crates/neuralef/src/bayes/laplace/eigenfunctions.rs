//! NeuralEF: the eigenfunctions of the network's tangent kernel, F = ψ√μ.

use std::sync::Arc;

use super::curvature::{
    Block, Curvature, CurvatureAccumulator, FeatureSpace, GaussNewtonAccumulator, LowRankCurvature,
    Task,
};
use super::directions::{self, DirectionalDerivatives};
use super::source::Source;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::fit::{Fit, Model};
use crate::fit::{FitSpec, OutputForm, Steps};
use crate::matrix::Mat64;
use crate::method::landmarks;
use crate::nn::Network;
use crate::observer::Observer;
use crate::operator::OperatorSpec;
use crate::persist::Archive;
use crate::sample::{Derivative, Sampling, Tangents, ntk};
use crate::spec::args::{Args, Entry};
use crate::spec::text::{self, Expr};

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "neuralef",
    summary: "eigenfunctions of the network's tangent kernel (Deng, Shi & Zhu 2022)",
    parameters: &[
        ("components", "20", "k, the number of eigenfunctions"),
        (
            "network",
            "tangents",
            "what they are: tangents, heads(..), shared_heads(..) of the trained network, or others",
        ),
        ("samples", "1000", "S, random directions that estimate the tangent kernel"),
        ("points", "2000", "points of the training data that the eigenfunctions are learned on"),
        ("steps", "auto", "training steps; auto: none for tangents, which start at their best"),
        ("lr", "0.001", "learning rate"),
        ("model", "none", "file of eigenfunctions that are fitted already, instead of all these"),
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
    fn read(args: &mut Args<'_>) -> Result<Self> {
        if args.has("model") {
            let others = ["components", "network", "samples", "points", "steps", "lr"];
            if let Some(other) = others.iter().find(|key| args.has(key)) {
                return Err(args.fault(other, format!("`{other}` is of no use with `model`")));
            }
            return Ok(NeuralEf::Model(args.path("model")?.to_string()));
        }
        let network = match args.get("network") {
            Some(expr) => (args.text().to_string(), expr.clone()),
            None => ("tangents".to_string(), text::parse("tangents")?),
        };
        let steps = match args.has("steps") && args.name("steps", "auto").is_err() {
            true => Some(args.integer("steps", 0..=u64::MAX >> 1, 0)?),
            false => match args.name("steps", "auto")? {
                "auto" => None,
                other => return Err(Error::unknown("steps", other, &["auto"])),
            },
        };
        Ok(NeuralEf::Learn {
            components: args.integer("components", 1..=100_000, 20)? as usize,
            network,
            samples: args.integer("samples", 1..=1 << 24, 1000)? as usize,
            points: args.integer("points", 16..=1 << 30, 2000)? as usize,
            steps,
            lr: args.positive("lr", 1e-3)?,
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
            None if network.to_string().starts_with("tangents") => Steps::Exactly(0),
            None => Steps::Auto,
        };
        let spec = FitSpec {
            operator: Some(OperatorSpec::features(path)),
            outputs: task.outputs,
            output_form: OutputForm::Joint,
            n_components: *components,
            network,
            optimizer: format!("adam(lr={lr})").parse()?,
            schedule: "cosine".parse()?,
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
            NeuralEf::Model(path) => format!("neuralef(model={})", text::path(path)),
            NeuralEf::Learn { components, network, samples, points, steps, lr } => {
                let steps = steps.map_or_else(|| "auto".into(), |s| s.to_string());
                let network = &network.1;
                format!(
                    "neuralef(components={components}, network={network}, samples={samples}, \
                     points={points}, steps={steps}, lr={lr})"
                )
            }
        }
    }

    fn begin(
        &self,
        task: &Task<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Box<dyn CurvatureAccumulator>> {
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
            Some((v, constants)) => {
                GaussNewtonAccumulator::of(Box::new(DirectionalDerivatives::new(v, constants)))
            }
            None => GaussNewtonAccumulator::of(Box::new(Eigenfeatures(model))),
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
        Ok(Box::new(LowRankCurvature::load(Box::new(Eigenfeatures(model)), archive)?))
    }
}

/// F = ψ√μ, whatever the eigenfunctions are.
struct Eigenfeatures(Model);

impl FeatureSpace for Eigenfeatures {
    fn width(&self) -> usize {
        self.0.n_components()
    }

    fn features(&self, block: &Block<'_>) -> Result<Mat64> {
        Ok(self.0.transform(block.x)?.mapv(f64::from))
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        archive.put_bytes("eigenfunctions", &self.0.to_bytes()?)
    }
}
