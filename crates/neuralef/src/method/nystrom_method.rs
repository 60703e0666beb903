//! The Nyström method as an entry of the registry: landmarks chosen from the training points.

use std::sync::Arc;

use super::landmark_points::LandmarkPoints;
use super::landmarks::{self, Landmarks};
use super::{EXTENDS, Fitted, Method, MethodRecord, Nystrom, Run};
use crate::error::{Error, Result};
use crate::features::FeatureMap;
use crate::fit::{FitSpec, Problem};
use crate::kernel::Kernel;
use crate::persist::Archive;
use crate::spec::{Choice, Domain, Entry, Parameter};

/// Registry entry: `nystrom(landmarks=1000, selection=uniform)`.
pub(super) const ENTRY: Entry<Arc<dyn Method>> = Entry {
    name: "nystrom",
    summary: "eigenvectors of the Gram matrix of landmarks, extended by the kernel \
              (Williams & Seeger 2001)",
    parameters: &[
        Parameter::new(
            "landmarks",
            Domain::Integer(1, 1_000_000_000),
            "1000",
            "how many; at least the number of training points: all of them",
        ),
        Parameter::new(
            "selection",
            Domain::choice::<Selection>(),
            "uniform",
            "uniform, or kmeans: k-means++ with weights",
        ),
    ],
    build: |args| {
        let (landmarks, selection) = (args.size("landmarks")?, args.choice("selection")?);
        Ok(Arc::new(NystromMethod { landmarks, selection }))
    },
};

/// Training points that k-means++ chooses from.
const CANDIDATES: usize = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selection {
    Uniform,
    Kmeans,
}

impl Choice for Selection {
    const KIND: &'static str = "selection";
    const ALL: &'static [(&'static str, Self)] =
        &[("uniform", Selection::Uniform), ("kmeans", Selection::Kmeans)];
}

/// What to say when only `usable` of the components asked for are.
pub(super) fn few_directions(usable: usize, components: usize) -> String {
    format!(
        "only {usable} of {components} directions are usable: the kernel's further eigenvalues on \
         these points are zero to rounding"
    )
}

/// Reads back what [`FeatureMap::save`] of a [`Nystrom`] stored.
pub(crate) fn load(archive: &Archive, kernel: Option<Arc<dyn Kernel>>) -> Result<Nystrom> {
    let Some(kernel) = kernel else {
        let message =
            "it needs the kernel that it was fitted with, which is in the hands of a program";
        return Err(archive.fault(message));
    };
    let eigenvalues = archive.f64_vector("eigenvalues")?;
    let landmarks = LandmarkPoints::load(archive, &*kernel)?;
    let shape = (landmarks.x.nrows(), eigenvalues.len());
    let projection = archive.f64_matrix("projection", shape)?;
    Nystrom::from_landmarks(kernel, landmarks, projection, eigenvalues)
}

/// See the [module](self).
#[derive(Debug)]
struct NystromMethod {
    landmarks: usize,
    selection: Selection,
}

impl NystromMethod {
    /// Rows of the data that become landmarks, and their weights.
    fn choose(&self, problem: &Problem) -> Result<(Vec<usize>, Vec<f64>)> {
        let m = self.landmarks.min(problem.split.train.len());
        let pool = match self.selection {
            Selection::Uniform => problem.split.train.clone(),
            Selection::Kmeans => problem.training_sample(CANDIDATES.max(m)),
        };
        if m == pool.len() {
            return Ok((pool, vec![1.0 / m as f64; m]));
        }
        let Landmarks { indices, weights } = match self.selection {
            Selection::Uniform => landmarks::uniform(pool.len(), m, problem.spec.seed)?,
            Selection::Kmeans => {
                let x = problem.batch(&pool)?.x;
                landmarks::kmeans_plus_plus(x.view(), m, problem.spec.seed)?
            }
        };
        let mut chosen: Vec<(usize, f64)> =
            indices.into_iter().map(|i| pool[i]).zip(weights).collect();
        chosen.sort_unstable_by_key(|c| c.0);
        Ok(chosen.into_iter().unzip())
    }
}

impl Method for NystromMethod {
    fn fit(&self, problem: &Problem, run: &mut Run<'_>) -> Result<Fitted> {
        let kernel = problem.expect_kernel("nystrom", EXTENDS)?;
        run.begin("nystrom", "nystrom")?;
        problem.expect_points_for_components()?;
        let m = self.landmarks.min(problem.split.train.len());
        let what = || format!("the Gram matrix of {m} landmarks");
        problem.memory().expect(what, 8 * m as u64 * m as u64)?;
        let components = problem.spec.n_components;
        if components > m {
            let expected = format!("at most the number of landmarks, {m}");
            return Err(Error::parameter("n_components", expected, components));
        }
        let fitted = run.timed(|_| {
            let (rows, weights) = self.choose(problem)?;
            let landmarks = LandmarkPoints::new(&**kernel, problem.batch(&rows)?);
            // Points that coincide make fewer landmarks.
            let components = components.min(rows.len());
            let map = Nystrom::fit_landmarks(kernel.clone(), landmarks, &weights, components)?;
            Ok::<_, Error>((rows.len(), map))
        });
        let (m, map) = fitted?;
        let mut record = MethodRecord { landmarks: Some(m), ..MethodRecord::default() };
        if map.components() < components {
            record.warnings.push(few_directions(map.components(), components));
        }
        // Not the landmarks: for their own operator the pairs are exact whatever they are worth.
        let sample = problem.training_sample(problem.spec.readout_points);
        Ok(Fitted { map: Box::new(map), sample, points: m, record })
    }

    fn load(
        &self,
        archive: &Archive,
        _: &FitSpec,
        kernel: Option<Arc<dyn Kernel>>,
    ) -> Result<Box<dyn FeatureMap>> {
        Ok(Box::new(load(archive, kernel)?))
    }

    fn text(&self) -> String {
        ENTRY.text(&[("landmarks", &self.landmarks), ("selection", &self.selection.name())])
    }
}
