//! The diagonal of the generalised Gauss–Newton matrix of all parameters.

use std::sync::Arc;

use ndarray::{Array3, s};
use rayon::prelude::*;

use super::curvature::{Block, Curvature, Sums, Task};
use super::likelihood::without;
use super::source::Source;
use crate::error::{Error, Result};
use crate::fit::Observer;
use crate::linalg;
use crate::matrix::Mat64;
use crate::nn::{Network, expect_one};
use crate::persist::Archive;
use crate::spec::args::Entry;

/// Parameters that one task sums over.
const WIDTH: usize = 1 << 12;

/// Registry entry.
pub(super) const ENTRY: Entry<Arc<dyn Source>> = Entry {
    name: "diag",
    summary: "the diagonal of the Gauss–Newton matrix of all parameters",
    parameters: &[],
    build: |_| Ok(Arc::new(Diag)),
};

#[derive(Debug)]
struct Diag;

impl Source for Diag {
    fn text(&self) -> String {
        "diag".into()
    }

    fn is_wide(&self) -> bool {
        true
    }

    fn begin(&self, task: &Task<'_>, _: &mut dyn Observer) -> Result<Box<dyn Sums>> {
        let values = vec![0.0; expect_one(task.network)?];
        Ok(Box::new(Diagonal { values, negligible: task.negligible }))
    }

    fn load(&self, archive: &Archive, network: &dyn Network) -> Result<Box<dyn Curvature>> {
        let values = archive.f64("curvature.values", &[expect_one(network)?])?.to_vec();
        Ok(Box::new(Diagonal { values, negligible: 0.0 }))
    }
}

/// A value for each parameter.
struct Diagonal {
    values: Vec<f64>,
    /// Columns of roots that are left out.
    negligible: f64,
}

impl Sums for Diagonal {
    fn wants_jacobian(&self) -> bool {
        true
    }

    fn add(&mut self, block: &Block<'_>, roots: &[Mat64]) -> Result<()> {
        let (c, jacobian) = (block.outputs(), block.jacobian()?);
        let roots: Vec<Mat64> = roots.iter().map(|root| without(root, self.negligible)).collect();
        self.values.par_chunks_mut(WIDTH).enumerate().for_each(|(number, sums)| {
            let columns = number * WIDTH..number * WIDTH + sums.len();
            let mut pulled = vec![0.0; sums.len()];
            for (i, root) in roots.iter().enumerate() {
                // Row m of LᵀJ at a time.
                for column in root.columns() {
                    pulled.fill(0.0);
                    for (o, weight) in column.iter().enumerate() {
                        let row = jacobian.slice(s![i * c + o, columns.clone()]);
                        let terms = pulled.iter_mut().zip(row);
                        terms.for_each(|(p, j)| *p += weight * f64::from(*j));
                    }
                    sums.iter_mut().zip(&pulled).for_each(|(sum, p)| *sum += p * p);
                }
            }
        });
        Ok(())
    }

    fn finish(self: Box<Self>, _: usize) -> Result<Box<dyn Curvature>> {
        Ok(self)
    }
}

impl Curvature for Diagonal {
    fn values(&self) -> &[f64] {
        &self.values
    }

    fn wants_jacobian(&self) -> bool {
        true
    }

    fn features(&self, _: &Block<'_>) -> Result<Mat64> {
        Err(too_many())
    }

    fn covariance(&self, block: &Block<'_>, variances: &[f64]) -> Result<Array3<f64>> {
        let deviations: Vec<f32> = variances.iter().map(|v| v.sqrt() as f32).collect();
        scaled_jacobian_covariance(block, |row| {
            row.iter_mut().zip(&deviations).for_each(|(j, d)| *j *= d);
        })
    }

    fn save(&self, archive: &mut Archive) -> Result<()> {
        archive.put_f64("curvature.values", &[self.values.len()], self.values.clone())
    }
}

/// What keeping features of all parameters would mean.
pub(super) fn too_many() -> Error {
    Error::Unsupported {
        what: "keeping features of points for as many coordinates as parameters".into(),
        reason: "they would fill memory; choose the prior precision by marginal likelihood".into(),
    }
}

/// JJᵀ of each point, n × C × C, for gradients that `scale` has changed in place, summed in double
/// precision.
pub(super) fn scaled_jacobian_covariance(
    block: &Block<'_>,
    scale: impl Fn(&mut [f32]) + Sync,
) -> Result<Array3<f64>> {
    let (c, jacobian) = (block.outputs(), block.jacobian()?);
    let width = jacobian.ncols();
    let mut out = Array3::zeros((block.x.nrows(), c, c));
    let found: Vec<Mat64> = (0..block.x.nrows())
        .into_par_iter()
        .map(|i| {
            let mut own = jacobian.slice(s![i * c..(i + 1) * c, ..]).to_owned();
            if let Some(all) = own.as_slice_mut() {
                all.chunks_exact_mut(width).for_each(&scale);
            }
            let mut sum = Mat64::zeros((c, c));
            for start in (0..width).step_by(WIDTH) {
                let part = own.slice(s![.., start..(start + WIDTH).min(width)]);
                let part = part.mapv(f64::from);
                sum += &linalg::matmul_f64(part.view(), part.t())?;
            }
            Ok(sum)
        })
        .collect::<Result<_>>()?;
    for (i, sum) in found.iter().enumerate() {
        out.slice_mut(s![i, .., ..]).assign(sum);
    }
    Ok(out)
}
