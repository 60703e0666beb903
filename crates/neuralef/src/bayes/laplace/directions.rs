//! Features that are derivatives of the network along directions in its parameters, F = J(x)V: the
//! directions of the Nyström method (ELLA), or random ones.

use std::sync::Arc;

use ndarray::s;
use rand::Rng as _;

use super::curvature::{Block, Curvature, FeatureSpace, GaussNewton, InFeatures, Sums, Task, tell};
use super::source::Source;
use crate::error::{Error, Result};
use crate::linalg::{self, eigh_bytes, top_eigh};
use crate::matrix::{Mat, Mat64};
use crate::method::landmarks;
use crate::nn::{Network, expect_one, jacobian_blocks};
use crate::observer::{Event, Observer};
use crate::persist::Archive;
use crate::rng;
use crate::spec::{Args, Domain, Entry, Parameter};

/// Eigenvalues of landmarks below this share of the largest are rounding of single precision.
const FLOOR: f64 = 1e-6;
/// Points whose Jacobians are taken between two looks at the observer.
const BLOCK: usize = 32;

pub(super) const COMPONENTS: Parameter =
    Parameter::new("components", Domain::Integer(1, 100_000), "20", "k, the number of features");

/// Registry entry: `ella`.
pub(super) const ELLA: Entry<Arc<dyn Source>> = Entry {
    name: "ella",
    summary: "the Nyström method for the tangent kernel (Deng, Zhou & Zhu 2022)",
    parameters: &[
        COMPONENTS,
        Parameter::new(
            "landmarks",
            Domain::Integer(1, 1 << 20),
            "2000",
            "points of the training data, one random output of each",
        ),
    ],
    build: |args| Ok(Arc::new(Ella::read(args)?)),
};

/// Registry entry: `random`.
pub(super) const RANDOM: Entry<Arc<dyn Source>> = Entry {
    name: "random",
    summary: "derivatives along random directions, whose products are unbiased for the tangent kernel",
    parameters: &[COMPONENTS],
    build: |args| Ok(Arc::new(Random { components: args.size("components")? })),
};

#[derive(Debug)]
struct Ella {
    components: usize,
    landmarks: usize,
}

#[derive(Debug)]
struct Random {
    components: usize,
}

impl Ella {
    fn read(args: &Args<'_>) -> Result<Self> {
        let (components, landmarks) = (args.size("components")?, args.size("landmarks")?);
        if landmarks < components {
            return Err(args.fault("landmarks", format!("at least components, {components}")));
        }
        Ok(Ella { components, landmarks })
    }

    /// Directions of unit length: v = JᵀU/√λ for the top eigenpairs of JJᵀ, where the rows of J are
    /// gradients of one random output at each landmark.
    fn directions(&self, task: &Task<'_>, observer: &mut dyn Observer) -> Result<Mat> {
        let (n, c, width) = (task.points.len(), task.outputs, expect_one(task.network)?);
        let m = self.landmarks.min(n);
        if m < self.components {
            let expected = format!("at most {m}, the number of points");
            return Err(Error::parameter("components", expected, self.components));
        }
        let rows = (m as u64).saturating_add(self.components as u64);
        let bytes = rows.saturating_mul(4 * width as u64).saturating_add(eigh_bytes(m));
        task.expect_memory(&format!("gradients at {m} landmarks"), bytes)?;
        let chosen = landmarks::uniform(n, m, task.seed)?.indices;
        let mut rng = rng::stream(task.seed, "output", 0);
        let mut output = || ((u64::from(rng.next_u32()) * c as u64) >> 32) as usize;
        let outputs: Vec<usize> = (0..m).map(|_| output()).collect();
        let mut rows = Mat::zeros((m, width));
        tell(observer, &Event::Phase { name: "landmarks" })?;
        for start in (0..m).step_by(BLOCK) {
            tell(observer, &Event::Progress { done: start, total: m })?;
            let block = start..(start + BLOCK).min(m);
            let x = task.points.rows(&chosen[block])?;
            jacobian_blocks(task.network, x.view(), |range, jacobian| {
                for i in range.clone().step_by(c) {
                    let landmark = start + i / c;
                    let from = jacobian.row(i - range.start + outputs[landmark]);
                    rows.row_mut(landmark).assign(&from);
                }
                Ok(())
            })?;
        }
        let gram = linalg::matmul_long_f32(rows.view(), rows.view())?.mapv(f64::from);
        let top = top_eigh(gram.view(), self.components)?;
        let largest = top.values.first().copied().unwrap_or(0.0);
        let rank = top.values.iter().take_while(|v| **v > FLOOR * largest).count();
        if rank < self.components {
            let expected = format!("at most {rank}, the rank of the kernel at the landmarks");
            return Err(Error::parameter("components", expected, self.components));
        }
        let mut weights = top.vectors;
        for (mut column, value) in weights.columns_mut().into_iter().zip(&top.values) {
            column /= value.sqrt();
        }
        linalg::matmul_f32(weights.mapv(|v| v as f32).t(), rows.view())
    }
}

impl Source for Ella {
    fn text(&self) -> String {
        ELLA.text(&[("components", &self.components), ("landmarks", &self.landmarks)])
    }

    fn begin(&self, task: &Task<'_>, observer: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        let v = self.directions(task, observer)?;
        Ok(GaussNewton::of(Box::new(Directions::without_constants(v))))
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        load(archive, network, self.components)
    }
}

impl Source for Random {
    fn text(&self) -> String {
        RANDOM.text(&[("components", &self.components)])
    }

    fn begin(&self, task: &Task<'_>, _: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        let width = expect_one(task.network)?;
        let numbers = (self.components as u64).saturating_mul(width as u64);
        task.expect_memory("random directions", numbers.saturating_mul(4))?;
        let mut v = Mat::zeros((self.components, width));
        let scale = 1.0 / (self.components as f32).sqrt();
        for (i, mut row) in v.rows_mut().into_iter().enumerate() {
            let mut rng = rng::stream(task.seed, "tangent", i as u64);
            if let Some(row) = row.as_slice_mut() {
                rng::fill_normal(&mut rng, row);
            }
            row *= scale;
        }
        Ok(GaussNewton::of(Box::new(Directions::without_constants(v))))
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        load(archive, network, self.components)
    }
}

pub(super) fn load(
    archive: &Archive,
    network: &dyn Network,
    components: usize,
) -> Result<Box<dyn Curvature>> {
    let width = expect_one(network)?;
    let values = archive.f32("directions", &[components, width])?.to_vec();
    let v = Mat::from_shape_vec((components, width), values)
        .map_err(|e| archive.fault(format!("directions: {e}")))?;
    let constants = archive.f64("directions.constants", &[components])?.to_vec();
    Ok(Box::new(InFeatures::load(Box::new(Directions { v, constants }), archive)?))
}

/// F = J(x)Vᵀ + constants for the rows of V, k × P: the constants are those that the readout of learned
/// eigenfunctions may have, the same for all points and outputs.
pub(super) struct Directions {
    v: Mat,
    constants: Vec<f64>,
}

impl Directions {
    pub(super) fn new(v: Mat, constants: Vec<f64>) -> Self {
        Directions { v, constants }
    }

    fn without_constants(v: Mat) -> Self {
        let constants = vec![0.0; v.nrows()];
        Directions { v, constants }
    }
}

impl FeatureSpace for Directions {
    fn width(&self) -> usize {
        self.v.nrows()
    }

    fn wants_jacobian(&self) -> bool {
        true
    }

    fn at(&self, block: &Block<'_>) -> Result<Mat64> {
        let rows = block.x.nrows() * block.outputs();
        let product = linalg::matmul_long_f32(block.jacobian()?, self.v.view())?;
        let constants = ndarray::ArrayView1::from(&self.constants);
        Ok(product.slice(s![..rows, ..]).mapv(f64::from) + constants)
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        let (k, p) = self.v.dim();
        archive.put_f64("directions.constants", &[k], self.constants.clone())?;
        archive.put_f32("directions", &[k, p], self.v.iter().copied().collect())
    }
}
